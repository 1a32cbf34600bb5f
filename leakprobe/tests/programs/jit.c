// A thread whose stack goes through code that was made at run time, as JIT compilers make it: with frame pointers and
// without unwind information.
#include "common.h"
#include <sys/mman.h>

STEP static void called_by_made_code(void)
{
    park();
    NO_TAIL_CALL();
}

static void (*made_code(void))(void (*)(void))
{
    // push rbp; mov rbp, rsp; call rdi; pop rbp; ret
    static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
    void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(place, code, sizeof code);
    if (mprotect(place, 4096, PROT_READ | PROT_EXEC) != 0)
        fail("mprotect");
    return (void (*)(void (*)(void)))place;
}

// The frame pointer is needed to get from the made code to its caller.
STEP __attribute__((optimize("no-omit-frame-pointer"))) static void calls_made_code(void)
{
    made_code()(called_by_made_code);
    NO_TAIL_CALL();
}

static void *run(void *arg)
{
    calls_made_code();
    return arg;
}

int main(void)
{
    begin();
    start("made", run, NULL);
    say("ready");
    until_stdin_closes();
}
