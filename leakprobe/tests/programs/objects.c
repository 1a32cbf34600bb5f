// One thread for each thing that can be waited on, most of them with somebody at the other end: a child, or the program itself.
// Each says its kind, thread id, the descriptor or id that it waits for. In an ipc namespace of its own, so that nothing stays.
#include "common.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define HOUR 3600

static sem_t about_to_block;
static pid_t child;
static char path[64], fifo_path[64];
// With the child at the other end.
static int fed[2], paired[2], from_child, locked, ranged;
// With nobody but ourselves at the other end.
static int own_pipe[2], own_tcp[2], sending[2], listener, unix_listener, crowded, datagram, uevent, packets, splice_from[2], splice_to[2];
static int watching, pid_descriptor, timer, ring, file, semaphores, messages;
static struct sockaddr_in crowded_address;
static aio_context_t aio;
static char *missing_page, *other_missing_page;

static void waiting(const char *kind, long object)
{
    say("wait kind=%s tid=%d object=%ld", kind, own_tid(), object);
    sem_post(&about_to_block);
}

#define WAIT(name) STEP static void name(void)
static char byte;
WAIT(tcp_recv_child) { waiting("tcp_recv_child", from_child); recv(from_child, &byte, 1, 0); }
WAIT(tcp_recv_own) { waiting("tcp_recv_own", own_tcp[0]); recv(own_tcp[0], &byte, 1, 0); }
WAIT(tcp_accept) { waiting("tcp_accept", listener); accept(listener, NULL, NULL); }
// Again and again: what the kernel has yet to move to the other side makes room for some more.
WAIT(tcp_send) { waiting("tcp_send", sending[0]); while (send(sending[0], path, sizeof path, 0) > 0); }
WAIT(tcp_connect) { int fd = socket(AF_INET, SOCK_STREAM, 0); waiting("tcp_connect", fd); connect(fd, (struct sockaddr *)&crowded_address, sizeof crowded_address); }
WAIT(unix_accept) { waiting("unix_accept", unix_listener); accept(unix_listener, NULL, NULL); }
WAIT(unix_recv_child) { waiting("unix_recv_child", paired[0]); recv(paired[0], &byte, 1, 0); }
WAIT(udp_recv) { waiting("udp_recv", datagram); recv(datagram, &byte, 1, 0); }
WAIT(netlink_recv) { waiting("netlink_recv", uevent); recv(uevent, &byte, 1, 0); }
WAIT(packet_recv) { waiting("packet_recv", packets); recv(packets, &byte, 1, 0); }
WAIT(pipe_child) { waiting("pipe_child", fed[0]); if (read(fed[0], &byte, 1)) return; }
WAIT(pipe_own) { waiting("pipe_own", own_pipe[0]); if (read(own_pipe[0], &byte, 1)) return; }
WAIT(poll_pipe) { struct pollfd one = { fed[0], POLLIN, 0 }; waiting("poll_pipe", fed[0]); poll(&one, 1, -1); }
WAIT(splices) { waiting("splice", splice_from[0]); splice(splice_from[0], NULL, splice_to[1], NULL, 1, 0); }
WAIT(fifo_open) { waiting("fifo_open", 0); open(fifo_path, O_RDONLY); }
WAIT(flock_child) { waiting("flock_child", locked); flock(locked, LOCK_EX); }
WAIT(fcntl_child) { struct flock all = { .l_type = F_WRLCK }; waiting("fcntl_child", ranged); fcntl(ranged, F_SETLKW, &all); }
WAIT(epolls) { struct epoll_event out; waiting("epoll", watching); epoll_wait(watching, &out, 1, -1); }
WAIT(poll_pidfd) { struct pollfd one = { pid_descriptor, POLLIN, 0 }; waiting("poll_pidfd", pid_descriptor); poll(&one, 1, -1); }
WAIT(wait_pidfd) { siginfo_t info; waiting("wait_pidfd", pid_descriptor); waitid((idtype_t)P_PIDFD, (id_t)pid_descriptor, &info, WEXITED | WNOWAIT); }
WAIT(wait_one) { siginfo_t info; waiting("wait_one", child); waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT); }
WAIT(timer_read) { uint64_t value; waiting("timer", timer); if (read(timer, &value, 8) == 8) return; }
WAIT(io_uring) { waiting("io_uring", ring); syscall(SYS_io_uring_enter, ring, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0); }
WAIT(aio_events) { struct io_event event; struct timespec span = { HOUR, 0 }; waiting("io_getevents", 0); syscall(SYS_io_getevents, aio, 1, 1, &event, &span); }
WAIT(semaphore) { struct sembuf down = { 0, -1, 0 }; waiting("semop", semaphores); semop(semaphores, &down, 1); }
WAIT(semaphore_for) { struct sembuf down = { 0, -1, 0 }; struct timespec span = { HOUR, 0 }; waiting("semtimedop", semaphores); semtimedop(semaphores, &down, 1, &span); }
WAIT(message) { struct { long type; char text[8]; } got; waiting("msgrcv", messages); msgrcv(messages, &got, sizeof got.text, 0, 0); }
WAIT(page_fault) { waiting("page_fault", 0); *(volatile char *)missing_page; }
// The kernel copies from a page that nobody gives it, and holds the file's lock meanwhile …
WAIT(write_missing) { waiting("write_missing", file); if (write(file, other_missing_page, 1)) return; }
// … for which this one waits without being interrupted.
WAIT(uninterruptible) { waiting("uninterruptible", file); if (write(file, "x", 1)) return; }
WAIT(vforks)
{
    waiting("vfork", 0);
    pid_t pid = vfork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "borrower");
        // It has our memory, and descriptors of its own.
        syscall(SYS_close_range, 3, ~0u, 0);
        for (;;)
            pause();
    }
}

