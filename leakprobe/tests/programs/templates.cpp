// Threads of C++: templates, lambdas, inlined functions, a condition variable, a mutex, a future, a deleter on the stack.
#include "common.h"
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

namespace shop {

template <typename Item> class Queue {
public:
    __attribute__((noinline, noipa)) Item take()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        filled_.wait(lock, [this] { return full_; });
        return Item {};
    }

private:
    std::mutex mutex_;
    std::condition_variable filled_;
    bool full_ = false;
};

template <typename Item, int Size> struct Worker {
    Queue<Item> &queue;
    __attribute__((noinline, noipa)) void operator()()
    {
        Item item = queue.take();
        __asm__ volatile("" ::"r"(&item) : "memory");
    }
};

struct Order {
    long number;
};

__attribute__((noinline)) void lock_it(std::mutex &mutex)
{
    std::lock_guard<std::mutex> lock(mutex);
    NO_TAIL_CALL();
}

__attribute__((noinline)) void get_answer(std::future<int> &answer)
{
    answer.wait();
    NO_TAIL_CALL();
}

} // namespace shop

int main()
{
    begin();
    static shop::Queue<shop::Order> orders;
    static shop::Queue<int> numbers;
    static std::mutex held;
    static std::promise<int> promise;
    static std::future<int> answer = promise.get_future();
    held.lock();
    std::thread(shop::Worker<shop::Order, 3> { orders }).detach();
    std::thread(shop::Worker<int, 7> { numbers }).detach();
    std::thread([] { shop::lock_it(held); NO_TAIL_CALL(); }).detach();
    std::thread([] { shop::get_answer(answer); NO_TAIL_CALL(); }).detach();
    say("ready");
    until_stdin_closes();
}
