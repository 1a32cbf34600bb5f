//! Processes in other places: a pid namespace of their own, a control group, a container; and leakprobe with part of its privileges.

use std::{fs, io, os::unix::process::CommandExt, path::Path, process::Command};

use leakprobe::model::{Recording, Source};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::support::{
    Ended, NOBODY, Program, Running, Variant, children_of, leakprobe, leakprobe_binary, many_of_nobody, need_root,
    open_copy, proc_status, program_path, record, settle, wait_for,
};

/// A user who is not nobody.
const SOMEBODY: u32 = 65_533;
const SYS_PTRACE: u32 = 19;
const DAC_READ_SEARCH: u32 = 2;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// Lets the command run in a new pid namespace: its children are in there.
pub(crate) fn in_new_pid_namespace(command: &mut Command) -> &mut Command {
    let unshare = || Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID)?);
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(unshare) }
}

#[test]
fn threads_in_another_pid_namespace_are_shown_with_both_ids() {
    need_root();
    let path = program_path("many", Variant::Static);
    // The shell stays outside; the first program that it starts is the first process inside.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "\"$0\"; exit 0"]).arg(&path);
    let mut outside = Program::start(in_new_pid_namespace(&mut command));
    outside.expect("ready");
    let pid = wait_for("the program inside", || children_of(outside.pid()).first().copied());
    settle(pid);
    for probe in ["snapshot", "proc"] {
        let recording = record(&["snapshot", "-m", "0s", "--probe", probe, "-p", &pid.to_string()]);
        assert_eq!((recording.target.pid, recording.target.ns_pid), (pid, Some(1)));
        assert_eq!(recording.tasks.len(), 101);
        for task in &recording.tasks {
            let ids = proc_status(task.id as u32, "NSpid").unwrap();
            let inside = ids.split_whitespace().last().unwrap().parse::<u64>().unwrap();
            assert_eq!(task.ns_id, Some(inside), "{ids}");
        }
    }
    let text = leakprobe(["snapshot", "-m", "0s", "-p", &pid.to_string()]);
    text.succeeded();
    assert!(text.stdout.contains(&format!("(pid {pid}, 1 in its namespace)")), "{text:?}");
    assert!(text.stdout.contains(" inside)"), "{text:?}");
    outside.kill(libc::SIGKILL);
    // SAFETY: two integers; it is the first process of its namespace, and has not been waited for by the one that was killed.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

#[test]
fn in_our_own_pid_namespace_nothing_is_said_of_it() {
    let program = Program::ready("many", Variant::Pie);
    let recording = record(&["snapshot", "-m", "0s", "-p", &program.pid().to_string()]);
    assert!(recording.target.ns_pid.is_none() && recording.tasks.iter().all(|task| task.ns_id.is_none()));
}

/// A control group of version 2, in a mount of our own. Gone with the test.
struct Group {
    mounted: TempDir,
    path: String,
}

impl Group {
    fn new(path: String) -> Self {
        need_root();
        let mounted = tempfile::tempdir().unwrap();
        mount(Some("none"), mounted.path(), Some("cgroup2"), MsFlags::empty(), None::<&str>).unwrap();
        let group = Self { mounted, path };
        fs::create_dir_all(group.folder()).unwrap();
        group
    }

    fn folder(&self) -> std::path::PathBuf {
        self.mounted.path().join(self.path.trim_start_matches('/'))
    }

    fn take(&self, pid: u32) {
        fs::write(self.folder().join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes that have just ended may still be in it.
        let mut folder = self.folder();
        while folder != self.mounted.path() {
            for _ in 0..1000 {
                match fs::remove_dir(&folder) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                    _ => break,
                }
            }
            folder.pop();
        }
        let _ = umount2(self.mounted.path(), MntFlags::MNT_DETACH);
    }
}

fn pids(ended: &Ended) -> Vec<u32> {
    let documents = serde_json::Deserializer::from_str(&ended.stdout).into_iter::<Recording>();
    documents.map(|recording| recording.unwrap().target.pid).collect()
}

#[test]
fn processes_are_found_by_control_group_and_by_container() {
    let id = format!("{:064x}", u128::from(std::process::id()) << 64 | 0xfeed_beef);
    let group = Group::new(format!("/leakprobe-test-{}/docker-{id}.scope", std::process::id()));
    let programs = [Program::ready("many", Variant::Pie), Program::ready("many", Variant::Pie)];
    let outside = Program::ready("many", Variant::Pie);
    programs.iter().for_each(|program| group.take(program.pid()));
    let mut inside: Vec<u32> = programs.iter().map(Program::pid).collect();
    inside.sort_unstable();
    let above = Path::new(&group.path).parent().unwrap().to_str().unwrap();
    for option in [["--cgroup", &group.path], ["--cgroup", above], ["--container", &id], ["--container", &id[..40]]] {
        let ended = leakprobe([&["snapshot", "--json"][..], &option].concat());
        ended.succeeded();
        let mut found = pids(&ended);
        found.sort_unstable();
        assert_eq!(found, inside, "{option:?}, and not {}", outside.pid());
    }
    let none = leakprobe(["snapshot", "--container", &id, "--comm", "^no such name$"]);
    none.failed(4, &["no process matches", "--container"]);
    drop(programs);
    drop(group);
}

#[test]
fn what_is_in_no_container_is_said() {
    leakprobe(["snapshot", "--container", "no-such-container"]).failed(4, &["no-such-container", "docker ps"]);
    leakprobe(["snapshot", "--cgroup", "/no/such/group"]).failed(4, &["no process matches", "/no/such/group"]);
}

/// Lets the command run as `user` with these capabilities and no others.
fn with_capabilities<'a>(command: &'a mut Command, user: u32, capabilities: &'static [u32]) -> &'a mut Command {
    let become_user = move || {
        let check = |result: libc::c_long| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        // SAFETY: integers alone.
        check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())?;
        // SAFETY: integers alone. The system calls themselves, since we are a forked child.
        check(unsafe { libc::syscall(libc::SYS_setgroups, 0, 0) })?;
        // SAFETY: as above.
        check(unsafe { libc::syscall(libc::SYS_setresgid, user, user, user) })?;
        // SAFETY: as above.
        check(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) })?;
        let set = capabilities.iter().fold(0u64, |set, &capability| set | 1 << capability);
        // _LINUX_CAPABILITY_VERSION_3, ourselves; effective, permitted, inheritable, twice 32 bits.
        let header = [0x2008_0522u32, 0];
        let (low, high) = (set as u32, (set >> 32) as u32);
        let data = [low, low, low, high, high, high];
        // SAFETY: the header and the data are as that version wants them.
        check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })?;
        for &capability in capabilities {
            // SAFETY: integers alone.
            check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) }.into())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls and allocates nothing.
    unsafe { command.pre_exec(become_user) }
}

