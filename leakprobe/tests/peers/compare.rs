//! leakprobe's stacks against those of `eu-stack`.
//!
//! Addresses must be equal, frame for frame. Names may differ in these ways, each of which is checked and not assumed:
//!
//! * leakprobe also shows functions that the compiler inlined; they have the address of the frame that they are in, and are
//!   left out here.
//! * Several symbols may name one function (`read`, `__read`, `__GI___libc_read`), and the two choose differently. Both must be
//!   symbols that lie over the very address.
//! * `eu-stack` shows symbol versions (`@@GLIBC_2.34`).
//! * The compiler's copies of a function have its name with a suffix (`.constprop.0`) in the symbol table and without it in debug
//!   information, which is where leakprobe has it from if there is any.
//! * `eu-stack` stretches a symbol without a size, or the last one of a section, over what follows it; leakprobe does not name a
//!   function by a symbol that does not reach the address. The stretched symbol must then end before it.

use std::collections::{BTreeMap, BTreeSet};

use leakprobe::model::{Frame, Recording, StackEnd};

use crate::{
    eu_stack::{EuFrame, eu_stack},
    support::{label, snapshot, stack_of},
    symbols::{Code, shown, without_clone, without_version},
};

/// What was compared.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) threads: usize,
    pub(crate) frames: usize,
    /// Frames that neither has a name for.
    pub(crate) without_name: usize,
    /// Names that leakprobe gives.
    pub(crate) names: BTreeSet<String>,
    /// Where the names differ, leakprobe's first.
    pub(crate) other_names: BTreeSet<(String, String)>,
}

/// Most times that a thread which runs again and again is tried.
const TRIES: usize = 50;

/// Compares the stacks of all threads of a process. A thread that ran between the readings is tried again; one that
/// did not must be the same.
#[expect(clippy::print_stderr, reason = "what was compared, for those who run the test with --nocapture")]
pub(crate) fn compare(pid: u32) -> Report {
    let mut report = Report::default();
    let mut done: BTreeSet<u64> = BTreeSet::new();
    let mut differences: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..TRIES {
        // eu-stack stops every thread, which then goes on with what it did: so its stack before and after must be the same.
        let before = snapshot(pid);
        let theirs = eu_stack(pid);
        let after = snapshot(pid);
        let code = Code::of(pid);
        let (before, after) = (stacks(&before), stacks(&after));
        for (tid, ours) in &before {
            let (Some(again), Some(theirs)) = (after.get(tid), theirs.get(tid)) else { continue };
            if again != ours || done.contains(tid) {
                continue;
            }
            match check_addresses(*tid, ours, theirs, &code) {
                Ok(()) => {
                    check_names(ours, theirs, &code, &mut report);
                    done.insert(*tid);
                    report.threads += 1;
                }
                // A thread that ran between the readings, and came back to where it was, is not seen to differ twice alike.
                Err(difference) => {
                    let times = differences.entry(difference.clone()).or_insert(0);
                    *times += 1;
                    assert!(*times < 3, "{difference}");
                }
            }
        }
        if before.keys().all(|tid| done.contains(tid)) {
            eprintln!("{report:#?}");
            return report;
        }
    }
    panic!("some threads ran each time: {done:?} of {:?} are compared", crate::support::tids(pid));
}

/// The stacks of a snapshot, without inlined functions.
fn stacks(recording: &Recording) -> BTreeMap<u64, (StackEnd, Vec<Frame>)> {
    let of = |stack: &[u32]| stack_of(recording, stack).into_iter().filter(|frame| !frame.inlined).cloned().collect();
    recording.tasks.iter().map(|task| (task.id, (task.stack_end, of(&task.stack)))).collect()
}

fn check_addresses(
    tid: u64,
    (end, ours): &(StackEnd, Vec<Frame>),
    theirs: &[EuFrame],
    code: &Code,
) -> Result<(), String> {
    let ours: Vec<(String, u64)> = ours.iter().map(|frame| (frame.module.clone(), hex(&frame.address))).collect();
    let located: Vec<(String, u64)> = theirs.iter().map(|frame| code.locate(frame.address)).collect();
    if ours == located && *end == StackEnd::Complete {
        return Ok(());
    }
    let list = |frames: &[(String, u64)]| {
        frames.iter().map(|(module, at)| format!("  {module}+{at:#x}\n")).collect::<String>()
    };
    Err(format!("thread {tid}: leakprobe ({end:?})\n{}eu-stack\n{}{theirs:x?}", list(&ours), list(&located)))
}

fn check_names((_, ours): &(StackEnd, Vec<Frame>), theirs: &[EuFrame], code: &Code, report: &mut Report) {
    for (depth, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        report.frames += 1;
        if !ours.function.is_empty() {
            report.names.insert(ours.function.clone());
        }
        let name = without_version(&theirs.symbol);
        if ours.function == name || ours.function == shown(name) {
            report.without_name += usize::from(name.is_empty());
            continue;
        }
        report.other_names.insert((ours.function.clone(), theirs.symbol.clone()));
        // A return address may be the first after its function: the call before it counts.
        let call = hex(&ours.address) - u64::from(depth > 0);
        let symbols = code.symbols(&ours.module, call);
        let context = || format!("leakprobe: {}, eu-stack: {theirs:?}, symbols there: {symbols:?}", label(ours));
        let known = |name: &str| symbols.iter().any(|symbol| without_version(symbol) == name);
        let is_ours_right = if ours.function.is_empty() {
            symbols.is_empty()
        } else {
            symbols.iter().any(|symbol| shown(symbol) == ours.function || shown(without_clone(symbol)) == ours.function)
        };
        assert!(is_ours_right, "leakprobe's name is none that the function has: {}", context());
        // If theirs is no symbol that reaches this address, it is one that was stretched.
        assert!(
            name.is_empty() || known(name) || ours.function.is_empty(),
            "the names are of two functions: {}",
            context()
        );
    }
}

fn hex(address: &str) -> u64 {
    u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap()
}
