//! Bad input: one clear sentence, the right exit code.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use crate::support::{
    Ended, Program, Running, Variant, leakprobe, leakprobe_binary, need_root, proc_status, settle, tids, wait_for,
};

/// Nobody's user id.
const NOBODY: u32 = 65_534;

fn attach(pid: u32) -> Ended {
    need_root();
    leakprobe(["attach", "-d", "1s", "-p", &pid.to_string()])
}

/// leakprobe as another user. The program may lie where only root can go, so it is copied.
fn leakprobe_as_nobody(args: &[&str]) -> Ended {
    need_root();
    let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
    let copy = folder.path().join("leakprobe");
    fs::copy(leakprobe_binary(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    Running::of(Command::new(copy).args(args).uid(NOBODY).gid(NOBODY)).end()
}

#[test]
fn a_pid_that_does_not_exist() {
    // The largest pid that the kernel can be told to use, plus one.
    attach(4_194_305).failed(4, &["4194305", "no process"]);
    leakprobe(["snapshot", "-p", "4194305"]).failed(4, &["4194305", "no process"]);
}

#[test]
fn the_id_of_a_thread() {
    let program = Program::ready("many", Variant::Pie);
    let thread = *tids(program.pid()).last().unwrap();
    attach(thread as u32).failed(2, &[&thread.to_string(), &format!("-p {}", program.pid())]);
}

#[test]
fn a_kernel_thread() {
    // kthreadd, on every Linux.
    attach(2).failed(2, &["kthreadd", "kernel thread"]);
}

#[test]
fn a_zombie() {
    // It ends when its stdin is closed; we have not waited for it.
    let mut program = Program::ready("ends", Variant::Pie);
    program.say("exit 0");
    let pid = program.pid();
    wait_for("the program to be a zombie", || proc_status(pid, "State").filter(|state| state.starts_with('Z')));
    attach(pid).failed(4, &[&pid.to_string(), "zombie"]);
}

#[test]
fn our_own_pid() {
    need_root();
    let command = format!("exec {} attach -d 1s -p $$", leakprobe_binary().display());
    Running::of(Command::new("/bin/sh").args(["-c", &command])).end().failed(2, &["leakprobe itself"]);
}

#[test]
fn another_users_process_without_privilege() {
    let program = Program::ready("many", Variant::Pie);
    let pid = program.pid().to_string();
    for command in ["attach", "snapshot"] {
        leakprobe_as_nobody(&[command, "-p", &pid]).failed(5, &["not permitted", "sudo"]);
    }
}

#[test]
fn our_own_process_without_the_right_to_load_programs() {
    let folder = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
    let copy = folder.path().join("many");
    fs::copy(crate::support::program_path("many", Variant::Static), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut program = Program::start(Command::new(&copy).uid(NOBODY).gid(NOBODY));
    program.expect("ready");
    settle(program.pid());
    let ended = leakprobe_as_nobody(&["attach", "-d", "100ms", "-m", "0s", "-p", &program.pid().to_string()]);
    ended.succeeded();
    assert!(ended.stderr.contains("CAP_BPF") && ended.stderr.contains("/proc"), "{ended:?}");
    assert!(ended.stdout.contains("without BPF") && ended.stdout.contains("100"), "{ended:?}");
}

#[test]
fn doctor_says_without_privilege_what_is_missing_and_with_it_that_all_is_there() {
    let without = leakprobe_as_nobody(&["doctor"]);
    // As attach does: by /proc alone.
    without.succeeded();
    for words in ["MISSING", "CAP_BPF", "work here by /proc alone"] {
        assert!(without.stdout.contains(words), "{without:?}");
    }
    let with = leakprobe(["doctor"]);
    with.succeeded();
    assert!(!with.stdout.contains("MISSING"), "{with:?}");
    let json = leakprobe(["doctor", "--json"]);
    json.succeeded();
    let diagnosis: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&diagnosis["can_attach"], &diagnosis["can_use_bpf"]), (&true.into(), &true.into()));
    assert!(diagnosis["checks"].as_array().is_some_and(|checks| checks.len() > 4));
}

#[test]
fn values_that_mean_nothing_are_wrong_usage() {
    for args in [
        &["attach"][..],
        &["attach", "-p", "0"],
        &["attach", "-p", "-1"],
        &["attach", "-p", "one"],
        &["attach", "-p", "99999999999"],
        &["attach", "-p", "1", "-d", "5"],
        &["attach", "-p", "1", "-d", "0s"],
        &["attach", "-p", "1", "-i", "1us"],
        &["attach", "-p", "1", "--ring-size", "5000"],
        &["attach", "-p", "1", "--probe", "magic"],
        &["attach", "-p", "1", "-o", "x.unknown"],
        &["attach", "-p", "1", "-o", "noextension"],
        &["run"],
        &["report"],
        &["nonsense"],
    ] {
        let ended = leakprobe(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{args:?}: {ended:?}");
    }
}

#[test]
fn a_format_that_does_not_exist_is_found_out_before_any_work() {
    // The process does not exist either, but that would have taken a look.
    leakprobe(["snapshot", "-p", "4194305", "-o", "x.gif"]).failed(2, &["x.gif"]);
    assert!(!Path::new("x.gif").exists());
}
