//! A program that is measured, or measured in: it does what it is told on stdin and answers on stdout.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run;

/// A running program; ends when its stdin closes.
pub(super) struct Target {
    child: Child,
    name: String,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Target {
    /// Starts `program` and waits until it says `ready`; returns the lines that it said before.
    pub(super) fn start(program: &Path, args: &[&str]) -> Result<(Self, Vec<String>)> {
        run::say(&format!("$ {} {} &", program.display(), args.join(" ")));
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let name = program.display().to_string();
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("the target has no stdout")?).lines();
        let mut target = Self { child, name, stdin, lines };
        let mut said = Vec::new();
        loop {
            let line = target.line().context("it was not ready; do limits on threads or memory allow it?")?;
            if line == "ready" {
                // Every wait is older than the parked threshold then.
                thread::sleep(Duration::from_millis(1500));
                return Ok((target, said));
            }
            said.push(line);
        }
    }

    pub(super) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Gives a command without waiting for the answer, which [`Self::line`] reads.
    pub(super) fn tell(&mut self, command: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the target has no stdin")?;
        writeln!(stdin, "{command}").with_context(|| format!("{} does not listen", self.name))
    }

    /// The next line that the target prints.
    pub(super) fn line(&mut self) -> Result<String> {
        match self.lines.next() {
            Some(line) => line.with_context(|| format!("cannot read what {} says", self.name)),
            None => bail!("{} ended early", self.name),
        }
    }

    /// Gives a command and returns the numbers in its answer.
    pub(super) fn ask(&mut self, command: &str) -> Result<Vec<f64>> {
        self.tell(command)?;
        self.answer()
    }

    /// The numbers in the next line that the target prints.
    pub(super) fn answer(&mut self) -> Result<Vec<f64>> {
        Ok(self.line()?.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Processes of one thread that do nothing; killed when dropped.
pub(super) struct Idle(Vec<Child>);

impl Idle {
    pub(super) fn start(count: u32) -> Result<Self> {
        let start = |_| Command::new("sleep").arg("infinity").stdin(Stdio::null()).spawn();
        let idle = Self((0..count).map(start).collect::<Result<_, _>>().context("cannot start sleep")?);
        thread::sleep(Duration::from_millis(200));
        Ok(idle)
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|child| child.id().to_string())
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
