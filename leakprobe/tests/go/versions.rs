//! Programs that say of themselves that another version of Go made them: newer than any that leakprobe knows, and too old.

use leakprobe::model::{Recording, TaskKind, TaskState};

use crate::{
    support::{functions, snapshot},
    target::Patched,
};

/// One look at a program with a hundred goroutines, which says that it is of the version `claimed`.
fn look(version: &str, real: &str, claimed: &str) -> Recording {
    // As the linker writes it behind "\xff Go buildinf:": its length, and the text.
    let text = |version: &str| [&[version.len() as u8], version.as_bytes()].concat();
    let (real, claimed) = (text(real), text(claimed));
    assert_eq!(real.len(), claimed.len());
    let program = Patched::of(&format!("{version}/default/many"), &[(&real, &claimed)]).ready(&["100"]);
    snapshot(program.pid())
}

fn gaps(recording: &Recording, words: &[&str]) {
    let gaps = &recording.coverage.gaps;
    assert!(
        gaps.iter().any(|gap| words.iter().all(|word| gap.to_string().contains(word))),
        "{words:?} not in {gaps:?}"
    );
}

#[test]
fn a_newer_version_is_found_out_from_the_process_and_it_is_said_so() {
    let recording = look("1.27", "go1.27.3", "go1.28.3");
    assert_eq!(recording.target.runtime, "go1.28.3");
    gaps(&recording, &["1.28", "the process itself", "not checked"]);
    let receiving = recording.tasks.iter().filter(|task| {
        task.kind == TaskKind::Goroutine
            && task.state == TaskState::Parked
            && task.wait.as_ref().is_some_and(|wait| &*wait.reason == "chan receive")
            && functions(&recording, &task.stack).iter().filter(|name| *name == "main.receiving").count() == 3
    });
    assert_eq!(receiving.count(), 80);
}

#[test]
fn of_a_version_that_is_too_old_threads_are_shown_and_why() {
    let recording = look("1.19", "go1.19.8", "go1.17.8");
    gaps(&recording, &["1.17"]);
    assert!(recording.tasks.iter().all(|task| task.kind == TaskKind::Thread));
    assert!(recording.tasks.len() > 2);
}

#[test]
fn a_layout_that_does_not_fit_is_not_read() {
    let recording = look("1.21", "go1.21.13", "go1.24.11");
    gaps(&recording, &["1.24"]);
    assert!(recording.tasks.iter().all(|task| task.kind == TaskKind::Thread));
}
