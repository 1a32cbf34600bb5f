mod properties;

use std::sync::Arc;

use super::*;
use crate::{
    model::{
        Check, CreatedBy, Deadlock, DeadlockedTask, Frame, GoStatus, Goroutine, GrowthSample, Link, LinkWait, Owner,
        Relation, Role, Round, TaskKind, TaskState, Wait, WaitKind, WokenBy,
    },
    report::fixture,
};

/// ms between two rounds.
const ROUND: u64 = 10_000;

/// A task of a made-up program.
#[derive(Clone, Debug)]
struct Made {
    kind: TaskKind,
    id: u64,
    /// The function in which it waits.
    at: &'static str,
    creator: &'static str,
    born_ms: u64,
    /// When its wait began.
    since_ms: u64,
    wait: WaitKind,
    timeout_ms: Option<u64>,
    /// In how many ms from the look its timer fires.
    due_ms: Option<u64>,
    forever: bool,
    creator_alive: Option<bool>,
}

fn made(id: u64, at: &'static str, born_ms: u64) -> Made {
    Made {
        kind: TaskKind::Goroutine,
        id,
        at,
        creator: "main.start",
        born_ms,
        since_ms: born_ms,
        wait: WaitKind::ChanReceive,
        timeout_ms: None,
        due_ms: None,
        forever: false,
        creator_alive: Some(true),
    }
}

/// The recording of a program with these tasks at the end of round `round`; the baseline is round 0.
fn recording(round: usize, tasks: &[Made]) -> Recording {
    let at_ms = ROUND * (round as u64 + 1);
    let mut recording = fixture::idle();
    recording.frames = Vec::new();
    let mut frame = |function: &str| {
        let known = recording.frames.iter().position(|frame: &Frame| frame.function == function);
        let place = known.unwrap_or(recording.frames.len());
        if known.is_none() {
            recording.frames.push(Frame { function: function.into(), module: "/srv/app".into(), ..Frame::default() });
        }
        place as u32
    };
    let mut sites: Vec<Site> = Vec::new();
    let mut listed = Vec::new();
    let template = fixture::checkout().sites.remove(0);
    for made in tasks.iter().filter(|made| made.born_ms <= at_ms) {
        let stack = vec![frame(made.at)];
        let creation = if made.creator.is_empty() { vec![] } else { vec![frame(made.creator)] };
        let id = format!("{}<{}:{}", made.at, made.creator, made.wait);
        let age_ms = at_ms - made.since_ms.min(at_ms);
        let place = sites.iter().position(|site| site.id == id).unwrap_or(sites.len());
        if place == sites.len() {
            sites.push(Site {
                id,
                task: made.kind,
                role: Role::Own,
                kind: made.wait,
                count: 0,
                parked: 0,
                brief: 0,
                in_slices: 0,
                slice_ms: None,
                oldest_ms: 0,
                with_timeout: 0,
                wait: made.wait.to_string(),
                stack: stack.clone(),
                creation: creation.clone(),
                names: vec!["app".into()],
                trend: vec![],
                evidence: vec![],
                verdict: Verdict::Unjudged,
                ..template.clone()
            });
        }
        let creation = creation.clone();
        let site = &mut sites[place];
        site.count += 1;
        site.parked += 1;
        site.oldest_ms = site.oldest_ms.max(age_ms);
        site.with_timeout += u64::from(made.timeout_ms.is_some());
        let goroutine = (made.kind == TaskKind::Goroutine)
            .then(|| Box::new(Goroutine { forever: made.forever, ..Goroutine::waiting() }));
        listed.push(Task {
            name: "app".into(),
            wait: Some(Wait { timeout_ms: made.timeout_ms, due_ms: made.due_ms, ..Wait::lasting(made.wait, age_ms) }),
            stack: stack.into(),
            lifetime_ms: Some(at_ms - made.born_ms),
            created_by: CreatedBy { alive: made.creator_alive, stack: creation.clone().into(), ..CreatedBy::default() },
            site: Some(place as u32),
            goroutine,
            ..Task::parked(made.kind, made.id)
        });
    }
    recording.sites = sites;
    recording.tasks = listed;
    recording.growth = vec![GrowthSample { at_ms, ..GrowthSample::default() }];
    recording
}

/// On a machine with two processors.
fn criteria() -> Criteria {
    Criteria { max_growth_percent: 5.0, processors: 2 }
}

/// Everything that is thought of it.
fn all_judged(rounds: &[Recording]) -> Judgements {
    let moments: Vec<Moment> = rounds.iter().map(Moment::of).collect();
    judge(rounds.last().unwrap(), History { moments: &moments, before: None }, &criteria())
}

/// What is thought of the site at `function` after these rounds, the first of which is the baseline.
fn judged(rounds: &[Recording], function: &str) -> Judgement {
    let moments: Vec<Moment> = rounds.iter().map(Moment::of).collect();
    let last = rounds.last().unwrap();
    let judgements = judge(last, History { moments: &moments, before: None }, &criteria()).sites;
    let site = last.sites.iter().position(|site| site.id.starts_with(&format!("{function}<"))).unwrap();
    judgements[site].clone()
}

