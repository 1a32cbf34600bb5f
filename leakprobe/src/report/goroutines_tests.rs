use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{model::TaskState, report::fixture};

/// What a tool reads out of a dump.
#[derive(Debug, Default, PartialEq)]
struct Parsed {
    id: u64,
    state: String,
    minutes: u64,
    locked: bool,
    frames: Vec<(String, String)>,
    elided: u64,
    created_by: Option<(String, u64, String)>,
    ancestors: usize,
}

/// Reads a dump as tools for it do: line by line, each goroutine after an empty line.
fn parse(dump: &str) -> Vec<Parsed> {
    dump.split("\n\n").filter(|block| !block.is_empty()).map(parse_one).collect()
}

fn parse_one(block: &str) -> Parsed {
    let mut lines = block.lines();
    let (id, rest) = lines.next().unwrap().strip_prefix("goroutine ").unwrap().split_once(" [").unwrap();
    let header = rest.split_once(']').unwrap().0;
    let mut parts = header.split(", ");
    let mut parsed = Parsed { id: id.parse().unwrap(), state: parts.next().unwrap().to_owned(), ..Parsed::default() };
    for part in parts {
        match part.strip_suffix(" minutes") {
            Some(minutes) => parsed.minutes = minutes.parse().unwrap(),
            None => parsed.locked |= part == "locked to thread",
        }
    }
    while let Some(line) = lines.next() {
        if line == "\tgoroutine running on other thread; stack unavailable" {
            continue;
        }
        if let Some(elided) = line.strip_prefix("...") {
            parsed.elided = elided.split(' ').next().unwrap().parse().unwrap_or(u64::MAX);
        } else if line.starts_with("[originating from goroutine ") {
            parsed.ancestors += 1;
        } else if let Some(creator) = line.strip_prefix("created by ") {
            let (function, parent) = creator.rsplit_once(" in goroutine ").unwrap_or((creator, "0"));
            let place = lines.next().unwrap().strip_prefix('\t').unwrap();
            if parsed.ancestors == 0 {
                parsed.created_by = Some((function.to_owned(), parent.parse().unwrap(), place.to_owned()));
            }
        } else {
            let function = line.strip_suffix("(...)").unwrap();
            let place = lines.next().unwrap().strip_prefix('\t').unwrap();
            if parsed.ancestors == 0 {
                parsed.frames.push((function.to_owned(), place.to_owned()));
            }
        }
    }
    parsed
}

