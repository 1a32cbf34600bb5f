// Healthy pools that grow, up to a limit or for as long as there is work.
#include "field.h"

#include <errno.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static int generation, jobs, workers, is_timed;

// Every request wakes all workers. An idle one ends after 60 s without work (timed), or never (untimed).
static void *share_work(void *nothing)
{
    int is_late = 0;
    pthread_mutex_lock(&lock);
    while (!is_late) {
        int seen = generation;
        while (seen == generation && !is_late) {
            struct timespec until = after_ms(60000);
            if (is_timed)
                is_late = pthread_cond_timedwait(&work, &lock, &until) == ETIMEDOUT;
            else
                pthread_cond_wait(&work, &lock);
        }
    }
    pthread_mutex_unlock(&lock);
    return nothing;
}

static NOINLINE void grow_and_share(void)
{
    BEGIN(share_work, NULL);
    usleep(20000);
    pthread_mutex_lock(&lock);
    generation++;
    pthread_cond_broadcast(&work);
    pthread_mutex_unlock(&lock);
}

static void keep_alive(char **args)
{
    is_timed = strcmp(args[0], "timed") == 0;
    serve(grow_and_share);
}

static void *work_for_a_while(void *seconds)
{
    sleep((unsigned)(size_t)seconds);
    return NULL;
}

static size_t seconds_of_work;

// Ends when its worker does.
static void *supervise(void *nothing)
{
    pthread_t worker;
    pthread_create(&worker, NULL, work_for_a_while, (void *)seconds_of_work);
    pthread_join(worker, NULL);
    return nothing;
}

static NOINLINE void hand_over(void)
{
    BEGIN(supervise, NULL);
}

static void supervised(char **args)
{
    seconds_of_work = (size_t)atoi(args[0]);
    serve(hand_over);
}

static void *take_jobs(void *nothing)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!jobs)
            pthread_cond_wait(&work, &lock);
        jobs--;
    }
    return nothing;
}

// As Java's: for each job a new worker until there are 64.
static NOINLINE void submit(void)
{
    pthread_mutex_lock(&lock);
    jobs++;
    if (workers < 64) {
        workers++;
        BEGIN(take_jobs, NULL);
    } else {
        pthread_cond_signal(&work);
    }
    pthread_mutex_unlock(&lock);
}

static void lazy_pool(char **args)
{
    (void)args;
    serve(submit);
}

const struct field_case pools[] = {{"keep-alive", keep_alive}, {"lazy-pool", lazy_pool}, {"supervised", supervised}, {0}};