/// The recordings of the baseline and of `rounds` rounds, with the tasks that `tasks` gives for each.
fn rounds(rounds: usize, tasks: impl Fn(usize) -> Vec<Made>) -> Vec<Recording> {
    (0..=rounds).map(|round| recording(round, &tasks(round))).collect()
}

/// `a_round` goroutines that come in each round, in its middle, and stay.
fn leak(a_round: u64, round: usize) -> Vec<Made> {
    let all = (1..=round as u64).flat_map(|round| (0..a_round).map(move |n| (round, n)));
    all.map(|(round, n)| made(1_000 + round * 100 + n, "main.leak", ROUND * round + ROUND / 2)).collect()
}

#[test]
fn what_grows_with_every_round_and_never_wakes_is_likely_a_leak() {
    let judgement = judged(&rounds(3, |round| leak(4, round)), "main.leak");
    assert_eq!(judgement.verdict, Verdict::Likely);
    let course = judgement.course.unwrap();
    assert_eq!((course.counts, course.new, course.followed, course.woke), (vec![0, 4, 8, 12], 12, 8, 0));
    assert_eq!(
        judgement.evidence,
        [
            Fact::GrewWithRounds { counts: vec![0, 4, 8, 12], grew: 3, rounds: 3, per_round: None, per_request: None },
            Fact::NoneWoke { of: 8 },
        ]
    );
    assert_eq!(judgement.finding.unwrap().pattern, "go-chan-receive-no-sender");
}

#[test]
fn rates_are_told_for_rounds_and_requests() {
    let mut rounds = rounds(3, |round| leak(5, round));
    let round = Round { requests: Some(100), settled: true, ..Round::default() };
    let check = Check {
        rounds: vec![Round { requests: None, ..round.clone() }, round.clone(), round.clone(), round],
        ..Check::default()
    };
    rounds[3].check = Some(check);
    let judgement = judged(&rounds, "main.leak");
    assert_eq!(
        judgement.evidence[0].to_string(),
        "grew with every round of load: 0, 5, 10, 15 (5 a round, 0.05 a request)"
    );
}

#[test]
fn one_round_is_not_enough_to_call_it_likely() {
    assert_eq!(judged(&rounds(1, |round| leak(9, round)), "main.leak").verdict, Verdict::Suspect);
}

#[test]
fn a_single_moment_tells_only_what_is_proven() {
    let judgement = judged(&[recording(0, &[made(7, "main.worker", 0)])], "main.worker");
    assert_eq!((judgement.verdict, judgement.course), (Verdict::Unjudged, None));
}

#[test]
fn what_grew_and_stopped_is_idle_and_what_may_still_stop_is_open() {
    let grown = |round: usize| leak(4, round.min(1));
    let judgement = judged(&rounds(3, grown), "main.leak");
    assert_eq!(judgement.ground, Some(Ground::Stopped), "{judgement:?}");
    // Two more rounds decide what three leave open.
    let few = |round: usize| leak(2, round.min(2));
    assert!(all_judged(&rounds(3, few)).is_open);
    assert_eq!(judged(&rounds(6, few), "main.leak").ground, Some(Ground::Stopped));
    // A pool of 64 that gets a worker with each of eight jobs a round.
    let pool = |most: u64| move |round: usize| leak(8, round).into_iter().take(most as usize).collect::<Vec<_>>();
    assert!(all_judged(&rounds(3, pool(56))).is_open);
    let full = all_judged(&rounds(8, pool(56)));
    assert_eq!((full.worst(), full.is_open), (Verdict::Idle, false), "{full:?}");
}

/// One task with every so many of 20 requests a round.
fn rare(every: u64, round: usize) -> Vec<Made> {
    let come = |round: usize| 20 * round as u64 / every;
    let all = (1..=round).flat_map(|round| (come(round - 1)..come(round)).map(move |n| (round as u64, n)));
    all.map(|(round, n)| made(1_000 + n, "main.leak", ROUND * round + ROUND / 2)).collect()
}

#[test]
fn the_sum_over_rounds_decides_however_few_come_with_one() {
    assert!(all_judged(&rounds(3, |round| rare(30, round))).is_open);
    for most in 5..=16 {
        let judgement = judged(&rounds(most, |round| rare(30, round)), "main.leak");
        assert_eq!(judgement.verdict, Verdict::Likely, "{most}: {judgement:?}");
    }
}

#[test]
fn what_others_wake_is_likely_only_after_many_steady_rounds() {
    let used = |round: usize| {
        let mut tasks = leak(4, round);
        tasks.iter_mut().for_each(|task| task.since_ms = ROUND * round as u64 + ROUND / 2);
        tasks
    };
    let judgements = all_judged(&rounds(3, used));
    assert_eq!((judgements.worst(), judgements.is_open), (Verdict::Suspect, true));
    assert_eq!(judged(&rounds(8, used), "main.leak").ground, Some(Ground::Steady));
    // One round without growth, and they are a pool in use.
    let pool = |round: usize| used(round).into_iter().filter(|task| task.born_ms / ROUND != 4).collect();
    let judgement = judged(&rounds(8, pool), "main.leak");
    assert_eq!(judgement.verdict, Verdict::Idle, "{judgement:?}");
    // As long as their own timers are not due, nothing is said: they may end by those.
    let keep_alive = |round: usize| {
        let mut tasks = used(round);
        tasks.iter_mut().for_each(|task| task.due_ms = Some(60_000));
        tasks
    };
    assert_eq!(judged(&rounds(8, keep_alive), "main.leak").ground, Some(Ground::NotDue));
}

