//! A running test program.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use super::{PATIENCE, Variant, program_path, wait_for};

/// A test program, ended when it is dropped.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Lines that were read while another was looked for.
    passed: VecDeque<String>,
}

impl Program {
    /// Starts the test program `name`, and waits until it is ready.
    pub fn ready(name: &str, variant: Variant) -> Self {
        Self::ready_with(name, variant, &[])
    }

    /// The same with arguments.
    pub fn ready_with(name: &str, variant: Variant, args: &[&str]) -> Self {
        let mut program = Self::start(Command::new(program_path(name, variant)).args(args));
        program.expect("ready");
        program
    }

    /// Starts the program at `path`, and waits until it is ready.
    pub fn ready_at(path: &Path) -> Self {
        let mut program = Self::start(&mut Command::new(path));
        program.expect("ready");
        program
    }

    /// Starts any program; its stdin and stdout are pipes.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, lines, passed: VecDeque::new() }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that begins with `prefix`; its rest. Lines before it are kept for later.
    pub fn expect(&mut self, prefix: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => match line.strip_prefix(prefix) {
                    Some(rest) => return rest.trim().to_owned(),
                    None => self.passed.push_back(line),
                },
                Err(error) => panic!("the program did not say '{prefix}': {error}; it said {:?}", self.passed),
            }
        }
    }

    /// Lines that came while others were expected.
    pub fn passed(&mut self) -> Vec<String> {
        self.passed.drain(..).collect()
    }

    /// Sends a line to the program.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its stdin is open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the program reads its stdin");
    }

    /// Sends a line, and returns the rest of the answer that begins with `prefix`.
    pub fn ask(&mut self, line: &str, prefix: &str) -> String {
        self.say(line);
        self.expect(prefix)
    }

    /// Sends a signal.
    pub fn kill(&self, signal: i32) {
        // SAFETY: two integers; the child has not been waited for, so that the id is its own.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0);
    }

    /// Waits for the end of the program.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of a test program", || self.child.try_wait().unwrap())
    }

    /// The number in the line's `key=`.
    pub fn field(line: &str, key: &str) -> i64 {
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let value = value.unwrap_or_else(|| panic!("no {key} in '{line}'"));
        let number = value.strip_prefix("0x").map_or_else(|| value.parse(), |hex| i64::from_str_radix(hex, 16));
        number.unwrap_or_else(|_| panic!("{key} is no number in '{line}'"))
    }

    /// Whether a program is to be had at all, e.g. on PATH.
    pub fn exists(name: impl AsRef<OsStr>) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(name.as_ref()).exists())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
