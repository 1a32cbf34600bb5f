//! Which program a process runs, where nothing tells of `exec`; and whether a call of it is at work, which has taken the old code
//! away and not yet mapped the new.
//!
//! `exec` gives the process a new address space, whose stack moves more than once until it is done. The address of its code is
//! written once, after all of the rest and just before the stack's last place.
//! Source: <https://elixir.bootlin.com/linux/v6.12/source/fs/binfmt_elf.c#L1302> (`load_elf_binary`).

use std::{thread, time::Duration};

use super::Stat;

/// How long a call of `exec` that is at work is waited for.
const MOST_MS: u32 = 200;

/// What tells one program of a process from the next: where its stack begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program(u64);

/// What a process is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Execs,
    /// It runs a program; `None` if we may not know which, or it has ended.
    Runs(Option<Program>),
}

impl State {
    fn of(pid: u32) -> Self {
        Stat::of(pid).map_or(Self::Runs(None), |stat| Self::told_by(&stat))
    }

    fn told_by(stat: &Stat) -> Self {
        if stat.start_code == 0 && !stat.has_exited() && !stat.is_kernels() {
            return Self::Execs;
        }
        // Who may not know is told 1 and 0.
        Self::Runs((stat.start_stack != 0).then_some(Program(stat.start_stack)))
    }

    fn program(self) -> Option<Program> {
        match self {
            Self::Execs => None,
            Self::Runs(program) => program,
        }
    }
}

/// The program that `pid` runs; `None` while it changes, or if that may not be read.
#[must_use]
pub fn program(pid: u32) -> Option<Program> {
    State::of(pid).program()
}

/// The same once a call of `exec` that is at work is done. Takes a ms if there is none, a fifth of a second at most.
pub fn settled_program(pid: u32) -> Option<Program> {
    let mut seen = State::of(pid);
    for _ in 0..MOST_MS {
        thread::sleep(Duration::from_millis(1));
        let again = State::of(pid);
        if again == seen && seen != State::Execs {
            break;
        }
        seen = again;
    }
    seen.program()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn state(letter: u8, flags: u32, start_code: u64, start_stack: u64) -> State {
        let text = format!(
            "7 (x) {} 1 7 7 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 0 {start_code} 0 {start_stack} 0 0 0 0 0 0 0 0 0 17 0",
            char::from(letter)
        );
        State::told_by(&Stat::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_program_counts_once_its_code_is_there() {
        assert_eq!(state(b'R', 0, 0, 0x7ffc_0000), State::Execs, "its stack is not yet where it stays");
        assert_eq!(state(b'R', 0, 0x5000, 0x7ffc_1000), State::Runs(Some(Program(0x7ffc_1000))));
        assert_eq!(state(b'S', 0, 1, 0), State::Runs(None), "of others");
        assert_eq!(state(b'Z', 0, 0, 0), State::Runs(None));
        assert_eq!(state(b'S', 0x0020_8040, 0, 0), State::Runs(None), "a thread of the kernel");
    }

    #[test]
    fn one_program_is_told_from_the_next() {
        let mut child =
            Command::new("/bin/sh").args(["-c", "read line; exec cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let first = settled_program(child.id());
        assert!(first.is_some());
        assert_eq!(program(child.id()), first);
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        let began = std::time::Instant::now();
        while program(child.id()).is_none_or(|program| Some(program) == first) {
            assert!(began.elapsed().as_secs() < 60);
        }
        let second = program(child.id());
        assert_eq!(settled_program(child.id()), second, "it stays");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(settled_program(child.id()), None);
    }
}
