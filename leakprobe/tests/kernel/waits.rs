//! Each kind of wait is known for what it is, with its object, its timeout and its age.

use std::collections::BTreeMap;

use leakprobe::model::{Recording, TaskState, Wait, WaitKind};

use crate::support::{
    Program, Running, Settled, Variant, monotonic_ns, record, settle, snapshot, switches, task, wait_for,
};

const HOUR_MS: u64 = 3_600_000;

/// What `waits.c` says of one of its threads.
#[derive(Clone, Debug)]
struct Said {
    tid: u64,
    object: i64,
    size: i64,
    before_ns: u64,
}

/// A running `waits` program, all of whose threads wait.
struct Waits {
    program: Program,
    said: BTreeMap<String, Said>,
    settled: BTreeMap<u64, Settled>,
}

impl Waits {
    fn start() -> Self {
        let mut program = Program::ready("waits", Variant::Pie);
        let lines = program.passed();
        let said: BTreeMap<String, Said> = lines
            .iter()
            .filter(|line| line.starts_with("wait "))
            .map(|line| {
                let kind = line.split_whitespace().find_map(|word| word.strip_prefix("kind=")).unwrap().to_owned();
                let field = |key: &str| Program::field(line, key);
                let said = Said {
                    tid: field("tid") as u64,
                    object: field("object"),
                    size: field("size"),
                    before_ns: field("before") as u64,
                };
                (kind, said)
            })
            .collect();
        assert!(said.len() > 30, "{lines:?}");
        let settled = settle(program.pid());
        Self { program, said, settled }
    }

    /// That no thread has run since all slept.
    fn still_the_same_waits(&self) {
        for (&tid, settled) in &self.settled {
            assert_eq!(switches(self.program.pid(), tid).map(|(count, _)| count), Some(settled.switches), "{tid} ran");
        }
    }

    fn wait<'a>(&self, recording: &'a Recording, kind: &str) -> &'a Wait {
        let task = task(recording, self.said[kind].tid);
        task.wait.as_ref().unwrap_or_else(|| panic!("{kind} does not wait: {task:?}"))
    }
}

