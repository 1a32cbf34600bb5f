// Begins itself anew on command: "main" from the main thread, "thread" from another. The new program says "again".
#include "common.h"

static char **arguments;

static void *parked(void *arg)
{
    park();
    return arg;
}

STEP static void begin_again(void)
{
    static char mark[] = "again";
    char *next[] = { arguments[0], mark, NULL };
    execv("/proc/self/exe", next);
    fail("exec");
}

static void *exec_here(void *arg)
{
    begin_again();
    return arg;
}

STEP static void *second_life(void *arg)
{
    park();
    return arg;
}

STEP static void second_program(void)
{
    start("second", second_life, NULL);
    NO_TAIL_CALL();
}

int main(int argc, char **argv)
{
    begin();
    arguments = argv;
    if (argc > 1) {
        second_program();
        say("again");
    } else {
        for (int n = 0; n < 3; n++)
            start("first", parked, NULL);
        say("ready");
    }
    char *line;
    while ((line = command())) {
        if (!strcmp(line, "main"))
            begin_again();
        else
            start("execer", exec_here, NULL);
    }
    _exit(0);
}
