//! Traces are decoded by Perfetto's own description of them, and told as text.

use std::{collections::HashMap, fmt::Write as _};

use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use super::*;
use crate::{
    model::{StackEnd, TimedWait},
    report::{Format, fixture},
};

/// A trace, decoded by the messages of `perfetto_trace.proto`, of which the fixture is the part that we use (from the package
/// `perfetto` 0.59.1, Apache-2.0, <https://github.com/google/perfetto>).
fn decoded(bytes: &[u8]) -> DynamicMessage {
    let pool = DescriptorPool::decode(include_bytes!("../fixture/perfetto_trace.descriptor").as_slice()).unwrap();
    let trace = pool.get_message_by_name("perfetto.protos.Trace").unwrap();
    let message = DynamicMessage::decode(trace, bytes).unwrap();
    all_known(&message);
    message
}

/// That no field is one that Perfetto does not have, and none of another type.
fn all_known(message: &DynamicMessage) {
    let name = message.descriptor().full_name().to_owned();
    assert_eq!(message.unknown_fields().count(), 0, "an unknown field in {name}");
    for (_, value) in message.fields() {
        match value {
            Value::Message(message) => all_known(message),
            Value::List(values) => values.iter().filter_map(Value::as_message).for_each(all_known),
            _ => {}
        }
    }
}

fn get<'a>(message: &'a DynamicMessage, name: &str) -> Option<std::borrow::Cow<'a, Value>> {
    assert!(message.descriptor().get_field_by_name(name).is_some(), "Perfetto has no field {name} there");
    message.has_field_by_name(name).then(|| message.get_field_by_name(name)).flatten()
}

fn number(message: &DynamicMessage, name: &str) -> Option<u64> {
    let value = get(message, name)?;
    value.as_u64().or_else(|| value.as_u32().map(u64::from)).or_else(|| value.as_i64().and_then(|n| n.try_into().ok()))
}

fn text(message: &DynamicMessage, name: &str) -> String {
    let value = get(message, name);
    let bytes = || Some(String::from_utf8(value.as_ref()?.as_bytes()?.to_vec()).unwrap());
    value.as_ref().and_then(|value| value.as_str().map(str::to_owned)).or_else(bytes).unwrap_or_default()
}

fn message(message: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    get(message, name).map(|value| value.as_message().unwrap().clone())
}

fn list(message: &DynamicMessage, name: &str) -> Vec<Value> {
    get(message, name).map(|value| value.as_list().unwrap().to_vec()).unwrap_or_default()
}

/// What holds of every trace: times that go forward on each track, slices that begin and end, arrows that begin once and end
/// once, and texts that were interned before they are named. Tells the trace as text.
pub(in crate::report) fn check(bytes: &[u8]) -> String {
    let trace = decoded(bytes);
    let mut told = String::new();
    let mut tracks: HashMap<u64, String> = HashMap::new();
    let mut interned: HashMap<(&str, u64), String> = HashMap::new();
    let mut open: HashMap<u64, u64> = HashMap::new();
    let mut ends: HashMap<u64, u64> = HashMap::new();
    let mut flows: HashMap<u64, (u64, u64)> = HashMap::new();
    for packet in list(&trace, "packet") {
        let packet = packet.as_message().unwrap();
        assert_eq!(number(packet, "trusted_packet_sequence_id"), Some(1));
        if let Some(track) = message(packet, "track_descriptor") {
            let uuid = number(&track, "uuid").unwrap();
            let name = match (message(&track, "process"), message(&track, "thread")) {
                (Some(process), _) => format!("process {}", text(&process, "process_name")),
                (_, Some(thread)) => {
                    format!("thread {} {}", number(&thread, "tid").unwrap_or(0), text(&thread, "thread_name"))
                }
                _ => text(&track, "name"),
            };
            if let Some(parent) = number(&track, "parent_uuid") {
                assert!(tracks.contains_key(&parent));
            }
            assert_eq!(tracks.insert(uuid, name), None, "two tracks {uuid}");
        }
        if let Some(data) = message(packet, "interned_data") {
            for kind in ["event_categories", "event_names", "debug_annotation_names", "debug_annotation_string_values"]
            {
                for item in list(&data, kind) {
                    let item = item.as_message().unwrap();
                    let field = if kind == "debug_annotation_string_values" { "str" } else { "name" };
                    let known = interned.insert((kind, number(item, "iid").unwrap()), text(item, field));
                    assert_eq!(known, None);
                }
            }
        }
        let Some(event) = message(packet, "track_event") else { continue };
        let at = number(packet, "timestamp").unwrap();
        let uuid = number(&event, "track_uuid").unwrap();
        let track = &tracks[&uuid];
        let kind = get(&event, "type").unwrap().as_enum_number().unwrap();
        match kind {
            1 => {
                assert!(ends.get(&uuid).is_none_or(|&end| at >= end), "slices of {track} overlap");
                assert_eq!(open.insert(uuid, at), None, "slices of {track} overlap");
            }
            2 => {
                let begin = open.remove(&uuid).unwrap();
                assert!(begin <= at, "a slice of {track} ends before it begins");
                ends.insert(uuid, at);
                writeln!(told, "  for {} ns", at - begin).unwrap();
                continue;
            }
            3 => {}
            _ => panic!("an event of type {kind}"),
        }
        let name = &interned[&("event_names", number(&event, "name_iid").unwrap())];
        let category = list(&event, "category_iids")[0].as_u64().unwrap();
        let category = &interned[&("event_categories", category)];
        let ids = |name: &str| list(&event, name).iter().map(|id| id.as_u64().unwrap()).collect::<Vec<u64>>();
        let (starts, ending) = (ids("flow_ids"), ids("terminating_flow_ids"));
        starts.iter().for_each(|&flow| flows.entry(flow).or_default().0 += 1);
        ending.iter().for_each(|&flow| flows.entry(flow).or_default().1 += 1);
        writeln!(told, "{track} at {at}: {name} [{category}] arrows {starts:?} {ending:?}").unwrap();
        for note in list(&event, "debug_annotations") {
            let note = note.as_message().unwrap();
            let name = &interned[&("debug_annotation_names", number(note, "name_iid").unwrap())];
            let value = match (get(note, "bool_value"), number(note, "uint_value"), number(note, "string_value_iid")) {
                (Some(value), None, None) => value.as_bool().unwrap().to_string(),
                (None, Some(value), None) => value.to_string(),
                (None, None, Some(iid)) => interned[&("debug_annotation_string_values", iid)].replace('\n', " < "),
                other => panic!("{other:?}"),
            };
            writeln!(told, "    {name}: {value}").unwrap();
        }
    }
    assert!(open.is_empty(), "slices that do not end: {open:?}");
    assert!(flows.values().all(|&ends| ends == (1, 1)), "{flows:?}");
    told
}