fn dump(recording: &Recording) -> String {
    let mut out = Vec::new();
    GoroutinesTxt.write(recording, &Options::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// One goroutine of that version, with so many frames; each third is hidden, or inlined, if asked for.
fn deep(runtime: &str, frames: usize, hidden: bool, inlined: bool) -> Recording {
    let mut r = fixture::go::service();
    runtime.clone_into(&mut r.target.runtime);
    r.tasks.retain(|task| task.kind == TaskKind::Goroutine && task.id == 18);
    r.frames = (0..frames)
        .map(|n| {
            let is_inlined = inlined && n % 3 == 0;
            Frame {
                function: format!("main.f{n}"),
                file: Some("/src/f.go".into()),
                line: Some(u32::try_from(n).unwrap()),
                inlined: is_inlined,
                go: Some(GoFrame { offset: (!is_inlined).then_some(5), hidden: hidden && n % 3 == 1 }),
                ..Frame::default()
            }
        })
        .collect();
    r.tasks[0].stack = (0..u32::try_from(frames).unwrap()).collect();
    r.tasks[0].created_by.stack = Arc::default();
    r
}

#[test]
fn deep_stacks_are_cut_as_each_version_does() {
    for (runtime, frames, lines, elided) in [
        ("go1.27.3", 100, 100, 0),
        ("go1.27.3", 101, 100, 1),
        ("go1.21.13", 250, 100, 150),
        ("go1.19.8", 99, 99, 0),
        ("go1.19.8", 100, 100, u64::MAX),
        ("go1.19.8", 250, 100, u64::MAX),
    ] {
        let parsed = parse(&dump(&deep(runtime, frames, false, false)));
        assert_eq!((parsed[0].frames.len(), parsed[0].elided), (lines, elided), "{runtime} with {frames}");
    }
    // The dump tells that it is cut by the lines that it has written, of which hidden frames are none.
    let mut old = deep("go1.19.8", 250, true, false);
    old.tasks[0].stack_end = StackEnd::TooDeep;
    let old = parse(&dump(&old));
    assert_eq!((old[0].frames.len(), old[0].elided), (67, 0));
    let newest = parse(&dump(&deep("go1.26.6", 250, false, false)));
    assert_eq!((newest[0].frames[49].0.as_str(), newest[0].frames[50].0.as_str()), ("main.f49", "main.f200"));
    // Hidden frames do not count, and before Go 1.21 inlined ones do not while stacks are walked.
    let hidden = parse(&dump(&deep("go1.26.6", 150, true, false)));
    assert_eq!((hidden[0].frames.len(), hidden[0].elided), (100, 0));
    let inlined = parse(&dump(&deep("go1.19.8", 250, false, true)));
    assert_eq!((inlined[0].frames.len(), inlined[0].elided), (150, 0));
    assert_eq!(inlined[0].frames[0].1, "/src/f.go:0", "an inlined function has no offset");
    assert_eq!(inlined[0].frames[1].1, "/src/f.go:1 +0x5");
}

#[test]
fn a_stack_of_which_only_a_part_was_read_does_not_look_whole() {
    let mut recording = deep("go1.26.6", 60, false, false);
    recording.tasks[0].stack_end = StackEnd::TooDeep;
    let parsed = parse(&dump(&recording));
    assert_eq!((parsed[0].frames.len(), parsed[0].elided), (60, u64::MAX));
}

#[test]
fn a_stack_that_comes_again_is_written_as_it_is_alone() {
    let mut recording = deep("go1.27.3", 60, false, false);
    let alone = dump(&recording);
    let cut = Task { id: 19, stack_end: StackEnd::TooDeep, ..recording.tasks[0].clone() };
    let shorter = Task { id: 20, stack: [2, 1].into(), ..recording.tasks[0].clone() };
    let again = Task { id: 21, ..recording.tasks[0].clone() };
    recording.tasks.extend([cut, shorter, again]);
    let all = dump(&recording);
    assert!(all.ends_with(&format!("\n\n{}", alone.replace("goroutine 18 ", "goroutine 21 "))), "{all}");
    let parsed = parse(&all);
    let shapes: Vec<(u64, usize, u64)> =
        parsed.iter().map(|goroutine| (goroutine.id, goroutine.frames.len(), goroutine.elided)).collect();
    assert_eq!(shapes, [(18, 60, 0), (19, 60, u64::MAX), (20, 2, 0), (21, 60, 0)]);
}

#[test]
fn a_stack_of_hidden_frames_alone_is_shown() {
    let mut recording = deep("go1.26.6", 3, true, false);
    recording.tasks[0].stack = [1].into();
    assert_eq!(parse(&dump(&recording))[0].frames.len(), 1);
}

#[test]
fn labels_and_names_are_written_as_the_version_does() {
    let mut recording = fixture::go::service();
    let of = |recording: &Recording, text: &str| dump(recording).lines().any(|line| line == text);
    assert!(of(&recording, "goroutine 100 [chan send] {handler: /confirm, tenant: globex}:"));
    recording.target.runtime = "go1.26.6".into();
    assert!(of(&recording, "goroutine 100 [chan send]:"));
    assert!(of(&recording, "shop/orders.(*Queue[...]).put(...)"));
    recording.target.runtime = "go1.26.6, go1.27.3".into();
    assert!(of(&recording, "goroutine 100 [chan send]:"));
    let second = |task: &mut Task| task.goroutine.iter_mut().for_each(|goroutine| goroutine.runtime = 1);
    recording.tasks.iter_mut().for_each(second);
    assert!(of(&recording, "goroutine 100 [chan send] {handler: /confirm, tenant: globex}:"));
    recording.tasks.iter_mut().flat_map(|task| &mut task.goroutine).for_each(|goroutine| {
        goroutine.runtime = 0;
        goroutine.bubble = Some(7);
    });
    assert!(of(&recording, "goroutine 100 [chan send, synctest bubble 7]:"));
    recording.target.runtime = "go1.20".into();
    assert!(of(&recording, "shop/orders.(*Queue[go.shape.int]).put(...)"));
}

#[test]
fn type_arguments_are_left_out_as_go_does() {
    for (name, old, new) in [
        ("main.f", None, None),
        ("main.Map[go.shape.int]", Some("main.Map[...]"), Some("main.Map[...]")),
        ("main.Map[go.shape.[]int].func1", Some("main.Map[...].func1"), Some("main.Map[...].func1")),
        ("main.(*T[int]).M[string].func1", Some("main.(*T[...].func1"), Some("main.(*T[...]).M[...].func1")),
        ("main.a]b[", None, None),
        ("main.a[b]]c[d]", Some("main.a[...]"), None),
    ] {
        assert_eq!(without_type_arguments(name, false).as_deref(), old, "{name}");
        assert_eq!(without_type_arguments(name, true).as_deref(), new, "{name}");
    }
}

#[test]
fn labels_are_quoted_as_go_does() {
    for (label, written) in [
        ("/a.b_C9", "/a.b_C9"),
        ("", ""),
        ("a b", "\"a b\""),
        ("a\"\\\n\t\r", "\"a\\\"\\\\\\n\\t\\r\""),
        ("\u{1}", "\"\\x01\""),
        ("é界😀", "\"\\u00e9\\u754c\\U0001f600\""),
    ] {
        assert_eq!(quoted(label), written);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is in the recording comes out again when the dump is read.
    #[test]
    fn a_dump_reads_back(
        minor in 19..29_u32,
        ids in vec(1..1_000_u64, 1..20),
        ages in vec(0..10_000_000_u64, 20),
        locked in vec(any::<bool>(), 20),
    ) {
        let mut recording = fixture::go::service();
        recording.target.runtime = format!("go1.{minor}.2");
        let task = recording.tasks.iter().find(|task| task.id == 18).unwrap().clone();
        recording.tasks.retain(|task| task.kind == TaskKind::Thread);
        for ((&id, &age_ms), &locked) in ids.iter().zip(&ages).zip(&locked) {
            let mut task = task.clone();
            task.id = id;
            task.state = if age_ms > 1_000 { TaskState::Parked } else { TaskState::Blocked };
            task.wait.as_mut().unwrap().age_ms = age_ms;
            task.goroutine.as_mut().unwrap().locked_to_thread = locked;
            recording.tasks.push(task);
        }
        let parsed = parse(&dump(&recording));
        let parent = task.created_by.task.unwrap();
        let expected: Vec<Parsed> = ids.iter().zip(&ages).zip(&locked).map(|((&id, &age_ms), &locked)| Parsed {
            id,
            state: "select".to_owned(),
            minutes: age_ms / 60_000,
            locked,
            frames: vec![("main.refresh".to_owned(), "/src/refresh.go:22 +0xb2".to_owned())],
            elided: 0,
            created_by: (id != 1).then(|| ("main.main".to_owned(), parent, "/src/main.go:31 +0x8f".to_owned())),
            ancestors: 0,
        }).collect();
        prop_assert_eq!(parsed, expected);
    }
}
