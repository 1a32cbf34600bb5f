//! Boots a kernel and reads from its console how the steps went.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::image::Kernel;
use super::payload::Packed;
use super::qemu::Qemu;
use crate::excerpt::excerpt;
use crate::run;
use crate::tally::{Tally, failed_test};

const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 quiet mitigations=off log_buf_len=4M";

/// What all guests have in common.
pub(crate) struct Guest {
    pub(crate) qemu: Qemu,
    pub(crate) initramfs: Packed,
    pub(crate) memory: Option<u64>,
    pub(crate) cpus: u32,
    pub(crate) timeout: u32,
}

/// How it went in one kernel.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// One entry a step, e.g. `demo ok 2.1 s`.
    pub(crate) details: Vec<String>,
    /// Lines of the console that tell why something failed.
    pub(crate) failures: Vec<String>,
}

impl Guest {
    /// Boots `kernel`, runs the steps, and keeps the console in `log`.
    pub(crate) fn boot(&self, kernel: &Kernel, log: &Path, steps: &[&str]) -> Result<Outcome> {
        // A guest that never came up says something about the emulator on a busy machine, not about what is tested.
        let mut failures = Vec::new();
        for _ in 0..2 {
            self.start(kernel, log)?;
            let console = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
            let console = String::from_utf8_lossy(&console);
            if console.contains("@@boot ") {
                return Ok(judge(&console, steps));
            }
            failures = excerpt(&lines(&console));
            run::complain(&format!("warning: {} did not come up, see {}", kernel.version, log.display()));
        }
        Ok(Outcome { tally: Tally { passed: 0, failed: 1 }, details: vec!["did not boot".to_owned()], failures })
    }

    fn start(&self, kernel: &Kernel, log: &Path) -> Result<()> {
        let emulator = self.qemu.command();
        // timeout(1) also ends the guest if this task is killed meanwhile.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &self.timeout.to_string()]);
        command.arg(emulator.get_program()).args(emulator.get_args());
        command.envs(emulator.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // TCG: KVM is rarely to be had in CI, and behaviour is what is tested here, never speed.
        command.args(["-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", &self.cpus.to_string()]);
        command.args(["-m", &self.memory().to_string(), "-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-serial", "stdio"]);
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&self.initramfs.file);
        command.args(["-append", &format!("{KERNEL_ARGUMENTS} {}", clock_arguments())]);
        let console = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(console.try_clone()?).stdout(console);
        // How it ended is read from the console.
        run::status(&mut command)?;
        Ok(())
    }

    /// MiB: the archive and its unpacked files are both in memory while the guest boots.
    fn memory(&self) -> u64 {
        self.memory.unwrap_or_else(|| (512 + 3 * (self.initramfs.bytes >> 20)).max(1024))
    }
}

/// The guest's time stamp counter is that of this machine, but a kernel that measures it under emulation gets it wrong, holds it to
/// be unstable, and then has a scheduler clock that is off by some ms. So it is told the frequency: roughly is enough, since
/// all its clocks follow. Nothing if this machine does not tell. Source:
/// <https://docs.kernel.org/admin-guide/kernel-parameters.html> (`tsc`, `tsc_early_khz`).
fn clock_arguments() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mhz = info.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split_once(':')?.1.trim().parse::<f64>().ok());
    mhz.map(|mhz| format!("tsc=reliable tsc_early_khz={:.0}", mhz * 1000.0)).unwrap_or_default()
}

