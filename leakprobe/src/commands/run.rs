//! `run -- CMD`: a program from its first instruction.
//!
//! We start ourselves as a child that waits for one byte on a pipe. The programs are loaded for its process id; then the byte
//! is written, and the child becomes CMD. So not one thread of CMD is created unseen.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{ExitCode, Failure, output::Plan, session::Session, watch};
use crate::cli::{self, Watch};

/// Carries the pipe's descriptor to the child.
const PIPE: &str = "LEAKPROBE_EXEC_PIPE";

/// Starts the program and watches it until it ends.
pub(super) fn run(command: &[OsString], options: &Watch) -> Result<ExitCode, Failure> {
    let mut held = Held::start(command, |_| {})?;
    let options = Watch { pid: held.child.id(), ..options.clone() };
    let plan = Plan::of(&options.output, Some(PathBuf::from("leakprobe.svg")))?;
    let session = Session::open(&options, true)?;
    let begin = || held.tell().map_err(|error| cannot_start(command, &error));
    let mut recordings = watch::watch(vec![session], &options, begin)?;
    let status = held.child.try_wait().ok().flatten();
    let name = command.first().map(|name| name.display().to_string()).unwrap_or_default();
    let own = recordings.iter_mut().find(|recording| recording.target.pid == options.pid);
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
        None => plan.say(&format!("{name} goes on running as process {}", options.pid)),
    }
    Ok(ExitCode::Done)
}

/// A child that waits for the word. If it never comes, the child is ended with us; afterwards it lives a life of its own.
pub(super) struct Held {
    pub(super) child: Child,
    go: Option<PipeWriter>,
}

impl Held {
    /// Starts ourselves, to become `command` once told. `set_up` may say where its input and output go.
    pub(super) fn start(command: &[OsString], set_up: impl FnOnce(&mut Command)) -> Result<Self, Failure> {
        let start = || -> io::Result<Self> {
            let (told, go) = io::pipe()?;
            fcntl(&told, FcntlArg::F_SETFD(FdFlag::empty()))?;
            let mut ourselves = Command::new(env::current_exe()?);
            ourselves.arg(cli::EXEC_WHEN_TOLD).args(command).env(PIPE, told.as_raw_fd().to_string());
            set_up(&mut ourselves);
            Ok(Self { child: ourselves.spawn()?, go: Some(go) })
        };
        start().map_err(|error| cannot_start(command, &error))
    }

    /// Gives the word.
    pub(super) fn tell(&mut self) -> io::Result<()> {
        self.go.take().map_or(Ok(()), |mut go| go.write_all(b"g"))
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
    let told = env::var(PIPE).ok().and_then(|fd| fd.parse::<i32>().ok());
    let Some(mut told) = told.and_then(inherited) else {
        return Failure::new(ExitCode::Usage, "exec-when-told is for leakprobe's own use; use `leakprobe run -- CMD`");
    };
    if told.read_exact(&mut [0]).is_err() {
        // leakprobe has ended without giving the word.
        return Failure::new(ExitCode::Failed, "leakprobe ended before the program could start");
    }
    drop(told);
    let [program, args @ ..] = command else {
        return Failure::new(ExitCode::Usage, "there is no program to start");
    };
    let error = Command::new(program).args(args).env_remove(PIPE).exec();
    let mut failure = cannot_start(command, &error);
    failure.code = ExitCode::CannotExec;
    failure
}

/// The pipe that our parent left open for us.
fn inherited(fd: i32) -> Option<PipeReader> {
    // Reopening through /proc needs no claim on a descriptor number that may be anything.
    let file = File::open(format!("/proc/self/fd/{fd}")).ok()?;
    nix::unistd::close(fd).ok()?;
    Some(PipeReader::from(OwnedFd::from(file)))
}

pub(super) fn cannot_start(command: &[OsString], error: &io::Error) -> Failure {
    let name = command.first().map(|name| name.display().to_string()).unwrap_or_default();
    Failure::new(ExitCode::Usage, format!("cannot start {name}: {error}; check its name and its permissions"))
}

pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
