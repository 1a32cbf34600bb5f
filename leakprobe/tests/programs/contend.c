// Threads that fight for two locks, always in the same order, and now and then wait for each other's signal: healthy, however often one is
// seen to hold what another waits for.
#include "common.h"

static pthread_mutex_t outer = PTHREAD_MUTEX_INITIALIZER, inner = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static int whose;

static void *fights(void *arg)
{
    int own = (int)(long)arg;
    for (unsigned n = 0;; n++) {
        pthread_mutex_lock(&outer);
        pthread_mutex_lock(&inner);
        if (n % 8 == 0)
            usleep(200);
        pthread_mutex_unlock(&inner);
        if (n % 64 == 0) {
            whose = (own + 1) % 8;
            pthread_cond_broadcast(&turn);
        }
        pthread_mutex_unlock(&outer);
    }
    return arg;
}

static void *waits_for_its_turn(void *arg)
{
    int own = (int)(long)arg;
    for (;;) {
        pthread_mutex_lock(&outer);
        while (whose != own)
            pthread_cond_wait(&turn, &outer);
        whose = -1;
        pthread_mutex_unlock(&outer);
    }
    return arg;
}

int main(void)
{
    begin();
    for (long n = 0; n < 8; n++)
        start("fighter", fights, (void *)n);
    for (long n = 0; n < 8; n++)
        start("patient", waits_for_its_turn, (void *)n);
    say("ready");
    until_stdin_closes();
}
