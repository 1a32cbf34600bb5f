//! What others may prepare for leakprobe when it runs as root, and limits that it may be started with: nothing of others is written,
//! nothing is waited for without end, nothing is left behind.

use std::{
    fs,
    io::Write,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use leakprobe::model::Recording;
use nix::{
    sys::stat::{Mode, SFlag, mknod},
    unistd::mkfifo,
};

use crate::support::{
    Ended, NOBODY, Program, Running, Variant, children_of, leakprobe, leakprobe_binary, need_root, proc_status, settle,
    wait_for,
};

fn parked() -> (Program, String) {
    need_root();
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let pid = program.pid().to_string();
    (program, pid)
}

/// `attach` for a moment, by a user who called sudo, in a directory where `plant` has put something under the default name.
fn attach_where(pid: &str, caller: Option<u32>, plant: impl FnOnce(&Path)) -> Ended {
    let mut command = Command::new("/bin/sh");
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    plant(&folder.path().join(format!("leakprobe-{pid}.svg")));
    let script =
        format!("cd {} && exec {} attach -d 300ms -p {pid}", folder.path().display(), leakprobe_binary().display());
    command.args(["-c", &script]);
    if let Some(caller) = caller {
        command.env("SUDO_UID", caller.to_string()).env("SUDO_GID", caller.to_string());
    }
    let mut ended = Running::of(&mut command).end();
    ended.directory = folder;
    ended
}

#[test]
fn what_is_planted_under_the_default_name_is_replaced_or_left_alone() {
    let (_program, pid) = parked();
    let name = format!("leakprobe-{pid}.svg");
    let victims = tempfile::tempdir().unwrap();
    let (victim, disk) = (victims.path().join("victim"), victims.path().join("disk"));
    fs::write(&victim, "old").unwrap();
    // ram0: should there be such a disk, nothing is on it.
    mknod(&disk, SFlag::S_IFBLK, Mode::S_IRWXU, libc::makedev(1, 0)).unwrap();
    for target in [victim.as_path(), &disk, Path::new("/dev/null"), Path::new("/dev/shm/none")] {
        let ended = attach_where(&pid, Some(NOBODY), |path| symlink(target, path).unwrap());
        let path = ended.succeeded().directory.path().join(&name);
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{}: {ended:?}", target.display());
        assert!(fs::read_to_string(&path).unwrap().contains("<svg"));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "old");
    assert!(!Path::new("/dev/shm/none").exists());
    let ended = attach_where(&pid, Some(NOBODY), |path| mkfifo(path, Mode::S_IRWXU).unwrap());
    assert!(ended.succeeded().stderr.contains("not a regular file"), "{ended:?}");
    assert!(fs::metadata(ended.directory.path().join(&name)).unwrap().file_type().is_fifo());
    assert!(ended.stdout.contains("park"), "{ended:?}");
}

#[test]
fn a_device_or_fifo_that_was_named_is_written_only_if_that_is_safe() {
    let (_program, pid) = parked();
    let folder = tempfile::tempdir().unwrap();
    let (disk, fifo) = (folder.path().join("disk.svg"), folder.path().join("fifo.svg"));
    mknod(&disk, SFlag::S_IFBLK, Mode::S_IRWXU, libc::makedev(1, 0)).unwrap();
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let to = |path: &Path| leakprobe(["snapshot", "-q", "--no-debuginfo", "-p", &pid, "-o", path.to_str().unwrap()]);
    to(&disk).failed(2, &["disk.svg", "it is a block device"]);
    to(&fifo).failed(3, &["fifo.svg", "it is a FIFO that has no reader"]);
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || fs::read_to_string(fifo).unwrap()
    });
    // A reader that has the FIFO open is what is needed.
    wait_for("the reader to be there", || Some(to(&fifo)).filter(|ended| ended.code == Some(0)));
    assert!(reader.join().unwrap().contains("</svg>"));
}

