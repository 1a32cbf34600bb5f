//! leakprobe, or another tool, while it watches a process that is measured.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::target::Idle;
use crate::{repo, run};

/// What comes before each measurement: loading programs and a first snapshot are not what is measured.
pub(super) const PAUSE: Duration = Duration::from_millis(1500);

/// A tool that watches. Killed when dropped.
pub(super) struct Attached {
    tool: Child,
    /// Processes that it watches besides; they end after it.
    others: Option<Idle>,
}

impl Attached {
    /// leakprobe, watching `pid`.
    pub(super) fn leakprobe(pid: &str, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(repo::leakprobe());
        command.args(["attach", "-q", "-p", pid, "-o", "/dev/null", "--format", "json"]).args(options);
        Self::tool(&mut command, PAUSE)
    }

    /// leakprobe, watching `pid` and so many idle processes.
    pub(super) fn leakprobe_and_others(pid: &str, others: u32) -> Result<Self> {
        let idle = Idle::start(others)?;
        let options: Vec<String> = idle.pids().flat_map(|pid| ["-p".to_owned(), pid]).collect();
        let mut attached = Self::leakprobe(pid, &options.iter().map(String::as_str).collect::<Vec<_>>())?;
        attached.others = Some(idle);
        Ok(attached)
    }

    /// Another tool, which is given `pause` to begin.
    pub(super) fn tool(command: &mut Command, pause: Duration) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tool = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let attached = Self { tool, others: None };
        thread::sleep(pause);
        Ok(attached)
    }

    /// Ends it as Ctrl-C does.
    pub(super) fn detach(mut self) -> Result<()> {
        run::query(Command::new("kill").args(["-INT", &self.tool.id().to_string()]))?;
        self.tool.wait().context("cannot wait for what watched")?;
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.tool.kill();
        let _ = self.tool.wait();
        drop(self.others.take());
    }
}
