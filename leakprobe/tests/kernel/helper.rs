//! The process that reads debug information.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use leakprobe::model::Recording;

use crate::support::{
    Program, Running, Variant, attach, children_of, need_root, open_copy, open_folder, proc_status, program_path,
    snapshot, wait_for,
};

const OF_HELPER: &str = "debuginfo";

/// A program, a leakprobe that watches it, and the helper that this has started.
fn watched() -> (Program, Running, u32) {
    need_root();
    let program = Program::ready(PROGRAM, Variant::Pie);
    let leakprobe = attach(&program, &[]);
    let is_helper = |pid: &u32| proc_status(*pid, "Name").as_deref() == Some(OF_HELPER);
    let helper =
        wait_for("the reader of debug information", || children_of(leakprobe.pid()).into_iter().find(is_helper));
    (program, leakprobe, helper)
}

/// A program with debug information: that of Rust's own library, which is linked into it.
const PROGRAM: &str = "rust_threads";

/// Whether a frame of the program itself has its source line.
fn has_lines(recording: &Recording) -> bool {
    recording.frames.iter().any(|frame| frame.line.is_some() && frame.module_name().starts_with(PROGRAM))
}

#[test]
fn debug_information_is_read_by_a_process_without_any_privilege() {
    let (_program, leakprobe, helper) = watched();
    // It enters its sandbox as soon as it runs.
    let status = |key: &str| proc_status(helper, key).unwrap();
    wait_for("its sandbox", || (u64::from_str_radix(&status("CapPrm"), 16) == Ok(0)).then_some(()));
    assert_eq!(status("NoNewPrivs"), "1");
    for ids in ["Uid", "Gid"] {
        assert_eq!(status(ids).split_whitespace().collect::<Vec<_>>(), ["65534"; 4], "{ids}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status(set), 16), Ok(0), "{set}");
    }
    assert_eq!(status("Groups"), "");
    assert!(has_lines(&leakprobe.stop()));
    assert!(!Path::new(&format!("/proc/{helper}")).exists(), "it is still there");
}

#[test]
fn a_reader_that_is_killed_costs_no_report() {
    let (_program, leakprobe, helper) = watched();
    // SAFETY: two integers; the helper is waited for by leakprobe alone, which does so when it stops.
    assert_eq!(unsafe { libc::kill(helper as i32, libc::SIGBUS) }, 0);
    let recording = leakprobe.stop();
    assert!(recording.tasks.len() > 1, "{recording:?}");
}

#[test]
fn debug_information_that_only_root_may_read_is_read() {
    need_root();
    let folder = open_folder();
    let copy = open_copy(&program_path(PROGRAM, Variant::Pie), &folder);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700)).unwrap();
    let program = Program::ready_at(&copy);
    assert!(has_lines(&snapshot(program.pid())));
}