fn written(recording: &Recording, options: &Options) -> String {
    let mut out = Vec::new();
    Format::Perfetto.report().write(recording, options, &mut out).unwrap();
    check(&out)
}

/// A few tasks of a large recording.
fn some(mut recording: Recording, tasks: usize) -> Recording {
    let step = recording.tasks.len() / tasks + 1;
    recording.tasks = recording.tasks.into_iter().step_by(step).collect();
    recording
}

fn with_timeline() -> Recording {
    let mut recording = some(fixture::checkout(), 8);
    recording.timeline = vec![
        TimedWait {
            place: 0,
            task: 4262,
            name: "worker".into(),
            began_us: -250_000,
            lasted_us: 4_020_000,
            exact: true,
        },
        TimedWait { place: 1, task: 77, name: "gone".into(), began_us: 20_000_000, lasted_us: 1_043_000, exact: false },
    ];
    recording
}

#[test]
fn traces() {
    insta::assert_snapshot!("perfetto", written(&with_timeline(), &Options::default()));
    let cut = Options { max_depth: Some(2), group_by: Some(super::super::GroupBy::Wait), ..Options::default() };
    insta::assert_snapshot!("perfetto_go", written(&some(fixture::go::service(), 12), &cut));
}

#[test]
fn what_is_not_shown_has_no_track() {
    let none = Options { include: vec!["no such function".parse().unwrap()], ..Options::default() };
    let told = written(&with_timeline(), &none);
    assert_eq!(told.lines().filter(|line| line.contains(" arrows ")).count(), 1, "{told}");
    let goroutines = Options { kind: super::super::Kind::Goroutines, ..Options::default() };
    assert!(!written(&some(fixture::go::service(), 12), &goroutines).contains("thread 42"));
}

#[test]
fn waits_that_seem_to_overlap_do_not() {
    let mut recording = with_timeline();
    recording.timeline.push(TimedWait { began_us: 1_000_000, ..recording.timeline[0].clone() });
    let told = written(&recording, &Options::default());
    // The second begins where the first ends.
    assert!(told.contains("for 4020000000 ns") && told.contains("for 1250000000 ns"), "{told}");
}

#[test]
fn every_recording_makes_a_trace() {
    for recording in fixture::all() {
        let told = written(&recording, &Options::default());
        let waits = recording.tasks.iter().filter(|task| task.role.is_own() && task.wait.is_some());
        assert_eq!(told.matches("open: true").count(), waits.count());
        assert!(recording.tasks.iter().all(|task| task.stack_end != StackEnd::Complete || !task.stack.is_empty()));
    }
}

#[test]
fn what_many_slices_have_in_common_is_put_together_once() {
    let mut recording = with_timeline();
    let ended = &mut recording.ended_waits[0];
    ended.stack = vec![0; 3];
    recording.frames[0].function = "f".repeat(1 << 20);
    ended.wait.reason = "r".repeat(1 << 20).into();
    let slice = recording.timeline[0].clone();
    recording.timeline = (0..30_000).map(|n| TimedWait { began_us: n * 10, lasted_us: 5, ..slice.clone() }).collect();
    let mut out = Vec::new();
    // Looked at for each slice, these would be some 60 GB.
    Format::Perfetto.report().write(&recording, &Options::default(), &mut out).unwrap();
    assert!(out.len() < 12 << 20, "{}", out.len());
}

#[test]
fn equal_stacks_of_different_tasks_are_put_together_once() {
    let mut recording = fixture::single_thread();
    recording.frames[0].function = "f".repeat(16 << 10);
    let task = recording.tasks[0].clone();
    // Each its own, as they are read from a file. Put together for each task, these would be 80 GB.
    let tasks = (1..=10_000).map(|id| Task { id, site: None, stack: vec![0; 500].into(), ..task.clone() });
    recording.tasks = tasks.collect();
    let mut out = Vec::new();
    Format::Perfetto.report().write(&recording, &Options::default(), &mut out).unwrap();
    assert!(out.len() < 12 << 20, "{}", out.len());
}
