// A lock between processes.
#include "field.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static NOINLINE void wait_for(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    puts("locked");
}

// `shared-lock plain|inherit`: a mutex in shared memory that a living child, "live-holder", keeps locked.
static void shared_lock(char **args)
{
    pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    int is_held[2];
    char byte;
    if (mutex == MAP_FAILED || pipe(is_held))
        abort();
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (strcmp(args[0], "inherit") == 0)
        pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(mutex, &attributes);
    if (fork() == 0) {
        prctl(PR_SET_NAME, "live-holder");
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pthread_mutex_lock(mutex);
        if (write(is_held[1], "", 1) != 1)
            abort();
        for (;;)
            pause();
    }
    if (read(is_held[0], &byte, 1) != 1)
        abort();
    puts("ready");
    fflush(stdout);
    wait_for(mutex);
}

const struct field_case locks[] = {{"shared-lock", shared_lock}, {0}};
