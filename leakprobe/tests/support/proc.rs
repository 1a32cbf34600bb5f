//! What `/proc` says of a process.

use std::{collections::BTreeMap, fs};

use super::wait_for;

/// A thread that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// A moment of CLOCK_MONOTONIC, ns, at which it was already waiting.
    pub seen_ns: u64,
    /// How often it had been switched out by then: as long as this stays, it is the same wait.
    pub switches: u64,
}

/// `CLOCK_MONOTONIC`, ns.
pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// The thread ids of a process, ascending.
pub fn tids(pid: u32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut tids: Vec<u64> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    tids.sort_unstable();
    tids
}

/// How often a thread was switched out, and its state's letter.
pub fn switches(pid: u32, tid: u64) -> Option<(u64, char)> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    let number =
        |key: &str| -> Option<u64> { status.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok() };
    let state = status.lines().find_map(|line| line.strip_prefix("State:"))?.trim().chars().next()?;
    Some((number("voluntary_ctxt_switches:")? + number("nonvoluntary_ctxt_switches:")?, state))
}

/// Whether a thread has left its CPU. Its state says that it sleeps from a little before on.
fn is_off_cpu(pid: u32, tid: u64) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall"));
    call.is_ok_and(|call| !call.starts_with("running"))
}

/// A field of `/proc/PID/status`.
pub fn proc_status(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(|value| value.trim().to_owned())
}

/// Waits until every thread of the process sleeps.
pub fn settle(pid: u32) -> BTreeMap<u64, Settled> {
    wait_for("all threads of the program to sleep", || {
        let mut settled = BTreeMap::new();
        for tid in tids(pid) {
            let (before, state) = switches(pid, tid)?;
            let is_asleep = state == 'Z' || state == 'S' && is_off_cpu(pid, tid);
            let seen_ns = monotonic_ns();
            // Asleep, and later it has not run: asleep at the moment between.
            let (switches, _) = switches(pid, tid)?;
            if !is_asleep || before != switches {
                return None;
            }
            settled.insert(tid, Settled { seen_ns, switches });
        }
        Some(settled)
    })
}

/// The ids of the processes whose parent is `pid`.
pub fn children_of(pid: u32) -> Vec<u32> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|&child| proc_status(child, "PPid").is_some_and(|parent| parent == pid.to_string())).collect()
}
