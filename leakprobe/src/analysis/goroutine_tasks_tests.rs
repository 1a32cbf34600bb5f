use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;
use crate::{
    analysis::{Callback, Facts, Frames, GoFacts, GoId, record},
    model::{
        Access, Activity, Blocking, Cost, EndRole, Frame, GoFrame, GoStatus, GoWait, GoroutineSample, GoroutineSink,
        Loss, News, OtherEnd, OtherEnds, Recording, Snapshot, Stack, StackTable, Subject, TargetInfo, ThreadSample,
    },
};

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 100 * SECOND;

/// Each address is a frame of its own; those from 100 on are native.
struct OneFrameEach(Vec<Vec<u32>>);

impl Frames for OneFrameEach {
    fn of(&self, stack: StackId) -> &[u32] {
        self.0.get(stack.index()).map_or(&[], Vec::as_slice)
    }
}

struct Program {
    live: Live,
    stacks: StackTable,
    go: GoFacts,
    threads: Vec<ThreadSample>,
    next_slot: u32,
    /// Of all goroutines that come from now on.
    ancestors: Option<Arc<[AncestorSample]>>,
}

impl Program {
    fn new() -> Self {
        Self {
            live: Live::new(SECOND, 0),
            stacks: StackTable::default(),
            go: GoFacts::default(),
            threads: Vec::new(),
            next_slot: 0,
            ancestors: None,
        }
    }

    fn goroutine(&mut self, id: u64, status: GoStatus, stack: &[u64], wait: Option<GoWait>) -> &mut Self {
        let stack = self.stacks.intern(Stack::of_goroutine(stack.to_vec(), StackEnd::Complete));
        let creation = Some(self.stacks.intern(Stack::of_go_statement(50)));
        let sample = GoroutineSample {
            id,
            status,
            wait,
            stack,
            thread: (status == GoStatus::Syscall).then_some(1_000 + u32::try_from(id).unwrap()),
            creation,
            parent: 1,
            runs: None,
            system: id >= 900,
            locked: false,
            labels: None,
            ancestors: self.ancestors.clone(),
            bubble: None,
            holds: None,
        };
        self.live.goroutines_mut().put(self.next_slot, sample);
        self.next_slot += 1;
        self
    }

    fn thread(&mut self, tid: u32, stack: &[u64], activity: Activity) -> &mut Self {
        let stack = self.stacks.intern(Stack::of_thread(stack.to_vec(), StackEnd::Complete));
        let name = "app".to_owned();
        let (start_boottime, lifetime_ns, kernel_stack) = (1, 5, None);
        self.threads.push(ThreadSample {
            tid,
            name,
            start_boottime,
            lifetime_ns,
            activity,
            stack,
            kernel_stack,
            switches: 0,
        });
        self
    }

    fn record(&mut self) -> Recording {
        self.live.goroutines_mut().end_snapshot(NOW, None);
        let alive = self.threads.iter().map(|thread| thread.tid).collect();
        let news = Some(News { alive, changed: std::mem::take(&mut self.threads), ..News::default() });
        self.live.apply_snapshot(Snapshot { taken_ns: NOW, news });
        let of_stack =
            |(_, stack): (StackId, &Stack)| stack.addresses.iter().map(|&n| u32::try_from(n).unwrap()).collect();
        let symbols = OneFrameEach(self.stacks.iter().map(of_stack).collect());
        let frame = |n: u32| Frame {
            function: match n {
                98 => "runtime.goexit.abi0".to_owned(),
                99 => "runtime.asmcgocall.abi0".to_owned(),
                n => format!("f{n}"),
            },
            go: (n < 100).then_some(GoFrame { offset: Some(1), hidden: false }),
            ..Frame::default()
        };
        let facts = Facts {
            target: TargetInfo {
                parent: None,
                pid: 1,
                ns_pid: None,
                comm: "app".into(),
                exe: String::new(),
                runtime: "go1.27.3".into(),
                ended: None,
                execs: 0,
            },
            started: String::new(),
            duration_ms: 0,
            sources: Vec::new(),
            gaps: Vec::new(),
            pauses: Vec::new(),
            events: 0,
            snapshots: 1,
            go: self.go.clone(),
            timers: Vec::new(),
            losses: BTreeMap::new(),
            cost: Cost::default(),
        };
        record(&self.live, &self.stacks, &symbols, (0..200).map(frame).collect(), facts)
    }
}

