// `many N`: N parked threads.
#include "common.h"
#include <limits.h>
#include <semaphore.h>

static sem_t there;

static void *run(void *arg)
{
    sem_post(&there);
    park();
    return arg;
}

int main(int argc, char **argv)
{
    begin();
    int count = argc > 1 ? atoi(argv[1]) : 100;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 32 << 10);
    pthread_attr_setguardsize(&small, 0);
    sem_init(&there, 0, 0);
    for (int n = 0; n < count; n++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, run, NULL) != 0)
            fail("pthread_create");
    }
    for (int n = 0; n < count; n++)
        sem_wait(&there);
    say("ready");
    until_stdin_closes();
}
