// 32-bit: one thread for each kind of wait.
#include "../programs/common.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int ends[2], sockets[2];

static void *waits_on_futex(void *arg) { park(); return arg; }
static void *sleeps(void *arg) { sleep(200); return arg; }
static void *reads(void *arg) { char byte; read(ends[0], &byte, 1); return arg; }
static void *receives(void *arg) { char byte; recv(sockets[0], &byte, 1, 0); return arg; }
static void *polls(void *arg)
{
    struct pollfd poll_for = { ends[0], POLLIN, 0 };
    poll(&poll_for, 1, 250000);
    return arg;
}
static void *epolls(void *arg)
{
    struct epoll_event event;
    epoll_wait(epoll_create1(0), &event, 1, -1);
    return arg;
}

int main(void)
{
    begin();
    if (pipe(ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
        fail("pipe");
    start("futex", waits_on_futex, NULL);
    start("sleep", sleeps, NULL);
    start("read", reads, NULL);
    start("recv", receives, NULL);
    start("poll", polls, NULL);
    start("epoll", epolls, NULL);
    say("ready");
    until_stdin_closes();
}
