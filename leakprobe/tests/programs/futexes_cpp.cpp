// One thread for each wait of C++'s standard library that ends in a futex. Each says its kind, thread id and object.
#include "common.h"
#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <future>
#include <latch>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <thread>

using namespace std::chrono_literals;

static std::counting_semaphore<64> about_to_block(0);
static std::mutex held;
static std::recursive_mutex recursive;
static std::timed_mutex timed;
static std::shared_mutex written, read_by_others;
static std::condition_variable changed;
static std::condition_variable_any any_changed;
static std::promise<int> promise;
static std::counting_semaphore<> semaphore(0);
static std::latch latch(1);
static std::barrier<> barrier(2);
static std::atomic<int> number(0);
static std::once_flag once;
static std::thread never_ends;

static void waiting(const char *kind, const void *object, long size)
{
    say("wait kind=%s tid=%d object=%ld size=%ld", kind, own_tid(), (long)object, size);
    about_to_block.release();
}

#define WAIT(name) STEP static void name(void)
WAIT(lock_mutex) { waiting("mutex", &held, 1); held.lock(); }
WAIT(lock_recursive) { waiting("recursive", &recursive, 1); std::lock_guard<std::recursive_mutex> guard(recursive); NO_TAIL_CALL(); }
WAIT(lock_timed) { waiting("timed_mutex", &timed, 1); if (timed.try_lock_for(1h)) return; }
WAIT(lock_shared) { waiting("shared_read", &written, sizeof written); written.lock_shared(); }
WAIT(lock_unique) { waiting("shared_write", &read_by_others, sizeof read_by_others); read_by_others.lock(); }
WAIT(condition) { std::mutex own; std::unique_lock<std::mutex> lock(own); waiting("cond", &changed, sizeof changed); changed.wait(lock); }
WAIT(condition_for) { std::mutex own; std::unique_lock<std::mutex> lock(own); waiting("cond_timed", &changed, sizeof changed); changed.wait_for(lock, 1h); }
WAIT(condition_any) { std::recursive_mutex own; std::unique_lock<std::recursive_mutex> lock(own); waiting("cond_any", 0, 0); any_changed.wait(lock); }
WAIT(future) { std::future<int> value = promise.get_future(); waiting("future", 0, 0); value.get(); }
WAIT(acquire) { waiting("semaphore", &semaphore, sizeof semaphore); semaphore.acquire(); NO_TAIL_CALL(); }
WAIT(latched) { waiting("latch", &latch, sizeof latch); latch.wait(); NO_TAIL_CALL(); }
WAIT(arrive) { waiting("barrier", 0, 0); barrier.arrive_and_wait(); NO_TAIL_CALL(); }
WAIT(atomic_wait) { waiting("atomic", &number, sizeof number); number.wait(0); NO_TAIL_CALL(); }
WAIT(join) { waiting("join", 0, 0); never_ends.join(); }
STEP static void first_call(void) { say("in once"); park(); }
WAIT(calls_first) { std::call_once(once, first_call); }
WAIT(call_once) { waiting("once", &once, sizeof once); std::call_once(once, first_call); }

static void *run(void *wait)
{
    ((void (*)(void))wait)();
    NO_TAIL_CALL();
    say("woke %d", own_tid());
    return NULL;
}

int main()
{
    static void (*const waits[])(void) = {
        lock_mutex, lock_recursive, lock_timed, lock_shared, lock_unique, condition, condition_for, condition_any,
        future, acquire, latched, arrive, atomic_wait, join, call_once,
    };
    const int count = sizeof waits / sizeof waits[0];
    begin();
    held.lock();
    recursive.lock();
    timed.lock();
    written.lock();
    read_by_others.lock_shared();
    never_ends = std::thread(park);
    start("calls-first", run, (void *)calls_first);
    // Only once the first call is under way do others wait for it.
    while (*(volatile int *)&once == 0)
        sched_yield();
    for (int n = 0; n < count; n++)
        start("waiter", run, (void *)waits[n]);
    for (int n = 0; n < count; n++)
        about_to_block.acquire();
    say("holder %d", own_tid());
    say("ready");
    until_stdin_closes();
}
