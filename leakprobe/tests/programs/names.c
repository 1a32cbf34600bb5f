// "self NAME": a thread names itself; "main NAME": the main thread names it.
#include "common.h"
#include <semaphore.h>

static sem_t order, done;
static char name[256];

static void *run(void *arg)
{
    say("thread %d", own_tid());
    sem_post(&done);
    for (;;) {
        while (sem_wait(&order) != 0)
            ;
        pthread_setname_np(pthread_self(), name);
        sem_post(&done);
    }
    return arg;
}

int main(void)
{
    begin();
    sem_init(&order, 0, 0);
    sem_init(&done, 0, 0);
    pthread_t thread = start("before", run, NULL);
    while (sem_wait(&done) != 0)
        ;
    say("ready");
    char *line;
    while ((line = command())) {
        snprintf(name, sizeof name, "%s", line + 5);
        if (!strncmp(line, "self ", 5)) {
            sem_post(&order);
            while (sem_wait(&done) != 0)
                ;
        } else {
            pthread_setname_np(thread, name);
        }
        say("named");
    }
    _exit(0);
}
