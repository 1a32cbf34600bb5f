//! Files that are not where their path says: deleted, replaced, in another root, on another file system. And roots whose owner
//! means harm.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use leakprobe::model::{Recording, StackEnd, WaitKind};

use crate::{
    built::{build, cc, run},
    support::{Program, Running, leakprobe_binary, need_root, snapshot, stack_of, wait_for},
};

/// A snapshot by a leakprobe that may not use `/proc/PID/map_files`, and so has to go by paths.
fn snapshot_by_path(pid: u32) -> Recording {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin,-checkpoint_restore"]).arg(leakprobe_binary());
    command.args(["snapshot", "-p", &pid.to_string(), "-m", "0s", "-o", "recording.json"]);
    Running::of(&mut command).recording()
}

fn ready(command: &mut Command) -> Program {
    need_root();
    let mut program = Program::start(command);
    program.expect("ready");
    // Its thread is not parked yet, perhaps.
    let pid = program.pid();
    wait_for("both threads to sleep", || {
        let tids = crate::support::tids(pid);
        let asleep = tids.iter().all(|tid| crate::support::switches(pid, *tid).is_some_and(|(_, state)| state == 'S'));
        (tids.len() == 2 && asleep).then_some(())
    });
    program
}

/// The labels of the parked thread's stack, and why those that have no function have none.
fn parked(recording: &Recording) -> (Vec<String>, StackEnd) {
    let task = recording.tasks.iter().find(|task| task.id != u64::from(recording.target.pid)).unwrap();
    let label = |frame: &leakprobe::model::Frame| match &frame.unknown {
        Some(why) => format!("{} {why}", frame.label()),
        None => frame.function.clone(),
    };
    (stack_of(recording, &task.stack).into_iter().map(label).collect(), task.stack_end)
}

#[track_caller]
fn is_whole(recording: &Recording) {
    let (frames, end) = parked(recording);
    let at = frames.iter().position(|name| name == "waits_for_ever");
    let at = at.unwrap_or_else(|| panic!("{frames:#?}"));
    assert_eq!(frames[at + 1], "run", "{frames:#?}");
    assert_eq!(end, StackEnd::Complete, "{frames:#?}");
}

#[test]
fn a_file_that_was_deleted_or_replaced_is_read_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = cc("parked.c", &directory.path().join("parked"), &[]);
    let program = ready(&mut Command::new(&path));
    is_whole(&snapshot(program.pid()));
    fs::remove_file(&path).unwrap();
    is_whole(&snapshot(program.pid()));
    // As a package upgrade does it. The new file's functions lie elsewhere.
    cc("loader.c", &path, &[]);
    let recording = snapshot(program.pid());
    is_whole(&recording);
    assert!(recording.frames.iter().any(|frame| frame.module.ends_with("/parked (deleted)")), "{:?}", recording.frames);
    // Who may not follow map_files says that it is another file, and does not take names from it.
    let (frames, _) = parked(&snapshot_by_path(program.pid()));
    let why = "module could not be read: the file was replaced since it was mapped";
    assert!(frames.iter().any(|frame| frame.contains(why)), "{frames:#?}");
}

#[test]
fn an_overlay_in_a_mount_namespace_of_its_own_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("lower");
    cc("parked.c", &below.join("parked"), &[]);
    let place = directory.path().display();
    // A file system of its own, since an overlay cannot have one for its upper layer.
    let script = format!(
        "mount -t tmpfs none {place}/mnt && mkdir {place}/mnt/upper {place}/mnt/work {place}/mnt/merged && \
         mount -t overlay overlay -o lowerdir={place}/lower,upperdir={place}/mnt/upper,workdir={place}/mnt/work \
         {place}/mnt/merged && exec {place}/mnt/merged/parked"
    );
    fs::create_dir(directory.path().join("mnt")).unwrap();
    let program = ready(Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &script]));
    is_whole(&snapshot(program.pid()));
    is_whole(&snapshot_by_path(program.pid()));
}

fn chroot(root: &Path, program: &str) -> Program {
    ready(Command::new("chroot").arg(root).arg(program))
}

