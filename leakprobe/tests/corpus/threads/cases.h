// What the files of the program `c` offer to its table.
#define CASE(name) \
    void leak_##name(void); \
    void fixed_##name(void)

CASE(condition);
CASE(semaphore);
CASE(barrier);
CASE(join);
CASE(sleeper);
CASE(mutex);
CASE(holder_exited);
CASE(self_deadlock);
CASE(lock_order);
CASE(read_lock);
CASE(pipe);
CASE(socketpair);
void healthy_pool(void);
