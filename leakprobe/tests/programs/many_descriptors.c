// A table of a hundred thousand descriptors, or as many as we may have, all of them in an epoll that a thread waits for.
#include "common.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#define COUNT 100000

static void *waits(void *epoll)
{
    struct epoll_event out;
    say("epoll tid=%d", own_tid());
    say("ready");
    epoll_wait((int)(long)epoll, &out, 1, -1);
    NO_TAIL_CALL();
    return NULL;
}

int main(void)
{
    begin();
    struct rlimit limit = { COUNT + 100, COUNT + 100 };
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        // Who may not raise the limit goes up to it.
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            fail("setrlimit");
    }
    int count = limit.rlim_cur - 100 < COUNT ? (int)limit.rlim_cur - 100 : COUNT;
    if (count < 17000) {
        errno = EMFILE;
        fail("too few descriptors");
    }
    int epoll = epoll_create1(0);
    for (int n = 0; n < count; n++) {
        struct epoll_event event = { .events = EPOLLIN };
        int fd = eventfd(0, 0);
        if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            fail("eventfd");
    }
    start("watcher", waits, (void *)(long)epoll);
    until_stdin_closes();
}
