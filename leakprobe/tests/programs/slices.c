// Waits that end by themselves and begin again. "slices N MS": N threads that wait for a job that never comes, in slices of MS.
// "slept": how many slices each of them has waited at least. "worker MS": one that waits likewise and gets jobs by "job".
// "pool N": N parked threads. "renew": each of them ends and another takes its place.
#include "common.h"
#include <semaphore.h>

#define MOST 64
static long slice_ms, slept[MOST];
static int sleepers, pooled;
static sem_t never, jobs, done, leave[MOST], there;

static int wait_slice(sem_t *semaphore, long ms)
{
    struct timespec due;
    clock_gettime(CLOCK_REALTIME, &due);
    due.tv_nsec += ms % 1000 * 1000000;
    due.tv_sec += ms / 1000 + due.tv_nsec / 1000000000;
    due.tv_nsec %= 1000000000;
    return sem_timedwait(semaphore, &due);
}

STEP static void wait_in_slices(long *count)
{
    for (;;) {
        wait_slice(&never, slice_ms);
        __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
    }
}

STEP static void *sleeper(void *count)
{
    wait_in_slices(count);
    return count;
}

STEP static void *worker(void *ms)
{
    for (;;)
        if (wait_slice(&jobs, (long)ms) == 0)
            sem_post(&done);
    return ms;
}

STEP static void *member(void *leaves)
{
    sem_post(&there);
    sem_wait(leaves);
    return leaves;
}

STEP static pthread_t new_member(int n)
{
    pthread_t thread = start("member", member, &leave[n]);
    sem_wait(&there);
    return thread;
}

int main(void)
{
    begin();
    sem_init(&never, 0, 0);
    sem_init(&jobs, 0, 0);
    sem_init(&done, 0, 0);
    sem_init(&there, 0, 0);
    static pthread_t members[MOST];
    say("ready");
    char *line;
    while ((line = command())) {
        int n;
        long ms;
        if (sscanf(line, "slices %d %ld", &n, &ms) == 2) {
            slice_ms = ms;
            for (int i = 0; i < n && sleepers < MOST; i++, sleepers++)
                start("sleeper", sleeper, &slept[sleepers]);
        } else if (sscanf(line, "worker %ld", &ms) == 1) {
            start("worker", worker, (void *)ms);
        } else if (sscanf(line, "pool %d", &n) == 1) {
            for (; pooled < n && pooled < MOST; pooled++) {
                sem_init(&leave[pooled], 0, 0);
                members[pooled] = new_member(pooled);
            }
        } else if (strcmp(line, "renew") == 0) {
            for (int i = 0; i < pooled; i++) {
                sem_post(&leave[i]);
                pthread_join(members[i], NULL);
                members[i] = new_member(i);
            }
        } else if (strcmp(line, "job") == 0) {
            sem_post(&jobs);
            sem_wait(&done);
        } else if (strcmp(line, "slept") == 0) {
            long least = sleepers ? slept[0] : 0;
            for (int i = 0; i < sleepers; i++) {
                long count = __atomic_load_n(&slept[i], __ATOMIC_SEQ_CST);
                least = count < least ? count : least;
            }
            say("slept %ld", least);
            continue;
        }
        say("done");
    }
    _exit(0);
}
