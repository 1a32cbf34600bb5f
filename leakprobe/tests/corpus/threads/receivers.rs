//! The cases in Rust: CASE leak|fixed, and load ADDR N [CONCURRENCY], by the same protocol as `corpus.h`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{env, process, thread};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let senders = Mutex::new(HashMap::new());
    match args[..] {
        ["load", to, requests] => load(to, requests, "4"),
        ["load", to, requests, connections] => load(to, requests, connections),
        ["receiver-whose-sender-is-kept", "leak"] => serve(&|client| keep_sender(client, &senders)),
        ["receiver-whose-sender-is-kept", "fixed"] => serve(&drop_sender),
        ["flag-never-set", "leak"] => serve(&|_| open_gate(false)),
        ["flag-never-set", "fixed"] => serve(&|_| open_gate(true)),
        _ => panic!("no such case: {args:?}"),
    }
}

fn print_all(jobs: mpsc::Receiver<String>) {
    while let Ok(job) = jobs.recv() { // PARKS: receiver-whose-sender-is-kept
        drop(job);
    }
}

/// The session is over, but its sender stays in the table.
fn keep_sender(client: usize, senders: &Mutex<HashMap<usize, Sender<String>>>) {
    let (sender, jobs) = mpsc::channel();
    thread::spawn(move || print_all(jobs)); // CREATES: receiver-whose-sender-is-kept
    sender.send("welcome".to_owned()).unwrap();
    senders.lock().unwrap().insert(client, sender);
}

fn drop_sender(_: usize) {
    let (sender, jobs) = mpsc::channel();
    thread::spawn(move || print_all(jobs));
    sender.send("welcome".to_owned()).unwrap();
}

struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

fn pass(gate: &Gate) {
    let mut is_open = gate.is_open.lock().unwrap();
    while !*is_open {
        is_open = gate.opened.wait(is_open).unwrap(); // PARKS: flag-never-set
    }
}

/// Whoever waits before the gate is forgotten if opening fails.
fn open_gate(succeeds: bool) {
    let gate = Arc::new(Gate { is_open: Mutex::new(false), opened: Condvar::new() });
    let waits = Arc::clone(&gate);
    thread::spawn(move || pass(&waits)); // CREATES: flag-never-set
    if succeeds {
        *gate.is_open.lock().unwrap() = true;
        gate.opened.notify_all();
    }
}

/// One thread for all connections, so that the only others are those of the case.
fn serve(request: &dyn Fn(usize)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let mut clients: Vec<TcpStream> = Vec::new();
    let mut served = 0;
    // None outlives its test for long: two milliseconds a round.
    for _ in 0..450_000 {
        while let Ok((client, _)) = listener.accept() {
            client.set_nonblocking(true).unwrap();
            clients.push(client);
        }
        clients.retain_mut(|client| {
            let mut line = [0; 64];
            match std::io::Read::read(client, &mut line) {
                Ok(0) => false,
                Ok(_) => {
                    served += 1;
                    request(served);
                    client.write_all(b"ok\n").is_ok()
                }
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
        thread::sleep(Duration::from_millis(2));
    }
    process::exit(9);
}

fn load(to: &str, requests: &str, connections: &str) {
    let (requests, connections): (usize, usize) = (requests.parse().unwrap(), connections.parse().unwrap());
    let mut servers: Vec<_> = (0..connections).map(|_| BufReader::new(TcpStream::connect(to).unwrap())).collect();
    let mut sent = 0;
    while sent < requests {
        let together = connections.min(requests - sent);
        for server in &mut servers[..together] {
            server.get_mut().write_all(b"GET\n").unwrap();
        }
        for server in &mut servers[..together] {
            let mut answer = String::new();
            server.read_line(&mut answer).unwrap();
            assert_eq!(answer, "ok\n");
        }
        sent += together;
    }
    println!("{requests} requests");
}
