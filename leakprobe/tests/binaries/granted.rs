//! leakprobe with file capabilities reads no file that its caller may not read, by whatever name of the target's it gets there.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use caps::Capability;
use tempfile::TempDir;

use crate::{
    built::{build, run},
    support::{
        CALLER, Program, Variant, by_caller, granted, leakprobe, need_root, of_readme, open_copy, open_folder,
        program_path, settle,
    },
};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn built(folder: &TempDir) -> PathBuf {
    let path = build("cc", "parked.c", &folder.path().join("parked"), &["-static", "-g"]);
    set_mode(&path, 0o755);
    path
}

fn started(command: &mut Command) -> Program {
    let mut program = Program::start(command.uid(CALLER).gid(CALLER));
    program.expect("ready");
    settle(program.pid());
    program
}

/// What `file` says is seen by root, and by a user who was granted `capabilities` only if everybody may read that file.
fn is_read_as_its_mode_says(program: &Program, file: &Path, says: &str, capabilities: &[Capability]) {
    let folder = open_folder();
    let ours = granted(capabilities, &folder).unwrap();
    let pid = program.pid().to_string();
    let args = ["snapshot", "-m", "0s", "--json", "-p", &pid];
    let seen = [0o600, 0o644].map(|mode| {
        set_mode(file, mode);
        let shows = [by_caller(&ours, &args), leakprobe(args)].map(|ended| ended.succeeded().stdout.contains(says));
        (shows[0], shows[1])
    });
    assert_eq!(seen, [(false, true), (true, true)], "{}", file.display());
}

#[test]
fn a_debug_file() {
    need_root();
    let folder = open_folder();
    let path = built(&folder);
    let debug = folder.path().join("parked.debug");
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&path).arg(&debug));
    run(Command::new("strip").arg(&path));
    run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", debug.display())).arg(&path));
    let program = started(&mut Command::new(&path));
    is_read_as_its_mode_says(&program, &debug, "waits_for_ever", &of_readme());
}

#[test]
fn a_mapped_file_that_is_opened_by_its_path() {
    need_root();
    let folder = open_folder();
    let path = built(&folder);
    let program = started(&mut Command::new(&path));
    let by_path: Vec<Capability> =
        of_readme().into_iter().filter(|it| *it != Capability::CAP_CHECKPOINT_RESTORE).collect();
    is_read_as_its_mode_says(&program, &path, "waits_for_ever", &by_path);
}

#[test]
fn a_perf_map_that_is_mounted_from_elsewhere() {
    need_root();
    let folder = open_folder();
    let copy = open_copy(&program_path("jit", Variant::Static), &folder);
    let secret = folder.path().join("secret");
    fs::write(&secret, "1000 7ffffffff000 swordfish\n").unwrap();
    let script = format!(
        "map=/tmp/perf-$$.map; touch $map && mount --bind {} $map && exec setpriv --reuid={CALLER} --regid={CALLER} --clear-groups {}",
        secret.display(),
        copy.display()
    );
    let mut program =
        Program::start(Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &script]));
    program.expect("ready");
    settle(program.pid());
    let map = PathBuf::from(format!("/tmp/perf-{}.map", program.pid()));
    is_read_as_its_mode_says(&program, &secret, "swordfish", &of_readme());
    fs::remove_file(map).unwrap();
}
