//! crossbeam-channel and notify.

use std::{sync::Mutex, thread};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

#[inline(never)]
fn drain(receiver: crossbeam_channel::Receiver<u32>) {
    for _ in receiver {}
}

/// A worker that owns a sender of its own queue, for jobs that make jobs: the queue never ends.
#[inline(never)]
pub(crate) fn worker_with_its_own_sender() {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let own = sender.clone();
    thread::spawn(move || {
        let _own = own;
        drain(receiver);
    });
    sender.send(1).unwrap();
}

pub(crate) fn worker_that_ends() {
    let (sender, receiver) = crossbeam_channel::unbounded();
    thread::spawn(move || drain(receiver));
    sender.send(1).unwrap();
}

static WATCHERS: Mutex<Vec<RecommendedWatcher>> = Mutex::new(Vec::new());

fn watcher() -> RecommendedWatcher {
    let mut watcher = notify::recommended_watcher(|_| {}).unwrap();
    watcher.watch("/tmp".as_ref(), RecursiveMode::NonRecursive).unwrap();
    watcher
}

/// A watcher for each request, kept although its reader has gone: each has a thread.
#[inline(never)]
pub(crate) fn watcher_kept() {
    WATCHERS.lock().unwrap().push(watcher());
}

pub(crate) fn watcher_dropped() {
    watcher();
}
