// A pool whose threads are begun when all others are busy, up to eight, and stay: it fills late, and is no leak.
#include "corpus.h"

#include "cases.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int jobs, idle, threads;

static void *work(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (jobs == 0) {
            idle++;
            pthread_cond_wait(&changed, &lock);
            idle--;
        }
        jobs--;
        pthread_mutex_unlock(&lock);
        usleep(2000);
        pthread_mutex_lock(&lock);
    }
    return NULL;
}

void healthy_pool(void)
{
    pthread_mutex_lock(&lock);
    jobs++;
    if (idle < jobs && threads < 8) {
        threads++;
        START(work, NULL);
    }
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}
