// A robust mutex in a memfd, which two programs map at different addresses: the waiter one page of it, the holder, which is
// executed, all of it.
#include "common.h"
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { PAGE = 4096 };
static sem_t said;
struct shared { pthread_mutex_t mutex; volatile int is_held; };

static struct shared *map(int fd, int pages)
{
    off_t from = pages == 1 ? PAGE : 0;
    char *begin = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, from);
    if (begin == MAP_FAILED)
        fail("mmap");
    return (struct shared *)(begin + PAGE - from);
}

static void *waiter(void *arg)
{
    struct shared *shared = arg;
    say("wait tid=%d object=0x%lx", own_tid(), (long)&shared->mutex);
    sem_post(&said);
    pthread_mutex_lock(&shared->mutex);
    return NULL;
}

int main(int argc, char **argv)
{
    begin();
    if (argc > 1) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        mmap(NULL, 64 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); // so that the rest lies elsewhere
        struct shared *shared = map(atoi(argv[1]), 16);
        prctl(PR_SET_NAME, "memfd-holder");
        say("holder object=0x%lx", (long)&shared->mutex);
        pthread_mutex_lock(&shared->mutex);
        shared->is_held = 1;
        for (;;)
            pause();
    }
    int fd = memfd_create("locks (deleted) r--s 0:1", 0);
    if (fd < 0 || ftruncate(fd, 16 * PAGE) != 0)
        fail("memfd");
    struct shared *shared = map(fd, 1);
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->mutex, &attributes);
    pid_t holder = fork();
    if (holder == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", fd);
        execl("/proc/self/exe", "shared_memfd", number, NULL);
        fail("exec");
    }
    while (!shared->is_held)
        usleep(1000);
    say("held by=%d", holder);
    start("waiter", waiter, shared);
    sem_wait(&said);
    say("ready");
    until_stdin_closes();
}
