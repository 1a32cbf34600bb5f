use super::{held::Held, knots, patterns};
use crate::{
    model::{
        Channel, Course, Frame, GoFrame, Goroutine, HeldLock, Link, Owner, Recording, Role, Site, Task, TaskKind,
        TaskState, Verdict, Wait, WaitKind,
    },
    report::fixture,
};

/// What is said of the knots of a recording, by the place of the site.
fn sentences(recording: &Recording) -> Vec<(usize, String)> {
    knots(recording).into_iter().map(|(place, fact)| (place, fact.to_string())).collect()
}

/// A task of a made-up program, and the site that it is at.
#[derive(Clone, Debug)]
struct Made {
    kind: TaskKind,
    id: u64,
    wait: WaitKind,
    reason: &'static str,
    object: String,
    /// Innermost first.
    stack: Vec<&'static str>,
    creation: &'static str,
    timed: bool,
    forever: bool,
    channels: Vec<Channel>,
    holds: Vec<HeldLock>,
    /// The threads that it waits for, one behind the other.
    chain: Vec<u64>,
}

fn goroutine(id: u64, wait: WaitKind, reason: &'static str, stack: &[&'static str]) -> Made {
    Made {
        kind: TaskKind::Goroutine,
        id,
        wait,
        reason,
        object: String::new(),
        stack: stack.to_vec(),
        creation: "main.start",
        timed: false,
        forever: false,
        channels: Vec::new(),
        holds: Vec::new(),
        chain: Vec::new(),
    }
}

fn thread(id: u64, wait: WaitKind, reason: &'static str, stack: &[&'static str]) -> Made {
    Made { kind: TaskKind::Thread, ..goroutine(id, wait, reason, stack) }
}

