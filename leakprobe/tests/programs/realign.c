// Functions that realign their stack, and ones with frames of variable size, between a wait and its thread's beginning.
#include "common.h"
#include <alloca.h>

STEP static void wait_here(void)
{
    park();
    NO_TAIL_CALL();
}

STEP __attribute__((force_align_arg_pointer)) static void realigned(volatile char *room)
{
    volatile char own[40];
    own[0] = room[0];
    wait_here();
    own[1] = room[1];
}

// 64-byte alignment together with a frame of variable size takes an expression in the frame description.
STEP static void aligned_and_variable(int size)
{
    volatile char __attribute__((aligned(64))) lanes[128];
    volatile char *room = alloca(size);
    lanes[0] = room[size / 2] = (char)size;
    realigned(room);
    lanes[1] = room[1];
}

STEP static void variable(int size)
{
    volatile char room[size];
    room[size - 1] = 1;
    aligned_and_variable(size);
    room[0] = 1;
}

static void *run(void *arg)
{
    variable((int)(long)arg);
    return arg;
}

int main(void)
{
    begin();
    for (long size = 100; size <= 500; size += 100)
        start("realigned", run, (void *)size);
    say("ready");
    until_stdin_closes();
}
