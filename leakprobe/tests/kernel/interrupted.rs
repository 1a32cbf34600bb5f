//! Signals that come before there is anything to report.

use std::fs;

use crate::support::{Program, Running, Variant, need_root, proc_status, settle, wait_for};

/// Starts leakprobe, and sends it a signal as soon as it catches signals.
fn interrupted(args: &[&str]) -> Running {
    need_root();
    let leakprobe = Running::start(args);
    catches(&leakprobe);
    leakprobe.kill(libc::SIGINT);
    leakprobe
}

fn catches(leakprobe: &Running) {
    wait_for("leakprobe to catch signals", || {
        let caught = u64::from_str_radix(&proc_status(leakprobe.pid(), "SigCgt")?, 16).ok()?;
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
