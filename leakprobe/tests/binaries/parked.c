// A program for any C library, as a container may have it: one thread that waits for ever, and nothing from our own headers.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define STEP __attribute__((noinline, noclone))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

STEP void waits_for_ever(void)
{
#ifdef WITHOUT_LIBC
    // pause: the C library has no part in it.
    for (;;)
        __asm__ volatile("syscall" : : "a"(34) : "rcx", "r11", "memory");
#endif
    pthread_mutex_lock(&lock);
    for (;;)
        pthread_cond_wait(&condition, &lock);
}

STEP static void *run(void *arg)
{
    waits_for_ever();
    return arg;
}

int main(void)
{
    pthread_t thread;
    char byte;
    alarm(300);
    pthread_create(&thread, NULL, run, NULL);
    printf("ready\n");
    fflush(stdout);
    while (read(0, &byte, 1) == 1)
        ;
    _exit(0);
}
