// Three processes and two PI mutexes: the first waits for both, the second holds one and waits for the other, the third holds that.
#include "common.h"
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static sem_t said;
struct shared { pthread_mutex_t one, two; volatile int has_one, has_two; };
static struct shared *shared;

static void child(const char *name)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(300);
    prctl(PR_SET_NAME, name);
}

static void *waits(void *mutex)
{
    say("wait tid=%d is_two=%d", own_tid(), mutex == &shared->two);
    sem_post(&said);
    pthread_mutex_lock(mutex);
    return mutex;
}

int main(void)
{
    begin();
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("mmap");
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&shared->one, &attributes);
    pthread_mutex_init(&shared->two, &attributes);
    pid_t third = fork();
    if (third == 0) {
        child("third");
        pthread_mutex_lock(&shared->two);
        shared->has_two = 1;
        for (;;)
            pause();
    }
    while (!shared->has_two)
        usleep(1000);
    pid_t second = fork();
    if (second == 0) {
        child("second");
        pthread_mutex_lock(&shared->one);
        shared->has_one = 1;
        pthread_mutex_lock(&shared->two);
        for (;;)
            pause();
    }
    while (!shared->has_one)
        usleep(1000);
    start("waits-one", waits, &shared->one);
    start("waits-two", waits, &shared->two);
    say("processes second=%d third=%d", second, third);
    sem_wait(&said);
    sem_wait(&said);
    say("ready");
    until_stdin_closes();
}
