"""The cases in Python: CASE leak|fixed|healthy, and load ADDR N [CONCURRENCY], by the same protocol as corpus.h."""

import queue
import selectors
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

executors = []
shared = ThreadPoolExecutor(max_workers=4)


def write_all(lines):
    while True:
        line = lines.get()  # PARKS: queue-worker
        if line is None:
            return


def start_writer():
    lines = queue.Queue()
    threading.Thread(target=write_all, args=(lines,)).start()  # CREATES: queue-worker
    lines.put("one line")
    return lines


def fixed_worker():
    start_writer().put(None)


def leak_executor():
    """Kept for statistics, and never shut down."""
    executor = ThreadPoolExecutor(max_workers=2)
    executors.append(executor)
    executor.submit(sum, [1, 2]).result()  # CREATES: executor-per-request


def fixed_executor():
    with ThreadPoolExecutor(max_workers=2) as executor:
        executor.submit(sum, [1, 2]).result()


def use_shared():
    """Begins a thread when all others are busy, up to four."""
    results = [shared.submit(sum, [n, 1]) for n in range(3)]
    for result in results:
        result.result()


CASES = {
    ("queue-worker", "leak"): start_writer,
    ("queue-worker", "fixed"): fixed_worker,
    ("executor-per-request", "leak"): leak_executor,
    ("executor-per-request", "fixed"): fixed_executor,
    ("shared-executor", "healthy"): use_shared,
}


def serve(request):
    """One thread for all connections, so that the only others are those of the case."""
    signal.alarm(900)  # None outlives its test for long.
    listener = socket.create_server(("127.0.0.1", 0))
    ready = selectors.DefaultSelector()
    ready.register(listener, selectors.EVENT_READ)
    print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                ready.register(listener.accept()[0], selectors.EVENT_READ)
            elif key.fileobj.recv(64):
                request()
                key.fileobj.sendall(b"ok\n")
            else:
                ready.unregister(key.fileobj)
                key.fileobj.close()


def load(address, requests, connections=4):
    host, port = address.split(":")
    servers = [socket.create_connection((host, int(port))) for _ in range(int(connections))]
    left = int(requests)
    while left > 0:
        together = servers[:left]
        for server in together:
            server.sendall(b"GET\n")
        for server in together:
            if server.recv(8) != b"ok\n":
                sys.exit("a request failed")
        left -= len(together)
    print(requests, "requests")


if sys.argv[1] == "load":
    load(*sys.argv[2:])
else:
    serve(CASES[sys.argv[1], sys.argv[2]])