#[test]
fn loops_that_only_their_own_timers_wake_are_likely_if_they_come_steadily_and_stay() {
    let ticking = |stays: bool| {
        move |round: usize| {
            let mut tasks = leak(4, round);
            for task in &mut tasks {
                task.wait = WaitKind::Sleep;
                task.timeout_ms = Some(500);
                task.due_ms = Some(200);
                task.since_ms = ROUND * (round as u64 + 1) - 300;
            }
            if !stays && round == 3 {
                tasks.remove(0);
            }
            tasks
        }
    };
    let judgement = judged(&rounds(3, ticking(true)), "main.leak");
    assert_eq!(judgement.ground, Some(Ground::OnlyTimers), "{:?}", judgement.evidence);
    assert!(matches!(judgement.evidence[1], Fact::Woke { by: WokenBy::Timers, .. }), "{:?}", judgement.evidence);
    assert_eq!(judged(&rounds(3, ticking(false)), "main.leak").verdict, Verdict::Suspect);
}

#[test]
fn a_timer_counts_only_once_it_was_due() {
    // Each ends by itself after 60 s: no round is that long.
    let waiting = |round: usize| {
        let mut tasks = leak(4, round);
        for task in &mut tasks {
            task.due_ms = Some((task.since_ms + 60_000).saturating_sub(ROUND * (round as u64 + 1)));
        }
        tasks
    };
    let judgements = all_judged(&rounds(3, waiting));
    assert!(!judgements.is_open, "more rounds tell no more");
    let judgement = judged(&rounds(3, waiting), "main.leak");
    assert_eq!(judgement.ground, Some(Ground::NotDue));
    assert_eq!(judgement.course.unwrap().due_ms, Some(55_000));
    // What is due in years never ends.
    let never = |round: usize| {
        let mut tasks = leak(4, round);
        tasks.iter_mut().for_each(|task| task.due_ms = Some(u64::MAX / 1_000_000));
        tasks
    };
    assert_eq!(judged(&rounds(3, never), "main.leak").verdict, Verdict::Likely);
}

#[test]
fn a_leak_behind_a_pool_is_found_and_a_pool_alone_is_not_accused() {
    let behind = |a_round: u64| {
        move |round: usize| {
            let pool = (0..20 * u64::from(round > 0)).map(|n| made(n + 1, "main.leak", ROUND + ROUND / 2));
            pool.chain(leak(a_round, round)).collect()
        }
    };
    assert_eq!(judged(&rounds(8, behind(1)), "main.leak").verdict, Verdict::Likely);
    assert_eq!(judged(&rounds(8, behind(0)), "main.leak").ground, Some(Ground::Stopped));
    assert!(all_judged(&rounds(3, behind(1))).is_open);
}

#[test]
fn who_stays_among_those_that_come_and_go_is_found() {
    // Of those that a round brings, `stay` stay, and five end after so many rounds.
    let among = |stay: u64, lasts: usize| {
        move |round: usize| {
            let passing = (1..=round).filter(|came| round - came < lasts).flat_map(|came| {
                (0..5).map(move |n| made(5_000 + came as u64 * 100 + n, "main.leak", ROUND * came as u64 + ROUND / 2))
            });
            leak(stay, round).into_iter().chain(passing).collect()
        }
    };
    let ground = |stay, lasts, most| judged(&rounds(most, among(stay, lasts)), "main.leak").ground;
    assert_eq!(ground(1, 2, 8), Some(Ground::EveryRound));
    // Those that end become older, so that in as many rounds fewer are older by far.
    assert_eq!(ground(1, 3, 8), Some(Ground::EveryRound));
    assert_eq!(ground(1, 3, 7), Some(Ground::Unclear));
    assert!(all_judged(&rounds(5, among(1, 3))).is_open, "a task is left that is older than any that ended");
    for lasts in 2..4 {
        assert_eq!(ground(0, lasts, 8), Some(Ground::Turnover));
        assert!(!all_judged(&rounds(6, among(0, lasts))).is_open);
    }
}

#[test]
fn who_never_gets_a_lock_is_suspect_though_no_more_come() {
    let locked = |wait: WaitKind| {
        move |round: usize| {
            let task = |id| Made { wait, ..made(id, "main.leak", ROUND + ROUND / 2) };
            (1..=2 * u64::from(round > 0)).map(task).collect::<Vec<_>>()
        }
    };
    assert_eq!(judged(&rounds(6, locked(WaitKind::Lock)), "main.leak").verdict, Verdict::Suspect);
    assert_eq!(judged(&rounds(6, locked(WaitKind::ChanReceive)), "main.leak").verdict, Verdict::Idle);
}

#[test]
fn use_by_a_load_of_a_few_ms_is_seen() {
    // Each round brings a worker; all of them were last used just after the look before the last.
    let workers = |round: usize| {
        let used = ROUND * round as u64 + 30;
        let mut workers = leak(1, round);
        workers.iter_mut().filter(|task| task.born_ms < used).for_each(|task| task.since_ms = used);
        workers
    };
    let course = judged(&rounds(4, workers), "main.leak").course.unwrap();
    assert_eq!((course.followed, course.woke), (3, 3));
}

