//! What `eu-stack` says.

use std::{collections::BTreeMap, process::Command};

/// A frame as `eu-stack` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EuFrame {
    /// Where it is in the target's memory.
    pub(crate) address: u64,
    /// The symbol, not demangled, with its version; empty if there is none.
    pub(crate) symbol: String,
}

/// Runs `eu-stack`: the frames of each thread, innermost first, and whether it reached the end of each stack.
pub(crate) fn eu_stack(pid: u32) -> BTreeMap<u64, Vec<EuFrame>> {
    // Raw symbols, since demanglers differ in their spelling; as many frames as there are.
    let output = Command::new("eu-stack").args(["-r", "-n", "0", "-p", &pid.to_string()]).output();
    let output = output.expect("eu-stack is missing: `cargo xtask test` installs what the tests need");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut threads: BTreeMap<u64, Vec<EuFrame>> = BTreeMap::new();
    let mut thread = None;
    for line in text.lines() {
        if let Some(tid) = line.strip_prefix("TID ") {
            thread = Some(tid.trim_end_matches(':').parse().unwrap());
            threads.entry(thread.unwrap()).or_default();
        } else if let Some(frame) = line.strip_prefix('#') {
            let mut words = frame.split_whitespace().skip(1);
            let address = words.next().and_then(|word| word.strip_prefix("0x")).unwrap();
            let address = u64::from_str_radix(address, 16).unwrap();
            threads
                .entry(thread.unwrap())
                .or_default()
                .push(EuFrame { address, symbol: words.collect::<Vec<_>>().join(" ") });
        }
    }
    assert!(!threads.is_empty(), "eu-stack shows no thread: {text} {}", String::from_utf8_lossy(&output.stderr));
    threads
}
