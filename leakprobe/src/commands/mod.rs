//! One file a subcommand: each wires rooms together.

mod attach;
mod demo;
mod doctor;
mod failure;
mod output;
mod run;
mod session;
mod snapshot;
mod watch;

use std::io;

pub use failure::{ExitCode, Failure};

use crate::cli::{self, Command};

/// Carries out a command.
///
/// # Errors
/// One sentence, and the exit code that goes with it.
pub fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Attach(watch) => attach::attach(&watch),
        Command::Run { command, watch } => run::run(&command, &watch),
        Command::Snapshot(watch) => snapshot::snapshot(&watch),
        Command::Report { file, output } => output::render_again(&file, &output),
        Command::Doctor { json } => doctor::doctor(json),
        Command::Demo(watch) => demo::demo(&watch),
        Command::DemoTarget => demo::target(),
        Command::ExecWhenTold(command) => Err(run::exec_when_told(&command)),
        Command::Completions(shell) => {
            clap_complete::generate(shell, &mut cli::command(), "leakprobe", &mut io::stdout());
            Ok(ExitCode::Done)
        }
    }
}