/// A goroutine of the first runtime.
fn go_id(id: u64) -> GoId {
    GoId { runtime: 0, id }
}

fn wait(since_ns: u64, not_before_ns: Option<u64>) -> Option<GoWait> {
    Some(GoWait {
        kind: WaitKind::Select,
        reason: "select".into(),
        object: GoObject::None,
        since_ns,
        not_before_ns,
        until_ns: None,
        forever: false,
        period_ns: None,
    })
}

fn blocked(kind: WaitKind, reason: &str, age_ns: u64, exact: bool) -> Activity {
    Activity::Blocked(Blocking {
        kind,
        reason: reason.into(),
        object: "fd 3".into(),
        since_ns: NOW - age_ns,
        exact,
        timeout_ms: None,
        subject: Subject::None,
        other_ends: None,
        late_ms: 0,
        timer: None,
        futex: None,
    })
}

fn goroutine(recording: &Recording, id: u64) -> &Task {
    recording.tasks.iter().find(|task| task.kind == TaskKind::Goroutine && task.id == id).unwrap()
}

#[test]
fn what_is_not_known_to_be_parked_is_told_apart() {
    let mut program = Program::new();
    program
        .goroutine(1, GoStatus::Waiting, &[1], wait(NOW - 2 * SECOND, None)) // parked
        .goroutine(2, GoStatus::Waiting, &[1], wait(NOW, None)) // nobody knows
        .goroutine(3, GoStatus::Waiting, &[1], wait(NOW, Some(NOW - 3 * SECOND))) // may be
        .goroutine(4, GoStatus::Waiting, &[1], wait(NOW, Some(NOW - SECOND / 2))) // is not
        .goroutine(5, GoStatus::Runnable, &[1], None);
    let recording = program.record();
    let states: Vec<_> = recording.tasks.iter().map(|task| (task.state, task.site)).collect();
    assert_eq!(
        states,
        [
            (TaskState::Parked, Some(0)),
            (TaskState::Blocked, Some(0)),
            (TaskState::Blocked, Some(0)),
            (TaskState::Blocked, None),
            (TaskState::Runnable, None),
        ]
    );
    let site = &recording.sites[0];
    assert_eq!((recording.sites.len(), site.count, site.parked), (1, 3, 1));
    assert_eq!((site.oldest_ms, site.oldest_exact), (2_000, false));
    assert!(recording.tasks.iter().filter_map(|task| task.wait.as_ref()).all(|wait| !wait.exact));
    let may_be: Vec<bool> = recording.tasks.iter().map(|task| task.may_be_parked(1_000)).collect();
    assert_eq!(may_be, [false, true, true, false, false]);
    let go = recording.coverage.go.unwrap();
    assert_eq!((go.goroutines, go.blocked, go.stacks_complete, go.creations_known), (5, 4, 4, 5));
}

