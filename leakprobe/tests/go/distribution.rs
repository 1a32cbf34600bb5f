//! Go programs that Debian built: leakprobe's list is complete, and equal to that of their own pprof.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
};

use crate::{
    compare::differences,
    dump::{Goroutine, parse},
    support::{Program, wait_for},
    target::ours,
};

/// How often is tried to meet a goroutine in the same wait that it has before and after.
const TRIES: usize = 30;

#[test]
fn etcd() {
    let folder = tempfile::tempdir().unwrap();
    let [client, peer] = [(), ()].map(|()| free_port());
    let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(folder.path()).arg("--enable-pprof");
    etcd.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    etcd.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    etcd.args(["--initial-cluster", &format!("default={peer_url}")]);
    equal(&mut etcd, client, 30);
}

#[test]
fn prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("prometheus.yml");
    fs::write(&configuration, "").unwrap();
    let port = free_port();
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", configuration.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    equal(&mut prometheus, port, 15);
}

/// A port that was free just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Compares every goroutine that stays where it is, `least` of them.
fn equal(command: &mut Command, port: u16, least: usize) {
    let program = Program::start(command.stderr(Stdio::null()));
    wait_for("the program's pprof to answer with enough goroutines", || (dump(port)?.len() > least).then_some(()));
    let mut equal: BTreeSet<u64> = BTreeSet::new();
    let mut different: BTreeMap<u64, String> = BTreeMap::new();
    for _ in 0..TRIES {
        let [before, ours, after] = [dump(port).unwrap(), ours(program.pid()), dump(port).unwrap()];
        for theirs in before.iter().filter(|goroutine| after.contains(goroutine) && goroutine.status != "running") {
            let ours: Vec<Goroutine> = ours.iter().filter(|ours| ours.id == theirs.id).cloned().collect();
            assert_eq!(ours.len(), 1, "{command:?}: not one goroutine {}: {theirs:?}", theirs.id);
            // It may have run, and be back where it was.
            let differences = differences(std::slice::from_ref(theirs), &ours);
            if differences.is_empty() {
                equal.insert(theirs.id);
                different.remove(&theirs.id);
            } else if !equal.contains(&theirs.id) {
                different.insert(theirs.id, differences);
            }
        }
        if different.is_empty() && equal.len() >= least {
            return;
        }
    }
    panic!("{command:?}: {} goroutines are equal, these never were: {different:#?}", equal.len());
}

/// What the program's own pprof says, once it listens.
fn dump(port: u16) -> Option<Vec<Goroutine>> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.write_all(b"GET /debug/pprof/goroutine?debug=2 HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 OK").then(|| parse(body).unwrap())
}
