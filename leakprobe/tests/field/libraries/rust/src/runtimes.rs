//! tokio and reqwest.

use std::{
    mem,
    sync::{
        Mutex, OnceLock,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use reqwest::blocking::Client;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A runtime for each request that is forgotten, since dropping it inside another one panics.
#[inline(never)]
pub(crate) fn forgotten() {
    let runtime = runtime();
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    mem::forget(runtime);
}

pub(crate) fn dropped() {
    runtime().block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
}

static SHARED: OnceLock<Runtime> = OnceLock::new();
static REPLIES: Mutex<Vec<Sender<u32>>> = Mutex::new(Vec::new());

fn shared() -> &'static Runtime {
    SHARED.get_or_init(runtime)
}

#[inline(never)]
fn await_reply(reply: mpsc::Receiver<u32>) {
    let _ = reply.recv();
}

/// A blocking receive in the blocking pool, whose sender is kept: one of its 512 threads for each request.
#[inline(never)]
pub(crate) fn blocking_that_waits() {
    let (sender, reply) = mpsc::channel::<u32>();
    REPLIES.lock().unwrap().push(sender);
    shared().spawn_blocking(move || await_reply(reply));
}

/// The same, whose sender is dropped.
pub(crate) fn blocking_that_ends() {
    let (_, reply) = mpsc::channel::<u32>();
    shared().spawn_blocking(move || await_reply(reply));
}

/// One runtime for all: its blocking pool fills and stays.
pub(crate) fn shared_blocking() {
    shared().block_on(async {
        let sleep = || thread::sleep(Duration::from_millis(20));
        let jobs: Vec<_> = (0..4).map(|_| tokio::task::spawn_blocking(sleep)).collect();
        for job in jobs {
            job.await.unwrap();
        }
    });
}

static CLIENTS: Mutex<Vec<Client>> = Mutex::new(Vec::new());
static CLIENT: OnceLock<Client> = OnceLock::new();

fn fetch(client: &Client) {
    // Nothing listens there.
    assert!(client.get("http://127.0.0.1:1/").send().is_err());
}

/// A blocking client for each request, kept for its cookies: each has a runtime with a thread of its own.
#[inline(never)]
pub(crate) fn client_per_request() {
    let client = Client::new();
    fetch(&client);
    CLIENTS.lock().unwrap().push(client);
}

pub(crate) fn client_of_all() {
    fetch(CLIENT.get_or_init(Client::new));
}
