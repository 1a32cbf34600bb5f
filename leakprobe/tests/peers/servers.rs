//! Servers that everybody runs, each process of them.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    compare::{Report, compare},
    need,
    support::{Program, children_of, wait_for},
};

/// A port that is free now; servers fail loudly if it is not any more.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn listens(name: &str, port: u16) {
    wait_for(&format!("{name} to listen"), || TcpStream::connect(("127.0.0.1", port)).ok());
}

fn has_names(report: &Report, names: &[&str]) {
    for name in names {
        assert!(report.names.contains(*name), "no {name}: {report:?}");
    }
}

/// A directory that belongs to a user other than root, since some servers refuse to be root.
fn home_of(user: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let status = Command::new("chown").arg(user).arg(home.path()).status().unwrap();
    assert!(status.success(), "there is no user {user}: `cargo xtask test` installs the package that makes it");
    home
}

pub(crate) fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups"]).arg(program);
    command
}

pub(crate) fn succeeds(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where Debian puts the programs of the server, which are not on PATH.
pub(crate) fn postgresql() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).find(|bin| bin.join("postgres").exists());
    found.expect("postgresql is missing: `cargo xtask test` installs what the tests need")
}

/// A server that runs, ended with this.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) port: u16,
    /// What it keeps its data in.
    pub(crate) home: tempfile::TempDir,
}

impl Server {
    fn listening(name: &str, command: &mut Command, port: u16, home: tempfile::TempDir) -> Self {
        let program = Program::start(command);
        listens(name, port);
        Self { program, port, home }
    }

    fn stop(&mut self, signal: i32) {
        self.program.kill(signal);
        self.program.wait();
    }
}

pub(crate) fn start_postgresql() -> Server {
    let (bin, home, port) = (postgresql(), home_of("postgres"), free_port());
    let data = home.path().join("data");
    let mut initdb = as_user("postgres", &bin.join("initdb"));
    succeeds(initdb.arg("-D").arg(&data).args(["--no-sync", "--auth=trust"]).current_dir(home.path()));
    let mut command = as_user("postgres", &bin.join("postgres"));
    command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-c", "fsync=off"]);
    command.arg("-k").arg(home.path()).current_dir(home.path());
    let server = Server::listening("PostgreSQL", &mut command, port, home);
    // It listens before it answers.
    let mut is_ready = Command::new(bin.join("pg_isready"));
    is_ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    wait_for("PostgreSQL to answer", || is_ready.status().unwrap().success().then_some(()));
    server
}

pub(crate) fn start_mariadb() -> Server {
    let (home, port) = (home_of("mysql"), free_port());
    let data = home.path().join("data");
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=mysql"]);
    succeeds(install.arg(format!("--datadir={}", data.display())));
    let mut command = as_user("mysql", Path::new("/usr/sbin/mariadbd"));
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=8M"]);
    command.arg(format!("--datadir={}", data.display())).arg(format!("--port={port}"));
    command.arg(format!("--socket={}", home.path().join("socket").display())).current_dir(home.path());
    Server::listening("MariaDB", &mut command, port, home)
}

pub(crate) fn start_nginx() -> Server {
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let place = home.path().display();
    let configuration = format!(
        "daemon off; worker_processes 2; pid {place}/pid; error_log {place}/log; user root;\n\
         events {{ worker_connections 16; }}\n\
         http {{ access_log off; server {{ listen 127.0.0.1:{port}; }}\n\
         client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;\n\
         uwsgi_temp_path {place}/d; scgi_temp_path {place}/e; }}\n"
    );
    let file = home.path().join("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(home.path());
    Server::listening("nginx", &mut command, port, home)
}

pub(crate) fn nginx_workers(server: &Server) -> Vec<u32> {
    wait_for("nginx's workers", || Some(children_of(server.program.pid())).filter(|all| all.len() == 2))
}

pub(crate) fn start_memcached() -> Server {
    let port = free_port();
    let mut command = Command::new("memcached");
    command.args(["-u", "root", "-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-t", "3"]);
    Server::listening("memcached", &mut command, port, tempfile::tempdir().unwrap())
}

pub(crate) fn start_redis() -> Server {
    let (home, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--io-threads", "3", "--dir"]);
    command.arg(home.path());
    Server::listening("redis", &mut command, port, home)
}

#[test]
fn postgresql_with_all_its_processes() {
    need("eu-stack");
    let mut server = start_postgresql();
    let pid = server.program.pid();
    // Those that stay as long as the server does; others do some work and end, at any moment.
    let lasting =
        ["checkpointer", "background writer", "walwriter", "autovacuum launcher", "logical replication launcher"];
    let is_lasting = |pid: &u32| {
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        lasting.iter().any(|name| title.contains(name))
    };
    let children = wait_for("PostgreSQL's processes", || {
        let found: Vec<u32> = children_of(pid).into_iter().filter(is_lasting).collect();
        (found.len() == lasting.len()).then_some(found)
    });
    let report = compare(pid);
    has_names(&report, &["PostmasterMain", "main"]);
    let mut names = Report::default();
    for child in children {
        names.names.extend(compare(child).names);
    }
    has_names(&names, &["WaitLatch", "PostmasterMain"]);
    server.stop(libc::SIGQUIT);
}

#[test]
fn mariadb() {
    need("mariadbd");
    let mut server = start_mariadb();
    let report = compare(server.program.pid());
    assert!(report.threads >= 5, "{report:?}");
    has_names(&report, &["handle_connections_sockets()", "start_thread"]);
    server.stop(libc::SIGTERM);
}

#[test]
fn nginx_with_its_workers() {
    need("nginx");
    let mut server = start_nginx();
    // Debian's is stripped of its own names; those of libc remain.
    has_names(&compare(server.program.pid()), &["sigsuspend"]);
    for worker in nginx_workers(&server) {
        has_names(&compare(worker), &["epoll_wait"]);
    }
    server.stop(libc::SIGTERM);
}

#[test]
fn redis_server() {
    need("redis-server");
    let mut server = start_redis();
    // Its main loop wakes ten times a second.
    let report = compare(server.program.pid());
    assert!(report.threads >= 5, "{report:?}");
    has_names(&report, &["aeMain", "bioProcessBackgroundJobs"]);
    server.stop(libc::SIGTERM);
}

#[test]
fn memcached() {
    need("memcached");
    let mut server = start_memcached();
    let report = compare(server.program.pid());
    assert!(report.threads >= 8, "{report:?}");
    has_names(&report, &["epoll_wait", "event_base_loop", "start_thread"]);
    server.stop(libc::SIGTERM);
}
