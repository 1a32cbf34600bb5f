// One thread that waits for a lock which another process holds, or held when it ended. Arguments, in any order:
// the lock: plain (no other), recursive, errorcheck, robust, pi, rwlock, timed (waited for with a time-out);
// its holder: dead (it ends before the wait), thread (not the first one of its process), inner (in a pid namespace of its own),
// unmaps (lives on without the memory); bystander (a third process maps the memory, too);
// forked: the lock lies in private memory, and the waiter in a child process of the one whose thread holds it.
#include "common.h"
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static sem_t said;
struct shared {
    union { pthread_mutex_t mutex; pthread_rwlock_t rwlock; };
    volatile int is_held, holder; // process id as seen from outside
};
static struct shared *shared;
static int count;
static char **words;
static int has(const char *word)
{
    for (int n = 1; n < count; n++)
        if (strcmp(words[n], word) == 0)
            return 1;
    return 0;
}

static void init(void)
{
    pthread_mutexattr_t attributes;
    pthread_rwlockattr_t of_rwlock;
    int is_shared = has("forked") ? PTHREAD_PROCESS_PRIVATE : PTHREAD_PROCESS_SHARED;
    if (has("rwlock")) {
        pthread_rwlockattr_init(&of_rwlock);
        pthread_rwlockattr_setpshared(&of_rwlock, is_shared);
        pthread_rwlock_init(&shared->rwlock, &of_rwlock);
        return;
    }
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, is_shared);
    if (has("recursive"))
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    if (has("errorcheck"))
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    if (has("pi"))
        pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    if (has("robust"))
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (pthread_mutex_init(&shared->mutex, &attributes) != 0)
        fail("mutex");
}

static int take(void)
{
    struct timespec late = { .tv_sec = time(NULL) + 3600 };
    if (has("rwlock"))
        return pthread_rwlock_wrlock(&shared->rwlock);
    return has("timed") && shared->is_held ? pthread_mutex_timedlock(&shared->mutex, &late) : pthread_mutex_lock(&shared->mutex);
}

// What a child process does first: it ends with its parent.
static void begin_child(const char *name)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(300);
    prctl(PR_SET_NAME, name);
}

static void *holder(void *arg)
{
    prctl(PR_SET_NAME, "lock-holder");
    if (take() != 0)
        fail("lock");
    shared->is_held = 1;
    for (;;)
        pause();
    return arg;
}

static void hold(void)
{
    begin_child("lock-holder");
    if (has("thread")) {
        prctl(PR_SET_NAME, "first");
        start(NULL, holder, NULL);
    } else if (take() != 0) {
        fail("lock");
    } else {
        shared->is_held = 1;
    }
    if (has("dead"))
        _exit(0);
    if (has("unmaps"))
        munmap(shared, 4096);
    for (;;)
        pause();
}

static void *waiter(void *arg)
{
    prctl(PR_SET_NAME, "waiter");
    say("wait tid=%d pid=%d holder=%d", own_tid(), getpid(), shared->holder);
    sem_post(&said);
    say("ended %d", take());
    return arg;
}

static void until_held(void)
{
    while (!shared->is_held)
        usleep(1000);
}

int main(int argc, char **argv)
{
    count = argc, words = argv;
    begin();
    int flags = has("forked") ? MAP_PRIVATE : MAP_SHARED;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("mmap");
    init();
    if (has("forked")) {
        start("lock-holder", holder, NULL);
        until_held();
        if (fork() != 0)
            until_stdin_closes();
        begin_child("child");
    } else {
        pid_t child = fork();
        if (child == 0 && has("inner")) {
            // The one between, which stays outside and does not keep the memory.
            begin_child("between");
            if (unshare(CLONE_NEWPID) != 0)
                fail("unshare");
            if ((child = fork()) == 0)
                hold();
            shared->holder = child;
            munmap(shared, 4096);
            waitpid(child, NULL, 0);
            _exit(0);
        }
        if (child == 0)
            hold();
        if (!has("inner"))
            shared->holder = child;
        until_held();
        while (!shared->holder)
            usleep(1000);
        if (has("dead"))
            waitpid(child, NULL, 0);
        if (has("bystander") && fork() == 0) {
            begin_child("bystander");
            for (;;)
                pause();
        }
    }
    start("waiter", waiter, NULL);
    sem_wait(&said);
    say("ready");
    until_stdin_closes();
}
