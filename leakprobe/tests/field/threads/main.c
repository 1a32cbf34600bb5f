#include "field.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

void serve(void (*request)(void))
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 64)
        || getsockname(listener, (struct sockaddr *)&address, &size))
        abort();
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        char text[1024];
        int client = accept(listener, NULL, NULL);
        if (read(client, text, sizeof text) > 0) {
            request();
            dprintf(client, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        close(client);
    }
}

int main(int count, char **args)
{
    const struct field_case *all[] = {servers, pools, crowds, locks, expiring, lines};
    // None outlives its test for long, whatever becomes of that.
    alarm(900);
    for (size_t i = 0; count > 1 && i < sizeof all / sizeof *all; i++)
        for (const struct field_case *one = all[i]; one->name; one++)
            if (strcmp(one->name, args[1]) == 0)
                one->start(args + 2);
    fprintf(stderr, "no such case\n");
    return 1;
}
