//! Where threads wait in the kernel.

use leakprobe::model::StackEnd;

use crate::support::{Program, Variant, functions, leakprobe, need_root, record, snapshot, stack_of};

#[test]
fn kernel_stacks_lie_above_those_of_the_program() {
    need_root();
    let kallsyms = std::fs::read_to_string("/proc/kallsyms").unwrap();
    let is_hidden = kallsyms.lines().all(|line| line.starts_with("0000000000000000"));
    assert!(!is_hidden, "these tests need kernel.kptr_restrict to be 0 or 1");
    let program = Program::ready("many", Variant::Pie);
    let pid = program.pid().to_string();
    let recording = record(&["snapshot", "-p", &pid, "-m", "0s", "--kernel-stacks"]);
    let mut parked = 0;
    for task in
        recording.tasks.iter().filter(|task| functions(&recording, &task.stack).iter().any(|name| name == "park"))
    {
        parked += 1;
        assert_eq!(task.stack_end, StackEnd::Complete);
        let kernel = stack_of(&recording, &task.kernel_stack);
        let names: Vec<&str> = kernel.iter().map(|frame| frame.function.as_str()).collect();
        let at =
            |name: &str| names.iter().position(|found| found.contains(name)).unwrap_or_else(|| panic!("{names:?}"));
        assert!(at("futex_wait") < at("do_syscall_64"), "{names:?}");
        assert!(
            kernel.iter().all(|frame| frame.module.starts_with("[kernel") && frame.unknown.is_none()),
            "{kernel:?}"
        );
    }
    assert_eq!(parked, 100);

    // Not asked for, they are not there; and they tell no sites apart.
    let plain = snapshot(program.pid());
    assert!(plain.tasks.iter().all(|task| task.kernel_stack.is_empty()));
    let ids = |recording: &leakprobe::model::Recording| -> Vec<(String, u64)> {
        recording.sites.iter().map(|site| (site.id.clone(), site.count)).collect()
    };
    assert_eq!(ids(&plain), ids(&recording));

    // Outputs: from the outermost frame of the program to the innermost of the kernel.
    let ended = leakprobe(["snapshot", "-p", &pid, "-m", "0s", "--kernel-stacks", "-o", "a.folded", "-o", "a.svg"]);
    let folded = std::fs::read_to_string(ended.succeeded().directory.path().join("a.folded")).unwrap();
    let line = folded.lines().find(|line| line.contains(";park;")).unwrap();
    let order =
        ["clone3;", ";park;", "futex_abstimed_wait_common;", "do_syscall_64_[k];", "futex_wait", "_[k];[futex] 100"];
    let mut rest = line;
    for part in order {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part} in order in {line}"));
        rest = &rest[at..];
    }
    let svg = std::fs::read_to_string(ended.directory.path().join("a.svg")).unwrap();
    assert!(svg.contains("do_syscall_64 [k]"));
    let text = &ended.stdout;
    let (kernel, own) = (text.find("do_syscall_64_[k]"), text.rfind("    park "));
    assert!(kernel.is_some() && kernel < own, "{text}");
}
