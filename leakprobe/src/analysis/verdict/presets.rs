//! Tasks that runtimes and libraries keep on purpose: known by their functions or by the names of threads, with the reason why they
//! are there and how many there can be.
//!
//! A preset excuses growth up to its bound, and never where the program's own code runs inside the pool.

use super::patterns::{functions, is_of};
use crate::model::{Frame, Pool, Recording, Site, TaskKind};

/// How many tasks a pool has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// So many.
    Fixed(u64),
    /// So many for each processor, and some more.
    Processors { each: u64, more: u64 },
}

impl Bound {
    fn most(self, processors: u64) -> u64 {
        match self {
            Self::Fixed(most) => most,
            Self::Processors { each, more } => each.saturating_mul(processors).saturating_add(more),
        }
    }
}

const ONE: Bound = Bound::Fixed(1);
const AS_PROCESSORS: Bound = Bound::Processors { each: 1, more: 0 };

/// A kind of task that belongs there.
struct Preset {
    task: TaskKind,
    /// The name of each of its threads begins with one of these. A name alone never suffices: any program may give it.
    names: &'static [&'static str],
    /// A function begins so, where it waits.
    stack: &'static [&'static str],
    /// In one of these modules, if any is named.
    module: &'static str,
    bound: Bound,
    pool: Pool,
}

const fn threads(
    names: &'static [&'static str],
    stack: &'static [&'static str],
    module: &'static str,
    bound: Bound,
    pool: Pool,
) -> Preset {
    Preset { task: TaskKind::Thread, names, stack, module, bound, pool }
}

const fn goroutines(stack: &'static [&'static str], bound: Bound, pool: Pool) -> Preset {
    Preset { task: TaskKind::Goroutine, names: &[], stack, module: "", bound, pool }
}

/// Only pools whose size is bounded: their number may grow, since they may fill late.
const PRESETS: &[Preset] = &[
    threads(
        &[
            "GC Thread#",
            "G1 ",
            "ZWorker",
            "XWorker",
            "Shenandoah",
            "C1 CompilerThre",
            "C2 CompilerThre",
            "JVMCI",
            "VM Thread",
            "VM Periodic Tas",
            "Reference Handl",
            "Finalizer",
            "Signal Dispatch",
            "Common-Cleaner",
            "Service Thread",
            "Monitor Deflati",
            "Notification Th",
            "Sweeper thread",
            "Attach Listener",
            "StringDedup",
        ],
        &[],
        "libjvm",
        Bound::Processors { each: 4, more: 16 },
        Pool::Jvm,
    ),
    threads(&["ForkJoinPool.co"], &[], "libjvm", AS_PROCESSORS, Pool::ForkJoin),
    threads(
        &["libuv-worker"],
        &["uv__threadpool", "uv_thread_create", "uv__thread_start"],
        "",
        Bound::Fixed(4),
        Pool::Libuv,
    ),
    threads(
        &["V8 DefaultWorke", "V8Worker", "DelayedTaskSche"],
        &[
            "node::PlatformWorkerThread",
            "node::(anonymous namespace)::PlatformWorkerThread",
            "node::WorkerThreadsTaskRunner",
            "node::inspector::",
        ],
        "",
        Bound::Fixed(8),
        Pool::Node,
    ),
    threads(
        &["tokio-runtime-w", "tokio-rt-worker"],
        &["tokio::runtime::scheduler::multi_thread"],
        "",
        AS_PROCESSORS,
        Pool::Tokio,
    ),
    threads(&[], &["tokio::runtime::blocking::pool"], "", Bound::Fixed(512), Pool::TokioBlocking),
    threads(&[], &["rayon_core::"], "", AS_PROCESSORS, Pool::Rayon),
    threads(
        &[],
        &[
            "gomp_thread_start",
            "gomp_barrier_wait",
            "gomp_team_barrier_wait",
            "__kmp_launch_worker",
            "blas_thread_server",
        ],
        "",
        AS_PROCESSORS,
        Pool::Parallel,
    ),
    threads(
        &[],
        &["timer_helper_thread", "timer_sigev_thread", "handle_fildes_io"],
        "libc",
        Bound::Fixed(20),
        Pool::Libc,
    ),
    threads(
        &["jemalloc_bg_thd"],
        &["background_thread_entry", "je_background_thread"],
        "",
        AS_PROCESSORS,
        Pool::Jemalloc,
    ),
    threads(&["gmain", "gdbus", "dconf worker"], &[], "libglib", ONE, Pool::Glib),
    threads(
        &["bio_close_file", "bio_aof", "bio_lazy_free", "io_thd_"],
        &["bioProcessBackgroundJobs", "IOThreadMain"],
        "",
        Bound::Fixed(16),
        Pool::Server,
    ),
    goroutines(&["os/signal.loop", "os/signal.signal_recv"], ONE, Pool::GoSignals),
    goroutines(
        &[
            "runtime.ensureSigM",
            "runtime.bgsweep",
            "runtime.bgscavenge",
            "runtime.forcegchelper",
            "runtime.gcBgMarkWorker",
            "runtime.runfinq",
            "runtime.runFinalizers",
            "runtime.runCleanups",
        ],
        Bound::Processors { each: 2, more: 8 },
        Pool::GoRuntime,
    ),
    goroutines(
        &[
            "go.opencensus.io/stats/view.(*worker).start",
            "k8s.io/klog/v2.(*flushDaemon)",
            "k8s.io/klog.(*loggingT).flushDaemon",
            "github.com/golang/glog.(*loggingT).flushDaemon",
            "github.com/golang/glog.(*fileSink).flushDaemon",
        ],
        ONE,
        Pool::GoLibrary,
    ),
];

