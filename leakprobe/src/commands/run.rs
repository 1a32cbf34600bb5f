//! `run -- CMD`: a program from its first instruction.
//!
//! We start ourselves as a child, which says on a pipe that it runs, and waits for one byte on another. The programs are loaded
//! for its process id; then the byte is written, and the child becomes CMD, which closes the first pipe. So not one thread of CMD
//! is created unseen, and no `exec` but CMD's is seen.

use std::{
    env,
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{self, Child, Command, ExitStatus},
};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use super::{ExitCode, Failure, groups, limits, output::Plan, signals, watching};
use crate::{
    cli::{self, Watch},
    privilege,
};

/// Carries the descriptors of both pipes to the child: the one that it says on that it runs, and the one that it waits on. And our
/// process id, if the program must not outlive us.
const PIPES: &str = "LEAKPROBE_EXEC_PIPES";

/// Starts the program and watches it until it ends.
pub(super) fn run(command: &[OsString], options: &Watch) -> Result<ExitCode, Failure> {
    let plan = Plan::of(&options.output, Some(PathBuf::from("leakprobe.svg")))?;
    let mut held = Held::start(command, false, |_| {}).map_err(signals::or_interrupted)?;
    let pid = held.child.id();
    let mut recordings = watching::watch_own(pid, options, || held.begin(command))?;
    let status = held.child.try_wait().ok().flatten();
    let name = command.first().map(|name| name.display().to_string()).unwrap_or_default();
    let own = recordings.iter_mut().find(|recording| recording.target.pid == pid);
    let execs = own.as_ref().map_or(0, |recording| recording.target.execs);
    if execs == 0 && status.and_then(|status| status.code()) == Some(ExitCode::CannotExec as i32) {
        // The child has said why, on the stderr that it shares with us.
        return Err(Failure::silent(ExitCode::Usage));
    }
    if let Some(own) = own {
        own.target.execs = execs.saturating_sub(1); // the first was our doing
        own.target.ended = status.map(describe).or(own.target.ended.take());
    }
    plan.write(&recordings)?;
    match status {
        Some(status) => plan.say(&format!("{name} {}", describe(status))),
        None => plan.say(&format!("{name} goes on running as process {pid}")),
    }
    Ok(ExitCode::Done)
}

/// A child that waits for the word. If it never comes, the child is ended with us; afterwards it lives a life of its own.
pub(super) struct Held {
    pub(super) child: Child,
    go: Option<PipeWriter>,
    /// Closed at the other end once the child is no more what we started.
    runs: PipeReader,
}

impl Held {
    /// Starts ourselves, to become `command` once told. `ends_with_us`: whether it is killed when we end, however that is. `set_up`
    /// may say where its input and output go.
    pub(super) fn start(
        command: &[OsString],
        ends_with_us: bool,
        set_up: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        let start = || -> io::Result<Self> {
            let ((runs, says), (told, go)) = (io::pipe()?, io::pipe()?);
            for inherited in [says.as_fd(), told.as_fd()] {
                fcntl(inherited, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            let mut ourselves = Command::new(env::current_exe()?);
            let parent = if ends_with_us { format!(" {}", process::id()) } else { String::new() };
            let pipes = format!("{} {}{parent}", says.as_raw_fd(), told.as_raw_fd());
            ourselves.arg(cli::EXEC_WHEN_TOLD).args(command).env(PIPES, pipes);
            limits::as_before(&mut ourselves);
            set_up(&mut ourselves);
            let rights = privilege::for_programs();
            let mut held = Self { child: ourselves.spawn()?, go: Some(go), runs };
            drop((says, rights));
            held.runs.read_exact(&mut [0])?;
            fcntl(&held.runs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok(held)
        };
        start().map_err(|error| cannot_start(command, &error))
    }

    /// Gives the word, unless a signal has come: nothing is started any more then.
    pub(super) fn begin(&mut self, command: &[OsString]) -> Result<(), Failure> {
        if signals::is_interrupted() {
            return Err(signals::interrupted());
        }
        let told = self.go.take().map_or(Ok(()), |mut go| go.write_all(b"g"));
        told.map_err(|error| cannot_start(command, &error))
    }

    /// Whether the child has become the program, or has ended.
    pub(super) fn has_begun(&mut self) -> bool {
        matches!(self.runs.read(&mut [0]), Ok(0))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.go.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The child's side. Returns only if it cannot become the program.
pub(super) fn exec_when_told(command: &[OsString]) -> Failure {
    let pipes = env::var(PIPES).unwrap_or_default();
    let mut words = pipes.split(' ');
    let says = words.next().and_then(|says| inherited(says, OpenOptions::new().write(true)));
    let pipes = says.zip(words.next().and_then(|told| inherited(told, OpenOptions::new().read(true))));
    // Before we say that we run: a parent that ends from then on takes us with it, and one that has ended gives no word.
    let is_bound = words.next().is_none_or(|parent| parent.parse().is_ok_and(|id| groups::end_with(id).is_ok()));
    // The first stays open until another program takes our place.
    let Some((mut says, mut told)) = pipes else {
        return Failure::new(ExitCode::Usage, "exec-when-told is for leakprobe's own use; use `leakprobe run -- CMD`");
    };
    if !is_bound || says.write_all(b"r").is_err() || told.read_exact(&mut [0]).is_err() {
        // leakprobe has ended without giving the word.
        return Failure::new(ExitCode::Failed, "leakprobe ended before the program could start");
    }
    let [program, args @ ..] = command else {
        return Failure::new(ExitCode::Usage, "there is no program to start");
    };
    let error = Command::new(program).args(args).env_remove(PIPES).exec();
    let mut failure = cannot_start(command, &error);
    failure.code = ExitCode::CannotExec;
    failure
}

/// An end of a pipe that our parent left open for us.
fn inherited(fd: &str, how: &OpenOptions) -> Option<File> {
    let fd: i32 = fd.parse().ok()?;
    // Reopening through /proc needs no claim on a descriptor number that may be anything.
    let file = how.open(format!("/proc/self/fd/{fd}")).ok()?;
    nix::unistd::close(fd).ok()?;
    Some(file)
}

pub(super) fn cannot_start(command: &[OsString], error: &io::Error) -> Failure {
    let name = command.first().map(|name| name.display().to_string()).unwrap_or_default();
    let (code, advice) = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => (
            ExitCode::Failed,
            "raise the limit of processes (`ulimit -u`, or pids.max of the control group) or of memory",
        ),
        _ => (ExitCode::Usage, "check its name and its permissions"),
    };
    Failure::new(code, format!("cannot start {name}: {error}; {advice}"))
}

pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
