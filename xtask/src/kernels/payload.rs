//! What goes into a guest and what is run there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::{Apt, Mirror};
use super::initramfs::Initramfs;
use crate::{programs, repo, run};

/// The guest's first process: mounts what leakprobe reads, runs the steps in their order, and says on the console how
/// each went, in lines that [`super::guest`] reads.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin HOME=/root TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts
mount -t cgroup2 cgroup /sys/fs/cgroup; mount -t tracefs trace /sys/kernel/tracing; mount -t bpf bpf /sys/fs/bpf
ln -s /proc/self/fd /dev/fd; ip link set lo up; chmod 1777 /tmp
now() { cut -d' ' -f1 /proc/uptime; }
printf '\n@@boot %s\n' "$(now)"
for step in /steps/*; do
    begin=$(now); printf '\n@@begin %s\n' "${step##*/}"
    (cd /tmp && sh "$step"); rc=$?
    printf '\n@@end %s %s %s %s\n' "${step##*/}" $rc "$begin" "$(now)"
done
# Each WARN, BUG and Oops begins with one of these. The console's log level hides warnings.
dmesg | grep -E 'cut here|Oops|BUG: |general protection fault' | sed 's/^/@@kernel /'
poweroff -f
"#;

/// Runs the real-kernel tests that its arguments name.
const KERNEL_TEST: &str = r#"#!/bin/sh
export LEAKPROBE_BIN=/usr/bin/leakprobe LEAKPROBE_TEST_PROGRAMS=/opt/programs LEAKPROBE_IN_GUEST=1 RUST_BACKTRACE=1
exec /opt/kernel --test-threads=1 "$@"
"#;

/// Tests of what user space does with what it has read: the same on every kernel, and they take most of the time. How stacks are
/// unwound is among them: that they can be read is shown by others.
const SAME_EVERYWHERE: [&str; 7] = ["checks::", "outputs::", "errors::", "hostile::", "live::", "run::", "stacks::"];

/// Files and steps for every guest.
#[derive(Default)]
pub(crate) struct Payload {
    files: Initramfs,
    steps: Vec<(String, String)>,
}

/// A packed payload.
pub(crate) struct Packed {
    pub(crate) file: PathBuf,
    pub(crate) bytes: u64,
}

impl Payload {
    /// A shell command alone. With `kernel-test` before them, it can run some of the real-kernel tests.
    pub(crate) fn of_command(command: &str) -> Result<Self> {
        let mut payload = Self::default();
        payload.add_leakprobe()?;
        payload.step("command", command);
        Ok(payload)
    }

    /// Doctor, demo, and the real-kernel tests; `is_quick` leaves out [`SAME_EVERYWHERE`].
    pub(crate) fn of_leakprobe(is_quick: bool) -> Result<Self> {
        let mut payload = Self::default();
        payload.add_leakprobe()?;
        payload.step("doctor", "leakprobe doctor");
        payload.step("demo", "leakprobe demo && test -s parked.svg");
        let left_out: &[&str] = if is_quick { &SAME_EVERYWHERE } else { &[] };
        let skips: String = left_out.iter().map(|module| format!(" --skip {module}")).collect();
        payload.step("tests", &format!("kernel-test{skips}"));
        // Those that nobody should have to bear but a guest.
        payload.step("machine", "kernel-test --ignored machine::");
        Ok(payload)
    }

    /// The release build, the real-kernel tests, and their programs.
    fn add_leakprobe(&mut self) -> Result<()> {
        run::run(repo::cargo().args(["build", "--release", "--locked", "--package", "leakprobe"]))?;
        self.files.program("/usr/bin/leakprobe", &repo::leakprobe())?;
        self.files.program("/opt/kernel", &kernel_tests()?)?;
        self.files.text("/usr/bin/kernel-test", KERNEL_TEST.to_owned());
        self.add_programs(&programs::build()?)
    }

    fn step(&mut self, name: &str, command: &str) {
        self.steps.push((name.to_owned(), command.to_owned()));
    }

    /// The names of the steps, in their order.
    pub(crate) fn step_names(&self) -> Vec<&str> {
        self.steps.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Every executable of `folder`, as `/opt/programs/NAME`.
    fn add_programs(&mut self, folder: &Path) -> Result<()> {
        self.files.folder("/opt/programs");
        if !folder.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            if entry.path().is_file() {
                self.files.program(Path::new("/opt/programs").join(entry.file_name()), &entry.path())?;
            }
        }
        Ok(())
    }

    /// Adds the guest's own system and writes the initramfs.
    pub(crate) fn pack(&self, work: &Path, mirror: &Mirror) -> Result<Packed> {
        let mut system = Initramfs::default();
        let busybox = work.join("busybox");
        if !busybox.join("bin/busybox").exists() {
            let deb = Apt::of_suite(work, mirror, "bookworm")?.download("busybox-static")?;
            run::query(Command::new("dpkg").arg("-x").args([&deb, &busybox]))?;
        }
        system.program("/bin/busybox", &busybox.join("bin/busybox"))?;
        for folder in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/var/tmp", "/usr/bin"] {
            system.folder(folder);
        }
        system.text("/init", INIT.to_owned());
        system.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n".to_owned());
        system.text("/etc/group", "root:x:0:\n".to_owned());
        for (number, (name, command)) in self.steps.iter().enumerate() {
            // The number keeps the order.
            system.text(format!("/steps/{number}-{name}"), format!("{command}\n"));
        }
        let file = work.join("initramfs.cpio");
        let bytes = system.write_with(&self.files, &file)?;
        run::say(&format!("packed {}: {} MiB", file.display(), bytes >> 20));
        Ok(Packed { file, bytes })
    }
}

/// The executable of the real-kernel tests.
fn kernel_tests() -> Result<PathBuf> {
    let mut build = repo::cargo();
    // As for the tests of this kernel: then it is built already. The program under test is the release build.
    build.args(["test", "--workspace", "--locked", "--test", "kernel", "--no-run"]);
    let messages = run::output(build.arg("--message-format=json-render-diagnostics"))?;
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut tests =
        messages.filter(|message| message["target"]["name"] == "kernel" && message["profile"]["test"] == true);
    let executable = tests.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
    executable.context("cargo built no test executable named kernel")
}