#[test]
fn a_goroutine_in_a_system_call_waits_as_its_thread_does() {
    let mut program = Program::new();
    program
        .goroutine(1, GoStatus::Syscall, &[10, 11], None)
        .goroutine(2, GoStatus::Syscall, &[10, 11], None)
        .thread(1_001, &[12, 13], blocked(WaitKind::Pipe, "read", 3 * SECOND, true))
        .thread(1_002, &[12, 13], blocked(WaitKind::Pipe, "read", 3 * SECOND, true));
    program.go.confirmed = HashSet::from([go_id(1)]);
    let recording = program.record();
    let known = goroutine(&recording, 1);
    let known_wait = known.wait.as_ref().unwrap();
    assert_eq!((known.state, known_wait.kind, &*known_wait.reason), (TaskState::Parked, WaitKind::Pipe, "read"));
    assert_eq!((known_wait.age_ms, known_wait.exact, &*known_wait.object), (3_000, true, "fd 3"));
    assert_eq!(known.stack[..], [10, 11], "the thread's Go frames say the same once more");
    let unknown = goroutine(&recording, 2);
    let unknown_wait = unknown.wait.as_ref().unwrap();
    assert_eq!((unknown.state, unknown_wait.kind, unknown_wait.age_ms), (TaskState::Blocked, WaitKind::Other, 0));
    assert!(unknown.may_be_parked(1_000));
}

#[test]
fn c_code_comes_before_the_goroutine_that_called_it() {
    let mut program = Program::new();
    program
        .goroutine(1, GoStatus::Syscall, &[10, 11], None)
        .goroutine(2, GoStatus::Syscall, &[10, 11], None)
        .goroutine(3, GoStatus::Syscall, &[10, 11], None)
        .goroutine(4, GoStatus::Syscall, &[10, 11], None)
        .thread(1_001, &[101, 102, 99, 12], blocked(WaitKind::Futex, "futex wait", 2 * SECOND, false))
        .thread(1_002, &[101, 99], Activity::Running)
        // In no C code that Go called: a callback, or the scheduler.
        .thread(1_003, &[101, 102, 12, 99], blocked(WaitKind::Futex, "futex wait", 2 * SECOND, false))
        .thread(1_004, &[12], Activity::Runnable);
    program.go.confirmed = HashSet::from([1, 2, 3, 4].map(go_id));
    let recording = program.record();
    assert_eq!(goroutine(&recording, 1).stack[..], [101, 102, 10, 11]);
    assert_eq!(goroutine(&recording, 1).state, TaskState::Parked);
    let running = goroutine(&recording, 2);
    assert_eq!((running.state, running.wait.as_ref().unwrap().kind), (TaskState::Running, WaitKind::Cgo));
    assert_eq!(running.stack[..], [101, 10, 11]);
    assert_eq!(goroutine(&recording, 3).stack[..], [10, 11]);
    let runnable = goroutine(&recording, 4);
    assert_eq!(
        (runnable.state, runnable.wait.as_ref(), &runnable.stack[..]),
        (TaskState::Runnable, None, &[10, 11][..])
    );
    let site = &recording.sites[usize::try_from(goroutine(&recording, 1).site.unwrap()).unwrap()];
    assert_eq!((site.task, &site.stack[..]), (TaskKind::Goroutine, &[101, 102, 10, 11][..]));
}

#[test]
fn threads_of_the_runtime_are_told_from_others() {
    let mut program = Program::new();
    let idle = || blocked(WaitKind::Futex, "futex wait", 9 * SECOND, true);
    program
        .goroutine(7, GoStatus::Running, &[1], None)
        .goroutine(901, GoStatus::Waiting, &[2], wait(NOW - 5 * SECOND, None))
        .thread(1, &[20], Activity::Running)
        .thread(2, &[21], idle())
        .thread(3, &[22], Activity::Running)
        .thread(4, &[21], idle());
    program.go.threads = BTreeMap::from([(1, Some(go_id(7))), (2, None), (3, Some(go_id(8)))]);
    let recording = program.record();
    let roles: Vec<_> = recording.tasks.iter().map(|task| (task.id, task.role, task.runs)).collect();
    assert_eq!(
        roles,
        [
            (1, Role::Carrier, Some(7)),
            (2, Role::Runtime, None),
            (3, Role::Own, Some(8)), // what it runs was not seen
            (4, Role::Own, None),
            (7, Role::Own, None),
            (901, Role::Runtime, None),
        ]
    );
    // Threads 2 and 4 wait alike, but only one of them is the runtime's.
    let threads: Vec<_> = recording.sites.iter().map(|site| (site.task, site.role, site.count)).collect();
    assert_eq!(threads.len(), 3, "{threads:?}");
    assert_eq!(recording.sites[0].role, Role::Own);
    let go = recording.coverage.go.unwrap();
    assert_eq!((go.goroutines, go.system, go.running), (1, 1, 1));
}

