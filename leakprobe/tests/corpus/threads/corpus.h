// CASE leak|fixed|healthy: a server that does the case's work once a request, which is the line `GET`, answered by `ok`.
// load ADDR N [CONCURRENCY]: N requests to it. One process runs one variant of one case: a case's state may be global.
#ifndef CORPUS_H
#define CORPUS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct corpus_case {
    const char *name, *variant;
    void (*request)(void);
};

static inline void must(int is_so, const char *what)
{
    if (!is_so) {
        perror(what);
        _exit(1);
    }
}

// Begins a thread that nobody joins. A macro, so that the line of creation is the caller's.
#define START(run, arg) \
    do { \
        pthread_t thread; \
        must(pthread_create(&thread, NULL, run, arg) == 0, "pthread_create"); \
        pthread_detach(thread); \
    } while (0)

static inline struct sockaddr_in corpus_address(const char *text)
{
    char host[64];
    int port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    must(sscanf(text, "%63[0-9.]:%d", host, &port) == 2, "an address");
    address.sin_port = htons(port);
    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

// One thread for all connections, so that the only others are those of the case.
static inline void corpus_serve(void (*request)(void))
{
    struct sockaddr_in address = corpus_address("127.0.0.1:0");
    socklen_t size = sizeof address;
    struct pollfd polled[65] = {{.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .events = POLLIN}};
    int used = 1;
    must(bind(polled[0].fd, (struct sockaddr *)&address, size) == 0 && listen(polled[0].fd, 64) == 0, "listen");
    must(getsockname(polled[0].fd, (struct sockaddr *)&address, &size) == 0, "getsockname");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        must(poll(polled, used, -1) > 0, "poll");
        for (int i = used - 1; i > 0; i--) {
            char line[64];
            if (!polled[i].revents)
                continue;
            // A client waits for the answer, so that there is one line at most.
            if (read(polled[i].fd, line, sizeof line) > 0) {
                request();
                if (write(polled[i].fd, "ok\n", 3) == 3)
                    continue;
            }
            close(polled[i].fd);
            polled[i] = polled[--used];
        }
        if (polled[0].revents && used < 65) {
            polled[used].fd = accept(polled[0].fd, NULL, NULL);
            polled[used].revents = 0;
            polled[used++].events = POLLIN;
        }
    }
}

static inline void corpus_load(const char *to, int requests, int connections)
{
    struct sockaddr_in address = corpus_address(to);
    int sockets[64];
    must(connections > 0 && connections <= 64, "CONCURRENCY");
    for (int i = 0; i < connections; i++) {
        sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(sockets[i], (struct sockaddr *)&address, sizeof address) == 0, "connect");
    }
    for (int sent = 0; sent < requests;) {
        int together = requests - sent < connections ? requests - sent : connections;
        for (int i = 0; i < together; i++)
            must(write(sockets[i], "GET\n", 4) == 4, "write");
        for (int i = 0; i < together; i++) {
            char answer[8] = "";
            must(read(sockets[i], answer, sizeof answer) == 3 && strncmp(answer, "ok\n", 3) == 0, "an answer");
        }
        sent += together;
    }
    printf("%d requests\n", requests);
}

static inline int corpus_main(int count, char **args, const struct corpus_case *cases)
{
    if (count > 3 && strcmp(args[1], "load") == 0) {
        corpus_load(args[2], atoi(args[3]), count > 4 ? atoi(args[4]) : 4);
        return 0;
    }
    // None outlives its test for long, whatever becomes of that.
    alarm(900);
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    for (; cases->name; cases++)
        if (count > 2 && strcmp(args[1], cases->name) == 0 && strcmp(args[2], cases->variant) == 0)
            corpus_serve(cases->request);
    fprintf(stderr, "no such case\n");
    return 1;
}

#endif
