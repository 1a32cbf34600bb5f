//! Runs external commands. Whatever changes something or takes time is printed before it runs, as it could be typed
//! into a shell; short queries ([`query`]) are not.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the tasks talk to a terminal or a CI log")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

/// One line to the user.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// One line about something that went wrong.
pub(crate) fn complain(line: &str) {
    eprintln!("{line}");
}

/// Prints and runs `command`; an exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    check(command, status)
}

/// Prints and runs `command`; what its exit status means is the caller's to judge.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    say(&format!("$ {}", display(command)));
    command.status().with_context(|| cannot_start(command))
}

/// Like [`status`], with each line of standard output also given to `each`.
pub(crate) fn tee(command: &mut Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    say(&format!("$ {}", display(command)));
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| cannot_start(command))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read a command's output")?;
            let line = String::from_utf8_lossy(&line);
            say(&line);
            each(&line);
        }
    }
    child.wait().with_context(|| format!("cannot wait for `{}`", display(command)))
}

/// Prints and runs `command` and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    say(&format!("$ {}", display(command)));
    query(command)
}

/// Runs a short `command` that only asks for something, and returns its standard output.
pub(crate) fn query(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    check(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", display(command)))
}

/// [`query`] whose failure, silent, means "no".
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Does all the work, as many pieces at a time as there are processors: compilers and linkers use one alone. After one that failed, no
/// other is begun.
pub(crate) fn all<T: Send>(work: Vec<T>, each: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(work.into_iter());
    let next = || queue.lock().ok()?.next();
    let worker = || -> Result<()> {
        while let Some(piece) = next() {
            each(piece).inspect_err(|_| while next().is_some() {})?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        running.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed: {status}", display(command));
    }
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().display())
}

/// The command as a shell would take it, with the environment that it was given.
fn display(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", name.display(), quote(value?))));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quote);
    set.chain(words).collect::<Vec<_>>().join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%~^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    // The separator of CARGO_ENCODED_RUSTFLAGS would be invisible.
    format!("'{}'", word.replace('\x1f', "␟").replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_can_be_typed() {
        let mut command = Command::new("cc");
        command.args(["-O2", "a b.c", "it's"]).env("LANG", "C");
        assert_eq!(display(&command), r"LANG=C cc -O2 'a b.c' 'it'\''s'");
    }
}
