//! The negative control: servers that everybody runs, under load, of which `leakprobe ci` must call nothing leaked.

use std::{env, fs::File, io::Write, process::Command};

use leakprobe::{
    model::{CheckOutcome, Verdict},
    report::json,
};

use super::{
    need,
    servers::{
        Server, as_user, nginx_workers, postgresql, start_mariadb, start_memcached, start_nginx, start_postgresql,
        start_redis, succeeds,
    },
    support::leakprobe,
};

/// Checks that nothing of the process is called leaked over three rounds of `load`, a command of the shell in which `PORT` stands for
/// the server's port. `LEAKPROBE_VERDICTS` is a file that is told what was said.
fn is_healthy(name: &str, pid: u32, server: &Server, load: &str) {
    let (outcome, code, report) = checked(name, pid, server, load);
    assert_eq!((outcome, code), (CheckOutcome::Passed, Some(0)), "{name}: {report}");
}

/// Checks a server, and that nothing is called leaking: what it comes to, its exit code, and what it says.
fn checked(name: &str, pid: u32, server: &Server, load: &str) -> (CheckOutcome, Option<i32>, String) {
    let load = load.replace("PORT", &server.port.to_string());
    let pid = pid.to_string();
    let fixed = ["ci", "-p", &pid, "--settle", "700ms", "-i", "150ms", "-o", "recording.json"];
    let ended = leakprobe(fixed.iter().chain(&["--", "/bin/sh", "-c", &load]));
    let recording = json::read(&ended.directory.path().join("recording.json"));
    let recording = recording.unwrap_or_else(|error| panic!("{name}: {error}: {ended:?}"));
    let worst = recording.sites.iter().map(|site| site.verdict).max().unwrap_or_default();
    if let Some(path) = env::var_os("LEAKPROBE_VERDICTS") {
        let mut told = File::options().create(true).append(true).open(path).unwrap();
        writeln!(told, "server\t{name}\thealthy\t{}\t", worst.name()).unwrap();
    }
    assert!(worst < Verdict::Likely, "{name}: {}", ended.stdout);
    (recording.check.unwrap().outcome, ended.code, format!("{}{}", ended.stdout, ended.stderr))
}

#[test]
fn a_healthy_redis_is_called_healthy() {
    need("redis-benchmark");
    let server = start_redis();
    is_healthy("redis", server.program.pid(), &server, "redis-benchmark -p PORT -n 4000 -c 30 -q -t set,get");
}

#[test]
fn a_healthy_memcached_is_called_healthy() {
    need("memcslap");
    let server = start_memcached();
    is_healthy(
        "memcached",
        server.program.pid(),
        &server,
        "memcslap --servers=127.0.0.1:PORT --concurrency=20 --execute-number=100",
    );
}

#[test]
fn a_healthy_nginx_is_called_healthy() {
    need("curl");
    let server = start_nginx();
    let load = "for n in $(seq 60); do curl -s -o /dev/null http://127.0.0.1:PORT/ & done; wait";
    // The master does nothing: to judge it alone says nothing of the server.
    let (outcome, code, report) = checked("nginx, master", server.program.pid(), &server, load);
    assert_eq!((outcome, code), (CheckOutcome::Incomplete, Some(6)), "{report}");
    let (pid, load_of_port) = (server.program.pid().to_string(), load.replace("PORT", &server.port.to_string()));
    let whole = ["ci", "-p", &pid, "--follow-forks", "--settle", "700ms", "-i", "150ms", "--", "/bin/sh", "-c"];
    let ended = leakprobe(whole.iter().copied().chain([&*load_of_port]));
    assert!(ended.succeeded().stdout.contains("PASSED"), "{ended:?}");
    is_healthy("nginx, worker", nginx_workers(&server)[0], &server, load);
}

#[test]
fn a_healthy_postgresql_is_called_healthy() {
    let server = start_postgresql();
    let home = server.home.path();
    let mut prepare = as_user("postgres", &postgresql().join("pgbench"));
    succeeds(
        prepare.args(["-i", "-q", "-h", "127.0.0.1", "-p", &server.port.to_string(), "postgres"]).current_dir(home),
    );
    let pgbench = postgresql().join("pgbench");
    let load = format!("cd / && {} -n -U postgres -h 127.0.0.1 -p PORT -c 8 -t 40 postgres", pgbench.display());
    // Each connection has a process of its own, which has ended before anybody could look at it twice: it leaves nothing. Others, which
    // write to the disk, stay, and do more of the work in one run than in the next.
    let (outcome, code, report) = checked("PostgreSQL, postmaster", server.program.pid(), &server, &load);
    assert!(
        matches!((outcome, code), (CheckOutcome::Passed, Some(0)) | (CheckOutcome::Incomplete, Some(6))),
        "{report}"
    );
    assert!(report.contains("not judged: "), "{report}");
    let (pid, load) = (server.program.pid().to_string(), load.replace("PORT", &server.port.to_string()));
    let whole = ["ci", "-p", &pid, "--follow-forks", "--settle", "700ms", "-i", "150ms", "--", "/bin/sh", "-c", &load];
    let ended = leakprobe(whole);
    assert!(ended.succeeded().stdout.contains("PASSED"), "{ended:?}");
}

#[test]
fn a_healthy_mariadb_is_called_healthy() {
    need("mariadb-slap");
    let server = start_mariadb();
    let load = "mariadb-slap --no-defaults --user=root --host=127.0.0.1 --port=PORT --auto-generate-sql --concurrency=12 \
                --number-of-queries=240";
    let ready = Command::new("mariadb-admin")
        .args(["--no-defaults", "--user=root", "--host=127.0.0.1", "ping"])
        .arg(format!("--port={}", server.port))
        .output();
    assert!(ready.unwrap().status.success());
    is_healthy("MariaDB", server.program.pid(), &server, load);
}
