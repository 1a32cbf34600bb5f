// Readers whose other end is never closed, by us ourselves.
#include "corpus.h"

#include <stdint.h>

#include "cases.h"

static void *collect(void *arg)
{
    int from = (intptr_t)arg;
    char buffer[256];
    while (read(from, buffer, sizeof buffer) > 0) // PARKS: pipe-kept-open
        ;
    close(from);
    return NULL;
}

static int open_collector(void)
{
    int ends[2];
    must(pipe(ends) == 0, "pipe");
    START(collect, (void *)(intptr_t)ends[0]); // CREATES: pipe-kept-open
    return ends[1];
}

static void write_text(int to, const char *text) { must(write(to, text, strlen(text)) > 0, "write"); }

void leak_pipe(void)
{
    int to = open_collector();
    write_text(to, "one line\n");
}

void fixed_pipe(void)
{
    int to = open_collector();
    write_text(to, "one line\n");
    close(to);
}

static void *answer(void *arg)
{
    int peer = (intptr_t)arg;
    char question[256];
    ssize_t length;
    while ((length = recv(peer, question, sizeof question, 0)) > 0) // PARKS: socketpair-kept-open
        must(send(peer, question, length, 0) == length, "send");
    close(peer);
    return NULL;
}

static int ask(const char *question)
{
    int ends[2];
    char answered[256];
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0, "socketpair");
    START(answer, (void *)(intptr_t)ends[1]); // CREATES: socketpair-kept-open
    must(send(ends[0], question, strlen(question), 0) > 0, "send");
    must(recv(ends[0], answered, sizeof answered, 0) > 0, "recv");
    return ends[0];
}

void leak_socketpair(void) { ask("who?"); }
void fixed_socketpair(void) { close(ask("who?")); }
