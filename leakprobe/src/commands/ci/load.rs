//! One run of the load.

use std::{
    ffi::OsString,
    fs::File,
    io,
    process::Stdio,
    time::{Duration, Instant},
};

use regex::Regex;
use tokio::{
    process::{Child, ChildStdout, Command},
    sync::watch,
    time,
};

use super::{
    super::{
        Failure,
        groups::{self, Group},
        limits,
        run::{cannot_start, describe},
    },
    lines,
    server::own_stderr,
};
use crate::{privilege, watch::Observer};

/// How long the rest of its output is waited for once it has ended: who has left its process group may hold the pipe open.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The load's command, and how it tells how many requests it makes.
pub(super) struct Load<'a> {
    pub(super) command: &'a [OsString],
    pub(super) requests: Option<u64>,
    pub(super) requests_from: Option<Regex>,
    /// Whether its stdout is hidden.
    pub(super) is_quiet: bool,
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
        let group = child.id().map(Group::of).transpose().map_err(|error| cannot_start(self.command, &error))?;
        let output = child.stdout.take().zip(self.requests_from.clone());
        let counted = output.map(|(output, regex)| count(output, regex, !self.is_quiet));
        let stop = observer.stop.clone();
        let ended = async {
            let status = child.wait().await;
            // What it has started and left running holds its output open.
            drop(group);
            let requests = match counted {
                Some(Ok(counted)) => in_all(counted).await,
                Some(Err(_)) => None,
                None => self.requests,
            };
            (requests, status)
        };
        // Dropped, the child is killed.
        tokio::select! {
            biased;
            () = stop.wait() => Ok(Ended::Stopped),
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
            command.stdout(match self.requests_from {
                Some(_) => Stdio::piped(),
                None if self.is_quiet => Stdio::null(),
                None => own_stderr(),
            });
            // With what it starts in turn it can be ended as a whole; Ctrl-C is for us.
            command.process_group(0);
            groups::ends_with_us(command.as_std_mut());
            limits::as_before(command.as_std_mut());
            let _rights = privilege::for_programs();
            command.spawn()
        };
        start().map_err(|error| cannot_start(self.command, &error))
    }
}

/// Adds up the numbers in the lines of the load's output that fit: their first group, or all of what fits. The sum so far can be read
/// at any time; it is closed when the output ends.
fn count(output: ChildStdout, regex: Regex, is_shown: bool) -> io::Result<watch::Receiver<Option<u64>>> {
    let output = File::from(output.into_owned_fd()?);
    let (sum, counted) = watch::channel(None);
    lines::listen(output, is_shown, move |line| {
        if let Some(number) = number(line, &regex) {
            sum.send_modify(|sum: &mut Option<u64>| *sum = Some(sum.unwrap_or(0).saturating_add(number)));
        }
    });
    Ok(counted)
}

/// The sum once the output of a load that has ended does, or after [`LAST_LINES`].
async fn in_all(mut counted: watch::Receiver<Option<u64>>) -> Option<u64> {
    let ended = async { while counted.changed().await.is_ok() {} };
    let _ = time::timeout(LAST_LINES, ended).await;
    *counted.borrow()
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