#[test]
fn who_waits_for_another_waits_for_the_timer_of_that_one() {
    // Of each three, one sleeps so long, if at all, another waits until it exits or gives a lock back, and one more waits for that.
    let three = |sleeps_ms: Option<u64>, relation: Relation| {
        move |round: usize| -> Recording {
            let thread = |id, at, wait, due_ms| Made {
                kind: TaskKind::Thread,
                wait,
                due_ms,
                ..made(id, at, ROUND * (id / 10) + 10)
            };
            let due = |n: u64| Some(sleeps_ms? - ROUND * (round as u64 - n));
            let tasks = (1..=round as u64).flat_map(|n| {
                [
                    thread(10 * n, "expire", WaitKind::Sleep, due(n)),
                    thread(10 * n + 1, "join", WaitKind::Futex, None),
                    thread(10 * n + 2, "join_again", WaitKind::Futex, None),
                ]
            });
            let mut recording = recording(round, &tasks.collect::<Vec<_>>());
            for task in recording.tasks.iter_mut().filter(|task| task.id % 10 > 0) {
                let owner = |id| Owner { task: id, relation, ..Owner::default() };
                let chain = (1..=task.id % 10).map(|n| Link { owner: owner(task.id - n), wait: None }).collect();
                task.wait.as_mut().unwrap().chain = chain;
            }
            recording
        }
    };
    let ground = |at, sleeps_ms, relation: Relation| {
        let recordings: Vec<_> = (0..=3).map(three(sleeps_ms, relation)).collect();
        judged(&recordings, at).ground.unwrap()
    };
    for at in ["expire", "join", "join_again"] {
        for relation in [Relation::Joined, Relation::Holds] {
            assert_eq!(ground(at, Some(90_000), relation), Ground::NotDue, "{at}");
            assert_eq!(ground(at, None, relation).verdict(), Verdict::Likely, "{at}");
        }
    }
    // Nobody holds a lock for an hour on purpose.
    let hour_ms = 3_600_000;
    assert_eq!(ground("join", Some(hour_ms), Relation::Joined), Ground::NotDue);
    assert_eq!(ground("join", Some(hour_ms), Relation::Holds).verdict(), Verdict::Likely);
}

#[test]
fn who_may_wait_for_as_many_siblings_as_are_not_due_is_not_judged() {
    // Each round brings two that wait for what nobody knows, and so many that sleep for 90 s from then on.
    let pair = |sleeping: u64, wait: WaitKind, creator: &'static str| {
        move |round: usize| {
            let rounds = 1..=round as u64;
            let born = |n: u64| ROUND * n + ROUND / 2;
            let sleep = move |n: u64, id: u64| Made {
                due_ms: Some(90_000 - ROUND * (round as u64 - n)),
                wait: WaitKind::Sleep,
                creator,
                ..made(5_000 + n * 100 + id, "main.expire", born(n))
            };
            let waiting = move |n: u64, id: u64| Made { wait, ..made(1_000 + n * 100 + id, "main.await", born(n)) };
            rounds
                .flat_map(|n| (0..sleeping).map(move |id| sleep(n, id)).chain((0..2).map(move |id| waiting(n, id))))
                .collect()
        }
    };
    let ground =
        |sleeping, wait, creator| judged(&rounds(3, pair(sleeping, wait, creator)), "main.await").ground.unwrap();
    let receives = WaitKind::ChanReceive;
    assert_eq!(ground(2, receives, "main.start"), Ground::NotDue);
    assert!(!all_judged(&rounds(3, pair(2, receives, "main.start"))).is_open);
    for (sleeping, wait, creator) in [
        // Of another function, or not as many.
        (2, receives, "main.other"),
        (1, receives, "main.start"),
        (3, receives, "main.start"),
        (4, receives, "main.start"),
        // Who sleeps receives nothing.
        (2, WaitKind::ChanSend, "main.start"),
    ] {
        assert_eq!(ground(sleeping, wait, creator), Ground::EveryRound, "{sleeping} {wait} {creator}");
    }
}

#[test]
fn chains_need_tasks_that_create_their_successors() {
    let chains = |creator: &'static str, count: fn(u64) -> u64| {
        move |round: usize| {
            let chains = 0..count(round as u64);
            // Each look finds others.
            let links =
                chains.map(|n| made(1_000 * (round as u64 + 1) + n, "main.leak", ROUND * (round as u64 + 1) - 200));
            links.map(|link| Made { creator, ..link }).collect()
        }
    };
    let judgement = judged(&rounds(3, chains("main.leak", |round| 3 * round)), "main.leak");
    assert_eq!(judgement.ground, Some(Ground::Chains), "{:?}", judgement.evidence);
    // The saw tooth of what a garbage collector ends has no parents in itself.
    let judgement = judged(&rounds(3, chains("main.start", |round| 3 * round)), "main.leak");
    assert_eq!(judgement.ground, Some(Ground::Turnover), "{:?}", judgement.evidence);
    let uneven = chains("main.leak", |round| round * round * round);
    assert_eq!(judged(&rounds(3, uneven), "main.leak").verdict, Verdict::Idle);
}

