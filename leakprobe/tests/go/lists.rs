//! The runtime's list of its goroutines, and what only looks like it: while it marks, the collector has one of its own with the same
//! goroutines, which never grows and is empty afterwards.

use std::{thread, time::Duration};

use leakprobe::model::{Loss, Recording, Task};

use crate::{
    support::{Program, attach, functions},
    target::{Patched, ready, versions},
};

/// What was seen of a program whose collector was at work when leakprobe came, and that has started 200 goroutines since that was
/// through.
fn watched(mut program: Program) -> Recording {
    let attached = attach(&program, &[]);
    // For some looks.
    thread::sleep(Duration::from_millis(500));
    program.ask("grow", "grown");
    attached.stop()
}

fn check(version: &str, recording: &Recording) {
    let is_grown = |task: &&Task| functions(recording, &task.stack).iter().any(|name| name == "main.grown");
    let (losses, gaps) = (&recording.losses, &recording.coverage.gaps);
    assert_eq!(recording.tasks.iter().filter(is_grown).count(), 200, "{version}: {losses:?}, {gaps:?}");
}

#[test]
fn goroutines_are_seen_that_come_once_the_collector_is_through() {
    for version in versions() {
        check(version, &watched(ready(&format!("{version}/default/waits"), &["collect"])));
    }
}

/// As programs are whose names were made unreadable on purpose.
#[test]
fn without_the_names_of_functions_the_list_is_told_by_its_shape() {
    for version in ["1.19", "1.27"] {
        let patches: [(&[u8], &[u8]); 2] = [
            (b"\0runtime.allgadd\0", b"\0runtime.allgxxx\0"),
            (b"\0runtime.mcommoninit\0", b"\0runtime.mcommonxxxx\0"),
        ];
        let program = Patched::of(&format!("{version}/default/waits"), &patches);
        check(version, &watched(program.ready(&["collect"])));
    }
}

/// A function that works on the collector's list bears the name of that which adds to the list of all.
#[test]
fn a_list_that_turns_out_to_be_another_one_is_looked_for_again() {
    for version in ["1.19", "1.27"] {
        let patches: [(&[u8], &[u8]); 2] =
            [(b"\0runtime.allgadd\0", b"\0runtime.allgxxx\0"), (b"\0runtime.markroot\0", b"\0runtime.allgadd\0")];
        let program = Patched::of(&format!("{version}/default/waits"), &patches);
        // Now and then the collector is between two rounds of its work when the list is looked for.
        let was_another = (0..10).any(|_| {
            let recording = watched(program.ready(&["collect"]));
            check(version, &recording);
            recording.losses.contains_key(&Loss::GoroutineListMistaken)
        });
        assert!(was_another, "{version}");
    }
}
