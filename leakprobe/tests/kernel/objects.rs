//! What is waited on, in full, and who is at the other end.

use std::collections::BTreeMap;

use leakprobe::model::{EndRole, Gap, OtherEnd, OtherEnds, Recording, Relation, TaskState, Wait, WaitKind};

use crate::support::{
    Program, Running, Variant, in_guest, leakprobe, monotonic_ns, program_path, record, settle, snapshot, switches,
    task, tids, wait_for,
};

/// A running `objects` program, all of whose threads wait.
struct Objects {
    program: Program,
    /// Thread and object of each kind.
    said: BTreeMap<String, (u64, i64)>,
    /// What it said of its child, and of its own descriptors.
    child: String,
    own: String,
}

impl Objects {
    fn start() -> Self {
        Self::of(Program::ready("objects", Variant::Pie))
    }

    fn of(mut program: Program) -> Self {
        let lines = program.passed();
        // One of them waits in a way that nothing interrupts.
        wait_for("all threads of the program to sleep", || {
            let sleeps = |tid: u64| switches(program.pid(), tid).is_some_and(|(_, state)| matches!(state, 'S' | 'D'));
            tids(program.pid()).into_iter().all(sleeps).then_some(())
        });
        // Now that one holds the file's lock.
        let last = program.ask("go", "wait ");
        let all = lines.iter().filter_map(|line| line.strip_prefix("wait ")).chain([last.as_str()]);
        let said: BTreeMap<String, (u64, i64)> = all
            .map(|line| {
                let kind = line.split_whitespace().find_map(|word| word.strip_prefix("kind=")).unwrap().to_owned();
                (kind, (Program::field(line, "tid") as u64, Program::field(line, "object")))
            })
            .collect();
        assert_eq!(said.len(), 31, "{lines:?}");
        wait_for("the last thread to sleep", || {
            let (_, state) = switches(program.pid(), said["uninterruptible"].0)?;
            (state == 'D').then_some(())
        });
        let line = |prefix: &str| lines.iter().find_map(|line| line.strip_prefix(prefix)).unwrap().to_owned();
        Self { child: line("child "), own: line("own "), program, said }
    }

    fn wait<'a>(&self, recording: &'a Recording, kind: &str) -> &'a Wait {
        let task = task(recording, self.said[kind].0);
        task.wait.as_ref().unwrap_or_else(|| panic!("{kind} does not wait: {task:?}"))
    }

    fn child_pid(&self) -> u32 {
        Program::field(&self.child, "pid") as u32
    }

    /// Checks kind, reason and object, in which `FD` stands for the descriptor that the program said, and `…` for anything.
    fn check(&self, recording: &Recording, name: &str, kind: WaitKind, reason: &str, object: &str) {
        let wait = self.wait(recording, name);
        assert_eq!((wait.kind, &*wait.reason), (kind, reason), "{name}: {wait:?}");
        let expected = object.replace("FD", &format!("fd {}", self.said[name].1));
        let mut rest = &*wait.object;
        let mut pieces = expected.split('…');
        let first = pieces.next().unwrap();
        rest = rest.strip_prefix(first).unwrap_or_else(|| panic!("{name}: {rest:?} is no {expected:?}"));
        let pieces: Vec<&str> = pieces.collect();
        for piece in &pieces {
            let at = rest.find(piece).unwrap_or_else(|| panic!("{name}: {:?} is no {expected:?}", wait.object));
            rest = &rest[at + piece.len()..];
        }
        assert!(rest.is_empty() || pieces.last().is_some_and(|last| last.is_empty()), "{name}: {:?}", wait.object);
    }

    /// Checks that one process alone is at the other end, with this descriptor.
    fn check_end(&self, recording: &Recording, name: &str, role: EndRole, pid: u32, fd: Option<i64>) {
        let wait = self.wait(recording, name);
        let OtherEnds { known, more: 0, complete: true } =
            wait.other_ends.as_deref().unwrap_or_else(|| panic!("{name}: {wait:?}"))
        else {
            panic!("{name}: {wait:?}")
        };
        let [OtherEnd { role: found, pid: found_pid, is_target, name: found_name, fd: found_fd, state }] = &known[..]
        else {
            panic!("{name}: {known:?}")
        };
        assert_eq!((*found, *found_pid, found_fd.map(i64::from)), (role, pid, fd), "{name}");
        assert_eq!(*is_target, pid == self.program.pid(), "{name}");
        assert_eq!(state.is_some(), role == EndRole::Child, "{name}");
        let expected = if *is_target {
            "objects"
        } else if pid == self.child_pid() {
            "partner"
        } else {
            "borrower"
        };
        assert_eq!(found_name, expected, "{name}");
        // Which of the target's own threads would have to act, nobody knows.
        let owner = wait.owner.as_deref().map(|owner| (owner.process, owner.relation));
        let relation = match role {
            EndRole::Holder => Relation::Holds,
            EndRole::Child => Relation::Joined,
            _ => Relation::OtherEnd,
        };
        assert_eq!(owner, (!is_target).then_some((Some(pid), relation)), "{name}");
    }
}