#[test]
fn tasks_count_from_their_arrival_and_a_task_that_moved_has_not_left() {
    // The last subscriber of each round waits for its event, and gets stuck at the next place in the next round.
    let subscribers = |round: usize| {
        let mut tasks = leak(10, round);
        let last = tasks.len().saturating_sub(1);
        for (n, task) in tasks.iter_mut().enumerate() {
            let stuck = (n < last).then(|| task.born_ms + if n % 10 == 9 { ROUND } else { 10 });
            (task.at, task.since_ms) = ("main.event", task.born_ms);
            if let Some(since_ms) = stuck.filter(|&since| since < ROUND * (round as u64 + 1)) {
                (task.at, task.since_ms, task.wait) = ("main.out", since_ms, WaitKind::ChanSend);
            }
        }
        tasks
    };
    let judgement = judged(&rounds(3, subscribers), "main.out");
    assert_eq!(judgement.verdict, Verdict::Likely, "{judgement:?}");
    assert_eq!(judgement.course.unwrap().ended, 0);
}

#[test]
fn one_leak_at_many_places_is_judged_by_its_creator_once() {
    const PLACES: [&str; 8] = ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"];
    let spread = |round: usize| {
        let mut tasks = leak(3, round);
        tasks.iter_mut().enumerate().for_each(|(n, task)| task.at = PLACES[n % 8]);
        tasks
    };
    let rounds = rounds(4, spread);
    let judgements = all_judged(&rounds);
    let mut last = rounds.last().unwrap().clone();
    let tasks = last.tasks.len();
    tell(&mut last, judgements);
    assert_eq!(last.sites.len(), 1, "{:?}", last.sites);
    let site = &last.sites[0];
    assert_eq!((site.verdict, site.count as usize, site.places.len()), (Verdict::Likely, tasks, 8));
    assert!(last.tasks.iter().all(|task| task.site == Some(0)));
    assert_eq!(site.course.as_ref().unwrap().counts, [0, 3, 6, 9, 12]);
}

#[test]
fn tasks_that_never_rest_are_judged_by_their_creator() {
    let restless = |round: usize| {
        let mut recording = recording(round, &leak(5, round));
        for task in &mut recording.tasks {
            (task.state, task.site, task.wait, task.stack) = (TaskState::Running, None, None, Arc::default());
        }
        recording.sites.clear();
        recording
    };
    let rounds: Vec<Recording> = (0..=3).map(restless).collect();
    let judgements = all_judged(&rounds);
    assert!(judgements.is_open);
    let mut last = rounds.last().unwrap().clone();
    tell(&mut last, judgements);
    let site = &last.sites[0];
    assert_eq!((site.verdict, site.ground, site.count), (Verdict::Likely, Some(Ground::Busy), 15), "{site:?}");
    assert_eq!(site.wait, "running");
}

#[test]
fn who_could_not_be_read_at_one_moment_has_not_ended() {
    let ticking = |round: usize| {
        let mut tasks = leak(4, round);
        for task in &mut tasks {
            (task.wait, task.due_ms, task.since_ms) = (WaitKind::Sleep, Some(200), ROUND * (round as u64 + 1) - 300);
        }
        tasks.into_iter().filter(|task| round != 2 || task.id != 1_100).collect()
    };
    let judgement = judged(&rounds(3, ticking), "main.leak");
    assert_eq!((judgement.ground, judgement.course.unwrap().ended), (Some(Ground::OnlyTimers), 0));
}

#[test]
fn growth_of_the_total_that_nothing_explains_is_said() {
    // Nobody knows their creators, and each is somewhere else.
    const PLACES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let unknown = |round: usize| {
        let mut tasks = leak(3, round);
        tasks.iter_mut().enumerate().for_each(|(n, task)| (task.creator, task.at) = ("", PLACES[n % 9]));
        let mut recording = recording(round, &tasks);
        recording.tasks.iter_mut().for_each(|task| (task.site, task.state) = (None, TaskState::Running));
        recording.sites.clear();
        recording
    };
    let rounds: Vec<Recording> = (0..=3).map(unknown).collect();
    let said = all_judged(&rounds).unexplained.unwrap();
    assert!(said.contains("0, 3, 6, 9"), "{said}");
    assert_eq!(all_judged(&self::rounds(3, |round| leak(3, round))).unexplained, None);
}

#[test]
fn what_the_warm_up_left_and_nothing_used_since_is_not_judged() {
    let left = |_: usize| vec![made(7, "main.stuck", 5_000), made(8, "main.main", 0)];
    let rounds = rounds(3, left);
    let moments: Vec<Moment> = rounds.iter().map(Moment::of).collect();
    let before = Moment::of(&recording(0, &[made(8, "main.main", 0)]));
    let history = History { moments: &moments, before: Some(&before) };
    let judgements = judge(rounds.last().unwrap(), history, &criteria());
    let grounds: Vec<_> = judgements.sites.iter().map(|site| (site.ground, site.verdict)).collect();
    assert_eq!(grounds, [(Some(Ground::Unused), Verdict::Unjudged), (Some(Ground::NoGrowth), Verdict::Idle)]);
}