#[test]
fn a_link_in_dev_shm_is_not_written_through() {
    let (_program, pid) = parked();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let victim = tempfile::tempdir().unwrap();
    let (link, directory) = (folder.path().join("a.svg"), folder.path().join("out"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(victim.path().join("file"), "old").unwrap();
    symlink(victim.path().join("file"), &link).unwrap();
    symlink(victim.path(), &directory).unwrap();
    std::os::unix::fs::lchown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    leakprobe(["snapshot", "-q", "-p", &pid, "-o", link.to_str().unwrap()]).succeeded();
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
    assert_eq!(fs::read_to_string(victim.path().join("file")).unwrap(), "old");
    let through = directory.join("b.svg");
    leakprobe(["snapshot", "-q", "-p", &pid, "-o", through.to_str().unwrap()]).failed(2, &["a link of user 65534"]);
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 1);
}

#[test]
fn the_default_name_is_not_written_where_the_caller_may_not() {
    let (_program, pid) = parked();
    let closed = |caller| {
        attach_where(&pid, caller, |path| {
            fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        })
    };
    let ended = closed(Some(NOBODY));
    assert!(ended.succeeded().stderr.contains("user 65534 may not write") && ended.stderr.contains("-o"), "{ended:?}");
    assert_eq!(fs::read_dir(ended.directory.path()).unwrap().count(), 0);
    let ended = closed(None);
    assert_eq!(fs::read_dir(ended.succeeded().directory.path()).unwrap().count(), 1);
}

/// A recording, changed by `change`, in a directory of its own.
fn recording(change: impl FnOnce(&mut Recording)) -> tempfile::TempDir {
    let (program, pid) = parked();
    let text = leakprobe(["snapshot", "-p", &pid, "--json", "-m", "0s"]).succeeded().stdout.clone();
    drop(program);
    let mut recording: Recording = serde_json::from_str(&text).unwrap();
    change(&mut recording);
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("a.json")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    serde_json::to_writer(&mut file, &recording).unwrap();
    file.flush().unwrap();
    folder
}

#[test]
fn nothing_is_left_behind_by_a_signal_or_a_limit() {
    let folder = recording(|recording| {
        let tasks = recording.tasks.clone();
        for _ in 0..100 {
            recording.tasks.extend(tasks.iter().cloned());
        }
    });
    let (input, output) = (folder.path().join("a.json"), folder.path().join("out"));
    fs::create_dir(&output).unwrap();
    let output_file = output.join("x.json");
    let report =
        || Command::new(leakprobe_binary()).args(["report", "-q"]).arg(&input).arg("-o").arg(&output_file).spawn();
    for (place, signal) in
        [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].into_iter().cycle().take(20).enumerate()
    {
        let mut child = report().unwrap();
        thread::sleep(Duration::from_millis(10 * place as u64));
        // SAFETY: two integers; the child has not been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        child.wait().unwrap();
        let left: Vec<_> = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "x.json"), "{left:?} after signal {signal}");
    }
    let _ = fs::remove_file(&output_file);
    let script = format!(
        "ulimit -f 8; exec {} report -q {} -o {}",
        leakprobe_binary().display(),
        input.display(),
        output_file.display()
    );
    Running::of(Command::new("/bin/sh").args(["-c", &script])).end().failed(3, &["x.json", "RLIMIT_FSIZE"]);
    assert_eq!(fs::read_dir(&output).unwrap().count(), 0);
}

