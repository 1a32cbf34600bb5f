//! The loop that `attach`, `run` and `demo` share: events as they come, a snapshot at each interval, until something ends it.
//! Each process has a loop of its own, on the one thread; those that are forked are added.

pub(super) mod group;
pub(super) mod guard;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, IsTerminal},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    sync::{Notify, mpsc, oneshot, watch},
    task::{JoinSet, LocalSet},
    time::{self, MissedTickBehavior},
};

use self::guard::{AtWork, Guard};
use super::{
    ExitCode, Failure,
    follow::Follower,
    hub::Hub,
    limits,
    session::{RECORDS_AT_ONCE, Session, ended_early},
};
use crate::{cli::Watch, model::Recording};

/// How often it is looked at the end for records that were counted and have not come, and how long apart.
const LOOKS_FOR_LATE: u32 = 5;
const LATE_PAUSE: Duration = Duration::from_millis(2);

/// Watches the sessions' targets. `begin` is called once everything is in place, before the first snapshot. There is a
/// recording of each process of which anything was seen, in the order in which they came: one at least.
pub(super) fn watch(
    sessions: Vec<Session>,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<Vec<Recording>, Failure> {
    let pid = sessions.first().map_or(0, |session| session.target.pid);
    let (sessions, guard) = in_event_loop(run(sessions, options, begin))?;
    let seen: Vec<Session> = sessions.into_iter().filter(Session::has_seen_something).collect();
    if seen.is_empty() {
        return Err(ended_early(pid));
    }
    let recordings = seen.into_iter().map(|session| session.into_recording(false)).collect();
    drop(guard);
    Ok(recordings)
}

/// On this thread alone.
fn in_event_loop<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    limits::check_descriptors(limits::SPARE)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| internal("start its event loop", &error))?;
    LocalSet::new().block_on(&runtime, work)
}

async fn run(
    sessions: Vec<Session>,
    options: &Watch,
    begin: impl FnOnce() -> Result<(), Failure>,
) -> Result<(Vec<Session>, Guard), Failure> {
    let (stop, stopped) = watch::channel(false);
    let (forks, mut forked) = mpsc::unbounded_channel();
    let common = Rc::new(Common {
        interval: options.interval,
        deadline: options.duration.map(|duration| time::Instant::now() + duration),
        progress: Progress::new(options.output.quiet),
        forks,
    });
    let guard = Guard::start(stop, common.deadline)?;
    let Some(hub) = sessions.first().map(|session| session.hub().clone()) else {
        return Ok((sessions, guard));
    };
    let mut follower = Follower::new(hub, options, sessions.len());
    let mut loops = JoinSet::new();
    let watched: Vec<Watched> = sessions.into_iter().map(Watched::new).collect::<Result<_, _>>()?;
    begin()?;
    let count = watched.len();
    for (place, watched) in watched.into_iter().enumerate() {
        loops.spawn_local(watched.run(place, Rc::clone(&common), stopped.clone()));
    }
    let mut next = count;
    let mut ended = BTreeMap::new();
    while !loops.is_empty() {
        tokio::select! {
            biased;
            Some(done) = loops.join_next() => {
                let (place, session) = done.map_err(|error| internal("go on watching", &error))??;
                ended.insert(place, session);
                follower.has_room();
            }
            Some((parent, child)) = forked.recv() => {
                if *stopped.borrow() {
                    continue;
                }
                for session in follower.follow(parent, child) {
                    loops.spawn_local(Watched::new(session)?.run(next, Rc::clone(&common), stopped.clone()));
                    next += 1;
                }
            }
        }
    }
    common.progress.finish();
    let mut sessions: Vec<Session> = ended.into_values().collect();
    if let (Some(first), Some(gap)) = (sessions.first_mut(), follower.gap()) {
        first.gap(gap);
    }
    Ok((sessions, guard))
}

/// For whoever wants to know of a target while it is watched.
#[derive(Clone)]
pub(super) struct Observer {
    /// The numbers of the last snapshot. Closed when watching has ended.
    pub(super) counts: watch::Receiver<Counts>,
    /// Whether a signal has asked us to stop.
    pub(super) stopped: watch::Receiver<bool>,
    requests: mpsc::Sender<oneshot::Sender<Recording>>,
}

impl Observer {
    /// Waits until watching has ended.
    pub(super) async fn ended(&self) {
        self.requests.closed().await;
    }

    /// Whether watching has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.requests.is_closed()
    }

    /// What is known at this moment, after another snapshot; `None` if watching has ended.
    pub(super) async fn recording(&self) -> Option<Recording> {
        let (reply, recording) = oneshot::channel();
        self.requests.send(reply).await.ok()?;
        recording.await.ok()
    }
}

