// The cases in C++.
#include "corpus.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

// A queue between threads.
template <typename T> class Queue {
public:
    void push(T item)
    {
        std::lock_guard<std::mutex> guard(lock);
        items.push_back(std::move(item));
        changed.notify_one();
    }

    // Nothing once the queue is closed and empty.
    std::optional<T> pop()
    {
        std::unique_lock<std::mutex> guard(lock);
        changed.wait(guard, [this] { return closed || !items.empty(); }); // PARKS: queue-consumer PARKS: pool-never-stopped
        if (items.empty())
            return std::nullopt;
        T item = std::move(items.front());
        items.pop_front();
        return item;
    }

    void close()
    {
        std::lock_guard<std::mutex> guard(lock);
        closed = true;
        changed.notify_all();
    }

private:
    std::mutex lock;
    std::condition_variable changed;
    std::deque<T> items;
    bool closed = false;
};

static void consume(std::shared_ptr<Queue<std::string>> queue)
{
    while (auto item = queue->pop())
        item->clear();
}

static void leak_queue()
{
    auto queue = std::make_shared<Queue<std::string>>();
    std::thread(consume, queue).detach(); // CREATES: queue-consumer
    queue->push("something to do");
}

static void fixed_queue()
{
    auto queue = std::make_shared<Queue<std::string>>();
    std::thread(consume, queue).detach();
    queue->push("something to do");
    queue->close();
}

// Runs what it is given on threads of its own, which end when it is told to stop.
class Pool {
public:
    explicit Pool(int threads)
    {
        for (int i = 0; i < threads; i++)
            std::thread([jobs = jobs] { run(jobs); }).detach(); // CREATES: pool-never-stopped
    }
    void submit(std::function<void()> job) { jobs->push(std::move(job)); }
    void stop() { jobs->close(); }

private:
    static void run(std::shared_ptr<Queue<std::function<void()>>> jobs)
    {
        while (auto job = jobs->pop())
            (*job)();
    }
    std::shared_ptr<Queue<std::function<void()>>> jobs = std::make_shared<Queue<std::function<void()>>>();
};

static void leak_pool()
{
    Pool pool(2);
    pool.submit([] {});
}

static void fixed_pool()
{
    Pool pool(2);
    pool.submit([] {});
    pool.stop();
}

int main(int count, char **args)
{
    static const corpus_case cases[] = {
        {"queue-consumer", "leak", leak_queue},
        {"queue-consumer", "fixed", fixed_queue},
        {"pool-never-stopped", "leak", leak_pool},
        {"pool-never-stopped", "fixed", fixed_pool},
        {},
    };
    return corpus_main(count, args, cases);
}
