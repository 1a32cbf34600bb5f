//! Tasks that are not read: which are named, and of which programs nothing is said.

use std::{path::Path, process::Command};

use crate::{
    built::run,
    support::{Program, need_root, settle, snapshot},
};

/// What is said not to be read of a program, once it has written `ready` and rests.
fn unseen_of(command: &mut Command) -> Vec<(String, bool)> {
    need_root();
    let mut program = Program::start(command);
    program.expect("ready");
    settle(program.pid());
    let unseen = snapshot(program.pid()).coverage.unseen;
    unseen.into_iter().map(|unseen| (unseen.what, unseen.certain)).collect()
}

fn python(script: &str) -> Vec<(String, bool)> {
    unseen_of(Command::new("python3").args(["-c", script]))
}

#[test]
fn asyncio_tasks_are_named_whichever_thread_runs_the_loop() {
    let main = "import asyncio\nasync def main(): print('ready', flush=True); await asyncio.Event().wait()\n";
    let expected = [("asyncio tasks".to_owned(), true)];
    assert_eq!(python(&format!("{main}asyncio.run(main())")), expected);
    let thread =
        "import threading, signal\nthreading.Thread(target=lambda: asyncio.run(main())).start()\nsignal.pause()";
    assert_eq!(python(&format!("{main}{thread}")), expected);
}

#[test]
fn asyncio_that_is_loaded_and_not_run_is_not() {
    let selectors = "import asyncio, selectors, socket\nlistener = socket.create_server(('127.0.0.1', 0))\n\
        selector = selectors.DefaultSelector(); selector.register(listener, selectors.EVENT_READ)\n\
        print('ready', flush=True); selector.select()";
    assert_eq!(python(selectors), []);
    let ended = "import asyncio, time\nasync def main(): pass\nasyncio.run(main())\nprint('ready', flush=True)\ntime.sleep(1e6)";
    assert_eq!(python(ended), []);
}

#[test]
fn pending_promises_may_be_there_wherever_node_runs() {
    let unseen = unseen_of(Command::new("node").args(["-e", "console.log('ready'); setInterval(() => {}, 1e6)"]));
    assert!(matches!(&unseen[..], [(what, false)] if what.contains("promises")), "{unseen:?}");
}

#[test]
fn virtual_threads_are_named_once_the_program_has_made_one() {
    need_root();
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binaries/Virtual.java");
    run(Command::new("javac").arg("-d").arg(folder.path()).arg(source));
    for wanted in [&[][..], &["one"]] {
        let mut command = Command::new("java");
        let mut program =
            Program::start(command.args(["-Xmx64m", "-cp"]).arg(folder.path()).arg("Virtual").args(wanted));
        let made = program.expect("ready ");
        let unseen = snapshot(program.pid()).coverage.unseen;
        let expected: &[&str] = if made == "virtual threads" { &["virtual threads"] } else { &[] };
        assert_eq!(unseen.iter().map(|unseen| unseen.what.as_str()).collect::<Vec<_>>(), expected, "{unseen:?}");
        assert!(unseen.iter().all(|unseen| unseen.certain), "{unseen:?}");
    }
}
