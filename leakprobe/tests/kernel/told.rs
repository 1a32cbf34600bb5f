//! What the programs tell of single losses with `-vv`, and that it costs nothing without.

use std::{collections::BTreeMap, fs};

use aya::programs::loaded_programs;
use nix::sys::signal::Signal;

use crate::support::{Program, Running, Variant, attach, settle};

/// What the programs of a leakprobe came to in the kernel, once the verifier had removed what is never reached: bytes, by name.
fn translated(leakprobe: &Running) -> BTreeMap<String, u32> {
    let descriptors = fs::read_dir(format!("/proc/{}/fdinfo", leakprobe.pid())).unwrap();
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let id = |text: String| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
    let ids: Vec<u32> = texts.filter_map(id).collect();
    let ours = loaded_programs().filter_map(Result::ok).filter(|program| ids.contains(&program.id()));
    ours.map(|program| (program.name_as_str().unwrap().to_owned(), program.size_translated().unwrap())).collect()
}

#[test]
fn with_vv_it_is_told_which_thread_was_lost() {
    let mut program = Program::ready("churn", Variant::Pie);
    settle(program.pid());
    let leakprobe = attach(&program, &["-vv"]);
    // More than have their stacks streamed in a tenth of a second.
    program.ask("churn 2000", "done");
    leakprobe.kill(Signal::SIGINT as i32);
    let ended = leakprobe.end();
    let told: Vec<&str> =
        ended.stderr.lines().filter(|line| line.contains("lost: creation_stack_rate_limited")).collect();
    let of_program = format!("(process {})", program.pid());
    assert!(!told.is_empty() && told.iter().all(|line| line.ends_with(&of_program)), "{ended:?}");
}

#[test]
fn what_tells_of_losses_is_not_there_without_vv() {
    let program = Program::ready("many", Variant::Pie);
    let [without, with] = [&[][..], &["-vv"]].map(|options| translated(&attach(&program, options)));
    assert!(without.keys().eq(with.keys()), "{without:?} {with:?}");
    for hot in ["task_newtask", "sched_process_e", "task_rename", "sys_enter_futex"] {
        let size =
            |of: &BTreeMap<String, u32>| of.iter().find(|(name, _)| name.starts_with(hot)).map(|(_, size)| *size);
        let (without, with) = (size(&without).unwrap(), size(&with).unwrap());
        // What tells takes some 150 instructions of 8 bytes.
        assert!(without + 8 * 100 < with, "{hot}: {without} and {with} bytes");
    }
}
