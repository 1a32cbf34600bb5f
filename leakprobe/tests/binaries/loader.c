// Loads and unloads libraries as it is told, and has threads call into them.
//   load PATH   -> loaded ADDRESS
//   call NAME   -> called TID      a thread of that name calls the library's `enter`, which calls back, and parks
//   unload      -> unloaded        even if threads are still to return there
#include "../programs/common.h"
#include <dlfcn.h>

static void (*enter)(void (*)(void));

STEP static void park_here(void)
{
    park();
    NO_TAIL_CALL();
}

STEP static void *run(void *arg)
{
    say("called %d", own_tid());
    enter(park_here);
    NO_TAIL_CALL();
    return arg;
}

int main(void)
{
    begin();
    say("ready");
    void *library = NULL;
    char *line;
    while ((line = command())) {
        char *argument = strchr(line, ' ');
        if (argument)
            *argument++ = 0;
        if (!strcmp(line, "load")) {
            Dl_info info;
            library = dlopen(argument, RTLD_NOW);
            if (!library || !(enter = (void (*)(void (*)(void)))dlsym(library, "enter")) || !dladdr((void *)enter, &info))
                fail(argument);
            say("loaded %p", info.dli_fbase);
        } else if (!strcmp(line, "call")) {
            start(argument, run, NULL);
        } else if (!strcmp(line, "unload")) {
            dlclose(library);
            say("unloaded");
        }
    }
    _exit(0);
}