#[test]
fn a_recording_takes_no_more_memory_than_its_size_allows() {
    const FRAMES: usize = 400_000;
    let folder = recording(|recording| {
        let frame = recording.frames[0].clone();
        let frames = (0..FRAMES).map(|number| {
            let mut frame = frame.clone();
            frame.function = format!("some::module::function_{number}");
            frame
        });
        recording.frames.extend(frames);
    });
    let file = folder.path().join("a.json");
    let bytes = fs::metadata(&file).unwrap().len();
    let running = Running::start(["report", "-q", file.to_str().unwrap(), "-o", "x.svg"]);
    // Not by getrusage: it counts from before exec, and this test process is large.
    let peak_kb = || proc_status(running.pid(), "VmHWM")?.trim_end_matches("kB").trim().parse::<u64>().ok();
    let mut most = 0;
    while let Some(peak) = peak_kb() {
        most = peak * 1024;
        thread::sleep(Duration::from_millis(2));
    }
    running.end().succeeded();
    assert!(most > bytes / 10, "it was not seen how much it took: {most}");
    assert!(most < 3 * bytes + (150 << 20), "{most} bytes of memory for {bytes} bytes");
    fs::write(&file, format!("{{\"schema\":\"leakprobe/1\",\"frames\":[{}", "{},".repeat(8 << 20))).unwrap();
    leakprobe(["report", file.to_str().unwrap()]).failed(2, &["a.json", "memory for each byte"]);
    fs::write(&file, format!("{{\"schema\":\"leakprobe/1\",\"started\":\"{}\"", "x".repeat(30 << 20))).unwrap();
    leakprobe(["report", file.to_str().unwrap()]).failed(2, &["a.json", "longer than 1 MiB"]);
    for path in ["/dev/zero", "/dev/tty"] {
        leakprobe(["report", path]).failed(2, &[path, "not a regular file"]);
    }
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    leakprobe(["report", fifo.to_str().unwrap()]).failed(2, &["not a regular file"]);
    leakprobe(["diff", fifo.to_str().unwrap(), "/dev/zero"]).failed(2, &["not a regular file"]);
}

#[test]
fn what_a_check_has_started_ends_with_it_however_that_ends() {
    need_root();
    for signal in [libc::SIGKILL, libc::SIGQUIT] {
        let running = Running::start([
            "ci",
            "--exec",
            "sleep 300",
            "-i",
            "100ms",
            "--settle",
            "100ms",
            "--warmup",
            "0",
            "--",
            "sh",
            "-c",
            "printf x > phase; exec sleep 300",
        ]);
        let phase = running.directory().join("phase");
        wait_for("the load to run", || phase.exists().then_some(()));
        // And perhaps the reader of debug information.
        let started = children_of(running.pid());
        assert!((2..=3).contains(&started.len()), "the server and the load");
        running.kill(signal);
        assert_eq!(running.end().code, None);
        for pid in started {
            wait_for("all to end", || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
        }
    }
}

#[test]
fn too_few_descriptors_are_said_in_one_sentence() {
    let (_program, pid) = parked();
    let folder = recording(|_| {});
    let file = folder.path().join("a.json").display().to_string();
    let commands = [
        vec!["snapshot", "-q", "--no-debuginfo", "-p", &pid],
        vec!["attach", "-q", "--no-debuginfo", "-d", "100ms", "-p", &pid],
        vec![
            "ci",
            "-q",
            "--no-debuginfo",
            "-p",
            &pid,
            "--rounds",
            "1",
            "--settle",
            "100ms",
            "-i",
            "50ms",
            "--",
            "true",
        ],
        vec!["report", "-q", &file, "-o", "x.svg"],
    ];
    for limit in [4, 6, 9, 12, 16, 28, 40, 42, 51, 54, 64] {
        for command in &commands {
            let mut leakprobe = Command::new("/bin/sh");
            let script = format!("ulimit -n {limit}; exec {} \"$@\"", leakprobe_binary().display());
            leakprobe.args(["-c", &script, "sh"]).args(command);
            let ended = Running::of(&mut leakprobe).end();
            assert!(
                ended.code.is_some_and(|code| code < 100) && !ended.stderr.contains("panicked"),
                "{limit}: {ended:?}"
            );
            if ended.code != Some(0) {
                ended.failed(3, &["RLIMIT_NOFILE", &limit.to_string()]);
            }
        }
    }
    // What may be raised is raised, and what is started has what we were started with.
    let script = format!("ulimit -Sn 16; exec {} run -q -- sh -c 'ulimit -n > limit'", leakprobe_binary().display());
    let ended = Running::of(Command::new("/bin/sh").args(["-c", &script])).end();
    assert_eq!(fs::read_to_string(ended.succeeded().directory.path().join("limit")).unwrap().trim(), "16");
}
