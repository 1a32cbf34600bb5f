//! rayon and threadpool.

use std::{
    sync::{
        Mutex,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};

static POOLS: Mutex<Vec<ThreadPool>> = Mutex::new(Vec::new());

fn pool() -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(3).build().unwrap()
}

/// A pool for each request, kept in a list "for reuse".
#[inline(never)]
pub(crate) fn kept() {
    let pool = pool();
    pool.install(|| {});
    POOLS.lock().unwrap().push(pool);
}

/// A pool for each request, which ends with it.
pub(crate) fn dropped() {
    pool().install(|| {});
}

/// The global pool, with as many threads as processors.
pub(crate) fn global() {
    let sum: u64 = (0..1000_u64).into_par_iter().map(|n| n * n).sum();
    assert!(sum > 0);
}

static ANSWERS: Mutex<Vec<Sender<u32>>> = Mutex::new(Vec::new());

/// A pool for each request, whose job waits for an answer that nothing sends: the pool's owner is gone, its threads are not.
#[inline(never)]
pub(crate) fn jobs_that_wait() {
    let (sender, answer) = mpsc::channel::<u32>();
    ANSWERS.lock().unwrap().push(sender);
    threadpool::ThreadPool::new(1).execute(move || {
        let _ = answer.recv();
    });
}

/// The same with a time-out.
pub(crate) fn jobs_that_end() {
    let (sender, answer) = mpsc::channel::<u32>();
    ANSWERS.lock().unwrap().push(sender);
    threadpool::ThreadPool::new(1).execute(move || {
        let _ = answer.recv_timeout(Duration::from_millis(50));
    });
    thread::sleep(Duration::from_millis(1));
}
