// "churn N" creates N threads that end at once, eight at a time, and leaves every hundredth parked. "rate N SECONDS" creates N a
// second that end at once, as far as the machine can, and answers how many they were and how long it took, ms.
#include "common.h"

static void *end_at_once(void *arg) { return arg; }
static void *stay(void *arg)
{
    park();
    return arg;
}

STEP static void churn(int rounds)
{
    pthread_t threads[8];
    for (int n = 0; n < rounds; n += 8) {
        for (int i = 0; i < 8; i++)
            threads[i] = start(NULL, end_at_once, NULL);
        for (int i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
        if (n % 96 == 0)
            start("stays", stay, NULL);
    }
}

static void at_rate(long rate, long seconds)
{
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 64 << 10);
    long long began = now_ns(), now = began;
    long created = 0;
    pthread_t thread;
    while ((now = now_ns()) < began + seconds * 1000000000LL) {
        long due = (now - began) / 1000 * rate / 1000000;
        if (created >= due) {
            usleep(500);
            continue;
        }
        if (pthread_create(&thread, &detached, end_at_once, NULL) == 0)
            created++;
        else
            usleep(100); // the limit is reached; those that end make room
    }
    say("%ld %lld", created, (now - began) / 1000000);
}

int main(void)
{
    begin();
    say("ready");
    char *line;
    while ((line = command())) {
        long rate, seconds;
        if (sscanf(line, "rate %ld %ld", &rate, &seconds) == 2) {
            at_rate(rate, seconds);
            continue;
        }
        churn(atoi(line + strlen("churn ")));
        say("done");
    }
    _exit(0);
}
