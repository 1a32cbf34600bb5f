// Waits in C, below Go and above it.
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

#include "_cgo_export.h"
#include "block.h"

__attribute__((noinline)) void block(int depth) {
    if (depth > 0)
        block(depth - 1);
    for (;;)
        pause();
}

void call_go(void) { calledByC(); }

static void *thread(void *nothing) {
    calledByThread();
    return nothing;
}

void start_thread(void) {
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
}
