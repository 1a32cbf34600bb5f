//! A snapshot, how it ended, and what it cost.

use std::{
    fs::{self, File},
    io,
    mem::MaybeUninit,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use leakprobe::{model::Recording, report::json};
use tempfile::TempDir;

use crate::support::leakprobe_binary;

/// Of a snapshot, by the contract: done, the target is not as it should be, not possible, or too much was lost.
const ALLOWED: [i32; 4] = [0, 4, 5, 6];

/// A snapshot of a process: the recording to stdout, and texts of the kinds that show most to the present directory.
pub(crate) fn snapshot(pid: u32) -> Command {
    let mut command = Command::new(leakprobe_binary());
    command
        .args(["snapshot", "-m", "0s", "--json", "-o", "all.txt", "-o", "all.goroutines.txt", "-p"])
        .arg(pid.to_string());
    command
}

/// What came of a snapshot.
pub(crate) struct Outcome {
    /// Exit code; `None` if a signal ended it, or it had to be killed.
    code: Option<i32>,
    stderr: String,
    recording: PathBuf,
    _folder: TempDir,
    pub(crate) took: Duration,
    /// The most memory that leakprobe, or a process of its own, has had.
    pub(crate) peak_mb: u64,
}

impl Outcome {
    /// Takes a snapshot of a process; killed after `longest`.
    pub(crate) fn of(pid: u32, longest: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [recording, errors] = ["recording.json", "stderr"].map(|name| folder.path().join(name));
        let mut command = snapshot(pid);
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(File::create(&recording).unwrap()).stderr(File::create(&errors).unwrap());
        let began = Instant::now();
        #[expect(clippy::zombie_processes, reason = "it is waited for below, together with what it has used")]
        let mut child = command.spawn().unwrap();
        let (status, usage) = loop {
            if let Some(ended) = ended(child.id()) {
                break ended;
            }
            if began.elapsed() > longest {
                child.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(2));
        };
        let took = began.elapsed();
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        let stderr = String::from_utf8_lossy(&fs::read(errors).unwrap()).into_owned();
        Self { code, stderr, recording, _folder: folder, took, peak_mb: usage.ru_maxrss as u64 >> 10 }
    }

    /// What it recorded.
    pub(crate) fn recording(&self) -> Result<Recording, String> {
        json::read(&self.recording).map_err(|error| format!("{error}; exit code {:?}: {}", self.code, self.stderr))
    }

    /// Whether it ended as it should.
    pub(crate) fn check(&self, longest: Duration, most_mb: u64) -> Result<(), String> {
        let Self { code, stderr, took, peak_mb, .. } = self;
        if stderr.contains("panicked at") || !code.is_some_and(|code| ALLOWED.contains(&code)) {
            return Err(format!("exit code {code:?} after {took:?}: {stderr}"));
        }
        if *took > longest || *peak_mb > most_mb {
            return Err(format!("took {took:?} and {peak_mb} MB"));
        }
        if *code == Some(0) {
            return self.recording().map(drop);
        }
        let is_sentence = stderr.lines().count() == 1 && stderr.starts_with("leakprobe: ");
        if is_sentence { Ok(()) } else { Err(format!("exit code {code:?}, and not one sentence: {stderr}")) }
    }
}

/// How a child of ours ended, and what it has used; `None` as long as it runs.
fn ended(pid: u32) -> Option<(i32, libc::rusage)> {
    let (mut status, mut usage) = (0, MaybeUninit::zeroed());
    // SAFETY: both places live until the call is over.
    let waited = unsafe { libc::wait4(pid as i32, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    assert!(waited >= 0, "{}", io::Error::last_os_error());
    // SAFETY: integers alone, which may be zero.
    (waited > 0).then(|| (status, unsafe { usage.assume_init() }))
}
