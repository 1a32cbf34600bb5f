//! The threads of Go programs, and what they have to do with goroutines.

use leakprobe::model::{GoStatus, Recording, Role, StackEnd, Task, TaskKind, TaskState};

use crate::{
    support::{functions, snapshot},
    target::{ready, versions},
};

fn of_kind(recording: &Recording, kind: TaskKind) -> impl Iterator<Item = &Task> {
    recording.tasks.iter().filter(move |task| task.kind == kind)
}

#[test]
fn every_thread_is_unwound_and_known_to_be_the_runtimes_in_stripped_programs() {
    for version in versions() {
        let program = ready(&format!("{version}/stripped/waits"), &[]);
        let recording = snapshot(program.pid());
        assert!(of_kind(&recording, TaskKind::Thread).count() > 2, "{version}");
        for thread in of_kind(&recording, TaskKind::Thread) {
            assert_ne!(thread.role, Role::Own, "{version}: {thread:?}");
            if matches!(thread.state, TaskState::Parked | TaskState::Blocked) {
                let functions = functions(&recording, &thread.stack);
                assert_eq!(thread.stack_end, StackEnd::Complete, "{version}: {functions:?}");
                assert!(functions.iter().all(|function| !function.starts_with('[')), "{version}: {functions:?}");
            }
        }
    }
}

#[test]
fn goroutines_in_c_have_go_frames_and_native_ones() {
    for version in versions() {
        let program = ready(&format!("{version}/cgo/waits"), &[]);
        let recording = snapshot(program.pid());
        let mut found = 0;
        for goroutine in of_kind(&recording, TaskKind::Goroutine) {
            let functions = functions(&recording, &goroutine.stack);
            if !functions.iter().any(|function| function == "main.inC" || function == "main.inCLocked") {
                continue;
            }
            found += 1;
            let wait = goroutine.wait.as_ref().unwrap();
            assert_eq!(&*wait.reason, "pause", "{version}: {functions:?}");
            let place = |name: &str| functions.iter().position(|function| function.trim_end_matches(".abi0") == name);
            let order = [place("block"), place("main._Cfunc_block")];
            assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{version}: {functions:?}");
            let details = goroutine.goroutine.as_ref().unwrap();
            assert_eq!(details.status, GoStatus::Syscall);
            // The thread says the same from its side, and is not told twice.
            let carrier = of_kind(&recording, TaskKind::Thread).find(|thread| thread.runs == Some(goroutine.id));
            let carrier = carrier.unwrap_or_else(|| panic!("{version}: nobody runs {}", goroutine.id));
            assert_eq!(Some(carrier.id), details.thread.map(u64::from), "{version}");
            assert_eq!(carrier.role, Role::Carrier, "{version}");
        }
        assert_eq!(found, 2, "{version}");
    }
}

#[test]
fn what_a_thread_runs_is_told_as_a_goroutine() {
    let program = ready("1.27/cgo/waits", &[]);
    let recording = snapshot(program.pid());
    let goroutines: Vec<u64> = of_kind(&recording, TaskKind::Goroutine).map(|goroutine| goroutine.id).collect();
    let run: Vec<u64> = of_kind(&recording, TaskKind::Thread).filter_map(|thread| thread.runs).collect();
    assert!(run.len() >= 3, "{run:?}");
    assert!(run.iter().all(|id| goroutines.contains(id)), "{run:?} among {goroutines:?}");
}