#[test]
fn musl_programs_in_a_root_of_their_own_are_read() {
    let root = tempfile::tempdir().unwrap();
    for (name, flags) in [("static", &["-static", "-g"][..]), ("dynamic", &["-g"])] {
        build("musl-gcc", "parked.c", &root.path().join("bin").join(name), flags);
        let flags = [flags, &["-DWITHOUT_LIBC"]].concat();
        build("musl-gcc", "parked.c", &root.path().join("bin").join(format!("{name}-alone")), &flags);
    }
    let loader = fs::canonicalize("/lib/ld-musl-x86_64.so.1").unwrap();
    fs::create_dir(root.path().join("lib")).unwrap();
    fs::copy(loader, root.path().join("lib/ld-musl-x86_64.so.1")).unwrap();
    for name in ["/bin/static", "/bin/dynamic"] {
        let alone = chroot(root.path(), &format!("{name}-alone"));
        let program = chroot(root.path(), name);
        for snapshot in [snapshot, snapshot_by_path] {
            let (frames, _) = parked(&snapshot(alone.pid()));
            assert_eq!(frames[..2], ["waits_for_ever", "run"], "{frames:#?}");
            // musl is built without unwind information, so that a stack ends in its innermost functions, as it does for
            // eu-stack. That has to be said.
            let recording = snapshot(program.pid());
            let (frames, end) = parked(&recording);
            assert_eq!(end, StackEnd::NoUnwindInfo, "{frames:#?}");
            let why = "between symbols: the file is stripped of local symbols";
            assert!(frames[0] == "sccp" || frames[0].contains(why), "{frames:#?}");
            let thread = recording.tasks.iter().find(|task| task.id != u64::from(program.pid())).unwrap();
            assert_eq!(thread.wait.as_ref().unwrap().kind, WaitKind::Futex);
        }
    }
}

/// A program in a mount namespace whose root is `root`, as container runtimes make it: not even the kernel tells its paths as
/// we would see them.
fn contained(root: &Path, program: &str) -> Program {
    let place = root.display();
    fs::create_dir_all(root.join("old")).unwrap();
    let script = format!("mount --bind {place} {place} && cd {place} && pivot_root . old && exec ./{program}");
    ready(Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &script]))
}

/// Puts something where the program's file was, and looks: by path, since `map_files` leads to the file itself.
fn hostile(make: impl FnOnce(&Path, &Path)) -> Vec<String> {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    let path = build("cc", "parked.c", &root.join("parked"), &["-static"]);
    let program = contained(&root, "parked");
    is_whole(&snapshot_by_path(program.pid()));
    let secret = outside.path().join("secret");
    // Not moved, of which the kernel would tell.
    fs::copy(&path, &secret).unwrap();
    fs::remove_file(&path).unwrap();
    make(&path, &secret);
    is_whole(&snapshot(program.pid()));
    parked(&snapshot_by_path(program.pid())).0
}

#[track_caller]
fn says(frames: &[String], why: &str) {
    assert!(!frames.is_empty() && frames.iter().all(|frame| frame.contains(why)), "no '{why}' in {frames:#?}");
}

#[test]
fn a_fifo_or_a_device_in_place_of_a_file_is_not_opened() {
    let fifo = |path: &Path, _: &Path| run(Command::new("mkfifo").arg(path));
    says(&hostile(fifo), "it is not a regular file");
    let device = |path: &Path, _: &Path| run(Command::new("mknod").arg(path).args(["c", "1", "5"]));
    says(&hostile(device), "it is not a regular file");
}

#[test]
fn a_link_out_of_the_root_is_not_followed() {
    // It is the very file, so that its names would be true; but what is outside is not the process's.
    let away = |path: &Path, secret: &Path| symlink(secret, path).unwrap();
    says(&hostile(away), "No such file or directory");
    let up = |path: &Path, _: &Path| symlink("../../../../../../secret", path).unwrap();
    says(&hostile(up), "No such file or directory");
    let inside = |path: &Path, secret: &Path| {
        fs::copy(secret, path.with_file_name("moved")).unwrap();
        symlink("/moved", path).unwrap();
    };
    let frames = hostile(inside);
    assert!(frames.iter().any(|name| name == "waits_for_ever"), "a link within the root is: {frames:#?}");
}

#[test]
fn a_root_in_our_own_mount_namespace_is_one_that_no_link_leads_out_of() {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    let path = build("cc", "parked.c", &root.join("parked"), &["-static"]);
    let program = chroot(&root, "/parked");
    is_whole(&snapshot_by_path(program.pid()));
    fs::copy(&path, outside.path().join("secret")).unwrap();
    fs::remove_file(&path).unwrap();
    symlink(outside.path().join("secret"), &path).unwrap();
    says(&parked(&snapshot_by_path(program.pid())).0, "Too many levels of symbolic links");
}

#[test]
fn debug_files_of_a_container_are_its_own() {
    let root = tempfile::tempdir().unwrap();
    let path = build(
        "cc",
        "parked.c",
        &root.path().join("parked"),
        &["-static", "-g", "-Wl,--build-id=0x00112233445566778899"],
    );
    let place: PathBuf = root.path().join("usr/lib/debug/.build-id/00");
    fs::create_dir_all(&place).unwrap();
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&path).arg(place.join("112233445566778899.debug")));
    run(Command::new("strip").arg(&path));
    let program = chroot(root.path(), "/parked");
    let recording = snapshot(program.pid());
    is_whole(&recording);
    let frame = recording.frames.iter().find(|frame| frame.function == "waits_for_ever").unwrap();
    assert!(frame.file.as_deref().is_some_and(|file| file.ends_with("parked.c")) && frame.line.is_some(), "{frame:?}");
}
