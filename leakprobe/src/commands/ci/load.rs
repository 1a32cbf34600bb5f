//! One run of the load.

use std::{
    ffi::OsString,
    io,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use regex::Regex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use super::{
    super::{Failure, run::cannot_start, run::describe, watch::Observer},
    server::own_stderr,
};

/// The longest line of its output that is looked at, bytes.
const MAX_LINE: u64 = 64 << 10;

/// The load's command, and how it tells how many requests it makes.
pub(super) struct Load<'a> {
    pub(super) command: &'a [OsString],
    pub(super) requests: Option<u64>,
    pub(super) requests_from: Option<Regex>,
    /// What it is told in its environment.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// How a run of it ended.
pub(super) enum Ended {
    /// Well.
    Done(Run),
    /// Not well, in words.
    Failed(String),
    /// The target, or our watching it, has ended meanwhile: so has the load.
    NoTarget,
    /// A signal asked us to stop.
    Stopped,
}

/// A run that ended well.
pub(super) struct Run {
    pub(super) took: Duration,
    pub(super) requests: Option<u64>,
}

impl Load<'_> {
    /// Runs it once.
    pub(super) async fn run(&self, observer: &mut Observer) -> Result<Ended, Failure> {
        let began = Instant::now();
        let mut child = self.start()?;
        let _group = child.id().map(Group);
        let output = child.stdout.take();
        let mut stopped = observer.stopped.clone();
        let ended = async {
            let requests = match (output, &self.requests_from) {
                (Some(output), Some(regex)) => count(output, regex).await,
                _ => self.requests,
            };
            (requests, child.wait().await)
        };
        // Dropped, the child is killed.
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => Ok(Ended::Stopped),
            () = observer.ended() => Ok(Ended::NoTarget),
            (requests, status) = ended => Ok(match status {
                Ok(status) if status.success() => Ended::Done(Run { took: began.elapsed(), requests }),
                Ok(status) => Ended::Failed(describe(status)),
                Err(error) => Ended::Failed(format!("could not be waited for: {error}")),
            }),
        }
    }

    fn start(&self) -> Result<Child, Failure> {
        let start = || -> io::Result<Child> {
            let [program, arguments @ ..] = self.command else {
                return Err(io::ErrorKind::NotFound.into());
            };
            let mut command = Command::new(program);
            command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
            command.stdin(Stdio::null()).kill_on_drop(true);
            // What it says is no part of our report.
            command.stdout(if self.requests_from.is_some() { Stdio::piped() } else { own_stderr() });
            // With what it starts in turn it can be ended as a whole; Ctrl-C is for us.
            command.process_group(0);
            command.spawn()
        };
        start().map_err(|error| cannot_start(self.command, &error))
    }
}

/// A process and what it has started. Whatever is left of them is ended when this is dropped.
pub(super) struct Group(pub(super) u32);

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(leader) = i32::try_from(self.0) {
            // If there is nobody left, there is nothing to do.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// Passes on the load's output, and adds up the numbers in it that fit: their first group, or all of what fits.
async fn count(output: impl tokio::io::AsyncRead + Unpin, regex: &Regex) -> Option<u64> {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    let mut sum = None;
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return sum,
            Ok(_) => {}
        }
        let _ = io::Write::write_all(&mut io::stderr(), &line);
        if let Some(number) = number(&String::from_utf8_lossy(&line), regex) {
            sum = Some(sum.unwrap_or(0u64).saturating_add(number));
        }
    }
}

fn number(line: &str, regex: &Regex) -> Option<u64> {
    let captures = regex.captures(line)?;
    let text = captures.get(1).or_else(|| captures.get(0))?.as_str();
    text.trim().replace([',', '_', '\''], "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_requests_are_found_in_what_load_generators_print() {
        let of = |line, pattern| number(line, &Regex::new(pattern).unwrap());
        assert_eq!(of("  12345 requests in 10.01s, 1.2MB read", r"(\d+) requests in"), Some(12345));
        assert_eq!(of("Complete requests:      5,000\n", r"Complete requests:\s+([\d,]+)"), Some(5000));
        assert_eq!(of("done 7", r"\d+"), Some(7));
        assert_eq!(of("done", r"\d+"), None);
        assert_eq!(of("99999999999999999999999", r"\d+"), None);
    }
}
