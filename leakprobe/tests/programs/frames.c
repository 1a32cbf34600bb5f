// Frames that are hard to leave: larger than what is read of a stack, and of trampolines that nothing tells of, as CPython makes
// one for each Python function with -X perf.
#include "common.h"
#include <alloca.h>
#include <sys/mman.h>

STEP static void wait_here(void)
{
    park();
    NO_TAIL_CALL();
}

// Ruby keeps its own stack of 1 MB so.
STEP static void variable(long size)
{
    volatile char *room = alloca(size);
    room[0] = 1;
    wait_here();
    room[size - 1] = 1;
}

STEP static void fixed(void)
{
    volatile char room[3 << 20];
    room[0] = 1;
    variable(9 << 20);
    room[1] = 1;
}

static void *large(void *arg)
{
    fixed();
    return arg;
}

typedef void (*trampoline)(void (*)(void));

// The same code in both, behind another.
static const unsigned char codes[2][16] = {
    // sub $8, %rsp; call *%rdi; add $8, %rsp; ret: that of 3.12.
    { 0x48, 0x83, 0xec, 8, 0xff, 0xd7, 0x48, 0x83, 0xc4, 8, 0xc3 },
    // endbr64; push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret: that of 3.14.
    { 0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 },
};
static trampoline trampolines[2];

STEP static void inner(void)
{
    trampolines[1](wait_here);
    NO_TAIL_CALL();
}

// What it keeps in registers must come back to it, or the stack ends here.
STEP static void outer(long size)
{
    volatile char *room = alloca(size);
    room[0] = 1;
    trampolines[0](inner);
    room[1] = 1;
}

static void *through_trampolines(void *arg)
{
    outer(64);
    return arg;
}

int main(void)
{
    begin();
    unsigned char *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(place, codes, sizeof codes);
    if (mprotect(place, 4096, PROT_READ | PROT_EXEC) != 0)
        fail("mprotect");
    for (int n = 0; n < 2; n++)
        trampolines[n] = (trampoline)(place + n * sizeof codes[0]);
    start("trampolines", through_trampolines, NULL);
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16 << 20);
    if (pthread_create(&thread, &attributes, large, NULL) != 0)
        fail("pthread_create");
    pthread_setname_np(thread, "large");
    say("ready");
    until_stdin_closes();
}
