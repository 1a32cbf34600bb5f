//! Runs of the real leakprobe.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
};

use leakprobe::model::Recording;
use nix::sys::signal::{SigHandler, Signal};
use tempfile::TempDir;

use super::{Program, need_root, wait_for};

/// The program under test: that of `LEAKPROBE_BIN`, or else the one that cargo has built.
pub fn leakprobe_binary() -> PathBuf {
    env::var_os("LEAKPROBE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_leakprobe")), PathBuf::from)
}

/// leakprobe with these arguments, in a directory of its own so that what it writes by default is gone with the test.
pub fn leakprobe<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Ended {
    Running::start(args).end()
}

/// leakprobe with these arguments, to its end; the recording that it wrote.
pub fn record(args: &[&str]) -> Recording {
    Running::record(args).recording()
}

/// A snapshot of a process.
pub fn snapshot(pid: u32) -> Recording {
    record(&["snapshot", "-p", &pid.to_string(), "-m", "0s"])
}

/// Watches a program from now on. If the options say nothing else, it looks each 50 ms, and a thread counts as parked after an hour.
pub fn attach(program: &Program, options: &[&str]) -> Running {
    let pid = program.pid().to_string();
    let mut args = vec!["attach", "-p", &pid];
    args.extend(options);
    for usual in [["-i", "50ms"], ["-m", "1h"]] {
        if !options.contains(&usual[0]) {
            args.extend(usual);
        }
    }
    let mut leakprobe = Running::record(&args);
    leakprobe.attached();
    leakprobe
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// The directory that it ran in.
    pub directory: TempDir,
}

impl Ended {
    /// Checks that it failed with `code`, and that it said why in one sentence with these words.
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "not one sentence: {self:?}");
        assert!(lines[0].starts_with("leakprobe: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no '{word}' in {self:?}");
        }
    }

    /// Checks that it succeeded.
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// Lets a command begin with SIGINT and SIGQUIT as usual: whoever runs the tests in the background of a shell has them ignored, and so have
/// all that it starts.
pub fn as_in_front(command: &mut Command) -> &mut Command {
    let begin = || {
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: between fork and exec it makes one system call, and no handler is installed.
            unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
        }
        Ok(())
    };
    // SAFETY: as said above.
    unsafe { command.pre_exec(begin) }
}

/// A run that goes on. Killed when dropped.
pub struct Running {
    child: Child,
    output: Option<[JoinHandle<String>; 2]>,
    directory: Option<TempDir>,
}

impl Running {
    /// Starts leakprobe with these arguments.
    pub fn start<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Self {
        Self::of(Command::new(leakprobe_binary()).args(args))
    }

    /// The same, which writes a recording for [`Self::recording`].
    pub fn record(args: &[&str]) -> Self {
        need_root();
        let split = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
        let (ours, command) = args.split_at(split);
        Self::start(ours.iter().chain(&["-o", "recording.json"]).chain(command))
    }

    /// Starts a command that becomes leakprobe.
    pub fn of(command: &mut Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = as_in_front(command)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = all_of(child.stdout.take().unwrap());
        let stderr = all_of(child.stderr.take().unwrap());
        Self { child, output: Some([stdout, stderr]), directory: Some(directory) }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory that it runs in.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// Waits until it watches: every probe is attached before it starts the threads of targets.
    pub fn attached(&mut self) -> &mut Self {
        let pid = self.pid();
        wait_for("leakprobe to be attached", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                let output = self.output.take().unwrap().map(|output| output.join().unwrap());
                panic!("leakprobe ended with {status} where it should have watched: {output:?}");
            }
            // The kernel cuts names at 15 bytes.
            let watches = |tid: &u64| super::proc_status(*tid as u32, "Name").as_deref() == Some("leakprobe-targe");
            super::tids(pid).iter().any(watches).then_some(())
        });
        self
    }

    /// Waits until it has taken its first snapshot: it has opened the file `module`, which stacks lead into, and waits for events.
    pub fn has_looked(&mut self, module: &Path) -> &mut Self {
        self.attached();
        let pid = self.pid();
        let module = module.canonicalize().unwrap();
        wait_for("leakprobe to have taken a snapshot", || {
            let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            if !files.any(|file| file.is_ok_and(|file| fs::read_link(file.path()).is_ok_and(|to| to == module))) {
                return None;
            }
            // The target's thread waits for three descriptors when it has nothing to do; for the reader of debug information it waits
            // for one.
            let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().map(|thread| thread.path());
            let is_of_target = |thread: &PathBuf| {
                fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with("leakprobe-targ"))
            };
            let calls: Vec<String> = threads
                .filter(is_of_target)
                .map(|it| fs::read_to_string(it.join("syscall")).unwrap_or_default())
                .collect();
            let waits = |call: &String| {
                let mut words = call.split(' ');
                // poll, ppoll
                matches!(words.next(), Some("7" | "271")) && words.nth(1) == Some("0x3")
            };
            (!calls.is_empty() && calls.iter().all(waits)).then_some(())
        });
        self
    }

    /// Sends it a signal.
    pub fn kill(&self, signal: i32) {
        // SAFETY: two integers; the child has not been waited for, so that the id is its own.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0);
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let status = wait_for("the end of leakprobe", || self.child.try_wait().unwrap());
        let [stdout, stderr] = self.output.take().unwrap().map(|output| output.join().unwrap());
        Ended { code: status.code(), stdout, stderr, directory: self.directory.take().unwrap() }
    }

    /// Waits for its end, and reads what it recorded.
    pub fn recording(self) -> Recording {
        let ended = self.end();
        ended.succeeded();
        leakprobe::report::json::read(&ended.directory.path().join("recording.json")).unwrap()
    }

    /// Tells it to stop, and reads what it recorded.
    pub fn stop(self) -> Recording {
        self.kill(libc::SIGINT);
        self.recording()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn all_of(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
