//! What of a recording a report shows: one kind of tasks or all, without those that tell nothing of the program, and those whose
//! functions the user asked for.

use std::collections::HashMap;

use regex::Regex;

use super::{Kind, Options, words};
use crate::model::{EndedWait, Frame, PendingTimers, Recording, Role, Site, Task, TaskKind, TaskState};

/// The part of a recording that is shown.
pub(super) struct Shown<'a> {
    pub(super) recording: &'a Recording,
    /// The tasks, in the recording's order.
    pub(super) tasks: Vec<&'a Task>,
    /// The sites, in the recording's order.
    pub(super) sites: Vec<&'a Site>,
    /// For each site of the recording its place in `sites`.
    places: Vec<Option<usize>>,
    /// Which kinds are shown.
    pub(super) kind: Kind,
    /// Whether that is what there is instead of what was asked for.
    instead: bool,
    /// Whether frames are shown that Go's own dumps leave out.
    all_frames: bool,
    /// Most frames of a stack that are shown.
    max_depth: usize,
    folded: Folded,
    filtered: Option<Filtered>,
    filter: Option<FrameFilter>,
    threads: HashMap<u64, &'a Task>,
}

/// Tasks that are not shown because they do not do the program's work.
#[derive(Default)]
struct Folded {
    carriers: u64,
    runtime_threads: u64,
    runtime_goroutines: u64,
}

/// Tasks that are not shown because of what the user asked for.
#[derive(Default)]
struct Filtered {
    threads: u64,
    goroutines: u64,
    sites: u64,
}

impl<'a> Shown<'a> {
    /// What `options` want to see of `recording`.
    pub(super) fn of(recording: &'a Recording, options: &Options) -> Self {
        let filter = FrameFilter::of(recording, options);
        // Who asks for goroutines where there are none gets what there is, and is told.
        let instead = options.kind == Kind::Goroutines && recording.coverage.go.is_none();
        let kind = if instead { Kind::Threads } else { options.kind };
        let mut shown = Self {
            recording,
            tasks: Vec::with_capacity(recording.tasks.len()),
            sites: Vec::with_capacity(recording.sites.len()),
            places: Vec::with_capacity(recording.sites.len()),
            kind,
            instead,
            all_frames: options.all_frames,
            max_depth: options.max_depth.unwrap_or(usize::MAX),
            folded: Folded::default(),
            filtered: filter.as_ref().map(|_| Filtered::default()),
            filter: None,
            threads: threads(recording),
        };
        let passes = |stack: &[u32], creation: &[u32]| filter.as_ref().is_none_or(|it| it.passes(stack, creation));
        let listed = listed_by_site(recording);
        for (place, site) in recording.sites.iter().enumerate() {
            let is_shown = is_shown(site.task, site.role, kind, options.all);
            let passes = !is_shown || passes(&site.stack, &site.creation);
            shown.places.push((is_shown && passes).then_some(shown.sites.len()));
            if is_shown && passes {
                shown.sites.push(site);
            } else if let (false, Some(filtered)) = (passes, &mut shown.filtered) {
                filtered.add(site.task, 0, 1);
                let listed = listed.get(place).copied().unwrap_or(0);
                filtered.add(site.task, site.count.saturating_sub(listed), 0); // the others are counted one by one
            }
        }
        for task in &recording.tasks {
            if !is_shown(task.kind, task.role, kind, options.all) {
                shown.folded.add(task, kind);
            } else if passes(&task.stack, &task.created_by.stack) {
                shown.tasks.push(task);
            } else if let Some(filtered) = &mut shown.filtered {
                filtered.add(task.kind, 1, 0);
            }
        }
        shown.filter = filter;
        shown
    }

    /// Whether a wait that has ended is shown. They are of threads, and where they were created is not known.
    pub(super) fn shows_ended(&self, wait: &EndedWait) -> bool {
        self.kind != Kind::Goroutines && self.filter.as_ref().is_none_or(|filter| filter.passes(&wait.stack, &[]))
    }

    /// Whether these timers are shown: they are Go's.
    pub(super) fn shows_timers(&self, timers: &PendingTimers) -> bool {
        self.kind != Kind::Threads && self.filter.as_ref().is_none_or(|filter| filter.passes(&timers.callback, &[]))
    }

    /// The place in `sites` of the site that `task` is at.
    pub(super) fn site_of(&self, task: &Task) -> Option<usize> {
        self.places.get(task.site? as usize).copied().flatten()
    }