#[test]
fn threads_of_another_pid_namespace_are_known_by_our_ids() {
    let mut program = Program::new();
    program
        .goroutine(7, GoStatus::Syscall, &[1], None)
        .thread(501, &[20], blocked(WaitKind::Pipe, "read", 9 * SECOND, true))
        .thread(502, &[21], blocked(WaitKind::Futex, "futex wait", 9 * SECOND, true))
        .thread(1, &[22], Activity::Running);
    // The runtime's own ids: that which it calls 1 has ended, and is not our thread 1.
    program.go.threads = BTreeMap::from([(1_007, Some(go_id(7))), (2, None), (1, None)]);
    program.go.confirmed = HashSet::from([go_id(7)]);
    program.live.set_outer_ids(HashMap::from([(1_007, 501), (2, 502), (9, 1)]));
    let recording = program.record();
    let roles: Vec<_> = recording.tasks.iter().map(|task| (task.id, task.role)).collect();
    assert_eq!(roles, [(1, Role::Own), (501, Role::Carrier), (502, Role::Runtime), (7, Role::Own)]);
    let task = goroutine(&recording, 7);
    assert_eq!(task.goroutine.as_ref().unwrap().thread, Some(501));
    assert_eq!(task.wait.as_ref().map(|wait| &*wait.reason), Some("read"));
}

#[test]
fn threads_that_c_has_created_are_theirs_in_go_and_out_of_it() {
    let mut program = Program::new();
    let idle = || blocked(WaitKind::Futex, "futex wait", 9 * SECOND, true);
    program
        .goroutine(1, GoStatus::Waiting, &[10, 98], wait(NOW - 5 * SECOND, None))
        .goroutine(2, GoStatus::Syscall, &[98], None)
        .thread(1, &[110], Activity::Running)
        .thread(11, &[20], idle())
        .thread(12, &[120, 121], idle());
    let caller = Some(program.stacks.intern(Stack::of_thread(vec![130, 131], StackEnd::Complete)));
    program.go.threads = BTreeMap::from([(11, Some(go_id(1)))]);
    program.go.callbacks = HashMap::from([
        (go_id(1), Callback { thread: 11, caller, at_rest: false }),
        (go_id(2), Callback { thread: 12, caller: None, at_rest: true }),
    ]);
    let recording = program.record();
    let inside = goroutine(&recording, 1);
    assert_eq!(inside.stack[..], [10, 130, 131], "and not the end of a goroutine, to which nothing returns");
    assert_eq!(inside.created_by.why_unknown.as_deref(), Some("created before leakprobe attached"));
    let roles: Vec<_> = recording.tasks.iter().map(|task| (task.kind, task.id, task.role)).collect();
    let (thread, goroutine) = (TaskKind::Thread, TaskKind::Goroutine);
    assert_eq!(
        roles,
        [
            (thread, 1, Role::Own),
            (thread, 11, Role::Carrier),
            (thread, 12, Role::Own),
            (goroutine, 1, Role::Own),
            (goroutine, 2, Role::Carrier),
        ]
    );
    let own: Vec<_> =
        recording.sites.iter().filter(|site| site.role == Role::Own).map(|site| &site.stack[..]).collect();
    assert_eq!(own.len(), 2, "{own:?}");
    assert!(own.contains(&&[10, 130, 131][..]) && own.contains(&&[120, 121][..]), "{own:?}");
}

