// Threads that wait for a sign which nobody gives: a condition, a semaphore, a barrier, a thread's end, the time.
#include "corpus.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "cases.h"

struct job {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    int size;
};

static struct job *new_job(void)
{
    struct job *job = calloc(1, sizeof *job);
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->ready, NULL);
    return job;
}

static void *do_job(void *arg)
{
    struct job *job = arg;
    pthread_mutex_lock(&job->lock);
    while (job->size == 0)
        pthread_cond_wait(&job->ready, &job->lock); // PARKS: condition-never-signalled
    pthread_mutex_unlock(&job->lock);
    free(job);
    return NULL;
}

// A job that is too large is refused, and whoever waits for it is not told.
static void submit(struct job *job, int size)
{
    if (size > 1000)
        return;
    pthread_mutex_lock(&job->lock);
    job->size = size;
    pthread_cond_signal(&job->ready);
    pthread_mutex_unlock(&job->lock);
}

static void submit_or_tell(struct job *job, int size)
{
    pthread_mutex_lock(&job->lock);
    job->size = size > 1000 ? -1 : size;
    pthread_cond_signal(&job->ready);
    pthread_mutex_unlock(&job->lock);
}

void leak_condition(void)
{
    struct job *job = new_job();
    START(do_job, job); // CREATES: condition-never-signalled
    submit(job, 4096);
}

void fixed_condition(void)
{
    struct job *job = new_job();
    START(do_job, job);
    submit_or_tell(job, 4096);
}

struct request {
    sem_t answered;
    int status;
};

static void *log_answer(void *arg)
{
    struct request *request = arg;
    while (sem_wait(&request->answered) != 0) // PARKS: semaphore-never-posted
        ;
    sem_destroy(&request->answered);
    free(request);
    return NULL;
}

static int connect_to_backend(void) { return -1; }

static void answer(struct request *request)
{
    if (connect_to_backend() < 0)
        return;
    request->status = 200;
    sem_post(&request->answered);
}

static void answer_always(struct request *request)
{
    request->status = connect_to_backend() < 0 ? 502 : 200;
    sem_post(&request->answered);
}

static void ask(void (*how)(struct request *))
{
    struct request *request = calloc(1, sizeof *request);
    sem_init(&request->answered, 0, 0);
    START(log_answer, request); // CREATES: semaphore-never-posted
    how(request);
}

void leak_semaphore(void) { ask(answer); }
void fixed_semaphore(void) { ask(answer_always); }

static void *compute_part(void *arg)
{
    pthread_barrier_t *all_done = arg;
    pthread_barrier_wait(all_done); // PARKS: barrier-incomplete
    return NULL;
}

// The barrier is for as many parts as were asked for, not for as many as there are.
static void compute(int wanted, int there)
{
    pthread_barrier_t *all_done = malloc(sizeof *all_done);
    pthread_barrier_init(all_done, NULL, wanted);
    for (int i = 0; i < there; i++)
        START(compute_part, all_done); // CREATES: barrier-incomplete
}

void leak_barrier(void) { compute(3, 2); }
void fixed_barrier(void) { compute(2, 2); }

struct worker {
    pthread_t thread;
    atomic_int stop;
};

static void *poll_sensor(void *arg)
{
    struct worker *worker = arg;
    const struct timespec pause = {.tv_nsec = 500000000};
    while (!worker->stop)
        nanosleep(&pause, NULL); // BESIDE: join-never-ends
    return NULL;
}

static void *clean_up(void *arg)
{
    struct worker *worker = arg;
    pthread_join(worker->thread, NULL); // PARKS: join-never-ends
    free(worker);
    return NULL;
}

// The worker is waited for, but it was not told to stop.
static void measure(int stop)
{
    struct worker *worker = calloc(1, sizeof *worker);
    must(pthread_create(&worker->thread, NULL, poll_sensor, worker) == 0, "pthread_create");
    worker->stop = stop;
    START(clean_up, worker); // CREATES: join-never-ends
}

void leak_join(void) { measure(0); }
void fixed_join(void) { measure(1); }

static atomic_int is_connected = 1;

static void *keep_alive(void *arg)
{
    (void)arg;
    for (;;) {
        usleep(500000); // PARKS: detached-sleeper
        if (!is_connected)
            return NULL;
    }
}

static void *keep_alive_until_closed(void *arg)
{
    atomic_int *is_open = arg;
    while (*is_open)
        usleep(500000);
    free(is_open);
    return NULL;
}

void leak_sleeper(void)
{
    START(keep_alive, NULL); // CREATES: detached-sleeper
}

void fixed_sleeper(void)
{
    atomic_int *is_open = malloc(sizeof *is_open);
    *is_open = 1;
    START(keep_alive_until_closed, is_open);
    *is_open = 0;
}
