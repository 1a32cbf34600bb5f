// "fork": makes a child process with a thread of its own; the child ends with us.
#include "common.h"
#include <sys/types.h>

static void *parked(void *arg)
{
    park();
    return arg;
}

int main(void)
{
    begin();
    int life[2], ready[2];
    if (pipe(life) != 0 || pipe(ready) != 0)
        fail("pipe");
    start("ours", parked, NULL);
    say("ready");
    char *line, byte;
    while ((line = command())) {
        pid_t child = fork();
        if (child == 0) {
            alarm(300);
            close(life[1]);
            close(0);
            close(1);
            start("theirs", parked, NULL);
            if (write(ready[1], "x", 1) != 1)
                _exit(1);
            _exit(read(life[0], &byte, 1) != 0);
        }
        if (read(ready[0], &byte, 1) != 1)
            fail("read");
        say("child %d", child);
    }
    _exit(0);
}
