//! The example project of `examples/ci`, as its README says to use it.

use std::{fs, path::Path, process::Command};

use leakprobe::{model::Verdict, report::json};

use crate::{
    support::{Running, leakprobe_binary, need_root, stack_of},
    table::CORPUS,
};

#[test]
fn the_example_project_fails_its_check_at_the_line_of_its_leak() {
    need_root();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/ci").canonicalize().unwrap();
    let reports = tempfile::tempdir().unwrap();
    let mut check = Command::new(example.join("check.sh"));
    check
        .env("SERVER", CORPUS.built().join("example"))
        .env("LEAKPROBE", leakprobe_binary())
        .env("ARTIFACTS", reports.path());
    let ended = Running::of(&mut check).end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let recording = json::read(&reports.path().join("recording.json")).unwrap();
    let found: Vec<_> = recording.sites.iter().filter(|site| site.verdict >= Verdict::Likely).collect();
    assert_eq!((found.len(), found[0].verdict), (1, Verdict::Likely), "{}", ended.stdout);
    let source = fs::read_to_string(example.join("main.go")).unwrap();
    let line_of = |text: &str| (1..).zip(source.lines()).find(|(_, line)| line.contains(text)).unwrap().0;
    let own_line = |stack: &[u32]| {
        let frames = stack_of(&recording, stack);
        frames
            .into_iter()
            .find(|frame| frame.file.as_deref().is_some_and(|file| file.ends_with("main.go")))
            .unwrap()
            .line
    };
    assert_eq!(own_line(&found[0].stack), Some(line_of("result <- lookUp")), "{}", ended.stdout);
    assert_eq!(own_line(&found[0].creation), Some(line_of("go func() {")), "{}", ended.stdout);
    assert_eq!(found[0].finding.as_ref().unwrap().pattern, "go-chan-send-no-receiver");
    // Every third of 30 requests.
    let counts = &found[0].course.as_ref().unwrap().counts;
    assert_eq!(counts.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>(), [10, 10, 10]);
}