fn check_objects(objects: &Objects, recording: &Recording) {
    use WaitKind::{Child, Disk, Event, IoUring, Ipc, Lock, PageFault, Pipe, Poll, Socket};
    let port = Program::field(&objects.own, "port");
    let crowded = format!("FD (tcp 127.0.0.1:… → 127.0.0.1:{port}, connecting)");
    let partner = objects.child_pid();
    let pidfd = format!("FD (pidfd of partner ({partner}))");
    let child = format!("process {partner}");
    let expected = [
        ("tcp_accept", Socket, "accept", "FD (tcp 127.0.0.1:…, listening…)"),
        ("tcp_recv_child", Socket, "recvfrom", "FD (tcp 127.0.0.1:… → 127.0.0.1:…, established…)"),
        ("tcp_recv_own", Socket, "recvfrom", "FD (tcp 127.0.0.1:… → 127.0.0.1:…, established…)"),
        ("tcp_send", Socket, "sendto", "FD (tcp 127.0.0.1:… → 127.0.0.1:…, established… bytes not acknowledged)"),
        ("tcp_connect", Socket, "connect", &crowded),
        ("unix_accept", Socket, "accept", "FD (unix /tmp/leakprobe-test-socket-…, listening…)"),
        ("unix_recv_child", Socket, "recvfrom", "FD (unix…)"),
        ("udp_recv", Socket, "recvfrom", "FD (udp 127.0.0.1:…)"),
        ("netlink_recv", Socket, "recvfrom", "FD (netlink route)"),
        ("packet_recv", Socket, "recvfrom", "FD (packet protocol 0x0000, any interface)"),
        ("pipe_child", Pipe, "read", "FD (pipe:[…])"),
        ("pipe_own", Pipe, "read", "FD (pipe:[…])"),
        ("poll_pipe", Poll, "poll", "FD (pipe:[…])"),
        ("splice", Pipe, "splice", "FD (pipe:[…]) to fd … (pipe:[…])"),
        ("fifo_open", Pipe, "openat", "/tmp/leakprobe-test-fifo-…"),
        ("flock_child", Lock, "flock", "FD (/tmp/leakprobe-test-… (deleted))"),
        ("fcntl_child", Lock, "fcntl", "FD (/tmp/leakprobe-test-… (deleted))"),
        ("epoll", Poll, "epoll_wait", "FD (epoll of 4 descriptors: fd … and 1 more)"),
        ("poll_pidfd", Poll, "poll", &pidfd),
        ("wait_pidfd", Child, "waitid", &pidfd),
        ("wait_one", Child, "waitid", &child),
        ("timer", Event, "read", "FD (timerfd, fires in 5…)"),
        ("io_uring", IoUring, "io_uring_enter", "FD (io_uring, 0 not taken by the kernel, 0 not taken by the program)"),
        ("io_getevents", Event, "io_getevents", "asynchronous I/O 0x…"),
        ("semop", Ipc, "semtimedop", "semaphore set 0"),
        ("semtimedop", Ipc, "semtimedop", "semaphore set 0"),
        ("msgrcv", Ipc, "msgrcv", "message queue 0"),
        ("page_fault", PageFault, "page fault (userfaultfd)", ""),
        ("write_missing", PageFault, "write, page fault (userfaultfd)", "FD (/memfd:contended (deleted))"),
        ("vfork", Child, "vfork", "its child ends or calls exec"),
    ];
    for (name, kind, reason, object) in expected {
        objects.check(recording, name, kind, reason, object);
        let timeout_ms = objects.wait(recording, name).timeout_ms;
        if name == "timer" {
            // It was set some minutes before its thread began to wait, at most.
            assert!(timeout_ms.is_some_and(|ms| (3_300_000..=3_600_000).contains(&ms)), "{name}: {timeout_ms:?}");
            continue;
        }
        let hour = matches!(name, "io_getevents" | "semtimedop").then_some(3_600_000);
        assert_eq!(timeout_ms, hour, "{name}");
    }
    // In which function of the kernel that is, differs from version to version.
    let wait = objects.wait(recording, "uninterruptible");
    assert_eq!(wait.kind, Disk, "{wait:?}");
    assert!(wait.reason.starts_with("write in ") && wait.object.contains("(/memfd:contended"), "{wait:?}");
}

