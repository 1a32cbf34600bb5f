// Threads that block inside a signal handler: on their own stack, and on an alternate one.
#include "common.h"
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>

static int never[2];
static sem_t in_handler;

STEP static void block_in_handler(void)
{
    char byte;
    sem_post(&in_handler);
    if (read(never[0], &byte, 1) == 1)
        _exit(1);
    NO_TAIL_CALL();
}

static void on_signal(int number)
{
    (void)number;
    block_in_handler();
    NO_TAIL_CALL();
}

// Never calls anything, so the signal comes at some instruction within.
STEP static void interrupted(volatile int *started)
{
    volatile char room[300];
    *started = 1;
    for (unsigned n = 0;; n++)
        room[n % sizeof room] = (char)n;
}

STEP static void caller(volatile int *started)
{
    interrupted(started);
    NO_TAIL_CALL();
}

static void *on_own_stack(void *started)
{
    caller(started);
    return NULL;
}

static void *on_alternate_stack(void *started)
{
    stack_t other = { .ss_sp = mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 64 << 10 };
    sigaltstack(&other, NULL);
    caller(started);
    return NULL;
}

static void interrupt(const char *name, void *(*run)(void *), int number)
{
    volatile int started = 0;
    pthread_t thread = start(name, run, (void *)&started);
    while (!started)
        usleep(1000);
    pthread_kill(thread, number);
    sem_wait(&in_handler);
}

int main(void)
{
    begin();
    sem_init(&in_handler, 0, 0);
    if (pipe(never) != 0)
        fail("pipe");
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR2, &action, NULL);
    interrupt("own-stack", on_own_stack, SIGUSR1);
    interrupt("alternate", on_alternate_stack, SIGUSR2);
    say("ready");
    until_stdin_closes();
}
