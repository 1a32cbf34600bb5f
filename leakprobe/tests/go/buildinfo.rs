//! Programs without the blob that says which Go made them: they hold the version elsewhere, too.

use std::{path::Path, process::Command};

use leakprobe::model::{Gap, Loss, TaskKind};

use crate::{
    compare::differences,
    support::{Program, snapshot},
    target::{Patched, built, ours, theirs, versions},
};

const MAGIC: &[u8] = b"\xff Go buildinf:";

fn equal(mut program: Program, what: &str) {
    let (theirs, writer) = theirs(&mut program, "");
    let mut ours = ours(program.pid());
    crate::target::take(&mut ours, writer.id);
    assert!(theirs.len() > 60, "{what}: only {} goroutines", theirs.len());
    let differences = differences(&theirs, &ours);
    assert!(differences.is_empty(), "{what}:\n{differences}");
}

#[test]
fn its_first_bytes_were_overwritten() {
    for (n, version) in versions().enumerate() {
        let path = format!("{version}/{}/waits", ["stripped", "pie"][n % 2]);
        let program = Patched::of(&path, &[(MAGIC, &[0; 14])]).ready(&[]);
        let recording = snapshot(program.pid());
        assert!(recording.target.runtime.starts_with(&format!("go{version}")), "{path}: {:?}", recording.target);
        assert_eq!(recording.coverage.gaps.iter().find(|gap| gap.to_string().contains("Go")), None, "{path}");
        equal(program, &path);
    }
}

#[test]
fn its_section_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    for version in ["1.19", "1.27"] {
        // Of those that the system's linker has made, no section has the name of the function table.
        for build in ["default", "cgo-pie"] {
            let path = folder.path().join(format!("{build}-{version}"));
            remove(&["--remove-section=.go.buildinfo"], &built(&format!("{version}/{build}/waits")), &path);
            let mut program = Program::start(&mut Command::new(&path));
            program.expect("ready");
            equal(program, &format!("{version} {build}"));
        }
    }
}

fn remove(arguments: &[&str], from: &Path, to: &Path) {
    let status = Command::new("objcopy").args(arguments).args([from, to]).status().unwrap();
    assert!(status.success(), "objcopy: {status}");
}

#[test]
fn a_runtime_that_cannot_be_read_is_a_gap_and_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sleeps");
    // A C program that has a section of Go's, and no function table in it.
    let source = "#include <unistd.h>\nchar table[] __attribute__((section(\".gopclntab\"), used)) = \"x\";\n\
                  int main(void) { write(1, \"ready\\n\", 6); for (;;) pause(); }\n";
    std::fs::write(folder.path().join("sleeps.c"), source).unwrap();
    let status = Command::new("cc").arg("-o").arg(&path).arg(folder.path().join("sleeps.c")).status().unwrap();
    assert!(status.success());
    let mut program = Program::start(&mut Command::new(&path));
    program.expect("ready");
    let recording = snapshot(program.pid());
    let gaps = &recording.coverage.gaps;
    let is_said = |why: &str| why.contains("sleeps") && why.contains("only its threads are shown");
    assert!(gaps.iter().any(|gap| matches!(gap, Gap::GoRuntime { why } if is_said(why))), "{gaps:?}");
    assert_eq!(recording.losses.get(&Loss::GoRuntimeUnreadable), Some(&1));
    assert!(recording.tasks.iter().all(|task| task.kind == TaskKind::Thread));
}
