// What every test program shares. Each says on stdout what its test needs to know, ends when its stdin is closed, and
// ends itself after some minutes if nobody does: none outlives its test.
#ifndef COMMON_H
#define COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// A function that stays a function of its own, and calls that stay calls.
#define STEP __attribute__((noinline, noclone, noipa))
#define NO_TAIL_CALL() __asm__ volatile("" ::: "memory")

static inline int own_tid(void) { return (int)syscall(SYS_gettid); }

static inline long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

// One line, whole: a single write of less than PIPE_BUF.
__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    line[length++] = '\n';
    if (write(1, line, length) != length)
        _exit(9);
}

static inline void begin(void) { alarm(300); }

static inline void fail(const char *what)
{
    perror(what);
    _exit(8);
}

// The next line of stdin without its end; NULL once stdin is closed.
static inline char *command(void)
{
    static char line[256];
    size_t length = 0;
    while (length < sizeof line - 1) {
        if (read(0, line + length, 1) != 1)
            return NULL;
        if (line[length] == '\n')
            break;
        length++;
    }
    line[length] = 0;
    return line;
}

static inline void until_stdin_closes(void)
{
    while (command())
        ;
    _exit(0);
}

static inline pthread_t start(const char *name, void *(*run)(void *), void *arg)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    if (pthread_create(&thread, &attributes, run, arg) != 0)
        fail("pthread_create");
    if (name)
        pthread_setname_np(thread, name);
    return thread;
}

// Where a function lies in its module, as the module itself counts.
extern char __executable_start[];
static inline uint64_t in_module(const void *function)
{
    int is_movable = *(const uint16_t *)(__executable_start + 16) == 3; // e_type == ET_DYN
    return (uint64_t)function - (is_movable ? (uint64_t)__executable_start : 0);
}

// Blocks for ever in a futex wait, as one function on the stack.
static pthread_mutex_t park_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t park_condition = PTHREAD_COND_INITIALIZER;
STEP static void park(void)
{
    pthread_mutex_lock(&park_lock);
    for (;;)
        pthread_cond_wait(&park_condition, &park_lock);
}

#endif