static void *run(void *wait)
{
    ((void (*)(void))wait)();
    NO_TAIL_CALL();
    say("woke %d %s", own_tid(), strerror(errno));
    return NULL;
}

static int check(int result, const char *what)
{
    if (result < 0)
        fail(what);
    return result;
}

static struct sockaddr_in listen_on(int *fd, int backlog)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t length = sizeof address;
    *fd = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
    check(bind(*fd, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(*fd, backlog), "listen");
    check(getsockname(*fd, (struct sockaddr *)&address, &length), "getsockname");
    return address;
}

static int connect_to(const struct sockaddr_in *address, int flags)
{
    int fd = check(socket(AF_INET, SOCK_STREAM | flags, 0), "socket");
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno != EINPROGRESS)
        fail("connect");
    return fd;
}

static char *missing(void)
{
    static int faults = -1;
    if (faults < 0) {
        faults = check((int)syscall(SYS_userfaultfd, O_CLOEXEC), "userfaultfd");
        struct uffdio_api api = { .api = UFFD_API };
        check(ioctl(faults, UFFDIO_API, &api), "UFFDIO_API");
    }
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = { .range = { (uint64_t)page, 4096 }, .mode = UFFDIO_REGISTER_MODE_MISSING };
    check(ioctl(faults, UFFDIO_REGISTER, &range), "UFFDIO_REGISTER");
    return page;
}

// Two files of their own, without a name, and the same opened once more.
static void open_files(int first[2], int *second, int *third)
{
    for (int n = 0; n < 2; n++) {
        char name[] = "/tmp/leakprobe-test-XXXXXX";
        first[n] = check(mkstemp(name), name);
        *(n ? third : second) = check(open(name, O_RDWR), name);
        unlink(name);
    }
}

// Goes into a network of its own, in which loopback is to be switched on first.
static void leave_network(void)
{
    check(unshare(CLONE_NEWNET), "unshare");
    struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int any = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    check(ioctl(any, SIOCSIFFLAGS, &loopback), "SIOCSIFFLAGS");
    close(any);
}

