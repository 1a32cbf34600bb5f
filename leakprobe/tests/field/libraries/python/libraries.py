"""NAME leak|fixed|healthy: a server (HTTP/1.0, a connection a request) that uses a library wrongly or rightly, once a request."""

import signal
import socket
import sys
import tempfile
import threading

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
kept = []


def mongo():
    """A client for each request. Each has threads that watch its servers; nothing listens there."""
    from pymongo import MongoClient

    client = MongoClient("mongodb://127.0.0.1:1", heartbeatFrequencyMS=2000, connectTimeoutMS=500)
    kept.append(client)
    return client


def leak_mongo():
    mongo()


def fixed_mongo():
    mongo().close()
    kept.clear()


def shared_mongo():
    if not kept:
        mongo()


def channel():
    """A channel for each request, whose state is watched by a thread."""
    import grpc

    channel = grpc.insecure_channel("127.0.0.1:1")
    channel.subscribe(lambda state: None)
    kept.append(channel)
    return channel


def leak_channel():
    channel()


def fixed_channel():
    channel().close()
    kept.clear()


def scheduler():
    """A scheduler for each request, as in a view that "schedules a job"."""
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(print, "cron", year=2999)
    scheduler.start()
    return scheduler


def leak_scheduler():
    scheduler()


def fixed_scheduler():
    scheduler().shutdown()


def shared_scheduler():
    if not kept:
        kept.append(scheduler())


def observer():
    """A watcher of a folder for each request."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    observer = Observer()
    observer.schedule(FileSystemEventHandler(), folder)
    observer.start()
    return observer


def leak_observer():
    observer()


def fixed_observer():
    one = observer()
    one.stop()
    one.join()


CASES = {
    ("pymongo-client", "leak"): leak_mongo,
    ("pymongo-client", "fixed"): fixed_mongo,
    ("pymongo-shared", "healthy"): shared_mongo,
    ("grpcio-channel", "leak"): leak_channel,
    ("grpcio-channel", "fixed"): fixed_channel,
    ("apscheduler", "leak"): leak_scheduler,
    ("apscheduler", "fixed"): fixed_scheduler,
    ("apscheduler-shared", "healthy"): shared_scheduler,
    ("watchdog-observer", "leak"): leak_observer,
    ("watchdog-observer", "fixed"): fixed_observer,
}


def serve(request):
    listener = socket.create_server(("127.0.0.1", 0))
    print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        if client.recv(1000):
            request()
            client.sendall(ANSWER)
        client.close()


# For gunicorn: `libraries:leak_app` leaves a thread behind with each request, `libraries:app` does not.
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def wait_for_job(jobs):
    jobs.wait()


def leak_app(environ, start_response):
    threading.Thread(target=wait_for_job, args=(threading.Event(),), daemon=True).start()
    return app(environ, start_response)


if __name__ == "__main__":
    signal.alarm(900)  # None outlives its test for long.
    folder = tempfile.mkdtemp()
    serve(CASES[sys.argv[1], sys.argv[2]])
