//! One thread for each wait of Rust's standard library that ends in a futex. Each says its kind, thread id and object.

mod common;

use std::hint::black_box;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::spawn;

#[inline(never)]
fn lock_mutex(lock: &Mutex<u64>) {
    black_box(*lock.lock().unwrap());
}

#[inline(never)]
fn read(lock: &RwLock<u64>) {
    black_box(*lock.read().unwrap());
}

#[inline(never)]
fn write(lock: &RwLock<u64>) {
    black_box(*lock.write().unwrap());
}

#[inline(never)]
fn wait_for_change(state: &(Mutex<bool>, Condvar)) {
    let mut changed = state.0.lock().unwrap();
    while !*changed {
        changed = state.1.wait(changed).unwrap();
    }
}

#[inline(never)]
fn wait_for_change_an_hour(state: &(Mutex<bool>, Condvar)) {
    let changed = state.0.lock().unwrap();
    drop(black_box(state.1.wait_timeout(changed, Duration::from_secs(3600)).unwrap()));
}

#[inline(never)]
fn call_once(once: &Once) {
    once.call_once(|| black_box(()));
    black_box(());
}

#[inline(never)]
fn get_or_init(cell: &OnceLock<u64>) {
    black_box(*cell.get_or_init(|| 1));
}

#[inline(never)]
fn park() {
    loop {
        thread::park();
    }
}

#[inline(never)]
fn park_an_hour() {
    thread::park_timeout(Duration::from_secs(3600));
    black_box(());
}

#[inline(never)]
fn join(other: JoinHandle<()>) {
    black_box(other.join().is_ok());
}

#[inline(never)]
fn receive(orders: &Receiver<u64>) {
    black_box(orders.recv().is_ok());
}

#[inline(never)]
fn send(orders: &SyncSender<u64>) {
    black_box(orders.send(2).is_ok());
}

#[inline(never)]
fn arrive(barrier: &Barrier) {
    black_box(barrier.wait().is_leader());
}

static LAZY: LazyLock<u64> = LazyLock::new(|| loop {
    thread::park();
});

#[inline(never)]
fn force() {
    black_box(*LAZY);
}

fn main() {
    common::begin();
    let mutex = Arc::new(Mutex::new(0));
    let _held = mutex.lock().unwrap();
    let written = Arc::new(RwLock::new(0));
    let _written = written.write().unwrap();
    let read_by_main = Arc::new(RwLock::new(0));
    let _read = read_by_main.read().unwrap();
    let state = Arc::new((Mutex::new(false), Condvar::new()));
    let once = Arc::new(Once::new());
    let cell = Arc::new(OnceLock::new());
    let (entered, inside) = mpsc::channel();
    let (first, first_cell) = (Arc::clone(&once), Arc::clone(&cell));
    let in_once = entered.clone();
    spawn("in_once", move || {
        first.call_once(|| {
            in_once.send(()).unwrap();
            park();
        });
    });
    spawn("in_cell", move || {
        first_cell.get_or_init(|| {
            entered.send(()).unwrap();
            loop {
                thread::park();
            }
        });
    });
    inside.recv().unwrap();
    inside.recv().unwrap();
    spawn("in_lazy", force);
    let of = Arc::clone(&mutex);
    spawn("mutex", move || lock_mutex(&of));
    let of = Arc::clone(&written);
    spawn("rwlock_read", move || read(&of));
    let of = Arc::clone(&read_by_main);
    spawn("rwlock_write", move || write(&of));
    let of = Arc::clone(&state);
    spawn("condvar", move || wait_for_change(&of));
    let of = Arc::clone(&state);
    spawn("condvar_timed", move || wait_for_change_an_hour(&of));
    let of = Arc::clone(&once);
    spawn("once", move || call_once(&of));
    let of = Arc::clone(&cell);
    spawn("oncelock", move || get_or_init(&of));
    let parked = spawn("park", park);
    spawn("park_timed", park_an_hour);
    spawn("join", move || join(parked));
    let (_to, orders) = mpsc::channel();
    spawn("receive", move || receive(&orders));
    let (full, _orders) = mpsc::sync_channel(1);
    full.send(1).unwrap();
    spawn("send", move || send(&full));
    let barrier = Arc::new(Barrier::new(2));
    spawn("barrier", move || arrive(&barrier));
    common::ready();
}
