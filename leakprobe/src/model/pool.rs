//! Pools of runtimes and libraries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of tasks that a runtime or library keeps on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pool {
    /// Threads of a JVM's own.
    Jvm,
    /// Java's common pool.
    ForkJoin,
    /// libuv's thread pool.
    Libuv,
    /// Threads of V8's platform in Node.js.
    Node,
    /// Workers of tokio's scheduler.
    Tokio,
    /// tokio's threads for blocking work.
    TokioBlocking,
    /// Workers of rayon.
    Rayon,
    /// Workers of OpenMP, OpenBLAS and their like.
    Parallel,
    /// Threads of the C library's own.
    Libc,
    /// Background threads of jemalloc.
    Jemalloc,
    /// Threads of GLib's own.
    Glib,
    /// Background threads of a server (Redis and its like).
    Server,
    /// The goroutine that receives signals.
    GoSignals,
    /// Goroutines of the Go runtime's own.
    GoRuntime,
    /// A background goroutine of a library.
    GoLibrary,
}
