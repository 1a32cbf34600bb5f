//! What servers lose while leakprobe is attached to them: throughput under load, with and without, in turns.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::attached::{Attached, PAUSE};
use super::table::goal;
use super::target::Target;
use super::{Bench, median};
use crate::{go_programs, run};

/// How long wrk runs, s; the other loads take about as long. Short, so that neighbouring turns find the machine at the same speed.
const SECONDS: u32 = 2;
/// Turns for each run that was asked for: what is looked for is smaller than what one turn differs from the next by.
const TURNS: u32 = 6;

/// A server under load: what it does a second.
type Load = Box<dyn Fn() -> Result<f64>>;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    bench.table.section(
        "What servers under load lose",
        format!(
            "Operations a second without leakprobe and with it attached, in turns; medians of {} turns each, and in brackets that of \
             the ratios of neighbouring turns with its standard error. All run on the same two cores.",
            TURNS * bench.runs
        ),
    );
    let server = go_programs::built("cgo", "server")?;
    let (target, said) = Target::start(&server, &[])?;
    let port = said.iter().find_map(|line| line.strip_prefix("port ")).context("the server did not say its port")?;
    in_turns(bench, "Go HTTP server, wrk", &target.pid(), &wrk(port))?;
    drop(target);

    let folder = bench.out.join("servers");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, start) in
        [("redis-server, redis-benchmark", redis as Start), ("memcached, memcslap", memcached), ("nginx, wrk", nginx)]
    {
        let (server, load) = start(&folder)?;
        in_turns(bench, name, &server.pid, &load)?;
    }
    Ok(())
}

fn in_turns(bench: &mut Bench, name: &str, pid: &str, load: &Load) -> Result<()> {
    let _warm_up = load()?;
    let (mut plain, mut traced) = (Vec::new(), Vec::new());
    for round in 0..TURNS * bench.runs {
        // Each way comes first every other time, and after a pause: else what came before would count, too.
        for attached in [round % 2 == 0, round % 2 != 0] {
            if attached {
                let leakprobe = Attached::leakprobe(pid, &[])?;
                traced.push(load()?);
                leakprobe.detach()?;
            } else {
                thread::sleep(PAUSE);
                plain.push(load()?);
            }
        }
    }
    // Of turns side by side: the speed of the machine changes by more than what is measured, but not so quickly.
    let mut ratios: Vec<f64> = plain.iter().zip(&traced).map(|(plain, traced)| traced / plain).collect();
    let (plain, traced, ratio) = (median(&mut plain), median(&mut traced), median(&mut ratios));
    let error = error_of_median(&ratios, ratio);
    let met = goal(ratio >= 0.98, "at least 0.98");
    bench.table.row(name, format!("{traced:.0} ({ratio:.3} ± {error:.3})"), format!("{plain:.0} untraced"), met);
    Ok(())
}

/// The standard error of a median, as of normally distributed values; their deviation is that by which half of them differ from it.
fn error_of_median(values: &[f64], median_of_them: f64) -> f64 {
    let mut differences: Vec<f64> = values.iter().map(|value| (value - median_of_them).abs()).collect();
    let deviation = median(&mut differences) * 1.4826;
    deviation * (std::f64::consts::FRAC_PI_2 / values.len() as f64).sqrt()
}

/// A server that was started for this. Killed when dropped.
struct Server {
    child: Child,
    /// The process that does the work.
    pid: String,
}

impl Server {
    /// Starts it and waits until it listens.
    fn start(command: &mut Command, port: u16) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let server = Self { pid: child.id().to_string(), child };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > Duration::from_secs(20) {
                bail!("{name} does not listen on port {port}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // As a service manager does, so that a master ends its workers.
        let _ = run::query(Command::new("kill").arg(self.child.id().to_string()));
        let _ = self.child.wait();
    }
}

type Start = fn(&Path) -> Result<(Server, Load)>;

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot find a free port")?;
    Ok(listener.local_addr().context("cannot find a free port")?.port())
}

fn redis(folder: &Path) -> Result<(Server, Load)> {
    let port = free_port()?;
    let text = port.to_string();
    let mut command = Command::new("redis-server");
    command.args(["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    let server = Server::start(&mut command, port)?;
    let load = move || {
        let args = ["-p", &text, "-t", "get", "-n", "180000", "-c", "50", "-P", "1", "--csv"];
        let said = run::output(Command::new("redis-benchmark").args(args))?;
        let line =
            said.lines().find(|line| line.starts_with("\"GET\"")).context("redis-benchmark said nothing of GET")?;
        let number = line.split(',').nth(1).and_then(|number| number.trim_matches('"').parse().ok());
        number.context("redis-benchmark said no number of requests")
    };
    Ok((server, Box::new(load)))
}

fn memcached(_: &Path) -> Result<(Server, Load)> {
    let port = free_port()?;
    let mut command = Command::new("memcached");
    command.args(["-u", "nobody", "-l", "127.0.0.1", "-t", "4", "-p", &port.to_string()]);
    let server = Server::start(&mut command, port)?;
    let load = move || {
        const CLIENTS: u32 = 8;
        const EACH: u32 = 12_000;
        let mut slap = Command::new("memcslap");
        slap.args(["--servers", &format!("127.0.0.1:{port}"), "--test=get"]);
        slap.args([format!("--concurrency={CLIENTS}"), format!("--execute-number={EACH}")]);
        let began = Instant::now();
        run::output(&mut slap)?;
        Ok(f64::from(CLIENTS * EACH) / began.elapsed().as_secs_f64())
    };
    Ok((server, Box::new(load)))
}

fn nginx(folder: &Path) -> Result<(Server, Load)> {
    let port = free_port()?;
    let configuration = folder.join("nginx.conf");
    let place = folder.display();
    // One process, so that the one that is watched does all of the work; its threads read files.
    let text = format!(
        "daemon off; master_process off; pid {place}/nginx.pid; error_log {place}/nginx.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; aio threads; root {place}; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
         fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n\
         server {{ listen 127.0.0.1:{port}; }} }}\n"
    );
    fs::write(&configuration, text).with_context(|| format!("cannot write {}", configuration.display()))?;
    let page = folder.join("index.html");
    fs::write(&page, "x".repeat(4096)).with_context(|| format!("cannot write {}", page.display()))?;
    let server = Server::start(Command::new("nginx").arg("-c").arg(&configuration), port)?;
    Ok((server, wrk(&port.to_string())))
}

/// Requests a second.
fn wrk(port: &str) -> Load {
    let url = format!("http://127.0.0.1:{port}/");
    Box::new(move || {
        let said = run::output(Command::new("wrk").args(["-t1", "-c64", &format!("-d{SECONDS}s"), &url]))?;
        let number = said.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
        number.context("wrk did not say how many requests there were a second")
    })
}
