//! One file a subcommand: each wires rooms together.

mod attach;
mod ci;
mod demo;
mod diff;
mod doctor;
mod failure;
mod groups;
mod limits;
mod output;
mod progress;
mod run;
mod selftest;
mod signals;
mod snapshot;
mod targets;
mod watching;

use std::io::{self, Write};

pub use failure::{ExitCode, Failure};

use self::signals::First;
use crate::{
    cli::{self, Command},
    privilege::{self, Work},
    target,
    watch::limits::{SPARE, check_descriptors, comes_of_too_few, too_few},
};

/// Carries out a command.
///
/// # Errors
/// One sentence, and the exit code that goes with it.
pub fn execute(command: Command) -> Result<ExitCode, Failure> {
    privilege::enter(work(&command)).map_err(|error| {
        Failure::new(
            ExitCode::Failed,
            format!("cannot give up privileges that are not needed: {error}; run without them"),
        )
    })?;
    target::can_copy_mapped();
    // What we start as our own child does as it was started.
    if !matches!(command, Command::ExecWhenTold(_)) {
        limits::prepare();
        check_descriptors(SPARE)?;
    }
    if let Some(first) = first_signal(&command) {
        signals::catch(first)?;
    }
    // A check that was interrupted does not tell, whenever that was.
    let is_check = matches!(command, Command::Ci(_) | Command::Selftest(_));
    carry_out(command).map_err(|failure| match failure.code {
        _ if comes_of_too_few(&failure) => too_few().into(),
        ExitCode::Interrupted if is_check => failure.with_code(ExitCode::Incomplete),
        _ => failure,
    })
}

/// What the first signal does to a command; `None`: what it does to any process, as what we start for ourselves.
const fn first_signal(command: &Command) -> Option<First> {
    match command {
        Command::Attach { .. } | Command::Run { .. } | Command::Demo(_) | Command::Ci(_) | Command::Selftest(_) => {
            Some(First::Stops)
        }
        Command::Snapshot { .. } | Command::Report { .. } | Command::Diff { .. } | Command::Doctor { .. } => {
            Some(First::Ends)
        }
        Command::Completions(_)
        | Command::DemoTarget
        | Command::SelftestTarget
        | Command::SelftestLoad
        | Command::ExecWhenTold(_)
        | Command::CopyMapped(_) => None,
    }
}

/// What a command does, as far as privileges depend on it.
const fn work(command: &Command) -> Work {
    match command {
        Command::Report { .. } | Command::Diff { .. } | Command::Completions(_) => Work::Files,
        Command::Attach { .. } | Command::Snapshot { .. } | Command::Doctor { .. } | Command::Demo(_) => Work::Watch,
        Command::CopyMapped(_) => Work::Help,
        Command::Run { .. } | Command::Ci(_) | Command::Selftest(_) => Work::Start,
        Command::ExecWhenTold(_) => Work::Become,
        Command::DemoTarget | Command::SelftestTarget | Command::SelftestLoad => Work::Show,
    }
}

fn carry_out(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Attach { targets, watch } => attach::attach(&targets, &watch),
        Command::Run { command, watch } => run::run(&command, &watch),
        Command::Snapshot { targets, watch } => snapshot::snapshot(&targets, &watch),
        Command::Report { file, explain, output } => output::render_again(&file, explain.as_deref(), &output),
        Command::Diff { before, after, output } => diff::diff(&before, &after, &output),
        Command::Ci(options) => ci::ci(&options),
        Command::Doctor { json } => doctor::doctor(json),
        Command::Demo(watch) => demo::demo(&watch),
        Command::DemoTarget => demo::target(),
        Command::Selftest(options) => selftest::selftest(&options),
        Command::SelftestTarget => selftest::target(),
        Command::SelftestLoad => selftest::load(),
        Command::ExecWhenTold(command) => Err(run::exec_when_told(&command)),
        Command::CopyMapped(place) => copy_mapped(&place),
        Command::Completions(shell) => completions(shell),
    }
}

fn copy_mapped(place: &[std::ffi::OsString]) -> Result<ExitCode, Failure> {
    let Err(why) = target::copy_mapped(place) else { return Ok(ExitCode::Done) };
    // For whoever has started us, without our name.
    let _ = io::stderr().write_all(why.as_bytes());
    Err(Failure::silent(ExitCode::Failed))
}

fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "leakprobe", &mut script);
    print(&script)
}

/// Writes to stdout. A reader who leaves early has seen what it wanted to see.
fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(ExitCode::Failed, format!("cannot write to stdout: {error}; is the disk full?")))
        }
        _ => Ok(ExitCode::Done),
    }
}