/// Reads a console: each of `steps` counts once, or as many times as its test results say.
fn judge(console: &str, steps: &[&str]) -> Outcome {
    let mut outcome = Outcome::default();
    let lines = lines(console);
    for (number, step) in steps.iter().enumerate() {
        let id = format!("{number}-{step}");
        let begin = lines.iter().position(|line| *line == format!("@@begin {id}"));
        let end = lines.iter().position(|line| line.starts_with(&format!("@@end {id} ")));
        let (Some(begin), Some(end)) = (begin, end) else {
            outcome.tally.count(false);
            outcome.details.push(format!("{step} FAILED (did not end)"));
            if let Some(begin) = begin {
                outcome.failures.extend(excerpt(&lines[begin..]));
            }
            continue;
        };
        let mut tests = Tally::default();
        for result in lines[begin..end].iter().filter_map(|line| Tally::of_line(line)) {
            tests.add(result);
        }
        let (status, seconds) = ending(lines[end]);
        // A test program that dies has no result to count.
        let uncounted = tests == Tally::default() || (status != "0" && tests.failed == 0);
        if uncounted {
            tests.count(status == "0");
        }
        let result = match (status == "0", uncounted) {
            (true, true) => "ok".to_owned(),
            (false, true) => format!("FAILED (exit {status})"),
            (_, false) => tests.to_string(),
        };
        let mut detail = format!("{step} {result} {seconds:.1} s");
        if tests.failed > 0 {
            let output = &lines[begin..end];
            outcome.failures.extend(excerpt(output));
            let names: Vec<&str> = output.iter().filter_map(|line| failed_test(line)).collect();
            if !names.is_empty() {
                detail += &format!(" ({})", names.join(" "));
            }
        }
        outcome.tally.add(tests);
        outcome.details.push(detail);
    }
    if steps.is_empty() {
        outcome.details.push("booted, nothing was run".to_owned());
    }
    let complaint =
        |line: &&str| line.starts_with("@@kernel ") || line.contains("Kernel panic") || line.contains("Oops: ");
    if let Some(at) = lines.iter().position(complaint) {
        let line = lines[at];
        outcome.tally.count(false);
        outcome.failures.extend(excerpt(&lines[at..]));
        outcome.details.push(format!("KERNEL COMPLAINED ({})", line.trim_start_matches("@@kernel ")));
    }
    outcome
}

/// The lines of a console, which ends them as a terminal does.
fn lines(console: &str) -> Vec<&str> {
    console.lines().map(|line| line.trim_end_matches('\r')).collect()
}

/// Exit status and duration from `@@end ID STATUS BEGIN END`.
fn ending(line: &str) -> (&str, f64) {
    let fields: Vec<&str> = line.split(' ').collect();
    let seconds = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (fields.get(2).copied().unwrap_or("unknown"), seconds(4) - seconds(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\r\n@@boot 1.10\r\n\r\n@@begin 0-demo\r\nhello\r\n\r\n@@end 0-demo 0 1.20 3.20\r\n\r\n@@begin 1-tests\r\n\
        test a::b ... FAILED\r\ntest a::c ... ok\r\n\r\nfailures:\r\n\r\n---- a::b stdout ----\r\nleft is not right\r\n\
        test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\r\n\
        @@end 1-tests 101 3.30 4.30\r\n";

    #[test]
    fn counts_steps_and_their_tests() {
        let outcome = judge(CONSOLE, &["demo", "tests"]);
        assert_eq!(outcome.tally, Tally { passed: 6, failed: 2 });
        assert_eq!(outcome.details, ["demo ok 2.0 s", "tests 5 passed, 2 failed 1.0 s (a::b)"]);
        let (heading, message) = (&outcome.failures[0], &outcome.failures[2]);
        assert_eq!((heading.as_str(), message.as_str()), ("failures:", "left is not right"));
        assert!(!outcome.failures.iter().any(|line| line.contains("hello")), "{:?}", outcome.failures);
    }

    #[test]
    fn a_step_that_does_not_end_and_a_kernel_warning_fail() {
        let console = format!("{CONSOLE}@@kernel ------------[ cut here ]------------\r\n");
        let outcome = judge(&console, &["demo", "tests", "more"]);
        assert_eq!(outcome.tally, Tally { passed: 6, failed: 4 });
    }

    #[test]
    fn a_step_that_fails_without_tests_or_hangs_shows_its_end() {
        let console = "@@boot 1.10\r\n@@begin 0-demo\r\nno demo today\r\n@@end 0-demo 5 1.20 3.20\r\n\
            @@begin 1-tests\r\ntest a::b ... ";
        let outcome = judge(console, &["demo", "tests"]);
        assert_eq!(outcome.details, ["demo FAILED (exit 5) 2.0 s", "tests FAILED (did not end)"]);
        assert_eq!(outcome.failures, ["@@begin 0-demo", "no demo today", "@@begin 1-tests", "test a::b ... "]);
    }
}
