// Calls back. Which library it is stands in the name of the function that does.
#define STEP __attribute__((noinline, noclone, noipa))

STEP static void NAME(void (*back)(void))
{
    back();
    __asm__ volatile("" ::: "memory");
}

STEP void enter(void (*back)(void))
{
    NAME(back);
    __asm__ volatile("" ::: "memory");
}
