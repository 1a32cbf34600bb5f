//! Watching processes: each target has a thread of its own (`worker`), and all of them share what is there once (`hub`). Subscribers get
//! [`Update`]s; what was seen is a recording of each target, at the end or whenever it is asked for.

mod bell;
mod engine;
mod error;
mod follow;
mod goroutines;
mod governing;
mod guard;
mod hub;
pub(crate) mod limits;
mod locks;
mod options;
mod ring;
mod session;
mod signs;
mod stop;
mod update;
mod waits;
mod watcher;
mod worker;
mod workers;

use tokio::runtime;

pub(crate) use self::{
    engine::{Observers, observe, watch},
    follow::MAX_PROCESSES,
    hub::Hub,
    session::{Session, own_cpu_time},
    stop::Stop,
    worker::Observer,
};
pub use self::{
    error::{Error, ErrorKind},
    options::{Options, Probe},
    update::{Counts, GoroutineCounts, Update},
    watcher::Watcher,
};

/// Does work that waits for several things at once, on this thread alone.
pub(crate) fn in_event_loop<T, E: From<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    limits::check_descriptors(limits::SPARE)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("start its event loop", &error))?;
    let done = runtime.block_on(work);
    // A thread that hangs is left behind.
    runtime.shutdown_background();
    done
}
