//! Threads of Rust's standard library: a channel, a condition variable, a lock, a join, park, sleep.

mod common;

use std::hint::black_box;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::spawn;

#[inline(never)]
fn receive_order(orders: &Receiver<u64>) {
    black_box(orders.recv().is_ok());
}

#[inline(never)]
fn wait_for_change(state: &(Mutex<bool>, Condvar)) {
    let mut changed = state.0.lock().unwrap();
    while !*changed {
        changed = state.1.wait(changed).unwrap();
    }
}

#[inline(never)]
fn take_lock(lock: &Mutex<u64>) {
    black_box(*lock.lock().unwrap());
}

#[inline(never)]
fn join_the_other(other: JoinHandle<()>) {
    black_box(other.join().is_ok());
}

#[inline(never)]
fn park_for_ever() {
    loop {
        thread::park();
    }
}

#[inline(never)]
fn sleep_an_hour() {
    thread::sleep(Duration::from_secs(3600));
    black_box(());
}

fn main() {
    common::begin();
    let (_sender, orders) = mpsc::channel();
    let state = Arc::new((Mutex::new(false), Condvar::new()));
    let lock: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(0)));
    let _held = lock.lock().unwrap();
    spawn("channel", move || receive_order(&orders));
    spawn("condvar", move || wait_for_change(&state));
    spawn("lock", || take_lock(lock));
    let parked = spawn("park", park_for_ever);
    spawn("join", move || join_the_other(parked));
    spawn("sleep", sleep_an_hour);
    common::ready();
}
