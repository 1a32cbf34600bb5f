//! `ci --go-leak-profile`: what the runtime marks when it is asked to is proven, and an answer alone proves nothing.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
};

use crate::{
    support::{Ended, Program, leakprobe, need_root},
    target::built,
};

/// A server with pprof, and its port.
fn server() -> (Program, String) {
    need_root();
    let mut program = Program::start(&mut Command::new(built("1.27/cgo/server")));
    let port = program.expect("port ");
    (program, port)
}

fn get(port: &str, path: &str) {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

/// A check with a round that does nothing.
fn check(program: &Program, url: &str) -> Ended {
    let pid = program.pid().to_string();
    let round = ["--warmup", "0", "--rounds", "1", "--settle", "300ms", "-i", "100ms", "--no-debuginfo"];
    leakprobe(["ci", "-p", &pid, "--go-leak-profile", url].iter().chain(&round).chain(&["--", "true"]))
}

#[test]
fn what_the_runtime_marks_is_proven() {
    let (program, port) = server();
    get(&port, "/leak");
    let ended = check(&program, &format!("http://127.0.0.1:{port}"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("garbage collector has marked this task as leaked"), "{ended:?}");
}

#[test]
fn an_answer_that_is_missing_or_false_makes_the_check_incomplete() {
    let (program, port) = server();
    let incomplete = |url: &str, why: &str| {
        let ended = check(&program, url);
        assert_eq!(ended.code, Some(6), "{ended:?}");
        let words: Vec<&str> = ended.stdout.split_whitespace().collect();
        assert!(words.join(" ").contains(why), "{ended:?}");
    };
    incomplete(&format!("http://127.0.0.1:{port}/debug/pprof/none"), "answered with status 404");
    incomplete(&format!("http://127.0.0.1:{port}/hello"), "answered with something else");
    incomplete("http://127.0.0.1:1", "cannot be reached");
    let liar = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", liar.local_addr().unwrap());
    thread::spawn(move || {
        for stream in liar.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\ngoroutineleak profile: total 5\n");
        }
    });
    incomplete(&url, "counts 5 leaked, and no goroutine of the target is marked so");
}
