//! What the tests of the real program share: test programs, leakprobe runs, and what `/proc` says.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test target uses a part of it")]

mod build;
mod confined;
mod granted;
mod leakprobe;
mod proc;
mod program;
mod recording;
mod suite;

use std::{
    thread,
    time::{Duration, Instant},
};

pub use confined::{NOBODY, forbid, many_of_nobody, open_copy, open_folder};
pub use granted::{CALLER, by_caller, granted, mask, of_readme, recorded};
pub use leakprobe::{Ended, Running, as_in_front, attach, leakprobe, leakprobe_binary, record, snapshot};
pub use proc::{Settled, children_of, monotonic_ns, proc_status, settle, switches, tids};
pub use program::Program;
pub use recording::{chain, functions, label, listed, lost, stack_of, task, task_named, tasks_named};

pub use build::{Variant, program_path};
pub use suite::Suite;

/// How long anything is waited for. Generous: an emulated machine is a hundred times slower than a real one, and only
/// a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `what` gives something.
pub fn wait_for<T>(description: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {description}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Fails loudly without the privileges that leakprobe needs: a skipped test would look like a passed one.
pub fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests load BPF programs and read other processes: run them as root, e.g. `sudo -E env PATH=$PATH cargo test`"
    );
}

/// Fails on any machine but a guest: what the test does would be noticed by others.
pub fn need_guest() {
    assert!(in_guest(), "this test disturbs the whole machine: run it with `cargo xtask kernels`");
}

/// Whether we run in a guest of `cargo xtask kernels`: emulated, with little memory and no programs but ours.
pub fn in_guest() -> bool {
    std::env::var_os("LEAKPROBE_IN_GUEST").is_some()
}
