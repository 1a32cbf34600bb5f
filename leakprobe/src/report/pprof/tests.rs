//! Profiles are read back and told as text.

use std::{fmt::Write, io::Read};

use flate2::read::GzDecoder;

use super::*;
use crate::report::{Format, View, fixture};

/// Reads a profile back, and checks that every id and index in it leads somewhere, as pprof does.
pub(in crate::report) fn read(bytes: &[u8]) -> Profile {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    let profile = Profile::decode(plain.as_slice()).unwrap();
    let strings = profile.string_table.len();
    let text = |index: i64| assert!(usize::try_from(index).unwrap() < strings, "string {index} of {strings}");
    assert_eq!(profile.string_table[0], "");
    assert_eq!(profile.sample_type.len(), 2);
    text(profile.default_sample_type);
    profile.comment.iter().copied().for_each(text);
    for (place, function) in (1..).zip(&profile.function) {
        assert_eq!(function.id, place);
        text(function.name);
        text(function.filename);
        assert_ne!(function.name, 0, "a function without a name");
    }
    for (place, mapping) in (1..).zip(&profile.mapping) {
        assert_eq!(mapping.id, place);
        text(mapping.filename);
    }
    for (place, location) in (1..).zip(&profile.location) {
        assert_eq!(location.id, place);
        assert!(location.mapping_id <= profile.mapping.len() as u64);
        assert!(!location.line.is_empty());
        for line in &location.line {
            assert!((1..=profile.function.len() as u64).contains(&line.function_id));
        }
        if let Some(mapping) = location.mapping_id.checked_sub(1) {
            let mapping = profile.mapping[usize::try_from(mapping).unwrap()];
            assert!(location.address < mapping.memory_limit || mapping.memory_limit == u64::MAX / PAGE * PAGE);
        }
    }
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), 2);
        assert!(sample.value.iter().all(|&value| value > 0));
        assert!(sample.location_id.iter().all(|id| (1..=profile.location.len() as u64).contains(id)));
        for label in &sample.label {
            text(label.key);
            text(label.str);
            text(label.num_unit);
            assert_ne!(label.key, 0);
        }
    }
    profile
}

fn written(recording: &Recording, options: &Options) -> Profile {
    let mut out = Vec::new();
    Format::Pprof.report().write(recording, options, &mut out).unwrap();
    let mut again = Vec::new();
    Format::Pprof.report().write(recording, options, &mut again).unwrap();
    assert!(out == again, "the same recording gave other bytes");
    read(&out)
}

/// As `go tool pprof -raw` tells it, more or less.
fn told(profile: &Profile) -> String {
    let text = |index: i64| &profile.string_table[usize::try_from(index).unwrap()];
    let mut told = String::new();
    for comment in &profile.comment {
        writeln!(told, "# {}", text(*comment)).unwrap();
    }
    let types: Vec<String> =
        profile.sample_type.iter().map(|it| format!("{}/{}", text(it.r#type), text(it.unit))).collect();
    writeln!(told, "{} by default {}", types.join(" "), text(profile.default_sample_type)).unwrap();
    writeln!(told, "at {} for {}", profile.time_nanos, profile.duration_nanos).unwrap();
    for sample in &profile.sample {
        let labels: Vec<String> = sample
            .label
            .iter()
            .map(|label| match label.str {
                0 => format!("{}={} {}", text(label.key), label.num, text(label.num_unit)),
                value => format!("{}={}", text(label.key), text(value)),
            })
            .collect();
        writeln!(told, "{:?} {:?} {}", sample.value, sample.location_id, labels.join(" · ")).unwrap();
    }
    for location in &profile.location {
        write!(told, "{}: m{} {:#x}", location.id, location.mapping_id, location.address).unwrap();
        for line in &location.line {
            let function = &profile.function[usize::try_from(line.function_id - 1).unwrap()];
            write!(told, " | {} {}:{}", text(function.name), text(function.filename), line.line).unwrap();
        }
        told.push('\n');
    }
    for mapping in &profile.mapping {
        writeln!(told, "m{} {:#x} {}", mapping.id, mapping.memory_limit, text(mapping.filename)).unwrap();
    }
    told
}

#[test]
fn profiles() {
    let mut checkout = fixture::checkout();
    // One of each site is enough to look at.
    let mut seen = HashSet::new();
    checkout.tasks.retain(|task| seen.insert(task.site));
    checkout.sites.iter_mut().for_each(|site| site.count = 1);
    insta::assert_snapshot!("pprof", told(&written(&checkout, &Options::default())));
    let creation = Options { view: View::Creation, weight: Weight::Time, ..Options::default() };
    insta::assert_snapshot!("pprof_creation", told(&written(&checkout, &creation)));
    let service = fixture::go::service();
    let cut = Options { max_depth: Some(2), group_by: Some(GroupBy::ThreadName), ..Options::default() };
    insta::assert_snapshot!("pprof_go_cut", told(&written(&service, &cut)));
}

#[test]
fn all_tasks_are_in_it() {
    for recording in fixture::all() {
        let profile = written(&recording, &Options::default());
        let shown = Shown::of(&recording, &Options::default());
        let mut tasks = 0;
        samples::each(&shown, &Options::default(), |sample| tasks += sample.tasks);
        let in_it: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
        assert_eq!(in_it, signed(tasks));
    }
}

#[test]
fn objects_are_bounded() {
    let mut recording = fixture::crowd();
    for (n, task) in recording.tasks.iter_mut().enumerate() {
        task.state = crate::model::TaskState::Parked;
        if let Some(wait) = &mut task.wait {
            wait.object = format!("0x{n:x}").into();
        }
    }
    let profile = written(&recording, &Options::default());
    let objects = profile.string_table.iter().filter(|text| text.starts_with("0x")).count();
    assert_eq!(objects, MAX_OBJECTS);
    assert!(profile.string_table.iter().any(|text| text == OTHER_OBJECTS));
}
