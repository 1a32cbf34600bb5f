// Threads that come and go, and do not become more.
#include "field.h"

#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static int alive;

static void *live(void *number)
{
    unsigned mixed = (unsigned)(long)number * 2654435761u;
    long ms = mixed % 4000;
    if (mixed & 4096) {
        usleep(ms * 1000);
    } else {
        pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
        pthread_cond_t never = PTHREAD_COND_INITIALIZER;
        struct timespec until = after_ms(ms);
        pthread_mutex_lock(&own);
        pthread_cond_timedwait(&never, &own, &until);
        pthread_mutex_unlock(&own);
    }
    pthread_mutex_lock(&lock);
    alive--;
    pthread_cond_signal(&ended);
    pthread_mutex_unlock(&lock);
    return number;
}

// `turnover N`: N threads, each replaced when it ends, after up to 4 s.
static void turnover(char **args)
{
    int wanted = atoi(args[0]), is_said = 0;
    for (long number = 0;; number++) {
        pthread_mutex_lock(&lock);
        while (alive >= wanted) {
            if (!is_said++) {
                puts("ready");
                fflush(stdout);
            }
            pthread_cond_wait(&ended, &lock);
        }
        alive++;
        pthread_mutex_unlock(&lock);
        BEGIN(live, (void *)number);
    }
}

static void *pass(void *nothing)
{
    usleep(100000);
    return nothing;
}

static NOINLINE void begin_one(void) { BEGIN(pass, NULL); }

// `rate N`: N threads a second, evenly, each of which lives 100 ms.
static void rate(char **args)
{
    int a_second = atoi(args[0]);
    puts("ready");
    fflush(stdout);
    for (;;) {
        begin_one();
        usleep(1000000 / a_second);
    }
}

const struct field_case crowds[] = {{"turnover", turnover}, {"rate", rate}, {0}};
