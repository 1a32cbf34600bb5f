// Waits that end on command: "wait" lets a thread begin a wait of its own, "wake" ends it. "exit N" ends the program.
#include "common.h"
#include <semaphore.h>

static sem_t order, begun;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static int is_over;

STEP static void wait_until_woken(void)
{
    pthread_mutex_lock(&lock);
    is_over = 0;
    say("waiting tid=%d before=%lld", own_tid(), now_ns());
    sem_post(&begun);
    while (!is_over)
        pthread_cond_wait(&woken, &lock);
    say("woke after=%lld", now_ns());
    pthread_mutex_unlock(&lock);
}

static void *run(void *arg)
{
    for (;;) {
        while (sem_wait(&order) != 0)
            ;
        wait_until_woken();
        NO_TAIL_CALL();
    }
    return arg;
}

int main(void)
{
    begin();
    sem_init(&order, 0, 0);
    sem_init(&begun, 0, 0);
    start("waiter", run, NULL);
    say("ready");
    char *line;
    while ((line = command())) {
        if (!strcmp(line, "wait")) {
            sem_post(&order);
            while (sem_wait(&begun) != 0)
                ;
        } else if (!strcmp(line, "wake")) {
            pthread_mutex_lock(&lock);
            is_over = 1;
            pthread_cond_broadcast(&woken);
            pthread_mutex_unlock(&lock);
        } else {
            _exit(atoi(line + strlen("exit ")));
        }
    }
    _exit(0);
}
