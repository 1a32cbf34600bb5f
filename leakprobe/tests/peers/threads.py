import socket, sys, threading, time

lock = threading.Lock()
lock.acquire()
condition = threading.Condition()
one, other = socket.socketpair()


def wait_for_condition():
    with condition:
        condition.wait()


for work in (
    lock.acquire,
    wait_for_condition,
    lambda: one.recv(1),
    lambda: time.sleep(3600),
    lambda: threading.Event().wait(3600),
):
    threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