    /// The thread with that id, shown or not.
    pub(super) fn thread(&self, id: u64) -> Option<&'a Task> {
        self.threads.get(&id).copied()
    }

    /// The listed tasks of each of `sites`.
    pub(super) fn members(&self) -> Vec<Vec<&'a Task>> {
        let mut members = vec![Vec::new(); self.sites.len()];
        for &task in &self.tasks {
            if let Some(slot) = self.site_of(task).and_then(|place| members.get_mut(place)) {
                slot.push(task);
            }
        }
        members
    }

    /// The frames of `stack` with their indices, innermost first, without those that Go's dumps leave out; all of them if none
    /// would be left. Indices that point nowhere are left out; [`super::json::read`] lets none in.
    pub(super) fn resolve(&self, stack: &[u32]) -> Vec<(u32, &'a Frame)> {
        let recording = self.recording;
        let all = stack.iter().filter_map(|&place| Some((place, recording.frames.get(place as usize)?)));
        let mut frames: Vec<(u32, &Frame)> = all.collect();
        let is_shown = |(_, frame): &(u32, &Frame)| !frame.go.is_some_and(|go| go.hidden);
        if !self.all_frames && frames.iter().any(is_shown) {
            frames.retain(is_shown);
        }
        frames
    }

    /// [`Self::resolve`] without the indices.
    pub(super) fn frames(&self, stack: &[u32]) -> Vec<&'a Frame> {
        self.resolve(stack).into_iter().map(|(_, frame)| frame).collect()
    }

    /// The innermost of `frames` that are to be shown, and how many more there are.
    pub(super) fn cut<'f, T>(&self, frames: &'f [T]) -> (&'f [T], u64) {
        let inner = frames.get(..self.max_depth).unwrap_or(frames);
        (inner, (frames.len() - inner.len()) as u64)
    }

    /// Whether tasks of that kind are shown.
    pub(super) fn has(&self, kind: TaskKind) -> bool {
        self.tasks.iter().any(|task| task.kind == kind) || self.sites.iter().any(|site| site.task == kind)
    }

    /// How many tasks of that kind were alive at the end. Goroutines that the recording does not list one by one count.
    pub(super) fn alive(&self, kind: TaskKind) -> u64 {
        let tasks = self.tasks.iter().filter(|task| task.kind == kind && task.state != TaskState::Exited);
        let listed = tasks.count() as u64;
        match &self.recording.coverage.go {
            Some(go) if kind == TaskKind::Goroutine && self.filtered.is_none() && listed > 0 => {
                let system = self.tasks.iter().any(|task| task.role == Role::Runtime && task.kind == kind);
                listed.max(go.goroutines + if system { go.system } else { 0 })
            }
            _ => {
                let sites = self.sites.iter().zip(self.members()).filter(|(site, _)| site.task == kind);
                let more = sites.map(|(site, members)| site.count.saturating_sub(members.len() as u64));
                more.fold(listed, u64::saturating_add)
            }
        }
    }

    /// How many tasks were parked at the end.
    pub(super) fn parked(&self) -> u64 {
        let mut parked = self.tasks.iter().filter(|task| task.state == TaskState::Parked).count() as u64;
        // Those that are not listed one by one.
        for (site, members) in self.sites.iter().zip(self.members()) {
            let listed = members.iter().filter(|task| task.state == TaskState::Parked).count() as u64;
            parked = parked.saturating_add(site.parked.saturating_sub(listed));
        }
        parked
    }

    /// How many tasks wait of which it is not known for how long, so that they may be parked.
    pub(super) fn may_be_parked(&self) -> u64 {
        let is_open = |task: &Task| task.may_be_parked(self.recording.min_block_ms);
        let mut open = self.tasks.iter().filter(|task| is_open(task)).count() as u64;
        for (site, members) in self.sites.iter().zip(self.members()) {
            let listed = members.iter().filter(|task| is_open(task)).count() as u64;
            open = open.saturating_add(site.unknown().saturating_sub(listed));
        }
        open
    }

    /// What is not shown, one clause each.
    pub(super) fn not_shown(&self) -> Vec<String> {
        let Folded { carriers, runtime_threads, runtime_goroutines } = self.folded;
        let mut clauses = Vec::new();
        let mut clause = |n: u64, noun: &str, what: &str| {
            if n > 0 {
                clauses.push(format!("{} {what}", words::count(n, noun)));
            }
        };
        clause(carriers, "thread", if carriers == 1 { "that runs a goroutine" } else { "that run goroutines" });
        clause(runtime_threads, "thread", "of the Go runtime without a goroutine");
        clause(runtime_goroutines, "goroutine", "of the runtime itself");
        if self.instead {
            clauses.push("goroutines, since none could be found: these are threads".to_owned());
        }
        clauses
    }

    /// Whether the user asked for some tasks only.
    pub(super) fn is_filtered(&self) -> bool {
        self.filtered.is_some()
    }

    /// What `--include` and `--exclude` left out; `None` if nothing of the kind was asked for.
    pub(super) fn filtered_words(&self) -> Option<String> {
        let Filtered { threads, goroutines, sites } = self.filtered.as_ref()?;
        let parts: Vec<String> = [(*threads, "thread"), (*goroutines, "goroutine")]
            .into_iter()
            .filter(|&(n, _)| n > 0)
            .map(|(n, noun)| words::count(n, noun))
            .collect();
        Some(match parts.is_empty() {
            true => "left out by --include and --exclude: nothing".to_owned(),
            false => {
                let sites = if *sites > 0 { format!(", {}", words::count(*sites, "site")) } else { String::new() };
                format!("left out by --include and --exclude: {}{sites}", parts.join(" and "))
            }
        })
    }
}

