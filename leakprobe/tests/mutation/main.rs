//! Memory that lies: words that leakprobe reads of a stopped C, Go and Java program are replaced, some at a time, and whatever they
//! say, a snapshot ends soon, in little memory, with a recording that can be read back or an error of one sentence.
//!
//! What is replaced in a run, and by what, follows from the run's number. `LEAKPROBE_MUTATE_SEED=17` repeats one, which a failure
//! names, `LEAKPROBE_MUTATE_SEED=1000..2000` makes others. `LEAKPROBE_FIELD_ALL=1` makes 300 of each program instead of a few.
//!
//! Needs root, the JDK, and the programs that `cargo xtask programs` builds. Never run in guests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what the runs took is shown with --nocapture")]

mod numbers;
mod outcome;
mod stopped;
#[path = "../support/mod.rs"]
mod support;

use std::{
    env,
    ops::Range,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use leakprobe::model::{Recording, TaskKind};

use numbers::Numbers;
use outcome::Outcome;
use stopped::Stopped;
use support::{Variant, need_root, program_path};

/// The longest that a snapshot may take, also on a machine that is busy.
const LONGEST: Duration = Duration::from_secs(10);
/// Most memory that leakprobe or its helper may have had, MB.
const MOST_MB: u64 = 300;
/// Most words that are replaced at once.
const MOST_WORDS: [usize; 8] = [1, 1, 1, 2, 3, 5, 10, 20];
/// So many failures are enough to look at.
const MOST_FAILURES: usize = 10;

/// The runs to make, by number.
fn runs() -> Range<u64> {
    let usual = if env::var_os("LEAKPROBE_FIELD_ALL").is_some() { 300 } else { 30 };
    let Ok(wanted) = env::var("LEAKPROBE_MUTATE_SEED") else { return 0..usual };
    let number =
        |text: &str| text.parse().unwrap_or_else(|_| panic!("LEAKPROBE_MUTATE_SEED is N or FROM..TO: {wanted}"));
    wanted.split_once("..").map_or_else(|| number(&wanted)..number(&wanted) + 1, |(from, to)| number(from)..number(to))
}

/// Mutates a program that `is_seen` in a recording as long as it says the truth.
fn mutate(mut command: Command, is_seen: impl Fn(&Recording) -> bool) {
    need_root();
    let stopped = Stopped::start(&mut command);
    let truth = Outcome::of(stopped.pid(), LONGEST).recording().unwrap();
    assert!(is_seen(&truth), "{truth:?}");
    let pieces = stopped.pieces();
    let (mut failures, mut slowest, mut most_mb, mut words) = (Vec::new(), Duration::ZERO, 0, 0);
    for run in runs() {
        let mut numbers = Numbers::of(run);
        let changed = stopped.change(&pieces, *numbers.one_of(&MOST_WORDS), &mut numbers);
        let outcome = Outcome::of(stopped.pid(), LONGEST);
        if let Err(why) = outcome.check(LONGEST, MOST_MB) {
            failures.push(format!("LEAKPROBE_MUTATE_SEED={run}: {why}\n  {changed}"));
        }
        words += changed.len();
        stopped.restore(changed);
        slowest = slowest.max(outcome.took);
        most_mb = most_mb.max(outcome.peak_mb);
        if failures.len() == MOST_FAILURES {
            break;
        }
    }
    println!("{command:?}: {words} words in {:?}, at most {slowest:?} and {most_mb} MB", runs());
    assert!(failures.is_empty(), "{command:?}:\n{}", failures.join("\n"));
    assert!(is_seen(&Outcome::of(stopped.pid(), LONGEST).recording().unwrap()), "not restored");
}

/// How many tasks of this kind have a stack.
fn with_stack(recording: &Recording, kind: TaskKind) -> usize {
    recording.tasks.iter().filter(|task| task.kind == kind && !task.stack.is_empty()).count()
}

/// Mutexes of each kind, rwlocks, joins, and circles of them.
#[test]
fn c() {
    mutate(Command::new(program_path("locks", Variant::Pie)), |seen| with_stack(seen, TaskKind::Thread) >= 20);
}

/// Channels, selects, mutexes, groups that are waited for, timers, sockets.
#[test]
fn go() {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-programs");
    let built = env::var_os("LEAKPROBE_TEST_PROGRAMS").map_or_else(own, PathBuf::from);
    // From Go 1.26 on, the heap lies elsewhere in each run.
    let program = built.join("go/1.24/default/waits");
    mutate(Command::new(program), |seen| with_stack(seen, TaskKind::Goroutine) >= 40);
}

/// Monitors, parked threads, and frames of code that HotSpot has compiled.
#[test]
fn java() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binaries/Waits.java");
    let folder = tempfile::tempdir().unwrap();
    let compiled = Command::new("javac").arg("-d").arg(folder.path()).arg(source).status();
    assert!(compiled.is_ok_and(|status| status.success()), "javac: `cargo xtask test` installs what the tests need");
    let mut java = Command::new("java");
    java.args(["-Xmx64m", "-XX:+UseSerialGC", "-Xcomp", "-XX:CompileCommand=quiet"]);
    java.arg("-XX:CompileCommand=compileonly,Waits*::*").arg("-cp").arg(folder.path()).arg("Waits");
    mutate(java, |seen| with_stack(seen, TaskKind::Thread) >= 12);
}