#[test]
fn the_other_end_is_told_as_long_as_the_wait_lasts() {
    let mut program = Program::new();
    let object = || GoObject::Descriptor { fd: 3, access: Access::Read, words: "fd 3 (pipe:[7])".into() };
    let waiting = || Some(GoWait { object: object(), ..wait(NOW - 5 * SECOND, None).unwrap() });
    program.goroutine(1, GoStatus::Waiting, &[10], waiting()).goroutine(2, GoStatus::Waiting, &[11], waiting());
    let end =
        OtherEnd { role: EndRole::Writer, pid: 9, is_target: false, name: "cat".into(), fd: Some(1), state: None };
    for mut wait in program.live.goroutines_mut().descriptor_waits() {
        assert_eq!(wait.subject(), Subject::Fd { fd: 3, access: Access::Read });
        assert!(!wait.is_described());
        wait.set(None, Some(OtherEnds { known: vec![end.clone()], more: 0, complete: true }));
        assert!(wait.is_described());
    }
    // The first is looked at again, the second waits anew.
    program.live.goroutines_mut().set_object(0, object());
    program.next_slot = 1;
    program.goroutine(2, GoStatus::Waiting, &[11], waiting());
    let recording = program.record();
    let ends = |id| goroutine(&recording, id).wait.as_ref().and_then(|wait| wait.other_ends.clone());
    assert_eq!(ends(1).map(|ends| ends.known.clone()), Some(vec![end]));
    assert_eq!(ends(2), None);
}

#[test]
fn creators_that_have_ended_are_told() {
    let mut program = Program::new();
    program.goroutine(2, GoStatus::Waiting, &[1], wait(NOW, None));
    let ended = program.record();
    program.goroutine(1, GoStatus::Waiting, &[1], wait(NOW, None));
    let alive = program.record();
    let parent = |recording| (goroutine(recording, 2).created_by.task, goroutine(recording, 2).created_by.alive);
    assert_eq!((parent(&ended), parent(&alive)), ((Some(1), Some(false)), (Some(1), Some(true))));
    assert_eq!(goroutine(&alive, 2).created_by.stack[..], [50]);
}

#[test]
fn more_than_can_be_listed_are_counted_and_every_site_is_represented() {
    let stacks = || Stacks { stack: Arc::default(), end: StackEnd::None, creation: Arc::default() };
    let group = |count| Group { stacks: stacks(), site: None, tally: Tally::default(), count };
    let groups = [group(1), group(7), group(1_000)];
    assert_eq!(listed_each(&groups, 5_000), u64::MAX);
    assert_eq!(listed_each(&groups, 20), 12);
    assert_eq!(listed_each(&groups, 3), 1);
    assert_eq!(listed_each(&groups, 2), 0);

    let mut program = Program::new();
    let most = MAX_LISTED as u64;
    for id in 1..=most {
        program.goroutine(id % 899 + 1, GoStatus::Waiting, &[1], wait(NOW - 2 * SECOND, None));
    }
    program.goroutine(1, GoStatus::Waiting, &[2], wait(NOW - 3 * SECOND, None));
    program.goroutine(1, GoStatus::Running, &[3], None);
    let recording = program.record();
    assert_eq!(recording.sites.iter().map(|site| site.count).collect::<Vec<_>>(), [most, 1]);
    assert_eq!(recording.tasks.len() as u64, most);
    assert_eq!(recording.losses[&Loss::GoroutinesNotListed], 2);
    let [.., rare, running] = &recording.tasks[..] else { panic!("too few") };
    assert_eq!((rare.site, running.state), (Some(1), TaskState::Running));
    program.go.other_targets = 3;
    assert!(program.record().tasks.len() as u64 <= most / 4, "beside three others");
    assert_eq!(recording.coverage.go.unwrap().goroutines, most + 2);
}