impl Folded {
    fn add(&mut self, task: &Task, kind: Kind) {
        match (task.kind, task.role) {
            // Who asks for one kind does not want to hear of the other.
            (TaskKind::Thread, _) if kind == Kind::Goroutines => {}
            (TaskKind::Goroutine, _) if kind == Kind::Threads => {}
            (TaskKind::Thread, Role::Carrier) => self.carriers += 1,
            (TaskKind::Thread, Role::Runtime) => self.runtime_threads += 1,
            (TaskKind::Goroutine, Role::Runtime) => self.runtime_goroutines += 1,
            _ => {}
        }
    }
}

impl Filtered {
    fn add(&mut self, kind: TaskKind, tasks: u64, sites: u64) {
        let number = if kind == TaskKind::Thread { &mut self.threads } else { &mut self.goroutines };
        *number = number.saturating_add(tasks);
        self.sites += sites;
    }
}

fn threads(recording: &Recording) -> HashMap<u64, &Task> {
    let threads = recording.tasks.iter().filter(|task| task.kind == TaskKind::Thread);
    threads.map(|task| (task.id, task)).collect()
}

/// How many tasks of each site are listed.
fn listed_by_site(recording: &Recording) -> Vec<u64> {
    let mut listed = vec![0; recording.sites.len()];
    for task in &recording.tasks {
        if let Some(count) = task.site.and_then(|site| listed.get_mut(site as usize)) {
            *count += 1;
        }
    }
    listed
}

/// Whether tasks of that kind and role are asked for.
fn is_shown(task: TaskKind, role: Role, kind: Kind, all: bool) -> bool {
    match (kind, task) {
        (Kind::Threads, task) => task == TaskKind::Thread,
        (Kind::Goroutines, TaskKind::Thread) => false,
        (Kind::Goroutines | Kind::All, TaskKind::Goroutine) => role.is_own() || all,
        (Kind::All, TaskKind::Thread) => role.is_own(),
    }
}

/// Which frames of a recording the user asked for; each is looked at once.
struct FrameFilter {
    included: Option<Vec<bool>>,
    excluded: Vec<bool>,
}

impl FrameFilter {
    fn of(recording: &Recording, options: &Options) -> Option<Self> {
        let Options { include, exclude, all_frames, .. } = options;
        if include.is_empty() && exclude.is_empty() {
            return None;
        }
        let by_frame = |patterns: &[Regex]| -> Vec<bool> {
            // What is not shown does not count: whom would it tell why a task is there?
            let counts = |frame: &Frame| *all_frames || !frame.go.is_some_and(|go| go.hidden);
            let matches =
                |frame: &Frame| counts(frame) && patterns.iter().any(|pattern| pattern.is_match(&frame.label()));
            recording.frames.iter().map(matches).collect()
        };
        Some(Self { included: (!include.is_empty()).then(|| by_frame(include)), excluded: by_frame(exclude) })
    }

    /// Whether a frame is wanted, and none is unwanted, of where a task is and where it was created.
    fn passes(&self, stack: &[u32], creation: &[u32]) -> bool {
        let any = |frames: &[bool]| {
            stack.iter().chain(creation).any(|&place| frames.get(place as usize).copied().unwrap_or(false))
        };
        self.included.as_deref().is_none_or(any) && !any(&self.excluded)
    }
}
