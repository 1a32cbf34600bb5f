// A C program with Go in it: host LIBRARY… loads them with dlopen. With -DLINKED it is linked with one.
// `dump FILE [N]` has the Nth library (from 0) write its goroutines; `call` has one more thread wait in the first one.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    void (*start)(void);
    void (*dump)(char *);
    void *(*wait)(void *);
} library;

static void *find(void *handle, const char *name) {
    void *found = dlsym(handle, name);
    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

__attribute__((noinline)) static void make_caller(library *of) {
    pthread_t id;
    pthread_create(&id, NULL, of->wait, NULL);
    puts("called");
}

#ifdef LINKED
extern void GoStart(void), GoDump(char *), GoWait(void);
#endif

int main(int argc, char **argv) {
    library libraries[8];
    int count = 0;
#ifdef LINKED
    libraries[count++] = (library){GoStart, GoDump, (void *(*)(void *))GoWait};
#endif
    for (int i = 1; i < argc && count < 8; i++) {
        void *handle = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        libraries[count++] = (library){find(handle, "GoStart"), find(handle, "GoDump"), find(handle, "GoWait")};
    }
    for (int i = 0; i < count; i++) {
        pthread_t id;
        pthread_create(&id, NULL, libraries[i].wait, NULL);
        libraries[i].start();
    }
    puts("ready");
    fflush(stdout);
    char line[4096], path[4096];
    while (fgets(line, sizeof line, stdin)) {
        int which = 0;
        if (sscanf(line, "dump %4095s %d", path, &which) >= 1 && which >= 0 && which < count) {
            libraries[which].dump(path);
            puts("dumped");
        } else if (!strcmp(line, "call\n")) {
            make_caller(&libraries[0]);
        } else {
            break;
        }
        fflush(stdout);
    }
    // No exit handlers: the goroutines go on until the end.
    _Exit(0);
}
