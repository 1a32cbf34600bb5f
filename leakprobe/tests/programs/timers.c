// One thread for each kind of wait that a timer ends which is not an argument of the system call: after an hour, or again and
// again from then on; beside them such waits that no timer ends. Each says its kind and thread id.
#include "common.h"
#include <netinet/in.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define HOUR 3600

static sem_t about_to_block;
static int quiet;

static void waiting(const char *kind)
{
    say("wait kind=%s tid=%d", kind, own_tid());
    sem_post(&about_to_block);
}

// A timerfd that fires after so many seconds; 0: not set.
static int timer(long seconds, long period)
{
    struct itimerspec time = { .it_value = { seconds, 0 }, .it_interval = { period, 0 } };
    int fd = timerfd_create(CLOCK_BOOTTIME, 0);
    if (fd < 0 || timerfd_settime(fd, 0, &time, NULL) != 0)
        fail("timerfd");
    return fd;
}

static int epoll_of(int fd, uint32_t events)
{
    struct epoll_event event = { .events = events };
    int epoll = epoll_create1(0);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll");
    return epoll;
}

static int limited(int socket, int option)
{
    struct timeval limit = { .tv_sec = HOUR };
    if (socket < 0 || setsockopt(socket, SOL_SOCKET, option, &limit, sizeof limit) != 0)
        fail("socket");
    return socket;
}

static int one_of_pair(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        fail("socketpair");
    return pair[0];
}

static int listener(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0)
        fail("listen");
    return fd;
}

#define WAIT(name) STEP static void name(void)
static char byte[8];
static int sink;
static void receive(int fd) { sink = (int)read(fd, byte, sizeof byte); }

WAIT(timer_once) { int fd = timer(HOUR, 0); waiting("timer_once"); receive(fd); }
WAIT(timer_again) { int fd = timer(HOUR, 60); waiting("timer_again"); receive(fd); }
WAIT(timer_unset) { int fd = timer(0, 0); waiting("timer_unset"); receive(fd); }
WAIT(poll_first) { struct pollfd all[] = { { quiet, POLLIN, 0 }, { timer(2 * HOUR, 60), POLLIN, 0 }, { timer(HOUR, 0), POLLIN, 0 } }; waiting("poll_first"); poll(all, 3, -1); }
WAIT(poll_timeout) { struct pollfd one = { timer(2 * HOUR, 60), POLLIN, 0 }; struct timespec span = { HOUR, 0 }; waiting("poll_timeout"); ppoll(&one, 1, &span, NULL); }
WAIT(select_timer) { int fd = timer(HOUR, 0); fd_set set; FD_ZERO(&set); FD_SET(fd, &set); waiting("select_timer"); select(fd + 1, &set, NULL, NULL, NULL); }
WAIT(epoll_timer) { struct epoll_event out; int fd = epoll_of(timer(HOUR, 0), EPOLLIN); waiting("epoll_timer"); epoll_wait(fd, &out, 1, -1); }
WAIT(epoll_nested) { struct epoll_event out; int fd = epoll_of(epoll_of(timer(HOUR, 60), EPOLLIN), EPOLLIN); waiting("epoll_nested"); epoll_wait(fd, &out, 1, -1); }
WAIT(epoll_ignored) { struct epoll_event out; int fd = epoll_of(timer(HOUR, 0), 0); waiting("epoll_ignored"); epoll_wait(fd, &out, 1, -1); }
WAIT(socket_read) { int fd = limited(one_of_pair(), SO_RCVTIMEO); waiting("socket_read"); receive(fd); }
WAIT(socket_recv) { int fd = limited(socket(AF_INET, SOCK_DGRAM, 0), SO_RCVTIMEO); struct sockaddr_in any = { .sin_family = AF_INET }; bind(fd, (struct sockaddr *)&any, sizeof any); waiting("socket_recv"); recv(fd, byte, 1, 0); }
WAIT(socket_accept) { int fd = limited(listener(), SO_RCVTIMEO); waiting("socket_accept"); accept(fd, NULL, NULL); }
WAIT(socket_send) { int fd = limited(one_of_pair(), SO_SNDTIMEO); while (send(fd, byte, sizeof byte, MSG_DONTWAIT) > 0) ; waiting("socket_send"); send(fd, byte, sizeof byte, 0); }
WAIT(socket_other) { int fd = limited(one_of_pair(), SO_SNDTIMEO); waiting("socket_other"); receive(fd); }
WAIT(socket_poll) { struct pollfd one = { limited(one_of_pair(), SO_RCVTIMEO), POLLIN, 0 }; waiting("socket_poll"); poll(&one, 1, -1); }

STEP static void *run(void *wait)
{
    ((void (*)(void))wait)();
    return NULL;
}

int main(void)
{
    static void (*const waits[])(void) = {
        timer_once, timer_again, timer_unset, poll_first, poll_timeout, select_timer, epoll_timer, epoll_nested, epoll_ignored,
        socket_read, socket_recv, socket_accept, socket_send, socket_other, socket_poll,
    };
    const int count = sizeof waits / sizeof waits[0];
    begin();
    quiet = eventfd(0, 0);
    sem_init(&about_to_block, 0, 0);
    for (int n = 0; n < count; n++)
        start("waiter", run, waits[n]);
    for (int n = 0; n < count; n++)
        sem_wait(&about_to_block);
    say("ready");
    until_stdin_closes();
}
