//! What leakprobe may do while it works, and what it has given up.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::PathBuf,
    process::Command,
};

use caps::{CapSet, Capability};
use leakprobe::model::{Recording, Source};

use crate::support::{
    CALLER, Ended, Program, Running, Variant, attach, by_caller, children_of, granted, leakprobe_binary,
    many_of_nobody, mask, need_root, of_readme, open_copy, open_folder, proc_status, program_path, recorded, settle,
    wait_for,
};

/// What reading a process takes.
const READ: [Capability; 5] = [
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_CHECKPOINT_RESTORE,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
];
/// What else is left to root for single calls, outputs and helpers.
const LEFT: [Capability; 8] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYSLOG,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_KILL,
];
/// What a process may do, in `/proc/PID/status`.
const RIGHTS: [&str; 6] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"];

fn rights(id: u32) -> BTreeMap<&'static str, u64> {
    RIGHTS.into_iter().map(|key| (key, u64::from_str_radix(&proc_status(id, key).unwrap(), 16).unwrap())).collect()
}

/// Whether the machine's table of open files is far from full.
fn has_room_for_files() -> bool {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers[0] < numbers[2] / 2
}

#[test]
fn who_attaches_gives_up_what_that_does_not_take() {
    let program = Program::ready("many", Variant::Pie);
    let own = rights(std::process::id())["CapPrm"];
    let admin = mask(&[Capability::CAP_SYS_ADMIN]);
    // It keeps this one where it begins while another test has filled the machine's table of open files.
    let mut begun = (0..20).map(|_| {
        wait_for("room for files", || has_room_for_files().then_some(()));
        attach(&program, &["--probe", "futex"])
    });
    let leakprobe = begun.find(|leakprobe| rights(leakprobe.pid())["CapEff"] & admin == 0).unwrap();
    let read = mask(&READ) & own;
    for thread in crate::support::tids(leakprobe.pid()) {
        // One more is raised for as long as a look takes, if that table is full.
        wait_for("few rights", || (rights(thread as u32)["CapEff"] == read).then_some(()));
        let rights = rights(thread as u32);
        assert_eq!(rights["CapPrm"], (mask(&READ) | mask(&LEFT)) & own, "{rights:x?}");
        assert_eq!(rights["CapBnd"] & !rights["CapPrm"], 0, "{rights:x?}");
        assert_eq!((rights["CapInh"], rights["CapAmb"], rights["NoNewPrivs"]), (0, 0, 1), "{rights:x?}");
    }
    assert!(leakprobe.stop().coverage.sources.contains(&Source::FutexWaits));
}

#[test]
fn programs_that_are_started_may_do_what_they_could_without_leakprobe() {
    need_root();
    let usual = Program::start(Command::new("sleep").arg("300"));
    let usual = rights(usual.pid());
    let own = usual["CapPrm"];
    let begun = |leakprobe: u32, count: usize| {
        wait_for("programs to begin", || {
            let begun = |pid: &u32| proc_status(*pid, "Name").as_deref() == Some("sleep");
            let begun: Vec<u32> = children_of(leakprobe).into_iter().filter(begun).collect();
            (begun.len() == count).then_some(begun)
        })
    };
    let run = Running::record(&["run", "--", "sleep", "300"]);
    let ci = ["ci", "--exec", "sleep 300", "--settle", "200ms", "-i", "100ms", "--rounds", "1", "--", "sleep", "300"];
    let ci = Running::start(ci);
    let mut programs = Vec::new();
    for (leakprobe, count) in [(&run, 1), (&ci, 2)] {
        for program in begun(leakprobe.pid(), count) {
            assert_eq!(rights(program), usual);
            programs.push(program);
        }
        let few = (mask(&READ) | mask(&[Capability::CAP_KILL])) & own;
        // The caller's rights are in force until the call has returned that started the program.
        wait_for("few rights again", || (rights(leakprobe.pid())["CapEff"] == few).then_some(()));
    }
    for program in programs {
        // SAFETY: two integers; it runs for five minutes.
        unsafe { libc::kill(program as i32, libc::SIGKILL) };
    }
}

#[test]
fn root_of_a_container_reads_what_may_do_as_little_as_itself() {
    need_root();
    let lesser = |command: &mut Command| {
        // SAFETY: the closure makes one system call; it allocates nothing if that succeeds.
        unsafe {
            command.pre_exec(|| {
                caps::drop(None, CapSet::Bounding, Capability::CAP_SYS_PTRACE).map_err(std::io::Error::other)
            });
        }
    };
    let mut command = Command::new(program_path("many", Variant::Static));
    lesser(&mut command);
    let mut program = Program::start(&mut command);
    program.expect("ready");
    settle(program.pid());
    let mut command = Command::new(leakprobe_binary());
    command.args(["snapshot", "-m", "0s", "--json", "-p", &program.pid().to_string()]);
    lesser(&mut command);
    let recording = recorded(&Running::of(&mut command).end());
    assert_eq!((recording.tasks.len(), recording.coverage.stacks_complete), (101, 101), "{:?}", recording.coverage);
}

