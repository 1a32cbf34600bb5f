//! leakprobe as a library, in a program of one's own: the example of its documentation.

use std::{sync::mpsc, thread, time::Duration};

use crate::support::{Program, Variant, need_root, settle, wait_for};

#[path = "../../examples/growing_sites.rs"]
#[allow(dead_code, unreachable_pub, reason = "an example has a `main`, and its functions are for everybody")]
mod growing_sites;

#[test]
fn sites_that_grow_are_seen_until_the_process_exits() {
    need_root();
    let mut program = Program::ready("creators", Variant::Pie);
    settle(program.pid());
    let lines = growing_sites::growing_sites(program.pid()).unwrap();
    let (sends, received) = mpsc::channel();
    let prints = thread::spawn(move || lines.for_each(|line| sends.send(line).unwrap()));
    // The first snapshot, which nothing was before, is somewhere between these.
    wait_for("a site to grow", || {
        program.ask("outer stays", "created ");
        let line: String = received.recv_timeout(Duration::from_secs(2)).ok()?;
        (line.contains(" tasks in condition variable") && line.ends_with("created by create")).then_some(())
    });
    drop(program);
    prints.join().unwrap();
}
