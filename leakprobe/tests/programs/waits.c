// One thread for each kind of wait. Each says its kind, thread id, the object that it waits for and the time just before.
#include "common.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#define HOUR 3600

static sem_t about_to_block;
static pthread_mutex_t mutex, pi_mutex;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static pthread_t never_ends;
static int word, other_word;
static int quiet_socket[2], listener, quiet_pipe[2], full_pipe[2], fifo, event, timer, signals, watched, polled, locked[2], ranged[2];
static char fifo_path[128];
static pid_t child;
static mqd_t queue;

// Says what is about to be waited for. `object` is an address, a descriptor or a process id.
static void waiting(const char *kind, long object, long size)
{
    long long before = now_ns();
    say("wait kind=%s tid=%d object=%ld size=%ld before=%lld", kind, own_tid(), object, size, before);
    sem_post(&about_to_block);
}
#define WORD(address, size) (long)(address), (size)

static struct timespec in_an_hour(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    at.tv_sec += HOUR;
    return at;
}

#define WAIT(name) STEP static void name(void)
WAIT(cond) { pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; pthread_mutex_lock(&lock); waiting("cond", WORD(&condition, sizeof condition)); pthread_cond_wait(&condition, &lock); }
WAIT(cond_timed) { pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; pthread_cond_t own = PTHREAD_COND_INITIALIZER; pthread_mutex_lock(&lock); struct timespec at = in_an_hour(CLOCK_REALTIME); waiting("cond_timed", WORD(&own, sizeof own)); pthread_cond_timedwait(&own, &lock, &at); }
WAIT(mutex_lock) { waiting("mutex", WORD(&mutex, 1)); pthread_mutex_lock(&mutex); }
WAIT(pi_mutex_lock) { waiting("pi_mutex", WORD(&pi_mutex, 1)); pthread_mutex_lock(&pi_mutex); }
WAIT(sem) { waiting("sem", WORD(&semaphore, 8)); sem_wait(&semaphore); }
WAIT(join) { waiting("join", 0, 0); pthread_join(never_ends, NULL); }
WAIT(futex_span) { struct timespec span = { HOUR, 0 }; waiting("futex_span", WORD(&word, 1)); syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &span, NULL, 0); }
WAIT(futex_moment) { struct timespec at = in_an_hour(CLOCK_MONOTONIC); waiting("futex_moment", WORD(&word, 1)); syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &at, NULL, ~0); }
WAIT(futex_waitv)
{
    struct { uint64_t value, address; uint32_t flags, zero; } words[2] = { { 0, (uint64_t)&word, 2, 0 }, { 0, (uint64_t)&other_word, 2, 0 } };
    waiting("futex_waitv", WORD(&word, 1));
    syscall(SYS_futex_waitv, words, 2, 0, NULL, 0);
}
WAIT(nanosleep_call) { struct timespec span = { HOUR, 0 }; waiting("nanosleep", 0, 0); syscall(SYS_nanosleep, &span, NULL); }
WAIT(sleep_span) { struct timespec span = { HOUR, 0 }; waiting("clock_nanosleep", 0, 0); clock_nanosleep(CLOCK_MONOTONIC, 0, &span, NULL); }
WAIT(sleep_moment) { struct timespec at = in_an_hour(CLOCK_REALTIME); waiting("clock_nanosleep_abs", 0, 0); clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL); }
WAIT(polls) { struct pollfd fds[2] = { { polled, POLLIN, 0 }, { event, POLLIN, 0 } }; waiting("poll", 0, 2); poll(fds, 2, HOUR * 1000); }
WAIT(polls_for_ever) { struct pollfd one = { polled, POLLIN, 0 }; waiting("poll_for_ever", polled, 1); poll(&one, 1, -1); }
WAIT(ppolls) { struct pollfd one = { polled, POLLIN, 0 }; struct timespec span = { HOUR, 0 }; waiting("ppoll", polled, 1); ppoll(&one, 1, &span, NULL); }
WAIT(selects) { fd_set set; FD_ZERO(&set); FD_SET(polled, &set); struct timeval span = { HOUR, 0 }; waiting("select", polled, 0); syscall(SYS_select, polled + 1, &set, NULL, NULL, &span); }
WAIT(pselects) { fd_set set; FD_ZERO(&set); FD_SET(polled, &set); waiting("pselect", polled, 0); pselect(polled + 1, &set, NULL, NULL, NULL, NULL); }
WAIT(epolls) { struct epoll_event out; int fd = epoll_create1(0); waiting("epoll_wait", fd, 0); epoll_wait(fd, &out, 1, HOUR * 1000); }
WAIT(receives) { char byte; waiting("recv", quiet_socket[0], 0); recv(quiet_socket[0], &byte, 1, 0); }
WAIT(reads_socket) { char byte; waiting("socket_read", quiet_socket[1], 0); if (read(quiet_socket[1], &byte, 1) == 1) return; }
WAIT(accepts) { waiting("accept", listener, 0); accept(listener, NULL, NULL); }
WAIT(reads_pipe) { char byte; waiting("pipe_read", quiet_pipe[0], 0); if (read(quiet_pipe[0], &byte, 1) == 1) return; }
WAIT(writes_pipe) { waiting("pipe_write", full_pipe[1], 0); if (write(full_pipe[1], "x", 1) == 1) return; }
WAIT(reads_fifo) { char byte; waiting("fifo_read", fifo, 0); if (read(fifo, &byte, 1) == 1) return; }
WAIT(flocks) { waiting("flock", locked[1], 0); flock(locked[1], LOCK_EX); }
WAIT(locks_range) { struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 }; waiting("fcntl_lock", ranged[1], 0); fcntl(ranged[1], F_OFD_SETLKW, &range); }
WAIT(waits_child) { waiting("waitpid", child, 0); waitpid(child, NULL, 0); }
WAIT(pauses) { waiting("pause", 0, 0); pause(); }
WAIT(suspends) { sigset_t none; sigemptyset(&none); waiting("sigsuspend", 0, 0); sigsuspend(&none); }
WAIT(waits_signal) { sigset_t set; int got; sigemptyset(&set); sigaddset(&set, SIGUSR2); waiting("sigwait", 0, 0); sigwait(&set, &got); }
WAIT(waits_signal_for) { sigset_t set; struct timespec span = { HOUR, 0 }; sigemptyset(&set); sigaddset(&set, SIGUSR2); waiting("sigtimedwait", 0, 0); sigtimedwait(&set, NULL, &span); }
WAIT(reads_event) { uint64_t value; waiting("eventfd", event, 0); if (read(event, &value, 8) == 8) return; }
WAIT(reads_timer) { uint64_t value; waiting("timerfd", timer, 0); if (read(timer, &value, 8) == 8) return; }
WAIT(reads_signals) { struct signalfd_siginfo info; waiting("signalfd", signals, 0); if (read(signals, &info, sizeof info) > 0) return; }
WAIT(reads_watch) { char buffer[512]; waiting("inotify", watched, 0); if (read(watched, buffer, sizeof buffer) > 0) return; }
WAIT(receives_message) { char buffer[64]; waiting("mq_receive", (int)queue, 0); mq_receive(queue, buffer, sizeof buffer, NULL); }

