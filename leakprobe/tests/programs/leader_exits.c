// The main thread ends; the others stay.
#include "common.h"

STEP static void stay(void)
{
    park();
    NO_TAIL_CALL();
}

static void *parked(void *arg)
{
    stay();
    return arg;
}

static void *listen_to_stdin(void *leader)
{
    pthread_join(*(pthread_t *)leader, NULL);
    start("stays", parked, NULL);
    start("stays", parked, NULL);
    say("ready");
    until_stdin_closes();
    return NULL;
}

int main(void)
{
    static pthread_t leader;
    begin();
    leader = pthread_self();
    start("listener", listen_to_stdin, &leader);
    pthread_exit(NULL);
}
