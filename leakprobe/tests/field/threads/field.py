"""NAME: a server that does the work of one case once a request (HTTP/1.0, a connection a request); `abba` prints `ready`."""

import asyncio
import itertools
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
kept = []
shared = ThreadPoolExecutor(8)


class Heartbeat:
    """A thread that wakes every 500 ms until it is stopped, which nothing does."""

    def __init__(self):
        self.stop = threading.Event()
        threading.Thread(target=self.beat, name="heartbeat", daemon=True).start()

    def beat(self):
        while not self.stop.wait(0.5):
            pass


def start_heartbeat():
    kept.append(Heartbeat())


def job():
    time.sleep(0.01)


def executor_per_request():
    executor = ThreadPoolExecutor(3)
    kept.append(executor)
    executor.submit(job).result()


def use_shared():
    for future in [shared.submit(job) for _ in range(4)]:
        future.result()


def answer(listener, request):
    client, _ = listener.accept()
    if client.recv(1000):
        request()
        client.sendall(ANSWER)
    client.close()


def serve(request):
    listener = socket.create_server(("127.0.0.1", 0))
    print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    while True:
        answer(listener, request)


def compute():
    sum(range(200_000))


def park():
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def prefork(most, request):
    """Two workers, each replaced after so many requests."""
    listener = socket.create_server(("127.0.0.1", 0))
    workers = set()
    for started in itertools.count():
        while len(workers) < 2:
            worker = os.fork()
            if worker == 0:
                for _ in range(most):
                    answer(listener, request)
                os._exit(0)
            workers.add(worker)
        if started == 0:
            print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
        workers.remove(os.wait()[0])


async def wait_for_reply():
    await asyncio.get_running_loop().create_future()


async def handle(reader, writer):
    """A task per request that awaits a future that nothing sets."""
    if await reader.read(1000):
        kept.append(asyncio.create_task(wait_for_reply()))
        writer.write(ANSWER)
        await writer.drain()
    writer.close()


async def serve_tasks():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print("listening on 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


accounts, ledger = threading.Lock(), threading.Lock()
both = threading.Barrier(2)


def debit():
    with accounts:
        both.wait()
        ledger.acquire()


def credit():
    with ledger:
        both.wait()
        accounts.acquire()


def abba():
    threading.Thread(target=debit, name="debit").start()
    threading.Thread(target=credit, name="credit").start()
    print("ready", flush=True)
    threading.Event().wait()


signal.alarm(900)  # None outlives its test for long.
name = sys.argv[1]
if name == "tasks":
    asyncio.run(serve_tasks())
elif name == "abba":
    abba()
elif name == "prefork":
    prefork(int(sys.argv[2]), {"compute": compute, "park": park}[sys.argv[3]])
else:
    serve({"heartbeat": start_heartbeat, "executor": executor_per_request, "shared": use_shared}[name])