#[test]
fn objects_are_named_alike_for_those_who_wait_on_the_same() {
    let channel = |address| Channel {
        address,
        send: None,
        len: 0,
        cap: 0,
        closed: false,
        receivers: 1,
        senders: 0,
        timer: false,
        value_bytes: None,
    };
    for (object, words) in [
        (GoObject::None, ""),
        (GoObject::Channel(channel(0xc000)), "chan 0xc000"),
        (GoObject::Channel(channel(0)), "nil channel"),
        (GoObject::Select([].into()), ""),
        (GoObject::Select([channel(1), channel(0)].into()), "chan 0x1, nil channel"),
        (GoObject::Select([1, 2, 3, 4, 5].map(channel).into()), "chan 0x1, chan 0x2, chan 0x3, chan 0x4 and 1 more"),
        (GoObject::Sync { name: "sync.Mutex", address: 0xc0de, queue: None }, "sync.Mutex 0xc0de"),
        (GoObject::Descriptor { fd: 7, access: Access::Read, words: "fd 7 (tcp)".into() }, "fd 7 (tcp)"),
    ] {
        assert_eq!(*object_words(&object), *words);
    }
}

#[test]
fn each_runtime_has_numbers_of_its_own() {
    let mut program = Program::new();
    program
        .goroutine(1, GoStatus::Waiting, &[1], wait(NOW, None))
        .goroutine(3, GoStatus::Syscall, &[10, 11], None)
        .thread(1_003, &[12, 13], blocked(WaitKind::Pipe, "read", 3 * SECOND, true))
        .thread(8, &[12], Activity::Running);
    program.next_slot = 1 << goroutines::SLOT_BITS;
    program.goroutine(2, GoStatus::Waiting, &[1], wait(NOW, None)).goroutine(3, GoStatus::Syscall, &[10, 11], None);
    program.go.confirmed = HashSet::from([GoId { runtime: 1, id: 3 }]);
    program.go.threads = BTreeMap::from([(8, Some(GoId { runtime: 1, id: 1 }))]);
    let recording = program.record();
    let of = |runtime: u32, id: u64| {
        let is_it = |task: &&Task| task.id == id && task.goroutine.as_ref().is_some_and(|go| go.runtime == runtime);
        recording.tasks.iter().find(is_it).unwrap()
    };
    assert_eq!(of(1, 2).created_by.alive, Some(false), "goroutine 1 lives, but in the other runtime");
    assert_eq!(of(0, 3).created_by.alive, Some(true));
    assert_eq!((of(0, 3).state, of(1, 3).state), (TaskState::Blocked, TaskState::Parked));
    let thread = recording.tasks.iter().find(|task| task.kind == TaskKind::Thread && task.id == 8).unwrap();
    assert_eq!((thread.role, thread.runs), (Role::Own, Some(1)), "what it runs was not seen");
}

#[test]
fn equal_ancestors_and_equal_stacks_of_ancestors_are_told_once() {
    let mut program = Program::new();
    let stack = program.stacks.intern(Stack::of_callers(vec![1, 2, 3], StackEnd::Complete));
    let sample = |id| AncestorSample { id, stack, creation: Some(stack) };
    for (id, of) in [(1, [8, 9]), (2, [8, 9]), (3, [8, 7])] {
        program.ancestors = Some(of.map(sample).into());
        program.goroutine(id, GoStatus::Waiting, &[1, 50], None);
    }
    let recording = program.record();
    let ancestors: Vec<_> = recording.tasks.iter().map(|task| &task.goroutine.as_ref().unwrap().ancestors).collect();
    assert_eq!(ancestors[2].iter().map(|one| one.id).collect::<Vec<_>>(), [8, 7]);
    assert_eq!((&*ancestors[0][0].stack, &*ancestors[0][0].creation), (&[1, 2, 3][..], &[1, 2, 3][..]));
    assert!(Arc::ptr_eq(ancestors[0], ancestors[1]) && !Arc::ptr_eq(ancestors[1], ancestors[2]));
    assert!(Arc::ptr_eq(&ancestors[0][0].stack, &ancestors[2][1].creation));
}
