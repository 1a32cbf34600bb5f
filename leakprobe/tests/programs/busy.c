// `busy N`: N threads that run for a moment, over and over, and are at another depth of calls each time.
#include "common.h"
#include <limits.h>
#include <sys/resource.h>
#include <time.h>

STEP static void deeper(unsigned depth)
{
    if (depth == 0) {
        struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
        nanosleep(&moment, NULL);
    } else {
        deeper(depth - 1);
    }
    NO_TAIL_CALL();
}

static void *run(void *arg)
{
    setpriority(PRIO_PROCESS, own_tid(), 19);
    for (unsigned n = 0;; n++)
        deeper(n % 16);
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
    for (int n = 0; n < count; n++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, run, NULL) != 0)
            fail("pthread_create");
    }
    say("ready");
    until_stdin_closes();
}
