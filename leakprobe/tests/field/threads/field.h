// threads NAME [ARGUMENT…]: a server that does the work of one case once a request (HTTP/1.0, a connection a request); others print
// `ready`. One process runs one case, so that a case's state may be global.
#ifndef FIELD_H
#define FIELD_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// What a test looks for is a frame of its own, and stays on the stack while it waits.
#define NOINLINE __attribute__((noinline, noclone))

struct field_case {
    const char *name;
    void (*start)(char **args);
};

// Never returns. `request` runs on the main thread.
void serve(void (*request)(void));

static inline struct timespec after_ms(long ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

// Begins a thread that is not joined. A macro, so that the creator is the caller.
#define BEGIN(run, argument) \
    do { \
        pthread_t thread; \
        if (pthread_create(&thread, NULL, run, argument) != 0) \
            abort(); \
        pthread_detach(thread); \
    } while (0)

extern const struct field_case servers[], pools[], crowds[], locks[], expiring[], lines[];

#endif
