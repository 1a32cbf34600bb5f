// Two threads on one CPU that wake each other through a futex, over and over, for as long as it is told: what a round trip takes,
// on each line of input `SECONDS`, is answered in ns of time and in ns of CPU time. Between two lines nothing runs.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Whose turn it is: 0 nobody's, 1 ping's, 2 pong's.
static atomic_int turn;

static void wait_while(int other) { syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, other, NULL, NULL, 0); }
static void wake(void) { syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static void await(int mine)
{
    for (int now = atomic_load(&turn); now != mine; now = atomic_load(&turn))
        wait_while(now);
}

static void *pong(void *unused)
{
    (void)unused;
    for (;;) {
        await(2);
        atomic_store(&turn, 1);
        wake();
    }
}

static double now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    pthread_t thread;
    pthread_create(&thread, NULL, pong, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        double seconds = atof(line), began = now_ns(CLOCK_MONOTONIC), end = began + seconds * 1e9, now;
        double cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        long trips = 0;
        do {
            for (int n = 0; n < 100; n++, trips++) {
                atomic_store(&turn, 2);
                wake();
                await(1);
            }
            now = now_ns(CLOCK_MONOTONIC);
        } while (now < end);
        cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        printf("%.2f %.2f\n", (now - began) / trips, cpu / trips);
    }
    return 0;
}