/// Numbers of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// How many snapshots there were before it.
    pub(super) snapshot: u64,
    /// Threads alive.
    pub(super) threads: u64,
    /// Goroutines alive, if there are any.
    pub(super) goroutines: Option<u64>,
    /// Whether it has never had more than one thread, for all that events and snapshots tell, and is no Go program.
    pub(super) is_single: bool,
}

impl Counts {
    /// After a snapshot.
    fn next(self, session: &Session) -> Self {
        let Seen { threads, goroutines, lost, .. } = Seen::of(session);
        Self {
            snapshot: self.snapshot + 1,
            threads,
            goroutines: goroutines.map(|[alive, ..]| alive),
            is_single: threads <= 1 && goroutines.is_none() && session.live.created == 0 && lost == 0,
        }
    }

    /// When it has ended: events have come since the last snapshot.
    fn last(self, session: &Session) -> Self {
        let is_single = self.is_single && session.live.created == 0 && session.lost_events() == 0;
        Self { is_single, ..self }
    }
}

/// The other side of an [`Observer`].
struct Observed {
    counts: watch::Sender<Counts>,
    requests: mpsc::Receiver<oneshot::Sender<Recording>>,
}

/// Waits for somebody who asks for a recording; for ever if nobody observes.
async fn asked(observed: &mut Option<Observed>) -> oneshot::Sender<Recording> {
    if let Some(observed) = observed
        && let Some(reply) = observed.requests.recv().await
    {
        return reply;
    }
    std::future::pending().await
}

/// What the loops of all processes share.
struct Common {
    interval: Duration,
    deadline: Option<time::Instant>,
    progress: Progress,
    /// Parent and child of each process that was forked.
    forks: mpsc::UnboundedSender<(u32, u32)>,
}

/// A session, and what wakes it.
struct Watched {
    session: Session,
    end: AsyncFd<OwnedFd>,
    observed: Option<Observed>,
}

impl Watched {
    fn new(session: Session) -> Result<Self, Failure> {
        let pidfd = session.target.as_fd().try_clone_to_owned().map_err(|error| internal("hold the target", &error))?;
        Ok(Self { session, end: readable(pidfd)?, observed: None })
    }

    /// Lets somebody observe it.
    fn observed(&mut self, stopped: watch::Receiver<bool>) -> Observer {
        let (publish, counts) = watch::channel(Counts::default());
        let (ask, requests) = mpsc::channel(1);
        self.observed = Some(Observed { counts: publish, requests });
        Observer { counts, stopped, requests: ask }
    }

