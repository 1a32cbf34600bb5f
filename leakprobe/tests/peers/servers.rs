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

fn as_user(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups"]).arg(program);
    command
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where Debian puts the programs of the server, which are not on PATH.
fn postgresql() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).find(|bin| bin.join("postgres").exists());
    found.expect("postgresql is missing: `cargo xtask test` installs what the tests need")
}

#[test]
fn postgresql_with_all_its_processes() {
    need("eu-stack");
    let (bin, home, port) = (postgresql(), home_of("postgres"), free_port());
    let data = home.path().join("data");
    let mut initdb = as_user("postgres", &bin.join("initdb"));
    succeeds(initdb.arg("-D").arg(&data).args(["--no-sync", "--auth=trust"]).current_dir(home.path()));
    let mut command = as_user("postgres", &bin.join("postgres"));
    command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-c", "fsync=off"]);
    command.arg("-k").arg(home.path()).current_dir(home.path());
    let mut server = Program::start(&mut command);
    listens("PostgreSQL", port);
    // Checkpointer, writers, statistics, launchers.
    let children = wait_for("PostgreSQL's processes", || Some(children_of(server.pid())).filter(|all| all.len() >= 5));
    let report = compare(server.pid());
    has_names(&report, &["PostmasterMain", "main"]);
    let mut names = Report::default();
    for child in children {
        names.names.extend(compare(child).names);
    }
    has_names(&names, &["WaitLatch", "PostmasterMain"]);
    server.kill(libc::SIGQUIT);
    server.wait();
}

#[test]
fn mariadb() {
    need("mariadbd");
    let (home, port) = (home_of("mysql"), free_port());
    let data = home.path().join("data");
    let mut install = Command::new("mariadb-install-db");
    install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=mysql"]);
    succeeds(install.arg(format!("--datadir={}", data.display())));
    let mut command = as_user("mysql", Path::new("/usr/sbin/mariadbd"));
    command.args(["--no-defaults", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=8M"]);
    command.arg(format!("--datadir={}", data.display())).arg(format!("--port={port}"));
    command.arg(format!("--socket={}", home.path().join("socket").display())).current_dir(home.path());
    let mut server = Program::start(&mut command);
    listens("MariaDB", port);
    let report = compare(server.pid());
    assert!(report.threads >= 5, "{report:?}");
    has_names(&report, &["handle_connections_sockets()", "start_thread"]);
    server.kill(libc::SIGTERM);
    server.wait();
}

#[test]
fn nginx_with_its_workers() {
    need("nginx");
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
    let mut server = Program::start(Command::new("nginx").arg("-c").arg(&file).arg("-p").arg(home.path()));
    listens("nginx", port);
    let workers = wait_for("nginx's workers", || Some(children_of(server.pid())).filter(|all| all.len() == 2));
    // Debian's is stripped of its own names; those of libc remain.
    has_names(&compare(server.pid()), &["sigsuspend"]);
    for worker in workers {
        has_names(&compare(worker), &["epoll_wait"]);
    }
    server.kill(libc::SIGTERM);
    server.wait();
}

#[test]
fn memcached() {
    need("memcached");
    let port = free_port();
    let mut command = Command::new("memcached");
    command.args(["-u", "root", "-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-t", "3"]);
    let mut server = Program::start(&mut command);
    listens("memcached", port);
    let report = compare(server.pid());
    assert!(report.threads >= 8, "{report:?}");
    has_names(&report, &["epoll_wait", "event_base_loop", "start_thread"]);
    server.kill(libc::SIGTERM);
    server.wait();
}