/// Waits for the mutex at this address.
fn locking(id: u64, address: u64, stack: &[&'static str]) -> Made {
    let inner =
        ["runtime.gopark", "sync.runtime_SemacquireMutex", "internal/sync.(*Mutex).lockSlow", "sync.(*Mutex).Lock"];
    let stack: Vec<&str> = inner.iter().chain(stack).copied().collect();
    Made { object: format!("sync.Mutex {address:#x}"), ..goroutine(id, WaitKind::Sync, "sync.Mutex.Lock", &stack) }
}

fn receiving(id: u64, stack: &[&'static str], channel: Channel) -> Made {
    let object = format!("chan {:#x}", channel.address);
    Made { object, channels: vec![channel], ..goroutine(id, WaitKind::ChanReceive, "chan receive", stack) }
}

fn sending(id: u64, stack: &[&'static str], channel: Channel) -> Made {
    let channel = Channel { send: Some(true), ..channel };
    Made { wait: WaitKind::ChanSend, reason: "chan send", ..receiving(id, stack, channel) }
}

fn channel(address: u64) -> Channel {
    Channel {
        address,
        send: Some(false),
        len: 0,
        cap: 0,
        closed: false,
        receivers: 1,
        senders: 0,
        timer: false,
        value_bytes: Some(8),
    }
}

fn held(address: u64) -> HeldLock {
    HeldLock { address, shared: false, calls: 1 }
}

/// The recording of a program with these tasks; those with the same stack are at one site.
fn recording(tasks: &[Made]) -> Recording {
    let template = fixture::checkout().sites.remove(0);
    let mut recording = fixture::idle();
    (recording.frames, recording.sites, recording.tasks) = (Vec::new(), Vec::new(), Vec::new());
    for made in tasks {
        let is_go = made.kind == TaskKind::Goroutine;
        let mut frame = |function: &&str| {
            let go = is_go.then_some(GoFrame { offset: None, hidden: false });
            recording.frames.push(Frame {
                function: (*function).into(),
                module: "/srv/app".into(),
                go,
                ..Frame::default()
            });
            recording.frames.len() as u32 - 1
        };
        let stack: Vec<u32> = made.stack.iter().map(&mut frame).collect();
        let creation = vec![frame(&made.creation)];
        let id = format!("{}:{}", made.stack.join("<"), made.wait);
        let place = recording.sites.iter().position(|site| site.id == id).unwrap_or(recording.sites.len());
        if place == recording.sites.len() {
            recording.sites.push(Site {
                id,
                task: made.kind,
                role: Role::Own,
                kind: made.wait,
                count: 0,
                with_timeout: 0,
                wait: made.reason.into(),
                stack: stack.clone(),
                creation: creation.clone(),
                evidence: vec![],
                verdict: Verdict::Unjudged,
                ..template.clone()
            });
        }
        recording.sites[place].count += 1;
        recording.sites[place].with_timeout += u64::from(made.timed);
        let owner = |id: &u64| Owner { task: *id, state: Some(TaskState::Parked), ..Owner::default() };
        recording.tasks.push(Task {
            name: "app".into(),
            wait: Some(Wait {
                reason: made.reason.into(),
                object: made.object.as_str().into(),
                timeout_ms: made.timed.then_some(700),
                owner: made.chain.first().map(|id| Box::new(owner(id))),
                chain: made.chain.iter().map(|id| Link { owner: owner(id), wait: None }).collect(),
                ..Wait::lasting(made.wait, 5_000)
            }),
            stack: stack.into(),
            lifetime_ms: Some(5_000),
            site: Some(place as u32),
            goroutine: is_go.then(|| {
                Box::new(Goroutine {
                    channels: made.channels.as_slice().into(),
                    forever: made.forever,
                    holds: made.holds.as_slice().into(),
                    ..Goroutine::waiting()
                })
            }),
            ..Task::parked(made.kind, made.id)
        });
    }
    recording
}

/// The pattern of the first task's site; empty if there is none.
fn found(tasks: &[Made]) -> String {
    let recording = recording(tasks);
    let site = &recording.sites[0];
    let members: Vec<&Task> = recording.tasks.iter().filter(|task| task.site == Some(0)).collect();
    let held = Held::of(&recording);
    let facts = patterns::Facts { site, tasks: &members, recording: &recording, counts: &[0, 3, 6, 9], held: &held };
    patterns::find(&facts).map(|finding| finding.pattern).unwrap_or_default()
}

#[test]
fn each_pattern_has_an_id_of_its_own_and_words() {
    let mut ids: Vec<&str> = patterns::all().map(|pattern| pattern.id).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all);
    for pattern in patterns::all() {
        let is_sentence = pattern.advice.len() > 60 && pattern.advice.ends_with('.') && !pattern.title.ends_with('.');
        assert!(is_sentence, "{}", pattern.id);
        assert!(["go-", "thread-", "java-", "python-"].iter().any(|start| pattern.id.starts_with(start)));
    }
}

#[test]
fn what_a_program_calls_its_functions_is_no_evidence() {
    for name in [
        "main.(*Logger).watch",
        "main.tokenWorker",
        "main.(*pool).dispatchConsumer",
        "main.subscribeListener",
        "main.acquireSemaphore",
        "main.onceDo",
    ] {
        assert_eq!(
            found(&[receiving(2, &["runtime.chanrecv1", name], channel(1))]),
            "go-chan-receive-no-sender",
            "{name}"
        );
        let full = Channel { len: 1, cap: 1, receivers: 0, senders: 1, ..channel(1) };
        assert_eq!(found(&[sending(2, &["runtime.chansend1", name], full)]), "go-chan-send-no-receiver", "{name}");
        assert_eq!(found(&[locking(2, 0x10, &[name, "main.(*T).outer"])]), "go-lock-never-released", "{name}");
    }
}

#[test]
fn a_lock_is_taken_again_only_if_its_own_stack_is_to_release_it() {
    let stack = ["main.(*T).inner", "main.(*T).outer"];
    assert_eq!(found(&[locking(2, 0x10, &stack)]), "go-lock-never-released");
    assert_eq!(found(&[Made { holds: vec![held(0x10)], ..locking(2, 0x10, &stack) }]), "go-recursive-lock");
    assert_eq!(found(&[Made { holds: vec![held(0x20)], ..locking(2, 0x10, &stack) }]), "go-lock-never-released");
    // It has unlocked for a while, and takes it again in the function that defers the last Unlock.
    let retaken = HeldLock { calls: 0, ..held(0x10) };
    assert_eq!(found(&[Made { holds: vec![retaken], ..locking(2, 0x10, &stack) }]), "go-lock-never-released");
    // Two seem to hold it: one of them has released it.
    let other = Made { holds: vec![held(0x10)], ..sending(3, &["main.other"], channel(1)) };
    let one = Made { holds: vec![held(0x10)], ..locking(2, 0x10, &stack) };
    assert_eq!(found(&[one, other]), "go-lock-never-released");
}

#[test]
fn locks_in_opposite_orders_are_a_circle_of_holders() {
    let stack = ["main.(*T).deposit", "main.(*T).transfer"];
    let one = Made { holds: vec![held(0x20)], ..locking(2, 0x10, &stack) };
    let other = Made { holds: vec![held(0x10)], ..locking(3, 0x20, &stack) };
    assert_eq!(found(&[one.clone(), other.clone()]), "go-lock-order-inversion");
    let third = Made { holds: vec![held(0x30)], ..other.clone() };
    assert_eq!(found(&[one.clone(), third]), "go-lock-never-released");
    assert_eq!(found(std::slice::from_ref(&one)), "go-lock-never-released");
    let circle = recording(&[one, other.clone()]);
    let said = "2 of 2 wait in a circle: for a lock that the next one of them is to release by a deferred call";
    assert_eq!(sentences(&circle), [(0, said.to_owned())]);
    let chain = recording(&[other, locking(4, 0x10, &["main.waits"])]);
    assert_eq!(knots(&chain).len(), 2, "a chain is a knot");
}

#[test]
fn a_once_and_a_reader_behind_a_writer_are_known_by_their_stacks() {
    let once = locking(2, 0x10, &["sync.(*Once).doSlow", "sync.(*Once).Do", "main.load"]);
    assert_eq!(found(std::slice::from_ref(&once)), "go-once-never-returns");
    assert_eq!(found(&[Made { holds: vec![held(0x10)], ..once }]), "go-once-never-returns");
    // Inside of a Once's function, the lock is another one.
    let inside = locking(2, 0x10, &["main.init", "sync.(*Once).doSlow", "sync.(*Once).Do"]);
    assert_eq!(found(&[inside]), "go-lock-never-released");
    let rwmutex = |id, reason, stack: &[&'static str]| Made {
        object: "sync.RWMutex 0x10".into(),
        ..goroutine(id, WaitKind::Sync, reason, stack)
    };
    let reader = rwmutex(2, "sync.RWMutex.RLock", &["sync.(*RWMutex).RLock", "main.get"]);
    let writer = rwmutex(3, "sync.RWMutex.Lock", &["sync.(*RWMutex).Lock", "main.set"]);
    assert_eq!(found(&[reader.clone(), writer.clone()]), "go-reader-behind-writer");
    assert_eq!(found(&[writer.clone(), reader.clone()]), "go-lock-never-released");
    assert_eq!(found(std::slice::from_ref(&reader)), "go-lock-never-released");
    let again = HeldLock { shared: true, ..held(0x10) };
    let outer = Made { holds: vec![again], ..sending(4, &["main.also"], channel(1)) };
    assert_eq!(found(&[Made { holds: vec![again], ..reader }, writer, outer]), "go-recursive-lock");
}

#[test]
fn channels_tell_semaphores_pools_and_timers() {
    let send = ["runtime.chansend1", "main.use"];
    let full = Channel { len: 2, cap: 2, receivers: 0, senders: 9, value_bytes: Some(0), ..channel(1) };
    assert_eq!(found(&[sending(2, &send, full)]), "go-semaphore-never-released");
    assert_eq!(found(&[sending(2, &send, Channel { value_bytes: Some(8), ..full })]), "go-chan-send-no-receiver");
    assert_eq!(found(&[sending(2, &send, Channel { senders: 1, ..full })]), "go-chan-send-no-receiver");
    let range = ["runtime.chanrecv2", "main.run"];
    let shared = |address| Channel { receivers: 2, ..channel(address) };
    let pools: Vec<Made> = [1, 1, 2, 2].map(|address| receiving(10, &range, shared(address))).to_vec();
    assert_eq!(found(&pools), "go-worker-pool-never-closed");
    assert_eq!(found(&pools[..2]), "go-chan-range-never-closed", "one pool is no pool per request");
    let apart: Vec<Made> = [1, 2, 3].map(|address| receiving(10, &range, channel(address))).to_vec();
    assert_eq!(found(&apart), "go-chan-range-never-closed");
    let timer = receiving(2, &["runtime.chanrecv1", "main.tick"], Channel { timer: true, ..channel(1) });
    assert_eq!(found(&[Made { timed: true, ..timer.clone() }]), "go-ticker-never-stopped");
    assert_eq!(found(&[timer]), "go-timer-never-fires");
}

#[test]
fn functions_of_runtimes_and_libraries_are_evidence() {
    let receive = |stack: &[&'static str]| found(&[receiving(2, stack, channel(1))]);
    let inside = ["runtime.chanrecv1", "main.(*handle).release", "runtime.runFinalizers"];
    assert_eq!(receive(&inside), "go-finalizer-stuck");
    let coroutine = |stack: &[&'static str]| found(&[goroutine(2, WaitKind::Sync, "coroutine", stack)]);
    assert_eq!(coroutine(&["runtime.coroswitch_m", "main.each", "runtime.corostart"]), "go-coroutine-not-stopped");
    assert_eq!(coroutine(&["runtime.coroswitch_m", "iter.Pull[...].func2", "main.caller"]), "");
    let grpc = "google.golang.org/grpc/internal/transport.(*recvBufferReader).read";
    assert_eq!(receive(&[grpc, "main.call"]), "go-grpc-call-not-ended");
    let handler = ["main.handle", "google.golang.org/grpc.(*Server).processUnaryRPC"];
    assert_eq!(receive(&handler), "go-chan-receive-no-sender");
    let client = Made { creation: "google.golang.org/grpc.NewClient", ..receiving(2, &[grpc], channel(1)) };
    assert_eq!(found(&[client]), "go-grpc-connection-not-closed");
    assert_eq!(receive(&["main.driver", "database/sql.(*DB).queryDC", "main.query"]), "go-chan-receive-no-sender");
    assert_eq!(receive(&["database/sql.(*DB).conn", "main.query"]), "go-sql-pool-exhausted");
}

#[test]
fn of_waits_that_all_end_nothing_is_said_that_never_happens() {
    let timed = |made: Made| Made { timed: true, ..made };
    let condition = thread(2, WaitKind::Futex, "condition variable", &["pthread_cond_timedwait", "work"]);
    assert_eq!(found(std::slice::from_ref(&condition)), "thread-condition-never-signalled");
    assert_eq!(found(&[timed(condition.clone())]), "thread-timed-wait");
    assert_eq!(found(&[timed(condition.clone()), condition]), "thread-condition-never-signalled");
    let read = goroutine(2, WaitKind::Socket, "IO wait", &["internal/poll.(*FD).Read", "main.read"]);
    assert_eq!(found(std::slice::from_ref(&read)), "go-network-without-deadline");
    assert_eq!(found(&[timed(read)]), "");
}

#[test]
fn threads_are_known_by_what_they_wait_on() {
    let looping = |id, fd: u32| Made {
        object: format!("fd {fd} (epoll: 2)"),
        ..thread(id, WaitKind::Poll, "epoll_wait", &["epoll_wait", "run"])
    };
    assert_eq!(found(&[looping(2, 4), looping(3, 5)]), "thread-event-loop-per-request");
    assert_eq!(found(&[looping(2, 4), looping(3, 4)]), "thread-other-end-open", "they share one");
    let read = thread(2, WaitKind::Disk, "read in folio_wait_bit_common", &["read"]);
    assert_eq!(found(&[Made { object: "fd 3 (/mnt/file)".into(), ..read }]), "thread-file-system-silent");
}

fn with_counts(mut recording: Recording, counts: &[&[u64]]) -> Recording {
    for (site, counts) in recording.sites.iter_mut().zip(counts) {
        site.course = Some(Course { counts: counts.to_vec(), ..Course::default() });
    }
    recording
}

#[test]
fn the_root_of_a_knot_is_named_on_both_sides() {
    let holder = Made { holds: vec![held(0x10)], ..sending(2, &["runtime.chansend1", "main.produce"], channel(1)) };
    // One of those that wait holds what others wait for.
    let between = Made { holds: vec![held(0x20)], ..locking(3, 0x10, &["main.update"]) };
    let mut tasks = vec![holder, between];
    tasks.extend((10..1_211).map(|id| locking(id, 0x20, &["main.read"])));
    let recording = recording(&tasks);
    let ids: Vec<&str> = recording.sites.iter().map(|site| site.id.as_str()).collect();
    let said = |place: usize| -> Vec<String> {
        sentences(&recording).into_iter().filter(|(at, _)| *at == place).map(|(_, sentence)| sentence).collect()
    };
    let behind = format!(
        "behind the 1 goroutine at site {} (main.produce), which waits in chan send: the root of this knot",
        ids[0]
    );
    assert_eq!(said(2), [format!("1,201 of 1,201 wait {behind}")]);
    assert_eq!(said(1), [format!("1 of 1 waits {behind}")]);
    let expected = format!(
        "the root of a knot: 1,202 wait behind, 1,201 at site {} (main.read), 1 at site {} (main.update)",
        ids[2], ids[1]
    );
    assert_eq!(said(0), [expected]);
}

#[test]
fn threads_behind_the_last_of_a_chain_are_a_knot_and_circles_are_none() {
    let waits = |id, chain: &[u64], function| Made {
        chain: chain.to_vec(),
        ..thread(id, WaitKind::Futex, "mutex", &["pthread_mutex_lock", function])
    };
    let reader = thread(2, WaitKind::Pipe, "read", &["load"]);
    let made = recording(&[reader, waits(3, &[2], "update"), waits(4, &[3, 2], "query")]);
    let said = sentences(&made);
    assert!(
        said.iter().all(|(place, sentence)| *place == 0 || sentence.contains("(load), which waits in read")),
        "{said:?}"
    );
    assert_eq!(said.len(), 3);
    assert!(knots(&recording(&[waits(2, &[3, 2], "a"), waits(3, &[2, 3], "b")])).is_empty());
    assert!(knots(&recording(&[waits(2, &[99], "a")])).is_empty(), "of no task of the recording");
}

#[test]
fn sites_that_share_objects_and_grow_in_step_are_a_knot_without_a_root() {
    let stacks = [["sync.(*RWMutex).RLock", "main.get"], ["sync.(*RWMutex).Lock", "main.set"]];
    let one = |id, address: u64, stack: &[&'static str]| Made {
        object: format!("sync.RWMutex {address:#x}"),
        ..goroutine(id, WaitKind::Sync, "sync.RWMutex.RLock", stack)
    };
    let tasks: Vec<Made> = (0..6u64).map(|n| one(n + 2, 0x10 * (n / 2 + 1), &stacks[(n % 2) as usize])).collect();
    let steady = with_counts(recording(&tasks), &[&[0, 1, 2, 3], &[0, 2, 4, 6]]);
    let said = sentences(&steady);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].1.contains("(main.set): they wait on the same objects, and their numbers grew in step"),
        "{said:?}"
    );
    let apart = with_counts(recording(&tasks), &[&[0, 1, 2, 3], &[0, 2, 3, 6]]);
    assert!(knots(&apart).is_empty());
    assert!(knots(&recording(&tasks)).is_empty(), "nothing is known of their growth");
}
