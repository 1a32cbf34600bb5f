// A thread that waits in a function that is inlined into one of its own, which OWN names, so that several programs share the rest.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define STEP __attribute__((noinline, noclone, noipa))
#define INLINED static inline __attribute__((always_inline))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

INLINED void shared_inner(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    for (;;)
        pthread_cond_wait(&condition, mutex);
}

INLINED void shared_outer(pthread_mutex_t *mutex)
{
    printf("ready\n");
    fflush(stdout);
    shared_inner(mutex);
}

STEP void OWN(void)
{
    shared_outer(&lock);
}

STEP static void *run(void *arg)
{
    OWN();
    return arg;
}

int main(void)
{
    pthread_t thread;
    char byte;
    alarm(300);
    pthread_create(&thread, NULL, run, NULL);
    while (read(0, &byte, 1) == 1)
        ;
    _exit(0);
}
