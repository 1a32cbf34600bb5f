// Lines in front of a lock, a lock that is taken twice, and one mistake that many handlers call.
#include "field.h"

#include <semaphore.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int requests;

// Each waits for the lock, and holds it for two seconds.
static NOINLINE void *work_alone(void *nothing)
{
    pthread_mutex_lock(&lock);
    usleep(2000000);
    pthread_mutex_unlock(&lock);
    return nothing;
}

static NOINLINE void queue_up(void)
{
    BEGIN(work_alone, NULL);
}

static void line_that_moves(char **args)
{
    (void)args;
    serve(queue_up);
}

// The tenth request takes a lock twice.
static NOINLINE void *lock_twice(void *nothing)
{
    pthread_mutex_lock(&lock);
    pthread_mutex_lock(&lock);
    return nothing;
}

static NOINLINE void lock_late(void)
{
    if (++requests == 10)
        BEGIN(lock_twice, NULL);
}

static void locked_twice(char **args)
{
    (void)args;
    serve(lock_late);
}

static void *await_post(void *nothing)
{
    sem_t never;
    sem_init(&never, 0, 0);
    sem_wait(&never);
    return nothing;
}

static NOINLINE void begin(void *(*run)(void *))
{
    BEGIN(run, NULL);
}

static NOINLINE void start_job(void)
{
    begin(await_post);
    requests++;
}

#define HANDLER(name) \
    static NOINLINE void name(void) \
    { \
        start_job(); \
        __asm__ volatile(""); \
    }
#define EIGHT(each, name) \
    each(name##0) each(name##1) each(name##2) each(name##3) each(name##4) each(name##5) each(name##6) each(name##7)
#define ALL(each) EIGHT(each, list_) EIGHT(each, show_) EIGHT(each, make_) EIGHT(each, drop_)
ALL(HANDLER)

#define NAME(name) name,
static void (*const handlers[])(void) = {ALL(NAME)};

static NOINLINE void dispatch(void)
{
    handlers[(unsigned)(requests * 7) % (sizeof handlers / sizeof *handlers)]();
}

static void many_callers(char **args)
{
    (void)args;
    serve(dispatch);
}

const struct field_case lines[] = {
    {"line-that-moves", line_that_moves}, {"locked-twice", locked_twice}, {"many-callers", many_callers}, {0}};