#[test]
fn growth_of_pending_timers_is_judged() {
    use crate::model::PendingTimers;
    let with = |counts: &[u64]| {
        let of = |(round, &count): (usize, &u64)| {
            let mut recording = recording(round, &[]);
            let timers =
                PendingTimers { id: "0000000a".into(), count, latest_ms: 3_600_000, ..PendingTimers::default() };
            recording.timers = vec![timers];
            recording
        };
        let rounds: Vec<Recording> = counts.iter().enumerate().map(of).collect();
        let judgements = all_judged(&rounds);
        let mut last = rounds.last().unwrap().clone();
        tell(&mut last, judgements);
        last.timers.remove(0)
    };
    let grown = with(&[10, 20, 30, 40]);
    assert_eq!((grown.verdict, &grown.counts[..]), (Verdict::Suspect, &[10, 20, 30, 40][..]));
    assert_eq!(grown.evidence[1], Fact::Pending { latest_ms: 3_600_000 });
    assert_eq!(with(&[10, 12, 11, 10]).verdict, Verdict::Idle);
}

#[test]
fn level_numbers_are_idle_and_shrinking_ones_too() {
    let pool = |round: usize| (0..8 - round as u64).map(|id| made(id + 2, "main.worker", 0)).collect();
    let judgement = judged(&rounds(3, pool), "main.worker");
    assert_eq!((judgement.verdict, &judgement.evidence[0]), (Verdict::Idle, &Fact::Fewer { counts: vec![8, 7, 6, 5] }));
    let judgement = judged(&rounds(3, |_| vec![made(3, "main.worker", 0)]), "main.worker");
    assert_eq!((judgement.verdict, &judgement.evidence[0]), (Verdict::Idle, &Fact::Level { counts: vec![1; 4] }));
}

#[test]
fn what_is_old_and_was_left_by_its_creators_is_suspect_even_if_level() {
    let left = |_: usize| {
        let old = |id| Made { creator_alive: Some(false), ..made(id, "main.worker", 0) };
        vec![old(4), old(5)]
    };
    let later = |recordings: Vec<Recording>| {
        recordings.into_iter().map(|mut recording| {
            recording.sites.iter_mut().for_each(|site| site.oldest_ms += LONG_MS);
            recording
        })
    };
    assert_eq!(judged(&rounds(3, left), "main.worker").verdict, Verdict::Idle);
    let old: Vec<Recording> = later(rounds(3, left)).collect();
    assert_eq!(judged(&old, "main.worker").verdict, Verdict::Suspect);
}

#[test]
fn tolerance_is_for_noise_and_not_for_steady_growth() {
    let beside = |grown: fn(usize) -> usize| {
        move |round: usize| {
            let old = (0..100).map(|id| made(id + 2, "main.leak", 0));
            old.chain(leak(1, grown(round))).collect()
        }
    };
    let judgement = judged(&rounds(3, beside(|round| round)), "main.leak");
    assert_eq!(judgement.verdict, Verdict::Likely, "{judgement:?}");
    let judgement = judged(&rounds(3, beside(|round| round - usize::from(round == 2))), "main.leak");
    assert_eq!(judgement.ground, Some(Ground::Tolerated), "{judgement:?}");
}

#[test]
fn threads_whose_creators_were_not_seen_count_where_their_site_is_known_later() {
    // 60 workers are there when we come. Until the first of them is created before our eyes, they are a site of their own.
    let thread = |id: u64, creator: &'static str, born_ms: u64| Made {
        kind: TaskKind::Thread,
        creator,
        ..made(id, "worker", born_ms)
    };
    let at = |round: usize| {
        let creator = if round == 0 { "" } else { "start" };
        let old = (0..60).map(|id| thread(id, creator, 0));
        let new = (1..=round as u64).map(|n| thread(100 + n, "start", ROUND * n + 10));
        recording(round, &old.chain(new).collect::<Vec<_>>())
    };
    let rounds: Vec<Recording> = (0..=3).map(at).collect();
    let judgement = judged(&rounds, "worker");
    assert_eq!(judgement.course.map(|course| course.counts), Some(vec![60, 61, 62, 63]));
    let all = all_judged(&rounds);
    assert!(all.creators.is_empty(), "the site tells of it as well as its creator does: {all:?}");
}

#[test]
fn threads_of_unknown_creators_that_others_replace_are_no_growth() {
    let thread = |id, creator, born| Made { kind: TaskKind::Thread, creator, ..made(id, "work", born) };
    let pool = |round: usize| {
        let old = (0..6 - 2 * round as u64).map(|id| thread(10 + id, "", 0));
        let new = (0..2 * round as u64).map(|id| thread(20 + id, "start", ROUND * (id / 2 + 1) + 100));
        old.chain(new).collect()
    };
    let rounds = rounds(3, pool);
    let last = rounds.last().unwrap();
    assert!(last.sites.iter().any(|site| site.id.starts_with("work<start")));
    let judgement = judged(&rounds, "work");
    assert_eq!(judgement.verdict, Verdict::Idle, "{judgement:?}");
}

