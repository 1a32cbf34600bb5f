//! Tasks that runtimes and libraries keep on purpose: known by their names or functions, with the reason why they are there.

use super::patterns::{functions, is_of};
use crate::model::{Recording, Site, TaskKind};

/// A kind of task that belongs there.
struct Preset {
    task: TaskKind,
    /// The name of one of its threads begins so.
    names: &'static [&'static str],
    /// A function begins so, where it waits.
    stack: &'static [&'static str],
    /// In one of these modules, if any is named.
    module: &'static str,
    why: &'static str,
}

const fn threads(
    names: &'static [&'static str],
    stack: &'static [&'static str],
    module: &'static str,
    why: &'static str,
) -> Preset {
    Preset { task: TaskKind::Thread, names, stack, module, why }
}

const fn goroutines(stack: &'static [&'static str], why: &'static str) -> Preset {
    Preset { task: TaskKind::Goroutine, names: &[], stack, module: "", why }
}

/// Only pools whose size is bounded, whatever the program does: even if their number grows, as they may fill late.
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
        "a thread of the JVM's own (garbage collector, compilers, housekeeping), of which it starts no more than its settings say",
    ),
    threads(
        &["ForkJoinPool.co"],
        &[],
        "libjvm",
        "a worker of the JVM's common pool, which has as many as there are processors",
    ),
    threads(
        &["libuv-worker"],
        &["uv__threadpool", "uv_thread_create", "uv__thread_start"],
        "",
        "a worker of libuv's pool, which starts with the first file or DNS request and has UV_THREADPOOL_SIZE of them, 4 by default",
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
        "a thread of node's own (V8's platform), of a fixed number",
    ),
    threads(
        &["tokio-runtime-w", "tokio-rt-worker"],
        &["tokio::runtime::scheduler::multi_thread"],
        "",
        "a worker of tokio's scheduler, which has as many as there are processors",
    ),
    threads(
        &[],
        &["tokio::runtime::blocking::pool"],
        "",
        "a thread of tokio's pool for blocking work, which ends after it was idle for 10 s",
    ),
    threads(&[], &["rayon_core::"], "", "a worker of rayon's pool, which has as many as there are processors"),
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
        "a worker of a pool for parallel computation, which has as many as there are processors",
    ),
    threads(
        &[],
        &["timer_helper_thread", "timer_sigev_thread", "handle_fildes_io"],
        "libc",
        "a thread of the C library's own (timers, asynchronous I/O), of a bounded number",
    ),
    threads(
        &["jemalloc_bg_thd"],
        &[],
        "",
        "a background thread of jemalloc, of which there are at most as many as processors",
    ),
    threads(&["gmain", "gdbus", "dconf worker"], &[], "", "a thread of GLib's own, of which there is one"),
    threads(
        &["bio_close_file", "bio_aof", "bio_lazy_free", "io_thd_"],
        &["bioProcessBackgroundJobs", "IOThreadMain"],
        "",
        "a background thread of the server's own, of a fixed number",
    ),
    goroutines(
        &["os/signal.loop", "os/signal.signal_recv"],
        "the goroutine that receives signals, of which there is one",
    ),
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
        "the Go runtime's own",
    ),
    goroutines(
        &[
            "go.opencensus.io/stats/view.(*worker).start",
            "k8s.io/klog/v2.(*flushDaemon)",
            "k8s.io/klog.(*loggingT).flushDaemon",
            "github.com/golang/glog.(*loggingT).flushDaemon",
            "github.com/golang/glog.(*fileSink).flushDaemon",
        ],
        "a background goroutine of a library, of which there is one",
    ),
];

/// Why the tasks of this site are there on purpose, if it is known.
pub(super) fn why_idle(site: &Site, recording: &Recording) -> Option<String> {
    let begins = |text: &str, with: &[&str]| with.iter().any(|start| text.starts_with(start));
    let fits = |preset: &&Preset| {
        if preset.task != site.task {
            return false;
        }
        if !preset.module.is_empty() && !is_of(&site.stack, recording, preset.module) {
            return false;
        }
        // Threads may be given any name, so that all of them must have such a one.
        let by_name = !site.names.is_empty() && site.names.iter().all(|name| begins(name, preset.names));
        let by_stack = functions(&site.stack, recording).any(|function| begins(function, preset.stack));
        by_name || by_stack
    };
    PRESETS.iter().find(fits).map(|preset| preset.why.to_owned())
}
