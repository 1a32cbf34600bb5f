// Threads that each request leaves behind, and that end by a timer which is not an argument of their system call.
#include "field.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const char *how;
static long seconds;

static int timer(void)
{
    struct itimerspec once = {.it_value.tv_sec = seconds};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (fd < 0 || timerfd_settime(fd, 0, &once, NULL))
        abort();
    return fd;
}

static NOINLINE void wait_for_timer(void)
{
    int fd = timer();
    if (strcmp(how, "read") == 0) {
        unsigned long long count;
        (void)!read(fd, &count, sizeof count);
    } else if (strcmp(how, "poll") == 0) {
        struct pollfd all[] = {{eventfd(0, EFD_CLOEXEC), POLLIN, 0}, {fd, POLLIN, 0}};
        poll(all, 2, -1);
        close(all[0].fd);
    } else {
        struct epoll_event event = {.events = EPOLLIN};
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        epoll_wait(epoll, &event, 1, -1);
        close(epoll);
    }
    close(fd);
}

static NOINLINE void wait_for_reply(void)
{
    struct timeval limit = {.tv_sec = seconds};
    int pair[2];
    char reply[64];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)
        || setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit))
        abort();
    (void)!read(pair[0], reply, sizeof reply);
    close(pair[0]);
    close(pair[1]);
}

static void *wait_once(void *nothing)
{
    if (strcmp(how, "socket") == 0)
        wait_for_reply();
    else
        wait_for_timer();
    return nothing;
}

static NOINLINE void begin_waiting(void)
{
    BEGIN(wait_once, NULL);
}

static void expire(char **args)
{
    how = args[0];
    seconds = atol(args[1]);
    serve(begin_waiting);
}

const struct field_case expiring[] = {{"expiring", expire}, {0}};