fn check_ends(objects: &Objects, recording: &Recording) {
    let (target, partner) = (objects.program.pid(), objects.child_pid());
    let [pipe, unix, tcp, lock] = ["pipe", "unix", "tcp", "lock"].map(|key| Some(Program::field(&objects.child, key)));
    let [own_pipe, own_tcp] = ["pipe", "tcp"].map(|key| Some(Program::field(&objects.own, key)));
    objects.check_end(recording, "pipe_child", EndRole::Writer, partner, pipe);
    objects.check_end(recording, "poll_pipe", EndRole::Writer, partner, pipe);
    objects.check_end(recording, "pipe_own", EndRole::Writer, target, own_pipe);
    objects.check_end(recording, "flock_child", EndRole::Holder, partner, lock);
    objects.check_end(recording, "wait_one", EndRole::Child, partner, None);
    objects.check_end(recording, "wait_pidfd", EndRole::Child, partner, None);
    let borrower = objects.wait(recording, "vfork").other_ends.as_ref().unwrap().known[0].pid;
    objects.check_end(recording, "vfork", EndRole::Child, borrower, None);
    let holder = &objects.wait(recording, "fcntl_child").other_ends.as_ref().unwrap().known;
    assert!(matches!(&holder[..], [end] if end.pid == partner && end.role == EndRole::Holder), "{holder:?}");
    for name in ["tcp_accept", "unix_accept", "udp_recv", "netlink_recv", "fifo_open", "timer", "io_uring", "semop"] {
        assert_eq!(objects.wait(recording, name).other_ends, None, "{name}");
    }
    // A guest's kernel has no module for it; then that is said.
    let gap = recording.coverage.gaps.iter().any(|gap| matches!(gap, Gap::Sockets { .. }));
    assert_eq!(gap, in_guest(), "{:?}", recording.coverage.gaps);
    if !gap {
        objects.check_end(recording, "tcp_recv_child", EndRole::Peer, partner, tcp);
        objects.check_end(recording, "tcp_recv_own", EndRole::Peer, target, own_tcp);
        objects.check_end(recording, "unix_recv_child", EndRole::Peer, partner, unix);
        objects.check(
            recording,
            "tcp_accept",
            WaitKind::Socket,
            "accept",
            "FD (tcp 127.0.0.1:…, listening, 0 of 16 waiting to be accepted)",
        );
    }
}

/// The idle time of a connection, ms, between which and one more it is shown.
fn idle_ms(object: &str) -> Option<(u64, u64)> {
    let (_, idle) = object.split_once("idle ")?;
    let idle = idle.split([',', ')']).next()?;
    let units: Vec<&str> = idle.split(' ').collect();
    match units[..] {
        [number, "ms"] => number.parse().ok().map(|ms| (ms, ms + 1)),
        [number, "s"] => number.replace('.', "").parse().ok().map(|tenths: u64| (tenths * 100, tenths * 100 + 100)),
        [minutes, seconds] => {
            let minutes: u64 = minutes.strip_suffix('m')?.parse().ok()?;
            let seconds: u64 = seconds.strip_suffix('s')?.parse().ok()?;
            Some(((minutes * 60 + seconds) * 1000, (minutes * 60 + seconds + 1) * 1000))
        }
        _ => None,
    }
}

#[test]
fn everything_that_is_waited_on_is_told_with_its_other_end() {
    let objects = Objects::start();
    let began = monotonic_ns();
    let recording = snapshot(objects.program.pid());
    let ended = monotonic_ns();
    check_objects(&objects, &recording);
    check_ends(&objects, &recording);
    if in_guest() {
        return;
    }
    // The connection was made after `connected` and before `until`, and nothing was sent since. The kernel counts in jiffies.
    let (shown, next) = idle_ms(&objects.wait(&recording, "tcp_recv_child").object).unwrap();
    let [connected, until] = ["connected", "until"].map(|key| Program::field(&objects.child, key) as u64);
    let (least, most) = ((began - until) / 1_000_000, (ended - connected) / 1_000_000);
    assert!(next + 20 >= least && shown <= most + 20, "idle {shown} ms, not in {least}..{most}");
}

/// As in a container: its sockets are in no list of ours.
#[test]
fn sockets_of_another_network_namespace_are_known_as_well() {
    let objects = Objects::of(Program::ready_with("objects", Variant::Pie, &["own-network"]));
    let recording = snapshot(objects.program.pid());
    check_objects(&objects, &recording);
    check_ends(&objects, &recording);
    let object = &objects.wait(&recording, "tcp_recv_child").object;
    assert_eq!(idle_ms(object).is_some(), !in_guest(), "{object}");
}

