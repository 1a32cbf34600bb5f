//! The program that is started for a check: until it is ready, and how it is ended.

use std::{
    io,
    os::{fd::AsFd, unix::process::CommandExt},
    process::Stdio,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use regex::Regex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

use super::{
    super::{
        ExitCode, Failure,
        groups::Group,
        output::pattern,
        run::{Held, cannot_start, describe},
    },
    lines,
};
use crate::{
    cli::{Ready, Server},
    watch::Observer,
};

/// How long it is given to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// How long one answer may take that says whether it is ready.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is asked whether it is ready.
const POLL: Duration = Duration::from_millis(50);

/// The program.
pub(super) struct Running {
    held: Held,
    /// Dropped last: nothing that we started is left behind.
    _group: Group,
    name: String,
    signal: Signal,
    /// What fitted in its output, if it is ready by that.
    fitted: Option<mpsc::Receiver<String>>,
    /// What the load is told of it: what fitted.
    told: String,
}

impl Running {
    /// Starts it as far as its first instruction, which comes when [`Self::go`] is called.
    pub(super) fn start(server: &Server, is_quiet: bool) -> Result<Self, Failure> {
        let regex = match &server.ready {
            Some(Ready::Line(text)) => Some(pattern("--ready", text)?),
            _ => None,
        };
        let mut held = Held::start(&server.command, true, |command| {
            command.stdin(Stdio::null());
            if regex.is_some() {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            } else {
                // What it says is no part of our report.
                command.stdout(if is_quiet { Stdio::null() } else { own_stderr() });
            }
            // Ctrl-C is for us: it is ended by us, once it was looked at for the last time.
            command.process_group(0);
        })?;
        let fitted = regex.map(|regex| {
            let (told, fitted) = mpsc::channel();
            if let Some(output) = held.child.stdout.take() {
                lines::listen(output, !is_quiet, what_fits(regex.clone(), told.clone()));
            }
            if let Some(output) = held.child.stderr.take() {
                lines::listen(output, true, what_fits(regex, told));
            }
            fitted
        });
        let name = server.command.first().map(|name| name.display().to_string()).unwrap_or_default();
        let signal = Signal::try_from(server.stop_signal).unwrap_or(Signal::SIGTERM);
        let group = Group::of(held.child.id()).map_err(|error| cannot_start(&server.command, &error))?;
        Ok(Self { held, _group: group, name, signal, fitted, told: String::new() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.held.child.id()
    }

    /// Lets it begin.
    pub(super) fn go(&mut self, server: &Server) -> Result<(), Failure> {
        self.held.begin(&server.command)
    }

    /// Waits until it is ready.
    pub(super) async fn wait_until_ready(&mut self, server: &Server, observer: &Observer) -> Result<(), Failure> {
        let deadline = Instant::now() + server.ready_timeout;
        let stop = observer.stop.clone();
        loop {
            let is_ready = match &server.ready {
                None => self.held.has_begun(), // the rest is seen from outside
                Some(Ready::Line(_)) => match self.fitted.as_ref().and_then(|fitted| fitted.try_recv().ok()) {
                    Some(told) => {
                        self.told = told;
                        true
                    }
                    None => false,
                },
                Some(network) => tokio::select! {
                    answers = answers(network, ANSWER.min(deadline.saturating_duration_since(Instant::now()))) => answers,
                    () = stop.wait() => return Ok(()),
                },
            };
            if is_ready || stop.is_stopped() {
                return Ok(());
            }
            if self.could_not_begin() {
                // The child has said why, on the stderr that it shares with us.
                return Err(Failure::silent(ExitCode::Usage));
            }
            if let Ok(Some(status)) = self.held.child.try_wait() {
                let what = format!("{} {} before it was ready; run it by hand to see why", self.name, describe(status));
                return Err(Failure::new(ExitCode::NoTarget, what));
            }
            if Instant::now() >= deadline {
                let what = format!(
                    "{} was not ready within {:?}: {}; check --ready, or give it more time by --ready-timeout",
                    self.name,
                    server.ready_timeout,
                    missing(server.ready.as_ref()),
                );
                return Err(Failure::new(ExitCode::NoTarget, what));
            }
            tokio::select! {
                () = time::sleep(POLL) => {}
                () = stop.wait() => return Ok(()),
            }
        }
    }

    /// Whether it has ended as our child does that cannot become the program.
    pub(super) fn could_not_begin(&mut self) -> bool {
        let status = self.held.child.try_wait().ok().flatten();
        status.and_then(|status| status.code()) == Some(ExitCode::CannotExec as i32)
    }

    /// What fitted in the line by which it was ready: the pattern's first group, or all of it.
    pub(super) fn told(&self) -> &str {
        &self.told
    }

    /// Ends it, and says how it ended. If it has ended already, says so.
    pub(super) fn stop(mut self) -> String {
        if let Ok(Some(status)) = self.held.child.try_wait() {
            return format!("{} {} by itself", self.name, describe(status));
        }
        self.send(self.signal);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.held.child.try_wait() {
                return format!("{} {}", self.name, describe(status));
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.send(Signal::SIGKILL);
        let _ = self.held.child.wait();
        format!("{} did not end within {GRACE:?} of {}, and was killed", self.name, self.signal)
    }

    fn send(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid()) {
            // It has not been waited for, so that the id is its own.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.held.child.try_wait() {
            self.send(Signal::SIGKILL);
            let _ = self.held.child.wait();
        }
    }
}

fn missing(ready: Option<&Ready>) -> String {
    match ready {
        Some(Ready::Tcp(at)) => format!("nothing accepts connections at {at}"),
        Some(Ready::Http(at, path)) => format!("http://{at}{path} does not answer, or answers with an error"),
        Some(Ready::Line(pattern)) => format!("no line of its output fits /{pattern}/"),
        None => "it has not begun to run".to_owned(),
    }
}

/// Whether connections are accepted, or a GET is answered without an error; within `patience`.
async fn answers(ready: &Ready, patience: Duration) -> bool {
    let get = async {
        let (Ready::Tcp(at) | Ready::Http(at, _)) = ready else { return Ok(false) };
        let mut stream = TcpStream::connect(at).await?;
        let Ready::Http(_, path) = ready else { return Ok(true) };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nUser-Agent: leakprobe\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12]; // HTTP/1.1 200
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer.starts_with(b"HTTP/1.") && matches!(answer.get(9), Some(b'2' | b'3')))
    };
    matches!(time::timeout(patience, get).await, Ok(Ok(true)))
}

/// Tells what of a line fits: the pattern's first group, or all of it. Of the first line that fits alone: nobody asks for more.
fn what_fits(regex: Regex, told: mpsc::Sender<String>) -> impl FnMut(&str) {
    let mut told = Some(told);
    move |line| {
        let Some(open) = &told else { return };
        let captures = regex.captures(line);
        if let Some(fits) = captures.and_then(|captures| captures.get(1).or_else(|| captures.get(0))) {
            // It may have been ready by a line of its other output.
            let _ = open.send(fits.as_str().to_owned());
            told = None;
        }
    }
}

/// Our stderr, for somebody else's stdout.
pub(super) fn own_stderr() -> Stdio {
    io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_is_told_and_no_other_is_kept() {
        let (told, fitted) = mpsc::channel();
        let mut line = what_fits(Regex::new("at (.+)$|^up$").unwrap(), told);
        ["starting", "listens at 127.0.0.1:80", "up", "listens at 127.0.0.1:81"].into_iter().for_each(&mut line);
        assert_eq!(fitted.iter().collect::<Vec<_>>(), ["127.0.0.1:80"]);
    }
}