    /// Until the target ends, the time is over, or `stopped` says so. Returns `place` again.
    async fn run(
        self,
        place: usize,
        common: Rc<Common>,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(usize, Session), Failure> {
        let Self { mut session, end, mut observed } = self;
        let came = session.came();
        let mut ticks = time::interval(common.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = async {
            match common.deadline {
                Some(deadline) => time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                // The order is that of precedence: a flood of events must not keep us from stopping.
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = &mut deadline => break,
                _ = end.readable() => {
                    session.count_events();
                    drain(&mut session, usize::MAX);
                    common.tell_forks(&mut session);
                    session.ended = Some("ended while we watched".to_owned());
                    if let Some(observed) = &observed {
                        observed.counts.send_modify(|counts| *counts = counts.last(&session));
                    }
                    common.progress.forget(&session);
                    return Ok((place, session));
                }
                _ = ticks.tick() => {
                    // What happened before the snapshot is told before it.
                    drain(&mut session, usize::MAX);
                    snapshot(&mut session)?;
                    common.progress.show(&session);
                    if let Some(observed) = &observed {
                        observed.counts.send_modify(|counts| *counts = counts.next(&session));
                    }
                }
                reply = asked(&mut observed) => {
                    drain(&mut session, usize::MAX);
                    snapshot(&mut session)?;
                    // Whoever asked may have given up.
                    let _ = reply.send(session.recording());
                }
                () = governing(session.hub()) => session.hub().govern(),
                () = events(came.as_deref()) => {
                    if drain(&mut session, RECORDS_AT_ONCE) == RECORDS_AT_ONCE
                        && let Some(came) = &came
                    {
                        came.notify_one();
                    }
                }
            }
            common.tell_forks(&mut session);
        }
        common.progress.finish();
        drain(&mut session, usize::MAX);
        snapshot(&mut session)?;
        session.count_events();
        drain(&mut session, usize::MAX);
        // A program counts first, and a moment later its record is there.
        for _ in 0..LOOKS_FOR_LATE {
            if !session.expects_records() {
                break;
            }
            time::sleep(LATE_PAUSE).await;
            drain(&mut session, usize::MAX);
        }
        if !session.target.is_alive() {
            session.ended = Some("ended while we watched".to_owned());
        }
        Ok((place, session))
    }
}

impl Common {
    fn tell_forks(&self, session: &mut Session) {
        let parent = session.target.pid;
        for child in session.take_forked() {
            let _ = self.forks.send((parent, child));
        }
    }
}

/// Waits for something to become readable.
fn readable<T: AsRawFd>(source: T) -> Result<AsyncFd<T>, Failure> {
    // SAFETY: both callers hand over the owner of the descriptor, which neither closes nor changes it while it is owned.
    let registered = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
    registered.map_err(|error| internal("wait for events", &error))
}

/// Waits for events; for ever if there are none.
async fn events(came: Option<&Notify>) {
    match came {
        Some(came) => came.notified().await,
        None => std::future::pending().await,
    }
}

/// Waits until the governor has something to do; for ever if there is none.
async fn governing(hub: &Hub) {
    match hub.next_governing() {
        Some(next) => time::sleep_until(next.into()).await,
        None => std::future::pending().await,
    }
}

/// Takes a snapshot.
fn snapshot(session: &mut Session) -> Result<(), Failure> {
    let _at_work = AtWork::on(session.target.pid);
    session.snapshot()
}

/// Takes in up to `most` records; returns how many.
fn drain(session: &mut Session, most: usize) -> usize {
    let _at_work = AtWork::on(session.target.pid);
    session.drain(most)
}

/// One line on the terminal.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    cpu_before: Duration,
    /// What was last seen of each process.
    seen: RefCell<BTreeMap<u32, Seen>>,
}

/// Numbers of one process.
#[derive(Clone, Copy, Default)]
struct Seen {
    threads: u64,
    parked: u64,
    /// Goroutines alive, parked and created, if there are any.
    goroutines: Option<[u64; 3]>,
    events: u64,
    lost: u64,
}

impl Seen {
    fn of(session: &Session) -> Self {
        let live = &session.live;
        Self {
            threads: live.threads().len() as u64,
            parked: live.parked(),
            goroutines: live.goroutines().map(|table| [table.alive(), table.parked(), table.turnover().created]),
            events: session.events(),
            lost: session.lost_events(),
        }
    }

    fn and(self, other: Self) -> Self {
        let goroutines = match (self.goroutines, other.goroutines) {
            (Some([a, b, c]), Some([d, e, f])) => Some([a + d, b + e, c + f]),
            (one, other) => one.or(other),
        };
        Self {
            threads: self.threads + other.threads,
            parked: self.parked + other.parked,
            goroutines,
            events: self.events + other.events,
            lost: self.lost + other.lost,
        }
    }
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let shown = !quiet && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self {
            bar: ProgressBar::with_draw_target(None, target).with_style(style),
            began: Instant::now(),
            cpu_before: Session::cpu_time(),
            seen: RefCell::default(),
        }
    }

    fn show(&self, session: &Session) {
        if self.bar.is_hidden() {
            return;
        }
        let mut seen = self.seen.borrow_mut();
        seen.insert(session.target.pid, Seen::of(session));
        let processes = if seen.len() > 1 { format!("{} processes, ", seen.len()) } else { String::new() };
        let all = seen.values().copied().fold(Seen::default(), Seen::and);
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let cpu = Session::cpu_time().saturating_sub(self.cpu_before).as_secs_f64();
        let Seen { threads, parked, lost, .. } = all;
        // Of a Go program's threads most are the runtime's; and a line has 80 columns.
        let tasks = match all.goroutines {
            Some([alive, parked, created]) => {
                let created = created as f64 / seconds;
                format!("{alive} goroutines, {parked} parked, +{created:.0}/s, {threads} threads")
            }
            None => format!("{threads} threads, {parked} parked, {:.0} events/s", all.events as f64 / seconds),
        };
        let share = 100.0 * cpu / seconds;
        self.bar.set_message(format!("{processes}{tasks}, {lost} lost, own CPU {share:.1} %  (Ctrl-C ends)"));
    }

    /// Of a process that has ended.
    fn forget(&self, session: &Session) {
        self.seen.borrow_mut().remove(&session.target.pid);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn internal(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ExitCode::Failed,
        format!("leakprobe could not {what}: {error}; this should not happen, please report it"),
    )
}
