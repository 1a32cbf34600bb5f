// Creates threads on command, through chains of functions: "outer NAME" and "other NAME" through two chains of the main thread,
// "maker NAME" in a thread of that name, "deep N" below N calls of a function with a large frame, "burst N" N at once.
// "park-deep N" parks the main thread that deep. "end" lets the newest go. The threads park.
#include "common.h"
#include <semaphore.h>

static sem_t is_created;
static volatile int created_tid;
static pthread_mutex_t let_go_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t let_go = PTHREAD_COND_INITIALIZER;
static int to_end;

STEP static void idle(void)
{
    pthread_mutex_lock(&let_go_lock);
    while (to_end != own_tid())
        pthread_cond_wait(&let_go, &let_go_lock);
    pthread_mutex_unlock(&let_go_lock);
}

static void *work(void *name)
{
    pthread_setname_np(pthread_self(), name);
    created_tid = own_tid();
    sem_post(&is_created);
    idle();
    NO_TAIL_CALL();
    return NULL;
}

STEP static void create(const char *name)
{
    static char names[64][16];
    static int number;
    char *kept = names[number++ % 64];
    snprintf(kept, 16, "%s", name);
    start(NULL, work, kept);
    sem_wait(&is_created);
    say("created %d", created_tid);
}

STEP static void inner(const char *name) { create(name); NO_TAIL_CALL(); }
STEP static void middle(const char *name) { volatile char room[200]; room[0] = *name; inner(name); NO_TAIL_CALL(); }
STEP static void outer(const char *name) { middle(name); NO_TAIL_CALL(); }
STEP static void other(const char *name) { inner(name); NO_TAIL_CALL(); }

static int parks;

STEP static void dig(int depth)
{
    volatile char room[2000];
    room[depth % 2000] = (char)depth;
    if (depth == 0 && parks)
        park();
    else if (depth == 0)
        create("deep");
    else
        dig(depth - 1);
    NO_TAIL_CALL();
}

static sem_t order, done;
static char ordered[64];

static void *make(void *arg)
{
    for (;;) {
        while (sem_wait(&order) != 0)
            ;
        outer(ordered);
        sem_post(&done);
    }
    return arg;
}

int main(void)
{
    begin();
    sem_init(&is_created, 0, 0);
    sem_init(&order, 0, 0);
    sem_init(&done, 0, 0);
    start("maker", make, NULL);
    say("functions inner=%#lx middle=%#lx outer=%#lx other=%#lx main=%#lx idle=%#lx", in_module(inner), in_module(middle),
        in_module(outer), in_module(other), in_module(main), in_module(idle));
    say("ready");
    char *line;
    while ((line = command())) {
        char *value = strchr(line, ' ');
        if (value)
            *value++ = 0;
        if (!strcmp(line, "outer"))
            outer(value);
        else if (!strcmp(line, "other"))
            other(value);
        else if (!strcmp(line, "deep"))
            dig(atoi(value));
        else if (!strcmp(line, "park-deep")) {
            parks = 1;
            say("parking");
            dig(atoi(value));
        } else if (!strcmp(line, "burst")) {
            for (int n = atoi(value); n > 0; n--)
                outer("burst");
            say("done");
        } else if (!strcmp(line, "maker")) {
            snprintf(ordered, sizeof ordered, "%s", value);
            sem_post(&order);
            while (sem_wait(&done) != 0)
                ;
        } else if (!strcmp(line, "end")) {
            pthread_mutex_lock(&let_go_lock);
            to_end = created_tid;
            pthread_cond_broadcast(&let_go);
            pthread_mutex_unlock(&let_go_lock);
            char path[64];
            snprintf(path, sizeof path, "/proc/self/task/%d", created_tid);
            while (access(path, F_OK) == 0)
                usleep(1000);
            say("ended %d", created_tid);
        }
    }
    _exit(0);
}