/// What a wait waits for.
enum Object {
    /// Nothing to name.
    None,
    /// The address that the program said, or one within its object.
    Word,
    /// Some address.
    SomeWord,
    /// The descriptor that the program said, of this sort.
    Fd(&'static str),
    /// These words.
    Is(&'static str),
    /// What begins with these words.
    Starts(&'static str),
    /// These words with what the program said.
    With(&'static str),
}

/// Every wait of `waits.c`: its kind, reason, object, and whether it has a timeout, which always is one hour.
const EXPECTED: &[(&str, WaitKind, &str, Object, bool)] = &[
    ("cond", WaitKind::Futex, "condition variable", Object::Word, false),
    ("cond_timed", WaitKind::Futex, "condition variable", Object::Word, true),
    ("mutex", WaitKind::Futex, "mutex", Object::Word, false),
    ("pi_mutex", WaitKind::Futex, "mutex (priority inheritance)|PI lock", Object::Word, false),
    ("sem", WaitKind::Futex, "semaphore|futex wait", Object::Word, false),
    ("join", WaitKind::Futex, "join", Object::SomeWord, false),
    ("futex_span", WaitKind::Futex, "futex wait", Object::Word, true),
    ("futex_moment", WaitKind::Futex, "futex wait", Object::Word, true),
    ("futex_waitv", WaitKind::Futex, "futex_waitv", Object::Word, false),
    ("nanosleep", WaitKind::Sleep, "nanosleep", Object::None, true),
    ("clock_nanosleep", WaitKind::Sleep, "clock_nanosleep", Object::None, true),
    ("clock_nanosleep_abs", WaitKind::Sleep, "clock_nanosleep", Object::None, true),
    ("poll", WaitKind::Poll, "poll", Object::Starts("2 descriptors: fd "), true),
    ("poll_for_ever", WaitKind::Poll, "poll", Object::Fd("eventfd, count 0"), false),
    ("ppoll", WaitKind::Poll, "ppoll", Object::Fd("eventfd, count 0"), true),
    ("select", WaitKind::Poll, "select", Object::Fd("eventfd, count 0"), true),
    ("pselect", WaitKind::Poll, "pselect6", Object::Fd("eventfd, count 0"), false),
    ("epoll_wait", WaitKind::Poll, "epoll_wait", Object::Fd("epoll of nothing"), true),
    ("recv", WaitKind::Socket, "recvfrom", Object::Fd("unix"), false),
    ("socket_read", WaitKind::Socket, "read", Object::Fd("unix"), false),
    ("accept", WaitKind::Socket, "accept", Object::Fd("unix @"), false),
    ("pipe_read", WaitKind::Pipe, "read", Object::Fd("pipe:["), false),
    ("pipe_write", WaitKind::Pipe, "write", Object::Fd("pipe:["), false),
    ("fifo_read", WaitKind::Pipe, "read", Object::Fd("/tmp/leakprobe-test-fifo-"), false),
    ("flock", WaitKind::Lock, "flock", Object::Fd("/tmp/leakprobe-test-"), false),
    ("fcntl_lock", WaitKind::Lock, "fcntl", Object::Fd("/tmp/leakprobe-test-"), false),
    ("waitpid", WaitKind::Child, "wait4", Object::With("process"), false),
    ("pause", WaitKind::Signal, "pause", Object::None, false),
    ("sigsuspend", WaitKind::Signal, "rt_sigsuspend", Object::Is("any signal"), false),
    ("sigwait", WaitKind::Signal, "rt_sigtimedwait", Object::Is("SIGUSR2"), false),
    ("sigtimedwait", WaitKind::Signal, "rt_sigtimedwait", Object::Is("SIGUSR2"), true),
    ("eventfd", WaitKind::Event, "read", Object::Fd("eventfd, count 0"), false),
    ("timerfd", WaitKind::Event, "read", Object::Fd("timerfd, not set"), false),
    ("signalfd", WaitKind::Signal, "read", Object::Fd("signalfd, SIGUSR1, SIGUSR2"), false),
    ("inotify", WaitKind::Event, "read", Object::Fd("inotify, 0 watches"), false),
    ("mq_receive", WaitKind::Ipc, "mq_timedreceive", Object::Fd("/leakprobe-test-"), false),
];

fn check_object(name: &str, wait: &Wait, said: &Said, object: &Object) {
    let shown = &*wait.object;
    let address = || {
        let hex = shown.split_whitespace().next().and_then(|word| word.strip_prefix("0x"));
        i64::from_str_radix(hex.unwrap_or_else(|| panic!("{name}: no address in '{shown}'")), 16).unwrap()
    };
    match object {
        Object::None => assert_eq!(shown, "", "{name}"),
        Object::SomeWord => assert!(address() > 0, "{name}: {shown}"),
        Object::Word => {
            assert!(
                (said.object..said.object + said.size.max(1)).contains(&address()),
                "{name}: {shown}, not in {said:?}"
            );
        }
        Object::Fd(sort) => {
            let begin = format!("fd {} ({sort}", said.object);
            assert!(shown.starts_with(&begin) && shown.ends_with(')'), "{name}: {shown}, not {begin}");
        }
        Object::Is(words) => assert_eq!(shown, *words, "{name}"),
        Object::Starts(words) => assert!(shown.starts_with(words), "{name}: {shown}"),
        Object::With(words) => assert_eq!(shown, format!("{words} {}", said.object), "{name}"),
    }
}

/// Kind, reason, object, timeout and state of every wait.
fn check_kinds(waits: &Waits, recording: &Recording, except: &[&str]) {
    assert_eq!(waits.said.len(), EXPECTED.len(), "{:?}", waits.said.keys());
    for (name, kind, reason, object, has_timeout) in EXPECTED.iter().filter(|(name, ..)| !except.contains(name)) {
        let wait = waits.wait(recording, name);
        // Where libc has no symbols but those that it exports, a function of its own has no name.
        assert!(wait.kind == *kind && reason.split('|').any(|reason| *reason == *wait.reason), "{name}: {wait:?}");
        check_object(name, wait, &waits.said[*name], object);
        match (has_timeout, wait.timeout_ms) {
            (false, None) => {}
            // A deadline was computed by the program before it began to wait, so it is up to that much less than an hour.
            (true, Some(timeout)) => {
                let said = &waits.said[*name];
                let tid = said.tid;
                let slack = (waits.settled[&tid].seen_ns - said.before_ns) / 1_000_000 + 2000;
                assert!(
                    (HOUR_MS - slack..=HOUR_MS + 1).contains(&timeout),
                    "{name}: times out after {timeout} ms, not an hour"
                );
            }
            (_, other) => panic!("{name}: timeout {other:?}"),
        }
    }
}

/// Every age fits between what the program said before it blocked and when its thread was first seen asleep: one moment of
/// the snapshot must exist that fits all.
fn check_ages(waits: &Waits, recording: &Recording, began_ns: u64, ended_ns: u64) {
    waits.still_the_same_waits();
    let (mut earliest, mut latest) = (began_ns, ended_ns);
    let mut all = Vec::new();
    for (name, said) in &waits.said {
        let wait = waits.wait(recording, name);
        let age_ns = wait.age_ms * 1_000_000;
        all.push((name, wait.age_ms, wait.exact, said.before_ns, waits.settled[&said.tid].seen_ns));
        // The age is cut to whole ms.
        if wait.exact {
            earliest = earliest.max(said.before_ns + age_ns);
        }
        latest = latest.min(waits.settled[&said.tid].seen_ns + age_ns + 1_000_000);
        if !wait.exact {
            // A lower bound: only that it is not too old can be said.
            latest = latest.max(earliest);
        }
    }
    assert!(earliest <= latest, "no moment fits all ages: {earliest} > {latest}, of {began_ns}..{ended_ns}: {all:?}");
}

#[test]
fn each_kind_of_wait_that_began_before_attach_has_its_kind_object_timeout_and_age() {
    let waits = Waits::start();
    let began = monotonic_ns();
    let recording = snapshot(waits.program.pid());
    let ended = monotonic_ns();
    check_kinds(&waits, &recording, &[]);
    check_ages(&waits, &recording, began, ended);
    for said in waits.said.values() {
        let task = task(&recording, said.tid);
        assert_eq!(task.state, TaskState::Parked, "with a threshold of 0 everything that waits is parked");
        assert!(task.lifetime_ms.unwrap() >= task.wait.as_ref().unwrap().age_ms, "{task:?}");
    }
}

/// A thread that was interrupted just before it began to wait leaves the scheduler's accounts in doubt; its age is a lower bound
/// then, and rightly so. On a busy machine that happens now and then to one thread or another, but not to the same kind of wait each
/// time.
#[test]
fn ages_of_waits_that_began_before_attach_are_exact() {
    const RUNS: u32 = 20;
    let mut inexact: BTreeMap<String, Wait> = BTreeMap::new();
    for run in 0..RUNS {
        let waits = Waits::start();
        let recording = snapshot(waits.program.pid());
        let found = waits.said.keys().map(|kind| (kind.clone(), waits.wait(&recording, kind).clone()));
        inexact = found.filter(|(kind, wait)| !wait.exact && (run == 0 || inexact.contains_key(kind))).collect();
        if inexact.is_empty() {
            return;
        }
    }
    panic!("not exact in any of {RUNS} runs: {inexact:?}");
}

#[test]
fn attach_tells_the_same_waits_as_a_snapshot() {
    let waits = Waits::start();
    let began = monotonic_ns();
    let recording =
        record(&["attach", "-p", &waits.program.pid().to_string(), "-d", "300ms", "-i", "100ms", "-m", "0s"]);
    check_kinds(&waits, &recording, &[]);
    check_ages(&waits, &recording, began, monotonic_ns());
}

#[test]
fn a_wait_that_began_while_attached_has_its_exact_age() {
    let mut program = Program::ready("ends", Variant::Pie);
    settle(program.pid());
    let pid = program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "-p", &pid, "-i", "50ms", "-m", "0s"]);
    leakprobe.attached();
    let line = program.ask("wait", "waiting ");
    let tid = Program::field(&line, "tid") as u64;
    let settled = settle(program.pid());
    let began = monotonic_ns();
    let recording = leakprobe.stop();
    let ended = monotonic_ns();
    let wait = task(&recording, tid).wait.clone().unwrap();
    assert!(wait.exact && wait.kind == WaitKind::Futex, "{wait:?}");
    let (oldest, youngest) = (ended - Program::field(&line, "before") as u64, began - settled[&tid].seen_ns);
    let age = youngest.saturating_sub(1_000_000) / 1_000_000..=oldest / 1_000_000;
    assert!(age.contains(&wait.age_ms), "{wait:?}, not in {age:?}");
}

#[test]
fn threads_that_wait_for_less_than_the_threshold_are_blocked_not_parked() {
    let waits = Waits::start();
    let recording = record(&["snapshot", "-p", &waits.program.pid().to_string(), "-m", "1h"]);
    assert!(recording.sites.is_empty(), "{:?}", recording.sites);
    assert_eq!(recording.min_block_ms, HOUR_MS);
    for said in waits.said.values() {
        assert_eq!(task(&recording, said.tid).state, TaskState::Blocked);
    }
}

#[test]
fn waits_that_go_on_after_the_process_was_stopped_are_known_for_what_they_are() {
    let mut waits = Waits::start();
    let pid = waits.program.pid();
    waits.program.kill(libc::SIGSTOP);
    wait_for("the program to stop", || {
        let stopped = |tid: &u64| switches(pid, *tid).is_some_and(|(_, state)| state == 'T');
        waits.settled.keys().all(stopped).then_some(())
    });
    waits.program.kill(libc::SIGCONT);
    waits.settled = settle(pid);
    let recording = snapshot(pid);
    // The function `syscall` gets its number from its caller, so that it does not stand in the code; and Linux ends
    // epoll_wait and sigtimedwait when a stopped process goes on (signal(7)).
    check_kinds(&waits, &recording, &["futex_span", "futex_moment", "nanosleep", "epoll_wait", "sigtimedwait"]);
    waits.still_the_same_waits();
}

#[test]
fn a_stopped_process_is_told_to_be_stopped() {
    let program = Program::ready("many", Variant::Pie);
    program.kill(libc::SIGSTOP);
    wait_for("the program to stop", || {
        switches(program.pid(), u64::from(program.pid())).filter(|(_, state)| *state == 'T')
    });
    let recording = snapshot(program.pid());
    let main = task(&recording, u64::from(program.pid())).wait.clone().unwrap();
    assert_eq!((main.kind, &*main.reason), (WaitKind::Stopped, "stopped by a signal"));
    program.kill(libc::SIGCONT);
}