/// A description is that of the end of the run, though no thread has run since it began to wait.
#[test]
fn attach_tells_the_same_and_idle_times_as_they_are_at_its_end() {
    let objects = Objects::start();
    let pid = objects.program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "-p", &pid, "-i", "100ms", "-m", "0s"]);
    leakprobe.attached();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let stopped = monotonic_ns();
    let recording = leakprobe.stop();
    check_objects(&objects, &recording);
    check_ends(&objects, &recording);
    if !in_guest() {
        let (_, next) = idle_ms(&objects.wait(&recording, "tcp_recv_child").object).unwrap();
        let least = (stopped - Program::field(&objects.child, "until") as u64) / 1_000_000;
        assert!(next + 20 >= least, "idle less than {next} ms, not {least}");
    }
}

#[test]
fn the_text_tells_what_is_waited_on_and_who_is_at_the_other_end() {
    let objects = Objects::start();
    let ended = leakprobe(["snapshot", "-p", &objects.program.pid().to_string(), "-m", "0s", "--all"]);
    ended.succeeded();
    let partner = objects.child_pid();
    let pipe = Program::field(&objects.child, "pipe");
    let own_pipe = Program::field(&objects.own, "pipe");
    let lock = Program::field(&objects.child, "lock");
    let whole: String = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        format!("fd {pipe} of {partner} (partner, writer)"),
        format!(": only this process holds the write end (fd {own_pipe})"),
        format!("held by fd {lock} of partner ({partner})"),
        format!("child: partner ({partner}, sleeps)"),
        "read (pipe)".to_owned(),
        "flock (lock)".to_owned(),
    ] {
        assert!(whole.contains(&words), "no '{words}' in {}", ended.stdout);
    }
}

/// Nobody but its own threads could ever fill the pipe, and the target has ended: what was told while it lived stays.
#[test]
fn what_was_told_of_a_wait_stays_when_the_process_has_ended() {
    let mut objects = Objects::start();
    let pid = objects.program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "-p", &pid, "-i", "100ms", "-m", "0s"]);
    leakprobe.has_looked(&program_path("objects", Variant::Pie));
    objects.program.kill(libc::SIGKILL);
    objects.program.wait();
    let recording = leakprobe.recording();
    assert!(recording.target.ended.is_some());
    check_objects(&objects, &recording);
    let own = Some(Program::field(&objects.own, "pipe"));
    objects.check_end(&recording, "pipe_own", EndRole::Writer, objects.program.pid(), own);
}

#[test]
fn who_traces_a_stopped_thread_is_told() {
    let program = Program::ready("many", Variant::Pie);
    let pid = program.pid() as i32;
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests take integers alone; the process is a child of ours, and ends with this test.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none) }, 0);
    wait_for("the program to stop", || {
        switches(program.pid(), u64::from(program.pid())).filter(|(_, state)| *state == 't')
    });
    let recording = snapshot(program.pid());
    let main = task(&recording, u64::from(program.pid()));
    let wait = main.wait.as_ref().unwrap();
    assert_eq!((wait.kind, &*wait.reason, main.state), (WaitKind::Stopped, "stopped by a debugger", TaskState::Parked));
    let ends = wait.other_ends.as_ref().unwrap();
    let [end] = &ends.known[..] else { panic!("{ends:?}") };
    assert_eq!((end.role, end.pid), (EndRole::Tracer, std::process::id()));
}

#[test]
fn a_table_of_very_many_descriptors_is_looked_through_in_the_time_allowed_or_it_is_said_that_it_was_not() {
    let mut program = Program::ready("many_descriptors", Variant::Pie);
    let lines = program.passed();
    let tid = Program::field(lines.iter().find(|line| line.starts_with("epoll")).unwrap(), "tid") as u64;
    settle(program.pid());
    let recording = snapshot(program.pid());
    let wait = task(&recording, tid).wait.as_ref().unwrap();
    assert_eq!((wait.kind, wait.object.contains("epoll of many")), (WaitKind::Poll, true), "{wait:?}");
    let main = task(&recording, u64::from(program.pid())).wait.as_ref().unwrap();
    assert_eq!(main.kind, WaitKind::Pipe, "{main:?}");
    // Either all was looked through in time, or it is said that it was not.
    let cut = recording.coverage.gaps.contains(&Gap::PeersCut);
    let ends = main.other_ends.as_ref();
    assert!(ends.is_some_and(|ends| ends.complete != cut), "{main:?} {:?}", recording.coverage.gaps);
    let again = record(&["attach", "-p", &program.pid().to_string(), "-d", "300ms", "-i", "50ms", "-m", "0s"]);
    assert!(task(&again, tid).wait.is_some());
}
