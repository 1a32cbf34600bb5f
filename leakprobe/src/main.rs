//! The `leakprobe` command.

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use leakprobe::{cli, commands, symbols};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if symbols::is_helper() {
        return ExitCode::SUCCESS;
    }
    let cli = match cli::parse(env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    log(cli.verbosity);
    match commands::execute(cli.command) {
        Ok(code) => code.into(),
        Err(failure) => {
            let message = failure.printable();
            let mut stderr = io::stderr();
            if !message.is_empty() {
                let _ = writeln!(stderr, "leakprobe: {message}");
            }
            if cli.verbosity > 0 {
                for cause in failure.causes() {
                    let _ = writeln!(stderr, "  because: {cause}");
                }
            }
            failure.code.into()
        }
    }
}

/// Diagnosis goes to stderr: warnings always, more with -v, or as LEAKPROBE_LOG says.
fn log(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "leakprobe=info,warn",
        2 => "leakprobe=debug,warn",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("LEAKPROBE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        // Whoever read stderr may have gone; to say so there would panic.
        .log_internal_errors(false)
        .init();
}
