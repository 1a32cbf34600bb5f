use super::*;
use crate::model::{Stack, StackEnd, StackTable};

const SECOND: u64 = 1_000_000_000;

fn stacks() -> (StackTable, [StackId; 3]) {
    let mut table = StackTable::default();
    let ids = [1, 2, 3].map(|n| table.intern(Stack::of_goroutine(vec![n], StackEnd::Complete)));
    (table, ids)
}

fn channel(address: u64) -> Channel {
    Channel {
        address,
        send: Some(false),
        len: 1,
        cap: 2,
        closed: true,
        receivers: 3,
        senders: 0,
        timer: false,
        value_bytes: None,
    }
}

/// A goroutine that waits since `since_ns`, or that runs if there is none.
fn sample(id: u64, stack: StackId, since_ns: Option<u64>) -> GoroutineSample {
    GoroutineSample {
        id,
        status: if since_ns.is_some() { GoStatus::Waiting } else { GoStatus::Running },
        wait: since_ns.map(|since_ns| GoWait {
            kind: WaitKind::ChanReceive,
            reason: "chan receive".into(),
            object: GoObject::Channel(channel(id << 8)),
            since_ns,
            not_before_ns: None,
            until_ns: None,
            period_ns: None,
            forever: false,
        }),
        stack,
        thread: None,
        creation: None,
        parent: 1,
        runs: None,
        system: false,
        locked: false,
        labels: None,
        ancestors: None,
        bubble: None,
        holds: None,
    }
}

#[test]
fn numbers_are_those_of_a_walk_whatever_happens() {
    let (_, places) = stacks();
    let mut table = Goroutines::new(SECOND, false);
    // A fixed sequence that looks random.
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 1..200 {
        let now = round * SECOND / 2;
        for _ in 0..40 {
            let slot = u32::try_from(next(60)).unwrap();
            match next(5) {
                0 => table.remove(slot),
                1 => table.set_object(slot, GoObject::Select(vec![channel(next(9)); 2].into())),
                _ => {
                    let since = (next(4) > 0).then(|| now.saturating_sub(next(3) * SECOND / 2));
                    let stack = places[usize::try_from(next(3)).unwrap()];
                    let sample = sample(next(100) + 1, stack, since);
                    table.put(slot, GoroutineSample { system: next(9) == 0, ..sample });
                }
            }
        }
        table.end_snapshot(now, None);
        let own: Vec<Live<'_>> = table.iter().filter(|live| !live.is_system()).collect();
        let parked = own.iter().filter_map(|live| live.wait()).filter(|wait| now - wait.since_ns >= SECOND).count();
        assert_eq!(table.alive(), own.len() as u64);
        assert_eq!(table.system(), (table.iter().count() - own.len()) as u64);
        assert_eq!(table.parked(), parked as u64, "round {round}");
        for stack in places {
            let here = own.iter().filter(|live| live.stack() == Some(stack)).count();
            assert_eq!(table.count_at(None, stack), here as u64);
        }
    }
}

#[test]
fn what_is_put_comes_back() {
    let (_, [stack, creation, _]) = stacks();
    let mut table = Goroutines::new(SECOND, false);
    let objects = [
        GoObject::None,
        GoObject::Channel(channel(0xc000)),
        GoObject::Channel(Channel { address: 0, ..channel(0) }),
        GoObject::Select([channel(1), Channel { timer: true, ..channel(2) }].into()),
        GoObject::Sync { name: "sync.Mutex", address: 0xc0de, queue: None },
        GoObject::Descriptor { fd: 7, access: Access::Read, words: "fd 7 (tcp)".into() },
    ];
    for (slot, object) in (0..).zip(&objects) {
        let mut sample = sample(u64::from(slot) + 1, stack, Some(5));
        sample.creation = Some(creation);
        sample.thread = Some(12);
        sample.locked = true;
        sample.labels = Some(Arc::new([("a".to_owned(), "b".to_owned())].into()));
        if let Some(wait) = &mut sample.wait {
            wait.object = object.clone();
            (wait.not_before_ns, wait.until_ns, wait.forever) = (Some(3), Some(9), true);
            wait.period_ns = Some(60);
        }
        table.put(slot * 5_000, sample);
    }
    let found: Vec<Live<'_>> = table.iter().collect();
    assert_eq!(found.iter().map(|live| live.object()).collect::<Vec<_>>(), objects);
    assert_eq!(found.iter().map(|live| live.id()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6], "in the order of slots");
    for live in found {
        let wait = live.wait().unwrap();
        assert_eq!((wait.kind, &**wait.reason, wait.forever), (WaitKind::ChanReceive, "chan receive", true));
        assert_eq!((wait.since_ns, wait.not_before_ns, wait.until_ns, wait.period_ns), (5, Some(3), Some(9), Some(60)));
        assert_eq!((live.stack(), live.creation(), live.thread()), (Some(stack), Some(creation), Some(12)));
        assert_eq!((live.parent(), live.is_locked(), live.status()), (1, true, GoStatus::Waiting));
        assert_eq!(live.labels().unwrap()["a"], "b");
        assert!(live.ancestors().is_empty() && !live.is_system());
    }
}