#[test]
fn what_readme_grants_suffices_for_programs_of_others_that_were_deleted() {
    need_root();
    let (program, folder) = many_of_nobody();
    let pid = program.pid().to_string();
    fs::remove_file(folder.path().join("many-static")).unwrap();
    let snapshot = |capabilities: &[Capability]| -> Option<Recording> {
        let folder = open_folder();
        let ours = granted(capabilities, &folder)?;
        Some(recorded(&by_caller(&ours, &["snapshot", "-m", "0s", "--json", "-p", &pid])))
    };
    let all = of_readme();
    let Some(recording) = snapshot(&all) else { return };
    assert!(recording.coverage.sources.iter().all(|source| *source == Source::Snapshots), "{:?}", recording.coverage);
    assert_eq!((recording.tasks.len(), recording.coverage.stacks_complete), (101, 101), "{:?}", recording.coverage);
    assert!(recording.frames.iter().any(|frame| frame.function == "park"), "{:?}", recording.frames);
    // Without one of them that file is lost, and what is lacking is named.
    for lacking in ["CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH"] {
        let less: Vec<Capability> = all.iter().copied().filter(|it| it.to_string() != lacking).collect();
        let recording = snapshot(&less).unwrap();
        assert!(!recording.frames.iter().any(|frame| frame.function == "park"), "{lacking}: {:?}", recording.frames);
        let text = serde_json::to_string(&recording).unwrap();
        assert!(text.contains(&format!("grant {lacking}")), "{text}");
        assert!(!text.contains("grant CAP_SYS_PTRACE"), "{text}");
    }
}

#[test]
fn who_was_granted_capabilities_reads_and_writes_files_with_their_own_rights() {
    need_root();
    let (program, folder) = many_of_nobody();
    let Some(ours) = granted(&of_readme(), &folder) else { return };
    let secret = folder.path().join("secret");
    fs::write(&secret, "swordfish").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::copy(program_path("many", Variant::Static), closed.join("many")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let (pid, secret) = (program.pid().to_string(), secret.to_str().unwrap());
    let closed = closed.join("many");
    let closed = closed.to_str().unwrap();
    let is_refused = |args: &[&str], words: &str| {
        let ended = by_caller(&ours, args);
        ended.failed(2, &[words]);
        assert!(!ended.stderr.contains("swordfish"), "{ended:?}");
    };
    is_refused(&["report", secret], "not permitted");
    is_refused(&["diff", secret, secret], "not permitted");
    is_refused(&["ci", "-p", &pid, "--config", secret, "--", "true"], "denied");
    is_refused(&["ci", "-p", &pid, "--baseline", secret, "--", "true"], "not permitted");
    is_refused(&["snapshot", "-p", &pid, "-o", &format!("{closed}.json")], "not permitted");
    // The helper that copies files is as open to them as all of leakprobe, but is given no rights by them.
    let it = fs::metadata(secret).unwrap();
    let place = [u64::from(std::process::id()), 0, 4096, 0, it.ino(), 1 << 20];
    let device = [libc::major(it.dev()), libc::minor(it.dev())].map(u64::from);
    let place: Vec<String> = place.into_iter().chain(device).map(|number| number.to_string()).collect();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    let copied = by_caller(&ours, &[&["copy-mapped"][..], &place, &[secret]].concat());
    assert_ne!(copied.code, Some(0), "{copied:?}");
    assert!(!copied.stdout.contains("swordfish"), "{copied:?}");
    is_refused(&["run", "-q", "--", closed], "denied");
    // Of root, and open to all for reading.
    let readable = open_folder();
    let output = readable.path().join("a.json").display().to_string();
    is_refused(&["attach", "-p", &pid, "-o", &output], "not permitted to write");
    let artifacts = readable.path().display().to_string();
    is_refused(&["ci", "-p", &pid, "--artifacts", &artifacts, "--", "true"], "denied");
}

#[test]
fn who_was_granted_capabilities_has_them_for_looking_at_processes_alone() {
    need_root();
    let (program, folder) = many_of_nobody();
    let all = of_readme();
    let Some(ours) = granted(&all, &folder) else { return };
    let mut command = Command::new(&ours);
    command.args(["attach", "-q", "-i", "50ms", "-m", "1h", "--json", "-p", &program.pid().to_string()]);
    let mut leakprobe = Running::of(command.uid(CALLER).gid(CALLER));
    leakprobe.attached();
    let rights = rights(leakprobe.pid());
    assert_eq!((rights["CapEff"], rights["CapPrm"]), (mask(&all), mask(&all)), "{rights:x?}");
    assert_eq!((rights["CapInh"], rights["CapAmb"], rights["NoNewPrivs"]), (0, 0, 1), "{rights:x?}");
    leakprobe.kill(libc::SIGINT);
    let recording = recorded(&leakprobe.end());
    assert_eq!((recording.tasks.len(), recording.coverage.stacks_complete), (101, 101), "{:?}", recording.coverage);
}

#[test]
fn what_lies_where_a_perf_map_would_is_read_with_the_rights_of_the_caller() {
    need_root();
    let folder = open_folder();
    let copy = open_copy(&program_path("jit", Variant::Static), &folder);
    let mut program = Program::start(Command::new(&copy).uid(CALLER).gid(CALLER));
    program.expect("ready");
    settle(program.pid());
    let Some(ours) = granted(&of_readme(), &folder) else { return };
    let pid = program.pid().to_string();
    let map = PathBuf::from(format!("/tmp/perf-{pid}.map"));
    fs::write(&map, "1000 7ffffffff000 swordfish\n").unwrap();
    let args = ["snapshot", "-m", "0s", "--json", "-p", &pid];
    let shows = |ended: &Ended| ended.succeeded().stdout.contains("swordfish");
    let seen = [0o600, 0o644].map(|mode| {
        fs::set_permissions(&map, fs::Permissions::from_mode(mode)).unwrap();
        (shows(&by_caller(&ours, &args)), shows(&Running::of(Command::new(leakprobe_binary()).args(args)).end()))
    });
    fs::remove_file(&map).unwrap();
    assert_eq!(seen, [(false, true), (true, true)]);
}