/// The pool that the tasks of this site are there for, if it is known: as many as they can be on a machine with `processors`, and all of
/// them in the pool's own code.
pub(super) fn pool_of(site: &Site, recording: &Recording, processors: u64) -> Option<Pool> {
    let begins = |text: &str, with: &[&str]| with.iter().any(|start| text.starts_with(start));
    let fits = |preset: &&Preset| {
        if preset.task != site.task || site.count > preset.bound.most(processors) {
            return false;
        }
        if !preset.module.is_empty() && !is_of(&site.stack, recording, preset.module) {
            return false;
        }
        // The functions from where it waits to the pool's: with the program's own among them it does a job, and does not wait for one.
        let depth = functions(&site.stack, recording).position(|function| begins(function, preset.stack));
        let frame = |&index: &u32| recording.frames.get(index as usize);
        let pool = depth.and_then(|depth| site.stack.get(depth)).and_then(frame);
        let inside = site.stack.get(..depth.unwrap_or(site.stack.len())).unwrap_or_default();
        let is_at_work = inside.iter().filter_map(frame).any(|frame| frame.is_users() && !is_near(frame, pool));
        // Threads may be given any name, so that all of them must have such a one, and be in a module that is known for it.
        let by_name = !preset.module.is_empty()
            && !site.names.is_empty()
            && site.names.iter().all(|name| begins(name, preset.names));
        (by_name || depth.is_some()) && !is_at_work
    };
    PRESETS.iter().find(fits).map(|preset| preset.pool)
}

/// Whether a frame is of the same library as the pool: of a shared library, of the same crate or namespace, or of what such pools wait
/// by. Code without names tells nothing.
fn is_near(frame: &Frame, pool: Option<&Frame>) -> bool {
    const WAITED_BY: &[&str] = &["crossbeam", "parking_lot", "mio"];
    let namespace =
        |frame: &Frame| frame.function.split_once("::").map(|(first, _)| first.trim_start_matches('<').to_owned());
    let own = namespace(frame);
    frame.function.is_empty()
        || own.as_ref().is_some_and(|own| WAITED_BY.iter().any(|start| own.starts_with(start)))
        || pool.is_some_and(|pool| {
            (own.is_some() && own == namespace(pool))
                || (frame.module == pool.module && frame.module_name().contains(".so"))
        })
}
