//! What a Go HTTP server loses while leakprobe is attached to it: requests a second under wrk, with and without, in turns.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::target::Target;
use super::{Bench, goal, median};
use crate::{go_programs, repo, run};

/// How long each measurement lasts, s.
const SECONDS: u32 = 4;
/// What comes before each.
const PAUSE: Duration = Duration::from_millis(1500);

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let server = go_programs::built("cgo", "server")?;
    let (target, said) = Target::start(&server, &[])?;
    let port = said.iter().find_map(|line| line.strip_prefix("port ")).context("the server did not say its port")?;
    let url = format!("http://127.0.0.1:{port}/");
    let _warm_up = requests(&url)?;
    let (mut plain, mut traced) = (Vec::new(), Vec::new());
    for round in 0..2 * bench.runs {
        // Each way comes first every other time, and after a pause: else what came before would count, too.
        for attached in [round % 2 == 0, round % 2 != 0] {
            if attached {
                let leakprobe = Attached::to(&target.pid())?;
                traced.push(requests(&url)?);
                leakprobe.detach()?;
            } else {
                thread::sleep(PAUSE);
                plain.push(requests(&url)?);
            }
        }
    }
    let (plain, traced) = (median(&mut plain), median(&mut traced));
    let ratio = traced / plain;
    bench.tell(format!(
        "Go HTTP server under wrk: {plain:.0} requests/s, with leakprobe attached {traced:.0}: {ratio:.3} of it ({})",
        goal(ratio >= 0.98, "goal: 0.98")
    ));
    Ok(())
}

/// Requests a second.
fn requests(url: &str) -> Result<f64> {
    let said = run::output(Command::new("wrk").args(["-t1", "-c64", &format!("-d{SECONDS}s"), url]))?;
    let number = said.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
    number.context("wrk did not say how many requests there were a second")
}

/// leakprobe, watching.
struct Attached(Child);

impl Attached {
    fn to(pid: &str) -> Result<Self> {
        let mut command = Command::new(repo::leakprobe());
        command.args(["attach", "-q", "-p", pid, "-o", "/dev/null", "--format", "json"]).stdin(Stdio::null());
        let attached = Self(command.spawn().context("cannot start leakprobe")?);
        // Loading its programs and the first snapshot are not what is measured.
        thread::sleep(PAUSE);
        Ok(attached)
    }

    fn detach(mut self) -> Result<()> {
        run::query(Command::new("kill").args(["-INT", &self.0.id().to_string()]))?;
        self.0.wait().context("cannot wait for leakprobe")?;
        Ok(())
    }
}