static void *run(void *wait)
{
    ((void (*)(void))wait)();
    NO_TAIL_CALL();
    say("woke %d", own_tid());
    return NULL;
}

static void *parked(void *arg)
{
    park();
    return arg;
}

// A file of its own in the temporary directory, already without a name.
static void lock_file(int fds[2])
{
    char path[] = "/tmp/leakprobe-test-XXXXXX";
    fds[0] = mkstemp(path);
    fds[1] = open(path, O_RDWR);
    unlink(path);
    if (fds[0] < 0 || fds[1] < 0)
        fail(path);
}

static void prepare(void)
{
    pthread_mutexattr_t inherit;
    pthread_mutexattr_init(&inherit);
    pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&pi_mutex, &inherit);
    pthread_mutex_init(&mutex, NULL);
    pthread_mutex_lock(&mutex);
    pthread_mutex_lock(&pi_mutex);
    sem_init(&semaphore, 0, 0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, quiet_socket);
    struct sockaddr_un nowhere = { .sun_family = AF_UNIX };
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    // An autobound abstract name: unique, and gone with the process.
    if (bind(listener, (struct sockaddr *)&nowhere, sizeof(sa_family_t)) != 0 || listen(listener, 1) != 0)
        fail("listen");
    if (pipe(quiet_pipe) != 0 || pipe(full_pipe) != 0)
        fail("pipe");
    fcntl(full_pipe[1], F_SETFL, O_NONBLOCK);
    char page[4096] = { 0 };
    while (write(full_pipe[1], page, sizeof page) > 0)
        ;
    fcntl(full_pipe[1], F_SETFL, 0);
    snprintf(fifo_path, sizeof fifo_path, "/tmp/leakprobe-test-fifo-%d", getpid());
    if (mkfifo(fifo_path, 0600) != 0 || (fifo = open(fifo_path, O_RDWR)) < 0)
        fail(fifo_path);
    unlink(fifo_path);
    event = eventfd(0, 0);
    polled = eventfd(0, 0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    watched = inotify_init();
    sigset_t usr;
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    sigaddset(&usr, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &usr, NULL);
    signals = signalfd(-1, &usr, 0);
    lock_file(locked);
    flock(locked[0], LOCK_EX);
    lock_file(ranged);
    struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
    if (fcntl(ranged[0], F_OFD_SETLK, &range) != 0)
        fail("lock");
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 64 };
    char name[64];
    snprintf(name, sizeof name, "/leakprobe-test-%d", getpid());
    queue = mq_open(name, O_CREAT | O_RDWR, 0600, &attributes);
    mq_unlink(name);
    if (queue < 0)
        fail("mq_open");
    never_ends = start("never-ends", parked, NULL);
}

int main(void)
{
    static void (*const waits[])(void) = {
        cond, cond_timed, mutex_lock, pi_mutex_lock, sem, join, futex_span, futex_moment, futex_waitv, nanosleep_call,
        sleep_span, sleep_moment, polls, polls_for_ever, ppolls, selects, pselects, epolls, receives, reads_socket, accepts,
        reads_pipe, writes_pipe, reads_fifo, flocks, locks_range, waits_child, pauses, suspends, waits_signal,
        waits_signal_for, reads_event, reads_timer, reads_signals, reads_watch, receives_message,
    };
    const int count = sizeof waits / sizeof waits[0];
    begin();
    int life[2];
    if (pipe(life) != 0)
        fail("pipe");
    // A child that ends with us: its end of the pipe is then the only one.
    child = fork();
    if (child == 0) {
        char byte;
        close(life[1]);
        close(0);
        close(1);
        _exit(read(life[0], &byte, 1) != 0);
    }
    close(life[0]);
    prepare();
    sem_init(&about_to_block, 0, 0);
    for (int n = 0; n < count; n++)
        start("waiter", run, waits[n]);
    for (int n = 0; n < count; n++)
        sem_wait(&about_to_block);
    say("ready");
    until_stdin_closes();
}
