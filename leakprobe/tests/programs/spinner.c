// Each SIGUSR1 starts a thread that runs for ever, with as little as it can take from others.
#include "common.h"
#include <signal.h>
#include <sys/resource.h>

static void *spin(void *arg)
{
    setpriority(PRIO_PROCESS, own_tid(), 19);
    for (;;)
        __asm__ volatile("" ::: "memory");
    return arg;
}

STEP static void handle(void)
{
    start("spins", spin, NULL);
    NO_TAIL_CALL();
}

int main(void)
{
    begin();
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &wanted, NULL);
    say("ready");
    for (int number; sigwait(&wanted, &number) == 0;)
        handle();
    return 1;
}
