//! `rust NAME leak|fixed|healthy`: a server (HTTP/1.0, a connection a request) that uses a library wrongly or rightly, once a request.

mod channels;
mod pools;
mod runtimes;

use std::{
    env,
    io::{Read, Write},
    net::TcpListener,
    process, thread,
    time::Duration,
};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [name, variant] = args.as_slice() else { panic!("NAME leak|fixed|healthy") };
    let request: fn() = match (&**name, &**variant) {
        ("rayon-pool", "leak") => pools::kept,
        ("rayon-pool", "fixed") => pools::dropped,
        ("rayon-global", "healthy") => pools::global,
        ("threadpool", "leak") => pools::jobs_that_wait,
        ("threadpool", "fixed") => pools::jobs_that_end,
        ("tokio-runtime", "leak") => runtimes::forgotten,
        ("tokio-runtime", "fixed") => runtimes::dropped,
        ("spawn-blocking", "leak") => runtimes::blocking_that_waits,
        ("spawn-blocking", "fixed") => runtimes::blocking_that_ends,
        ("blocking-pool", "healthy") => runtimes::shared_blocking,
        ("reqwest-client", "leak") => runtimes::client_per_request,
        ("reqwest-client", "fixed") => runtimes::client_of_all,
        ("crossbeam-worker", "leak") => channels::worker_with_its_own_sender,
        ("crossbeam-worker", "fixed") => channels::worker_that_ends,
        ("notify-watcher", "leak") => channels::watcher_kept,
        ("notify-watcher", "fixed") => channels::watcher_dropped,
        _ => panic!("no such program: {name} {variant}"),
    };
    // None outlives its test for long, whatever becomes of that.
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(900));
        process::exit(9);
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    for client in listener.incoming() {
        let mut client = client.unwrap();
        if client.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
            request();
            let _ = client.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    }
}
