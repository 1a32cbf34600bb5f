//! Signals that come before there is anything to report.

use std::{
    fs,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

use crate::support::{
    Program, Running, Variant, as_in_front, leakprobe, leakprobe_binary, need_root, proc_status, settle, wait_for,
};

/// Starts leakprobe, and sends it a signal as soon as it catches signals.
fn interrupted(args: &[&str]) -> Running {
    need_root();
    let leakprobe = Running::start(args);
    catches(leakprobe.pid());
    leakprobe.kill(libc::SIGINT);
    leakprobe
}

fn catches(leakprobe: u32) {
    wait_for("leakprobe to catch signals", || {
        let caught = u64::from_str_radix(&proc_status(leakprobe, "SigCgt")?, 16).ok()?;
        (caught >> (libc::SIGHUP - 1) & 1 == 1).then_some(())
    });
}

#[test]
fn attach_reports_what_is_there() {
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let ended = interrupted(&["attach", "-m", "0s", "-p", &program.pid().to_string()]).end();
    assert!(ended.succeeded().stdout.contains("park"), "{ended:?}");
}

#[test]
fn a_check_does_not_tell() {
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let ended = interrupted(&["ci", "-p", &program.pid().to_string(), "--", "true"]).end();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stdout.contains("stopped before all rounds were done"), "{ended:?}");
}

#[test]
fn a_program_that_was_not_started_yet_never_is() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("started");
    let script = format!("touch {}", mark.display());
    let exec = format!("/bin/sh -c '{script}'");
    for (args, code) in [(["run", "--", "/bin/sh", "-c", &script], 130), (["ci", "--exec", &exec, "--", "true"], 6)] {
        let ended = interrupted(&args).end();
        // On a slow machine it was started before the signal came; then it was watched.
        if mark.exists() {
            assert!(matches!(ended.code, Some(0 | 4 | 6)), "{ended:?}");
            fs::remove_file(&mark).unwrap();
        } else {
            ended.failed(code, &["interrupted"]);
        }
    }
}

#[test]
fn a_self_test_that_is_interrupted_has_missed_nothing() {
    let ended = interrupted(&["selftest"]).end();
    ended.failed(6, &["interrupted"]);
    assert_eq!(ended.stdout, "");
}

/// Commands that have nothing to tell before they are done.
fn others(pid: &str, recording: &str) -> [Vec<String>; 4] {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    [
        words(&format!("snapshot -p {pid} -o a.svg -o b.json")),
        words("doctor"),
        words(&format!("report {recording} -o a.html")),
        words(&format!("diff {recording} {recording} -o a.svg")),
    ]
}

/// A pipe that nobody reads, with no room for another byte.
fn full_pipe() -> (OwnedFd, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    nix::unistd::write(&writer, &[b'x'; 4096]).unwrap();
    (reader.into(), writer.into())
}

#[test]
fn other_commands_end_at_once_and_say_so() {
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("r.json").display().to_string();
    let pid = program.pid().to_string();
    leakprobe(["snapshot", "-q", "-p", &pid, "-o", &recording]).succeeded();
    for (command, signal) in
        others(&pid, &recording).iter().zip([libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGINT])
    {
        let (_reader, full) = full_pipe();
        let here = tempfile::tempdir().unwrap();
        let mut leakprobe = Command::new(leakprobe_binary());
        leakprobe.args(command).current_dir(here.path()).stdout(full).stderr(Stdio::piped());
        let child = as_in_front(&mut leakprobe).spawn().unwrap();
        catches(child.id());
        // SAFETY: two integers; the child has not been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{command:?}: {told}");
        assert_eq!(told, "leakprobe: interrupted before it was done\n", "{command:?}");
        let left: Vec<_> = fs::read_dir(here.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert!(left.is_empty(), "the report comes first, and nobody reads it: {left:?}");
    }
}

#[test]
fn what_nohup_has_ignored_stays_ignored() {
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let mut command = Command::new(leakprobe_binary());
    command.args(["snapshot", "-p", &program.pid().to_string()]);
    let ignored = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    let ignore = move || {
        // SAFETY: it is no handler.
        unsafe { sigaction(Signal::SIGHUP, &ignored) }.map(drop).map_err(Into::into)
    };
    // SAFETY: it makes one system call.
    unsafe { command.pre_exec(ignore) };
    let running = Running::of(&mut command);
    wait_for("leakprobe to catch signals", || {
        let caught = u64::from_str_radix(&proc_status(running.pid(), "SigCgt")?, 16).ok()?;
        (caught >> (libc::SIGTERM - 1) & 1 == 1).then_some(())
    });
    running.kill(libc::SIGHUP);
    assert!(running.end().succeeded().stdout.contains("park"));
}
