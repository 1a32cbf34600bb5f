// Threads that wait for each other by locks and joins. Each waiter says its kind, its thread id, the object, and who would have to
// act: a thread id, or 0 if nobody can be named.
#include "common.h"
#include <errno.h>
#include <semaphore.h>
#include <sys/socket.h>

static sem_t about_to_block;
static pthread_barrier_t all_hold;

static void waiting(const char *kind, const void *object, int owner)
{
    say("wait kind=%s tid=%d object=%ld size=64 owner=%d", kind, own_tid(), (long)object, owner);
    sem_post(&about_to_block);
}

static void lock(pthread_mutex_t *mutex)
{
    if (pthread_mutex_lock(mutex) != 0)
        fail("lock");
}

static void init(pthread_mutex_t *mutex, int type, int protocol, int robust)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robust);
    if (pthread_mutex_init(mutex, &attributes) != 0)
        fail("mutex");
}

// A circle of `count` threads from `first` on: each holds its own lock and then waits for the next one's.
static pthread_mutex_t circle[5];
static int circle_tid[5];
static const int circle_size[5] = { 2, 2, 3, 3, 3 }, circle_first[5] = { 0, 0, 2, 2, 2 };

static void *circular(void *arg)
{
    int own = (int)(long)arg, first = circle_first[own], next = first + (own - first + 1) % circle_size[own];
    circle_tid[own] = own_tid();
    lock(&circle[own]);
    pthread_barrier_wait(&all_hold);
    waiting(circle_size[own] == 2 ? "abba" : "three", &circle[next], circle_tid[next]);
    lock(&circle[next]);
    return NULL;
}

// A thread that waits for itself.
static void *waits_for_itself(void *arg)
{
    static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    lock(&own);
    waiting("self", &own, own_tid());
    lock(&own);
    return arg;
}

// Each kind of mutex, held by one thread and waited for by another.
static pthread_mutex_t kinds[5];
static const char *const kind_names[5] = { "normal", "recursive", "errorcheck", "robust", "pi" };
static int holder_tid;

static void *waits_for_kind(void *arg)
{
    int n = (int)(long)arg;
    waiting(kind_names[n], &kinds[n], holder_tid);
    lock(&kinds[n]);
    return NULL;
}

static pthread_rwlock_t written, read_by_two;
static int writer_tid;

static void *reads(void *arg) { waiting("rwlock_read", &written, writer_tid); pthread_rwlock_rdlock(&written); return arg; }
static void *writes_too(void *arg) { waiting("rwlock_write", &written, writer_tid); pthread_rwlock_wrlock(&written); return arg; }
static void *writes_read(void *arg) { waiting("rwlock_readers", &read_by_two, 0); pthread_rwlock_wrlock(&read_by_two); return arg; }

// Holds everything that others wait for, and sleeps.
static void *holder(void *arg)
{
    holder_tid = writer_tid = own_tid();
    for (int n = 0; n < 5; n++)
        lock(&kinds[n]);
    lock(&kinds[1]);
    pthread_rwlock_wrlock(&written);
    pthread_barrier_wait(arg);
    for (;;)
        sleep(3600);
    return NULL;
}

static void *reader(void *arg)
{
    pthread_rwlock_rdlock(&read_by_two);
    pthread_barrier_wait(arg);
    park();
    return NULL;
}

// A holder that is gone.
static pthread_mutex_t orphan = PTHREAD_MUTEX_INITIALIZER;
static int orphan_tid;
static void *takes_and_exits(void *arg) { orphan_tid = own_tid(); lock(&orphan); return arg; }
static void *waits_for_the_dead(void *arg) { waiting("orphan", &orphan, orphan_tid); lock(&orphan); return arg; }

// A chain: the first waits for the second's lock, that one for the third to exit, and that one for a message.
static pthread_mutex_t head = PTHREAD_MUTEX_INITIALIZER;
static int quiet[2], second_tid, third_tid;
static pthread_t third;
static void *chain_third(void *arg) { char byte; third_tid = own_tid(); pthread_barrier_wait(arg); recv(quiet[0], &byte, 1, 0); return arg; }
static void *chain_second(void *arg) { second_tid = own_tid(); lock(&head); pthread_barrier_wait(arg); waiting("chain_join", 0, third_tid); pthread_join(third, NULL); return arg; }
static void *chain_first(void *arg) { waiting("chain_first", &head, second_tid); lock(&head); return arg; }

int main(void)
{
    begin();
    sem_init(&about_to_block, 0, 0);
    static pthread_barrier_t ready, second_ready;
    pthread_barrier_init(&ready, NULL, 5);
    init(&kinds[0], PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    init(&kinds[1], PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    init(&kinds[2], PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
    init(&kinds[3], PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
    init(&kinds[4], PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
    pthread_rwlock_init(&written, NULL);
    pthread_rwlock_init(&read_by_two, NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, quiet) != 0)
        fail("socketpair");
    start("holder", holder, &ready);
    start("reader", reader, &ready);
    start("reader", reader, &ready);
    third = start("chain-third", chain_third, &ready);
    pthread_barrier_wait(&ready);
    pthread_barrier_init(&second_ready, NULL, 2);
    start("chain-second", chain_second, &second_ready);
    pthread_barrier_wait(&second_ready);
    pthread_join(start("short-lived", takes_and_exits, NULL), NULL);
    pthread_barrier_init(&all_hold, NULL, 5);
    for (long n = 0; n < 5; n++)
        pthread_mutex_init(&circle[n], NULL);
    for (long n = 0; n < 5; n++)
        start("circle", circular, (void *)n);
    for (long n = 0; n < 5; n++)
        start("kind", waits_for_kind, (void *)n);
    start("self", waits_for_itself, NULL);
    start("reads", reads, NULL);
    start("writes", writes_too, NULL);
    start("writes-read", writes_read, NULL);
    start("bereft", waits_for_the_dead, NULL);
    start("chain-first", chain_first, NULL);
    for (int n = 0; n < 17; n++)
        sem_wait(&about_to_block);
    say("ready");
    until_stdin_closes();
}