#[test]
fn what_cannot_wake_is_proven_but_for_main() {
    let hopeless = |id, wait| Made { forever: true, wait, ..made(id, "main.stuck", 0) };
    let judgement = judged(&[recording(0, &[hopeless(9, WaitKind::ChanReceive)])], "main.stuck");
    assert_eq!(judgement.verdict, Verdict::Proven);
    assert_eq!(judgement.evidence, [Fact::CannotWake { tasks: 1, of: 1, why: CannotWake::NilChannel }]);
    assert_eq!(judgement.finding.unwrap().pattern, "go-nil-channel");
    assert_eq!(
        judged(&[recording(0, &[hopeless(9, WaitKind::Select)])], "main.stuck").finding.unwrap().pattern,
        "go-empty-select"
    );
    assert_eq!(judged(&[recording(0, &[hopeless(1, WaitKind::Select)])], "main.stuck").verdict, Verdict::Unjudged);
    let mut marked = recording(0, &[made(5, "main.stuck", 0)]);
    marked.tasks[0].goroutine.as_mut().unwrap().status = GoStatus::Leaked;
    assert_eq!(judged(&[marked], "main.stuck").verdict, Verdict::Proven);
}

#[test]
fn deadlocked_threads_and_those_behind_them_are_proven() {
    let thread = |id, at| Made { kind: TaskKind::Thread, wait: WaitKind::Futex, ..made(id, at, 0) };
    let mut made = recording(
        0,
        &[thread(11, "a"), thread(12, "b"), thread(13, "behind"), thread(14, "joins"), thread(15, "gone")],
    );
    let wait = LinkWait { reason: "mutex".into(), object: Arc::default(), age_ms: 5, exact: true };
    let link = |id, relation| Link {
        owner: Owner { task: id, relation, state: Some(TaskState::Parked), ..Owner::default() },
        wait: Some(wait.clone()),
    };
    let one = |id| DeadlockedTask { task: id, name: "app".into(), wait: wait.clone() };
    made.deadlocks = vec![Deadlock { tasks: vec![one(11), one(12)], behind: 2, stuck: vec![13] }];
    use crate::model::Relation::{Holds, Joined};
    made.tasks[2].wait.as_mut().unwrap().chain = [link(11, Holds), link(12, Holds)].into();
    made.tasks[3].wait.as_mut().unwrap().chain = [link(11, Joined), link(12, Holds)].into();
    let exited = Owner { task: 99, state: Some(TaskState::Exited), ..Owner::default() };
    made.tasks[4].wait.as_mut().unwrap().owner = Some(Box::new(exited));
    let verdict = |at: &str| judged(std::slice::from_ref(&made), at);
    assert_eq!(verdict("a").finding.unwrap().pattern, "thread-lock-order-inversion");
    assert_eq!(verdict("behind").evidence, [Fact::CannotWake { tasks: 1, of: 1, why: CannotWake::BehindDeadlock }]);
    assert_eq!(verdict("joins").verdict, Verdict::Unjudged);
    assert_eq!(verdict("gone").finding.unwrap().pattern, "thread-lock-holder-exited");
}

#[test]
fn what_only_a_lock_s_holder_could_wake_and_goes_on_all_the_same_is_not_proven() {
    let at_round = |ids: &[u64], at: &'static str| {
        let of = |&id: &u64| Made { kind: TaskKind::Thread, wait: WaitKind::Futex, ..made(id, at, 0) };
        let mut made = recording(0, &ids.iter().map(of).collect::<Vec<Made>>());
        for task in &mut made.tasks {
            let exited = Owner { task: 99, state: Some(TaskState::Exited), ..Owner::default() };
            task.wait.as_mut().unwrap().owner = Some(Box::new(exited));
        }
        made
    };
    let verdict = |rounds: &[Recording]| judged(rounds, "gone").verdict;
    let [stays, more] = [at_round(&[11], "gone"), at_round(&[11, 12], "gone")];
    assert_eq!(verdict(&[stays.clone(), more.clone()]), Verdict::Proven);
    // Its like was thought to be so, too, and has ended; or waits elsewhere.
    assert_ne!(verdict(&[stays.clone(), more.clone(), at_round(&[12, 13], "gone")]), Verdict::Proven);
    let mut moved = more.clone();
    moved.tasks[0].site = None;
    assert_ne!(verdict(&[stays, moved, more]), Verdict::Proven);
}

#[test]
fn pools_of_runtimes_are_idle_up_to_their_bound_and_only_in_their_own_code() {
    const WAITS: &str = "rayon_core::registry::WorkerThread::wait_until_cold";
    let pool = |a_round: u64| {
        move |round: usize| {
            let mut tasks = leak(a_round, round.min(2));
            tasks.iter_mut().for_each(|task| (task.kind, task.at) = (TaskKind::Thread, WAITS));
            tasks
        }
    };
    let judgement = judged(&rounds(3, pool(1)), WAITS);
    assert_eq!(judgement.ground, Some(Ground::OfPool));
    assert!(judgement.evidence[0] == Fact::OfPool { pool: Pool::Rayon }, "{judgement:?}");
    // More than there are processors.
    assert_ne!(judged(&rounds(3, pool(2)), WAITS).ground, Some(Ground::OfPool));
    // A job that does not come back.
    let mut at_work = rounds(3, pool(1));
    for recording in &mut at_work {
        let job = recording.frames.len() as u32;
        recording.frames.push(Frame { function: "app::job".into(), module: "/srv/app".into(), ..Frame::default() });
        recording.sites.iter_mut().for_each(|site| site.stack.insert(0, job));
    }
    assert_ne!(judged(&at_work, WAITS).ground, Some(Ground::OfPool));
}