#[test]
fn who_comes_after_the_first_snapshot_is_new() {
    let (_, [stack, ..]) = stacks();
    let mut table = Goroutines::new(SECOND, false);
    table.put(0, sample(1, stack, None));
    table.put(1, sample(2, stack, None));
    table.end_snapshot(SECOND, None);
    table.put(0, sample(1, stack, Some(SECOND))); // has run
    table.put(1, sample(9, stack, None)); // another in the same slot
    table.end_snapshot(2 * SECOND, Some(Turnover { created: 7, gone: 7 }));
    let before_us: Vec<bool> = table.iter().map(|live| live.is_new().is_none()).collect();
    assert_eq!(before_us, [true, false]);
    assert_eq!(table.turnover(), Turnover { created: 7, gone: 7 }, "6 came and went between the snapshots");
}

#[test]
fn details_that_nobody_uses_are_dropped() {
    let (_, [stack, ..]) = stacks();
    let mut table = Goroutines::new(SECOND, false);
    table.put(0, sample(1, stack, Some(5)));
    for len in 0..3 * MIN_DETAILS as u64 {
        table.set_object(0, GoObject::Channel(Channel { len, ..channel(4) }));
    }
    table.end_snapshot(SECOND, None);
    assert_eq!(table.details.len(), 1);
    let last = GoObject::Channel(Channel { len: 3 * MIN_DETAILS as u64 - 1, ..channel(4) });
    assert_eq!(table.iter().next().unwrap().object(), last);
}

#[test]
fn a_million_goroutines_fit() {
    assert!(size_of::<Option<Entry>>() <= 96, "{}", size_of::<Option<Entry>>());
}

#[test]
fn what_comes_and_goes_is_counted_without_the_runtimes_own() {
    let (_, [stack, ..]) = stacks();
    for counted in [None, Some(Turnover { created: 5, gone: 2 })] {
        let mut table = Goroutines::new(SECOND, false);
        table.put(0, sample(1, stack, None));
        table.put(1, sample(2, stack, None));
        table.end_snapshot(SECOND, counted.map(|_| Turnover::default()));
        assert_eq!(table.turnover(), Turnover::default());
        table.put(1, sample(3, stack, None)); // another one in the place of the second
        table.put(2, GoroutineSample { system: true, ..sample(4, stack, None) });
        table.put(0, sample(1, stack, None)); // has run
        table.end_snapshot(2 * SECOND, counted);
        let expected = counted.map_or((1, 1), |all| (all.created - 1, all.gone));
        assert_eq!((table.turnover().created, table.turnover().gone), expected);
        table.remove(2);
        table.end_snapshot(3 * SECOND, counted.map(|all| Turnover { gone: 3, ..all }));
        assert_eq!((table.turnover().created, table.turnover().gone), expected);
    }
}

#[test]
fn when_a_wait_ends_may_change_though_the_goroutine_has_not_run() {
    let (_, [stack, ..]) = stacks();
    let mut table = Goroutines::new(SECOND, false);
    table.put(0, sample(1, stack, Some(5)));
    for timer in [(Some(9), Some(60)), (Some(10), None), (None, None)] {
        table.set_timer(0, timer.0, timer.1);
        let wait = table.iter().next().unwrap().wait().unwrap();
        assert_eq!((wait.until_ns, wait.period_ns), timer);
    }
}

#[test]
fn places_where_nobody_is_are_dropped() {
    let mut stacks = StackTable::default();
    let mut table = Goroutines::new(SECOND, false);
    let mut stack = |n| stacks.intern(Stack::of_goroutine(vec![n], StackEnd::Complete));
    let stays = stack(0);
    (0..3).for_each(|slot| table.put(slot, sample(u64::from(slot) + 1, stays, Some(5))));
    table.put(3, GoroutineSample { system: true, ..sample(4, stack(1), Some(5)) });
    for n in 2..20_000 {
        table.put(4, sample(5, stack(n), Some(5)));
        if n % 1000 == 0 {
            table.end_snapshot(n, None);
        }
    }
    assert!(table.places.len() <= MIN_PLACES + 1000 && table.place_of.len() == table.places.len());
    assert_eq!((table.count_at(None, stays), table.count_at(None, stack(5)), table.places_left_out()), (3, 0, 0));
    let found: Vec<_> = table.iter().map(|live| live.stack().unwrap()).collect();
    assert_eq!(found, [stays, stays, stays, stack(1), stack(19_999)]);
    assert_eq!(table.count_at(None, stack(19_999)), 1);
}

#[test]
fn places_are_bounded_and_those_that_are_not_kept_are_no_place() {
    let mut stacks = StackTable::default();
    let mut table = Goroutines::new(SECOND, false);
    let mut stack = |n| stacks.intern(Stack::of_goroutine(vec![n], StackEnd::Complete));
    let most = MAX_PLACES as u64;
    (0..most + 10).for_each(|n| table.put(n as u32, sample(n + 1, stack(n), Some(5))));
    table.end_snapshot(1, None);
    assert_eq!((table.places.len(), table.places_left_out(), table.alive()), (MAX_PLACES, 10, most + 10));
    let left_out: Vec<_> = table.iter().filter(|live| live.is_place_left_out()).collect();
    assert_eq!(left_out.len(), 10);
    assert!(left_out.iter().all(|live| live.stack().is_none() && live.creation().is_none() && live.wait().is_some()));
    // Room for others when these have ended.
    (0..most).for_each(|n| table.remove(n as u32));
    table.end_snapshot(2, None);
    table.put(0, sample(1, stack(1), Some(5)));
    assert_eq!((table.count_at(None, stack(1)), table.places.len()), (1, 1));
}
