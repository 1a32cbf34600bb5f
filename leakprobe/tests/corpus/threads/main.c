// The cases in C.
#include "corpus.h"

#include "cases.h"

#define BOTH(name, function) {name, "leak", leak_##function}, {name, "fixed", fixed_##function}

int main(int count, char **args)
{
    static const struct corpus_case cases[] = {
        BOTH("condition-never-signalled", condition),
        BOTH("semaphore-never-posted", semaphore),
        BOTH("barrier-incomplete", barrier),
        BOTH("join-never-ends", join),
        BOTH("detached-sleeper", sleeper),
        BOTH("mutex-never-unlocked", mutex),
        BOTH("holder-exited", holder_exited),
        BOTH("self-deadlock", self_deadlock),
        BOTH("lock-order-inversion", lock_order),
        BOTH("read-lock-kept", read_lock),
        BOTH("pipe-kept-open", pipe),
        BOTH("socketpair-kept-open", socketpair),
        {"late-pool", "healthy", healthy_pool},
        {0},
    };
    return corpus_main(count, args, cases);
}