#[test]
fn a_name_alone_makes_no_pool() {
    let named = |round: usize| {
        let mut tasks = leak(4, round);
        tasks.iter_mut().for_each(|task| task.kind = TaskKind::Thread);
        let mut recording = recording(round, &tasks);
        recording.sites.iter_mut().for_each(|site| site.names = vec!["gdbus".to_owned()]);
        recording
    };
    let rounds: Vec<Recording> = (0..=3).map(named).collect();
    assert_eq!(judged(&rounds, "main.leak").verdict, Verdict::Likely);
}

#[test]
fn a_finalizer_that_is_stuck_in_the_programs_code_is_suspect() {
    let stuck = |round: usize| {
        let mut recording = recording(round, &[made(5, "main.release", 0)]);
        let server = recording.frames.len() as u32;
        recording.frames.push(Frame { function: "runtime.runFinalizers".into(), ..Frame::default() });
        recording.sites[0].stack.push(server);
        recording
    };
    let mut rounds: Vec<Recording> = (0..=2).map(stuck).collect();
    let round = Round { load_ms: Some(1_000), settle_ms: 2_000, ..Round::default() };
    rounds[2].check = Some(Check { rounds: vec![round.clone(), round.clone(), round], ..Check::default() });
    let judgement = judged(&rounds, "main.release");
    assert_eq!(judgement.ground, Some(Ground::Stuck), "{judgement:?}");
    rounds[2].sites[0].oldest_ms = 100;
    assert_eq!(judged(&rounds, "main.release").ground, Some(Ground::OfRuntime));
}

#[test]
fn what_still_goes_down_is_suspect_unless_all_that_earlier_rounds_left_is_there() {
    let verdict = |mut rounds: Vec<Recording>| {
        let last = rounds.last_mut().unwrap();
        let round = Round { at_ms: 40_000, settle_ms: 5_000, settled: false, ..Round::default() };
        last.check = Some(Check { rounds: vec![round], ..Check::default() });
        let sample =
            |second: u64| GrowthSample { at_ms: second * 1_000, tasks: 100 - second, ..GrowthSample::default() };
        last.growth = (30..=40).map(sample).collect();
        let site = last.sites.iter_mut().find(|site| site.id.starts_with("main.leak")).unwrap();
        site.trend = (0..11).map(|n| 30 - n).collect();
        judged(&rounds, "main.leak").verdict
    };
    assert_eq!(verdict(rounds(3, |round| leak(4, round))), Verdict::Likely);
    // Of each round one ends after two more rounds.
    let some_end = |round: usize| {
        leak(4, round).into_iter().filter(|task| task.id % 100 > 0 || task.id / 100 + 2 > 10 + round as u64).collect()
    };
    assert_eq!(verdict(rounds(4, some_end)), Verdict::Suspect);
    assert_eq!(judged(&rounds(4, some_end), "main.leak").verdict, Verdict::Likely);
    // The last round left more than those before: it is what ends.
    let more_at_last = |round: usize| -> Vec<Made> {
        leak(4, round)
            .into_iter()
            .chain((0..6 * u64::from(round == 3)).map(|n| made(50 + n, "main.leak", 3 * ROUND + ROUND / 2)))
            .collect()
    };
    assert_eq!(verdict(rounds(3, more_at_last)), Verdict::Suspect);
}

#[test]
fn of_many_numbers_the_first_and_the_last_are_shown() {
    assert_eq!(numbers(&[]), "");
    assert_eq!(numbers(&(0..30).collect::<Vec<_>>()), "0, 1, 2, 3, …, 24, 25, 26, 27, 28, 29");
}

/// Not a test: `cargo xtask bench analysis` runs it for its figure.
#[test]
#[ignore = "measures, and takes memory"]
#[allow(clippy::print_stdout, reason = "the figure")]
fn a_million_tasks_in_ten_rounds() {
    const TASKS: u64 = 1_000_000;
    const SITES: u64 = 1_000;
    let model = recording(0, &[made(1, "main.leak", 0)]);
    let mut took = std::time::Duration::ZERO;
    let mut moments = Vec::new();
    let mut last = None;
    for round in 1..=10u64 {
        let mut recording = model.clone();
        recording.growth[0].at_ms = round * ROUND;
        recording.sites = (0..SITES)
            .map(|site| Site { id: format!("{site:08x}"), count: TASKS / SITES * round / 10, ..model.sites[0].clone() })
            .collect();
        let task = |id: u64| {
            let born = id * 10 / TASKS * ROUND;
            let mut task = model.tasks[0].clone();
            let age_ms = (round * ROUND).saturating_sub(born);
            (task.id, task.site, task.lifetime_ms) = (id, u32::try_from(id % SITES).ok(), Some(age_ms));
            task.wait.as_mut().unwrap().age_ms = age_ms;
            task
        };
        recording.tasks = (0..TASKS / 10 * round).map(task).collect();
        let began = std::time::Instant::now();
        moments.push(Moment::of(&recording));
        took += began.elapsed();
        last = Some(recording);
    }
    let last = last.unwrap();
    let began = std::time::Instant::now();
    let judgements = judge(&last, History { moments: &moments, before: None }, &criteria()).sites;
    took += began.elapsed();
    assert!(judgements.iter().all(|judgement| judgement.verdict == Verdict::Likely), "{:?}", judgements[0]);
    println!("ms to judge a million tasks in ten rounds: {}", took.as_millis());
}
