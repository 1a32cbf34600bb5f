//! Puts together what is known of one Go runtime.

use std::{collections::HashSet, sync::Arc};

use super::{
    Problem, Runtime, Version,
    allgs::{self, pointers},
    allm::{self, AllM},
    calibrate::{self, Verdict},
    code::{Code, GoModule},
    image::Image,
    layout::{Known, Layout, NEWEST, OLDEST, Offset},
    memory::Words,
    mentions::Mentions,
    moduledata::Moduledata,
    reasons, scheduler,
    scheduler::Scheduler,
};
use crate::model::Gap;

/// So many goroutines are looked at to check the layout.
const SAMPLE: usize = 256;

/// What is known of the process that its memory does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads {
    /// The ids of its threads, as the process itself sees them.
    pub(super) ids: HashSet<u64>,
}

/// What is known of a version before its process is looked at.
pub(super) fn known(version: &Version, path: &str) -> Result<Known, Problem> {
    Known::of(version).ok_or_else(|| {
        Problem::Unsupported(format!(
            "{path} is built with {version}; goroutines can be read from Go 1.{OLDEST} on: only its threads are shown"
        ))
    })
}

/// Makes out a runtime from its modules, of which the first one is its own.
pub(super) fn make_out(
    memory: &impl Words,
    version: &Version,
    known: &Known,
    modules: &[(&Arc<Image>, Moduledata)],
    threads: &Threads,
) -> Result<Runtime, Problem> {
    let Some((image, own)) = modules.first() else {
        return Err(Problem::Unreadable(format!("{version} has no modules")));
    };
    let path = &image.path;
    let mut gaps = Vec::new();
    let mut unreadable = Vec::new();
    let mut layout = known.layout.clone();
    let mut code = Vec::new();
    for (image, module) in modules {
        match GoModule::read(memory, image, module) {
            Ok(module) => code.push(module),
            Err(why) => {
                gaps.push(Gap::GoFunctions { why: why.clone() });
                unreadable.push(why);
            }
        }
        if module.gofunc.is_none() {
            gaps.push(Gap::GoInlinedCalls { path: image.path.to_string() });
        }
    }
    let code = Code::new(code);
    if code.find(own.text.start).is_none() {
        return Err(Problem::Unreadable(unreadable.join("; ")));
    }
    let mentions = |function| Mentions::of(memory, &code, function, &own.bss);
    let allm = allm::find(memory, &own.bss, &layout, &known.alllink, &mentions(allm::ADDS));
    let Some(allgs) = allgs::find(memory, &own.bss, &layout, &mentions(allgs::APPENDS)) else {
        // Once there is a second thread, there are goroutines.
        return Err(match &allm {
            Some(allm) if allm.threads.len() > 1 => Problem::Unreadable(format!(
                "the list of goroutines of {path} ({version}) was not found: only its threads are shown"
            )),
            _ => Problem::NotYet(path.to_string()),
        });
    };
    let mut reasons = own.data.iter().rev().map(|data| reasons::find(memory, data));
    let reasons = reasons.find(|reasons| !reasons.is_empty()).unwrap_or_default();
    if reasons.is_empty() {
        gaps.push(Gap::GoWaitReasons { path: path.to_string() });
    }
    if !known.exact {
        gaps.push(Gap::GoNewer { version: version.to_string(), known_minor: u32::from(NEWEST) });
    }
    let goroutines = sample(memory, allgs);
    if goroutines.len() < LEAST {
        return Err(Problem::NotYet(path.to_string()));
    }
    match calibrate::check(&goroutines, &layout, |pc| code.is_entry(pc), reasons.len()) {
        Verdict::Holds if known.exact => {}
        Verdict::Holds => layout = layout.moved(layout.g.atomicstatus, layout.g.startpc),
        Verdict::Moved(status, startpc) if !known.exact => layout = layout.moved(status, startpc),
        Verdict::Unsure if known.exact => {
            gaps.push(Gap::GoUnchecked { path: path.to_string(), version: version.to_string() });
        }
        Verdict::Unsure => return Err(Problem::NotYet(path.to_string())),
        Verdict::Moved(..) | Verdict::Broken => return Err(broken(path, version)),
    }
    take_threads(memory, &mut layout, allm.as_ref(), version, known, threads, &mut gaps);
    let (resizes, numbers) = (mentions(scheduler::RESIZES), mentions(scheduler::NUMBERS));
    let scheduler = Scheduler::find(memory, &own.bss, &layout, &resizes, &numbers);
    if !known.exact {
        layout.p.timers = scheduler.and_then(|scheduler| scheduler::timers(memory, scheduler.allp, &layout));
    }
    if scheduler.is_none() || layout.p.timers.is_none() {
        gaps.push(Gap::GoTimers { path: path.to_string() });
    }
    let allm = allm.filter(|_| layout.m.alllink.is_some()).map(|allm| allm.address);
    let (version, code) = (version.clone(), Arc::new(code));
    Ok(Runtime { version, layout, code, allgs, allm, scheduler, bss: own.bss.clone(), reasons, gaps })
}

fn broken(path: &str, version: &Version) -> Problem {
    Problem::Unsupported(format!(
        "the goroutines of {path} are not laid out as those of {version} are: only its threads are shown"
    ))
}

/// Some goroutines from the whole list.
fn sample(memory: &impl Words, allgs: u64) -> Vec<Vec<u8>> {
    let Some([first, len]) = memory.words(allgs) else {
        return Vec::new();
    };
    // The first ones have been there for longest, the last ones may just be being made.
    let goroutines = pointers(memory, first, len, SAMPLE);
    goroutines.iter().map(|&goroutine| memory.bytes(goroutine, calibrate::LOOKED_AT)).collect()
}

/// So many goroutines has every program, once its runtime is up: that of `main`, and the runtime's own for its collector and its
/// scheduler. Before, other slices look like the list of all.
/// Source: <https://github.com/golang/go/blob/go1.27.0/src/runtime/proc.go> (`main`, `gcenable`, `forcegchelper`)
const LEAST: usize = 4;

/// Where a thread's id may lie in an `m` if the table does not have the version.
const PROCID: std::ops::RangeInclusive<Offset> = 40..=104;

/// Takes in the list of threads if it is one: each holds a thread's id, of which at least one is of this process.
fn take_threads(
    memory: &impl Words,
    layout: &mut Layout,
    allm: Option<&AllM>,
    version: &Version,
    known: &Known,
    threads: &Threads,
    gaps: &mut Vec<Gap>,
) {
    let is_id = |thread: u64, offset: Offset| {
        let id = memory.word(thread.wrapping_add(offset.into()));
        id.is_some_and(|id| threads.ids.contains(&id))
    };
    let fits = |allm: &AllM, offset: Offset| allm.threads.iter().any(|&thread| is_id(thread, offset));
    let procid = allm.and_then(|allm| {
        let others = PROCID.step_by(8).filter(|_| !known.exact);
        std::iter::once(layout.m.procid).chain(others).find(|&offset| fits(allm, offset))
    });
    layout.set_alllink(procid.and(allm).map(|allm| allm.alllink), version.minor);
    match procid {
        Some(procid) => layout.m.procid = procid,
        None => gaps.push(Gap::GoThreads),
    }
}
