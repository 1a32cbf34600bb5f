// "churn N" creates N threads that end at once, eight at a time, and leaves every hundredth parked.
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

int main(void)
{
    begin();
    say("ready");
    char *line;
    while ((line = command())) {
        churn(atoi(line + strlen("churn ")));
        say("done");
    }
    _exit(0);
}