// Whatever the child must not have is opened after it was forked.
static void prepare(void)
{
    signal(SIGPIPE, SIG_IGN);
    check(pipe(own_pipe), "pipe");
    check(pipe(splice_from), "pipe");
    check(pipe(splice_to), "pipe");
    struct sockaddr_in address = listen_on(&listener, 16);
    own_tcp[0] = connect_to(&address, 0);
    own_tcp[1] = check(accept(listener, NULL, NULL), "accept");
    sending[0] = connect_to(&address, 0);
    sending[1] = check(accept(listener, NULL, NULL), "accept");
    char page[4096] = { 0 };
    while (send(sending[0], page, sizeof page, MSG_DONTWAIT) > 0)
        ;
    // Who finds the queue full gets no answer.
    crowded_address = listen_on(&crowded, 0);
    for (int n = 0; n < 4; n++)
        connect_to(&crowded_address, SOCK_NONBLOCK);
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    unix_listener = check(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    check(bind(unix_listener, (struct sockaddr *)&name, sizeof name), path);
    check(listen(unix_listener, 7), "listen");
    unlink(path);
    check(mkfifo(fifo_path, 0600), fifo_path);
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    datagram = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    check(bind(datagram, (struct sockaddr *)&any, sizeof any), "bind");
    uevent = check(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "netlink");
    struct sockaddr_nl nobody = { .nl_family = AF_NETLINK };
    check(bind(uevent, (struct sockaddr *)&nobody, sizeof nobody), "bind");
    packets = check(socket(AF_PACKET, SOCK_RAW, 0), "packet");
    watching = check(epoll_create1(0), "epoll");
    int quiet = check(eventfd(0, 0), "eventfd");
    int watched[] = { quiet, own_pipe[0], listener, datagram };
    for (int n = 0; n < 4; n++) {
        struct epoll_event event = { .events = EPOLLIN };
        check(epoll_ctl(watching, EPOLL_CTL_ADD, watched[n], &event), "epoll_ctl");
    }
    pid_descriptor = check((int)syscall(SYS_pidfd_open, child, 0), "pidfd_open");
    timer = check(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd");
    struct itimerspec in_an_hour = { .it_value = { HOUR, 0 } };
    check(timerfd_settime(timer, 0, &in_an_hour, NULL), "timerfd_settime");
    struct io_uring_params parameters = { 0 };
    ring = check((int)syscall(SYS_io_uring_setup, 4, &parameters), "io_uring_setup");
    check((int)syscall(SYS_io_setup, 1, &aio), "io_setup");
    semaphores = check(semget(IPC_PRIVATE, 1, 0600), "semget");
    messages = check(msgget(IPC_PRIVATE, 0600), "msgget");
    missing_page = missing();
    other_missing_page = missing();
    file = check(memfd_create("contended", 0), "memfd_create");
}

int main(int argc, char **argv)
{
    static void (*const waits[])(void) = {
        tcp_recv_child, tcp_recv_own, tcp_accept, tcp_send, tcp_connect, unix_accept, unix_recv_child, udp_recv, netlink_recv,
        packet_recv, pipe_child, pipe_own, poll_pipe, splices, fifo_open, flock_child, fcntl_child, epolls, poll_pidfd, wait_pidfd,
        wait_one, timer_read, io_uring, aio_events, semaphore, semaphore_for, message, page_fault, write_missing, vforks,
    };
    const int count = sizeof waits / sizeof waits[0];
    begin();
    check(unshare(CLONE_NEWIPC), "unshare");
    if (argc > 1 && strcmp(argv[1], "own-network") == 0)
        leave_network();
    snprintf(path, sizeof path, "/tmp/leakprobe-test-socket-%d", getpid());
    snprintf(fifo_path, sizeof fifo_path, "/tmp/leakprobe-test-fifo-%d", getpid());
    int life[2], ready[2], files[2], for_child;
    check(pipe(life), "pipe");
    check(pipe(ready), "pipe");
    check(pipe(fed), "pipe");
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, paired), "socketpair");
    open_files(files, &locked, &ranged);
    struct sockaddr_in address = listen_on(&for_child, 1);
    long long before = now_ns();
    child = fork();
    if (child == 0) {
        prctl(PR_SET_NAME, "partner");
        int gone[] = { 0, 1, life[1], ready[0], fed[0], paired[0], locked, ranged, for_child };
        for (unsigned n = 0; n < sizeof gone / sizeof gone[0]; n++)
            close(gone[n]);
        int connection = connect_to(&address, 0);
        flock(files[0], LOCK_EX);
        struct flock all = { .l_type = F_WRLCK };
        fcntl(files[1], F_SETLK, &all);
        char numbers[4] = { (char)fed[1], (char)paired[1], (char)connection, (char)files[0] };
        if (write(ready[1], numbers, 4) == 4 && read(life[0], numbers, 1) == 0)
            _exit(0);
        _exit(1);
    }
    int gone[] = { life[0], ready[1], fed[1], paired[1], files[0], files[1] };
    for (unsigned n = 0; n < sizeof gone / sizeof gone[0]; n++)
        close(gone[n]);
    from_child = check(accept(for_child, NULL, NULL), "accept");
    close(for_child);
    char numbers[4];
    if (read(ready[0], numbers, 4) != 4)
        fail("child");
    say("child pid=%d pipe=%d unix=%d tcp=%d lock=%d connected=%lld until=%lld", child, numbers[0], numbers[1], numbers[2],
        numbers[3], before, now_ns());
    prepare();
    say("own pipe=%d tcp=%d port=%d", own_pipe[1], own_tcp[1], ntohs(crowded_address.sin_port));
    sem_init(&about_to_block, 0, 0);
    for (int n = 0; n < count; n++)
        start("waiter", run, waits[n]);
    for (int n = 0; n < count; n++)
        sem_wait(&about_to_block);
    // Once that one has the lock, which cannot be seen; so its test waits until both sleep.
    say("ready");
    while (command()) {
        unlink(fifo_path); // who opens it has found it
        start("waiter", run, uninterruptible);
    }
    _exit(0);
}
