// Locks that are never let go.
#include "corpus.h"

#include <stdatomic.h>

#include "cases.h"

static pthread_mutex_t prices_lock = PTHREAD_MUTEX_INITIALIZER;
static int price, is_read;

static int read_prices(void) { return -1; }

// Leaves with the lock held if the file cannot be read. Called by the thread that serves.
static void update_prices(void)
{
    pthread_mutex_lock(&prices_lock);
    if (read_prices() < 0)
        return;
    price++;
    pthread_mutex_unlock(&prices_lock);
}

static void update_prices_safely(void)
{
    pthread_mutex_lock(&prices_lock);
    if (read_prices() >= 0)
        price++;
    pthread_mutex_unlock(&prices_lock);
}

static void *print_price(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&prices_lock); // PARKS: mutex-never-unlocked
    price += 0;
    pthread_mutex_unlock(&prices_lock);
    return NULL;
}

static void show_price(void (*update)(void))
{
    if (!is_read)
        update();
    is_read = 1;
    START(print_price, NULL); // CREATES: mutex-never-unlocked
}

void leak_mutex(void) { show_price(update_prices); }
void fixed_mutex(void) { show_price(update_prices_safely); }

static pthread_mutex_t ledger_lock = PTHREAD_MUTEX_INITIALIZER;
static int balance;

// The thread that finds no money ends with the lock held.
static void *book(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&ledger_lock); // PARKS: holder-exited
    if (balance <= 0)
        pthread_exit(NULL);
    balance--;
    pthread_mutex_unlock(&ledger_lock);
    return NULL;
}

static void *book_safely(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&ledger_lock);
    if (balance > 0)
        balance--;
    pthread_mutex_unlock(&ledger_lock);
    return NULL;
}

void leak_holder_exited(void)
{
    START(book, NULL); // CREATES: holder-exited
}

void fixed_holder_exited(void) { START(book_safely, NULL); }

struct cache {
    pthread_mutex_t lock;
    int used, limit;
};

static void evict(struct cache *cache)
{
    pthread_mutex_lock(&cache->lock); // PARKS: self-deadlock
    cache->used = 0;
    pthread_mutex_unlock(&cache->lock);
}

// Locks, and calls what locks once the cache is full.
static void *put(void *arg)
{
    struct cache *cache = arg;
    pthread_mutex_lock(&cache->lock);
    if (++cache->used >= cache->limit)
        evict(cache);
    pthread_mutex_unlock(&cache->lock);
    free(cache);
    return NULL;
}

static void *put_safely(void *arg)
{
    struct cache *cache = arg;
    pthread_mutex_lock(&cache->lock);
    if (++cache->used >= cache->limit)
        cache->used = 0;
    pthread_mutex_unlock(&cache->lock);
    free(cache);
    return NULL;
}

static struct cache *new_cache(void)
{
    struct cache *cache = calloc(1, sizeof *cache);
    pthread_mutex_init(&cache->lock, NULL);
    cache->limit = 1;
    return cache;
}

void leak_self_deadlock(void)
{
    START(put, new_cache()); // CREATES: self-deadlock
}

void fixed_self_deadlock(void) { START(put_safely, new_cache()); }

struct account {
    pthread_mutex_t lock;
    int balance;
};

struct transfer {
    struct account *from, *to;
    atomic_int *under_way;
};

// Time for the other transfer to take its first lock: what goes wrong once in a while goes wrong now.
static void check_limits(struct transfer *transfer)
{
    ++*transfer->under_way;
    for (int i = 0; i < 50 && *transfer->under_way < 2; i++)
        usleep(1000);
}

static void move_money(struct transfer *transfer, struct account *first, struct account *second)
{
    pthread_mutex_lock(&first->lock);
    check_limits(transfer);
    pthread_mutex_lock(&second->lock); // PARKS: lock-order-inversion
    transfer->from->balance--;
    transfer->to->balance++;
    pthread_mutex_unlock(&second->lock);
    pthread_mutex_unlock(&first->lock);
}

static void *pay(void *arg)
{
    struct transfer *transfer = arg;
    move_money(transfer, transfer->from, transfer->to);
    return NULL;
}

static void *pay_in_order(void *arg)
{
    struct transfer *transfer = arg;
    int in_order = transfer->from < transfer->to;
    move_money(transfer, in_order ? transfer->from : transfer->to, in_order ? transfer->to : transfer->from);
    return NULL;
}

// Two accounts pay each other.
static void clear_accounts(void *(*how)(void *))
{
    struct account *accounts = calloc(2, sizeof *accounts);
    struct transfer *transfers = calloc(2, sizeof *transfers);
    atomic_int *under_way = calloc(1, sizeof *under_way);
    for (int i = 0; i < 2; i++)
        pthread_mutex_init(&accounts[i].lock, NULL);
    for (int i = 0; i < 2; i++) {
        transfers[i] = (struct transfer){&accounts[i], &accounts[1 - i], under_way};
        START(how, &transfers[i]); // CREATES: lock-order-inversion
    }
}

void leak_lock_order(void) { clear_accounts(pay); }
void fixed_lock_order(void) { clear_accounts(pay_in_order); }

static pthread_rwlock_t routes_lock = PTHREAD_RWLOCK_INITIALIZER;
static int routes, looked_up;

// Returns early with the lock held for reading: others still read, and nobody writes any more.
static int look_up(int host)
{
    pthread_rwlock_rdlock(&routes_lock);
    if (host >= routes)
        return -1;
    pthread_rwlock_unlock(&routes_lock);
    return host;
}

static int look_up_safely(int host)
{
    pthread_rwlock_rdlock(&routes_lock);
    int found = host < routes ? host : -1;
    pthread_rwlock_unlock(&routes_lock);
    return found;
}

static void *add_route(void *arg)
{
    (void)arg;
    pthread_rwlock_wrlock(&routes_lock); // PARKS: read-lock-kept
    routes++;
    pthread_rwlock_unlock(&routes_lock);
    return NULL;
}

static void route(int (*look_up)(int))
{
    if (!looked_up++)
        look_up(1000000);
    START(add_route, NULL); // CREATES: read-lock-kept
}

void leak_read_lock(void) { route(look_up); }
void fixed_read_lock(void) { route(look_up_safely); }
