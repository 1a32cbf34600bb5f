//! One thread for each wait of the crate parking_lot. Each says its kind and thread id.

#[path = "../../common/mod.rs"]
mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::spawn;
use parking_lot::{Condvar, FairMutex, Mutex, Once, ReentrantMutex, RwLock};

const HOUR: Duration = Duration::from_secs(3600);

#[inline(never)]
fn lock_mutex(lock: &Mutex<u64>) {
    black_box(*lock.lock());
}

#[inline(never)]
fn lock_mutex_an_hour(lock: &Mutex<u64>) {
    black_box(lock.try_lock_for(HOUR).is_some());
}

#[inline(never)]
fn lock_fair(lock: &FairMutex<u64>) {
    black_box(*lock.lock());
}

#[inline(never)]
fn lock_reentrant(lock: &ReentrantMutex<u64>) {
    black_box(*lock.lock());
}

#[inline(never)]
fn read(lock: &RwLock<u64>) {
    black_box(*lock.read());
}

#[inline(never)]
fn read_upgradable(lock: &RwLock<u64>) {
    black_box(*lock.upgradable_read());
}

#[inline(never)]
fn write(lock: &RwLock<u64>) {
    black_box(*lock.write());
}

#[inline(never)]
fn wait_for_change(state: &(Mutex<bool>, Condvar)) {
    let mut changed = state.0.lock();
    while !*changed {
        state.1.wait(&mut changed);
    }
}

#[inline(never)]
fn wait_for_change_an_hour(state: &(Mutex<bool>, Condvar)) {
    let mut changed = state.0.lock();
    black_box(state.1.wait_for(&mut changed, HOUR).timed_out());
}

#[inline(never)]
fn call_once(once: &Once) {
    once.call_once(|| {
        black_box(());
    });
    black_box(());
}

fn main() {
    common::begin();
    let mutex = Arc::new(Mutex::new(0));
    let _held = mutex.lock();
    let fair = Arc::new(FairMutex::new(0));
    let _held_fair = fair.lock();
    let reentrant = Arc::new(ReentrantMutex::new(0));
    let _held_reentrant = reentrant.lock();
    let written = Arc::new(RwLock::new(0));
    let _written = written.write();
    let read_by_main = Arc::new(RwLock::new(0));
    let _read = read_by_main.read();
    let state = Arc::new((Mutex::new(false), Condvar::new()));
    let once = Arc::new(Once::new());
    let (entered, inside) = mpsc::channel();
    let first = Arc::clone(&once);
    spawn("in_once", move || {
        first.call_once(|| {
            entered.send(()).unwrap();
            loop {
                thread::park();
            }
        });
    });
    inside.recv().unwrap();
    let of = Arc::clone(&mutex);
    spawn("mutex", move || lock_mutex(&of));
    let of = Arc::clone(&mutex);
    spawn("mutex_timed", move || lock_mutex_an_hour(&of));
    let of = Arc::clone(&fair);
    spawn("fair_mutex", move || lock_fair(&of));
    let of = Arc::clone(&reentrant);
    spawn("reentrant_mutex", move || lock_reentrant(&of));
    let of = Arc::clone(&written);
    spawn("rwlock_read", move || read(&of));
    let of = Arc::clone(&written);
    spawn("rwlock_upgradable", move || read_upgradable(&of));
    let of = Arc::clone(&written);
    spawn("rwlock_write", move || write(&of));
    let of = Arc::clone(&read_by_main);
    spawn("rwlock_readers", move || write(&of));
    let of = Arc::clone(&state);
    spawn("condvar", move || wait_for_change(&of));
    let of = Arc::clone(&state);
    spawn("condvar_timed", move || wait_for_change_an_hour(&of));
    let of = Arc::clone(&once);
    spawn("once", move || call_once(&of));
    common::ready();
}
