// Each request leaves a thread.
#include "field.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static NOINLINE void wait_0(void) { pause(); }
static NOINLINE void wait_1(void) { pause(); }
static NOINLINE void wait_2(void) { pause(); }
static NOINLINE void wait_3(void) { pause(); }
static NOINLINE void wait_4(void) { pause(); }
static NOINLINE void wait_5(void) { pause(); }
static NOINLINE void wait_6(void) { pause(); }
static NOINLINE void wait_7(void) { pause(); }
static void (*const kinds[])(void) = {wait_0, wait_1, wait_2, wait_3, wait_4, wait_5, wait_6, wait_7};

static void *work(void *kind)
{
    kinds[(long)kind % 8]();
    return kind;
}

// One leak with many places: a worker that is started in one line waits in one of eight functions, by the kind of the request.
static NOINLINE void start_worker(void)
{
    static long requests;
    BEGIN(work, (void *)requests++);
}

static void spread(char **args)
{
    (void)args;
    serve(start_worker);
}

static void *await_event(void *nothing)
{
    // The name that a library gives to a thread of its own, of which there is one.
    pthread_setname_np(pthread_self(), "gdbus");
    pause();
    return nothing;
}

static NOINLINE void open_bus(void) { BEGIN(await_event, NULL); }

static void named(char **args)
{
    (void)args;
    serve(open_bus);
}

static void *poll_loop(void *nothing)
{
    for (;;)
        poll(NULL, 0, 500);
    return nothing;
}

// A thread that wakes every 500 ms, as heartbeats and monitors do.
static NOINLINE void start_poller(void) { BEGIN(poll_loop, NULL); }

static void poller(char **args)
{
    (void)args;
    serve(start_poller);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t added = PTHREAD_COND_INITIALIZER;
static int jobs;
static long slice_ms = 900;

// Waits for a job that never comes, in slices.
static void *wait_for_job(void *nothing)
{
    pthread_mutex_lock(&lock);
    while (!jobs) {
        struct timespec until = after_ms(slice_ms);
        pthread_cond_timedwait(&added, &lock, &until);
    }
    pthread_mutex_unlock(&lock);
    return nothing;
}

static NOINLINE void start_waiter(void) { BEGIN(wait_for_job, NULL); }

static void slice_server(char **args)
{
    (void)args;
    serve(start_waiter);
}

// Twelve of them, begun one after the other: `slices MS`.
static void slices(char **args)
{
    slice_ms = atol(args[0]);
    for (int i = 0; i < 12; i++) {
        start_waiter();
        usleep(50000);
    }
    puts("ready");
    fflush(stdout);
    pause();
}

const struct field_case servers[] = {
    {"spread", spread}, {"named", named}, {"poller", poller}, {"slice-server", slice_server}, {"slices", slices}, {0},
};