#[test]
fn the_capabilities_that_doctor_names_suffice_and_each_of_them_is_needed() {
    need_root();
    let (program, folder) = many_of_nobody();
    let ours = open_copy(&leakprobe_binary(), &folder);
    let pid = program.pid().to_string();
    let run = |user: u32, capabilities: &'static [u32]| {
        let mut command = Command::new(&ours);
        // What other programs do must not decide what is watched.
        command.args(["attach", "-d", "50ms", "--max-overhead", "off", "-m", "0s", "--json", "-p", &pid]);
        Running::of(with_capabilities(&mut command, user, capabilities)).end()
    };
    let recorded = |user: u32, capabilities: &'static [u32]| -> Recording {
        let ended = run(user, capabilities);
        ended.succeeded();
        let recording: Recording = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((recording.tasks.len(), recording.coverage.stacks_complete), (101, 101), "{:?}", recording.coverage);
        recording
    };
    let says =
        |recording: &Recording, what: &str| recording.coverage.gaps.iter().any(|gap| gap.to_string().contains(what));
    // Debian's kernels ask for CAP_SYS_ADMIN where others ask for CAP_PERFMON, if they are so set.
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    let is_paranoid = paranoid.trim().parse::<i32>().unwrap() > 2;
    let waits = if is_paranoid { Source::ContextSwitches } else { Source::FutexWaits };
    let everything = [Source::Snapshots, Source::Lifecycle, waits];
    let all = recorded(SOMEBODY, &[BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH]);
    assert_eq!(all.coverage.sources, everything);
    assert_eq!(says(&all, "kernel.perf_event_paranoid"), is_paranoid, "{:?}", all.coverage.gaps);
    for less in [&[PERFMON, SYS_PTRACE, DAC_READ_SEARCH][..], &[BPF, SYS_PTRACE, DAC_READ_SEARCH]] {
        assert!(says(&recorded(SOMEBODY, less), "without BPF"), "{less:?}");
    }
    assert!(says(&recorded(SOMEBODY, &[BPF, PERFMON, SYS_PTRACE]), "CAP_DAC_READ_SEARCH"));
    run(SOMEBODY, &[BPF, PERFMON, DAC_READ_SEARCH]).failed(5, &["CAP_SYS_PTRACE"]);
    // One's own process needs no CAP_SYS_PTRACE.
    assert_eq!(recorded(NOBODY, &[BPF, PERFMON, DAC_READ_SEARCH]).coverage.sources, everything);
}
