// One thread for each primitive of a C library that ends in a futex, for any C library. Each says its kind, its thread id and who
// holds what it waits for, 0 if that is nobody.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STEP __attribute__((noinline, noclone))
#define NO_TAIL_CALL() __asm__ volatile("" ::: "memory")

static pthread_mutex_t normal = PTHREAD_MUTEX_INITIALIZER, recursive, errorcheck, robust, inherits;
static pthread_rwlock_t written = PTHREAD_RWLOCK_INITIALIZER, read_by_main = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t semaphore, shared_semaphore, about_to_block, in_once;
static pthread_t sleeper;
static int main_tid, sleeper_tid;

static void waiting(const char *kind, int holder)
{
    char line[128];
    int length = snprintf(line, sizeof line, "wait kind=%s tid=%d holder=%d\n", kind, (int)syscall(SYS_gettid), holder);
    if (write(1, line, length) != length)
        _exit(9);
    sem_post(&about_to_block);
}

static struct timespec in_an_hour(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += 3600;
    return at;
}

#define WAIT(name) STEP static void name(void)
WAIT(lock_normal) { waiting("mutex", main_tid); pthread_mutex_lock(&normal); NO_TAIL_CALL(); }
WAIT(lock_timed) { struct timespec at = in_an_hour(); waiting("mutex_timed", main_tid); pthread_mutex_timedlock(&normal, &at); NO_TAIL_CALL(); }
WAIT(lock_recursive) { waiting("recursive", main_tid); pthread_mutex_lock(&recursive); NO_TAIL_CALL(); }
WAIT(lock_errorcheck) { waiting("errorcheck", main_tid); pthread_mutex_lock(&errorcheck); NO_TAIL_CALL(); }
WAIT(lock_robust) { waiting("robust", main_tid); pthread_mutex_lock(&robust); NO_TAIL_CALL(); }
WAIT(lock_robust_timed) { struct timespec at = in_an_hour(); waiting("robust_timed", main_tid); pthread_mutex_timedlock(&robust, &at); NO_TAIL_CALL(); }
WAIT(lock_inherits) { waiting("pi", main_tid); pthread_mutex_lock(&inherits); NO_TAIL_CALL(); }
WAIT(reads) { waiting("rwlock_read", main_tid); pthread_rwlock_rdlock(&written); NO_TAIL_CALL(); }
WAIT(reads_timed) { struct timespec at = in_an_hour(); waiting("rwlock_read_timed", main_tid); pthread_rwlock_timedrdlock(&written, &at); NO_TAIL_CALL(); }
WAIT(writes) { waiting("rwlock_write", 0); pthread_rwlock_wrlock(&read_by_main); NO_TAIL_CALL(); }
WAIT(condition_waits) { pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER; pthread_mutex_lock(&own); waiting("cond", 0); pthread_cond_wait(&condition, &own); NO_TAIL_CALL(); }
WAIT(condition_waits_timed) { pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER; struct timespec at = in_an_hour(); pthread_mutex_lock(&own); waiting("cond_timed", 0); pthread_cond_timedwait(&condition, &own, &at); NO_TAIL_CALL(); }
WAIT(semaphore_waits) { waiting("sem", 0); sem_wait(&semaphore); NO_TAIL_CALL(); }
WAIT(semaphore_waits_timed) { struct timespec at = in_an_hour(); waiting("sem_timed", 0); sem_timedwait(&semaphore, &at); NO_TAIL_CALL(); }
WAIT(semaphore_waits_shared) { waiting("sem_shared", 0); sem_wait(&shared_semaphore); NO_TAIL_CALL(); }
WAIT(arrives) { waiting("barrier", 0); pthread_barrier_wait(&barrier); NO_TAIL_CALL(); }
WAIT(joins) { waiting("join", sleeper_tid); pthread_join(sleeper, NULL); NO_TAIL_CALL(); }
static void first_call(void) { sem_post(&in_once); for (;;) pause(); }
WAIT(calls_first) { pthread_once(&once, first_call); NO_TAIL_CALL(); }
WAIT(calls_once) { waiting("once", 0); pthread_once(&once, first_call); NO_TAIL_CALL(); }

static void *run(void *wait)
{
    ((void (*)(void))wait)();
    NO_TAIL_CALL();
    _exit(7); // it was to wait for ever
}

static void *sleeps(void *arg)
{
    sleeper_tid = syscall(SYS_gettid);
    sem_post(&about_to_block);
    for (;;)
        pause();
    return arg;
}

static pthread_t start(void *(*function)(void *), void (*wait)(void))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, (void *)wait) != 0)
        _exit(8);
    return thread;
}

static void hold(pthread_mutex_t *mutex, int type, int protocol, int robustness)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robustness);
    if (pthread_mutex_init(mutex, &attributes) != 0 || pthread_mutex_lock(mutex) != 0)
        _exit(8);
}

int main(void)
{
    static void (*const waits[])(void) = {
        lock_normal, lock_timed, lock_recursive, lock_errorcheck, lock_robust, lock_robust_timed, lock_inherits, reads,
        reads_timed, writes, condition_waits, condition_waits_timed, semaphore_waits, semaphore_waits_timed,
        semaphore_waits_shared, arrives, joins, calls_once,
    };
    const int count = sizeof waits / sizeof waits[0];
    char byte;
    alarm(300);
    main_tid = getpid();
    pthread_mutex_lock(&normal);
    hold(&recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    hold(&errorcheck, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    hold(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
    hold(&inherits, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
    pthread_rwlock_wrlock(&written);
    pthread_rwlock_rdlock(&read_by_main);
    pthread_barrier_init(&barrier, NULL, 2);
    sem_init(&semaphore, 0, 0);
    sem_init(&shared_semaphore, 1, 0);
    sem_init(&about_to_block, 0, 0);
    sem_init(&in_once, 0, 0);
    sleeper = start(sleeps, NULL);
    start(run, calls_first);
    while (sem_wait(&in_once) != 0 || sem_wait(&about_to_block) != 0)
        ;
    for (int n = 0; n < count; n++)
        start(run, waits[n]);
    for (int n = 0; n < count; n++)
        while (sem_wait(&about_to_block) != 0)
            ;
    if (write(1, "ready\n", 6) != 6)
        _exit(9);
    while (read(0, &byte, 1) == 1)
        ;
    _exit(0);
}
