//! What the runtime says of its goroutines against what leakprobe says.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::dump::{Goroutine, Line};

/// Every difference between the two, one or more lines each; nothing if there is none. Two runtimes in one process give
/// the same ids twice, so a goroutine of one side takes an equal one of the other side away.
pub(crate) fn differences(theirs: &[Goroutine], ours: &[Goroutine]) -> String {
    let mut by_id: BTreeMap<u64, (Vec<&Goroutine>, Vec<&Goroutine>)> = BTreeMap::new();
    for goroutine in theirs {
        by_id.entry(goroutine.id).or_default().0.push(goroutine);
    }
    for goroutine in ours {
        let (theirs, ours) = by_id.entry(goroutine.id).or_default();
        match theirs.iter().position(|theirs| *theirs == goroutine) {
            Some(index) => drop(theirs.remove(index)),
            None => ours.push(goroutine),
        }
    }
    let mut text = String::new();
    for (id, (theirs, ours)) in by_id {
        for index in 0..theirs.len().max(ours.len()) {
            match (theirs.get(index), ours.get(index)) {
                (Some(theirs), Some(ours)) => difference(theirs, ours, &mut text),
                (Some(theirs), None) => writeln!(text, "goroutine {id} is missing: {}", brief(theirs)).unwrap(),
                (None, Some(ours)) => writeln!(text, "goroutine {id} is none of theirs: {}", brief(ours)).unwrap(),
                (None, None) => {}
            }
        }
    }
    text
}

fn difference(theirs: &Goroutine, ours: &Goroutine, text: &mut String) {
    let id = theirs.id;
    let mut note = |what: &str, theirs: &str, ours: &str| {
        if theirs != ours {
            writeln!(text, "goroutine {id}: {what}: theirs {theirs}, ours {ours}").unwrap();
        }
    };
    note("head", &head(theirs), &head(ours));
    for depth in 0..theirs.stack.len().max(ours.stack.len()) {
        note(&format!("frame {depth}"), &entry(theirs.stack.get(depth)), &entry(ours.stack.get(depth)));
    }
    note("created by", &format!("{:?}", theirs.created_by), &format!("{:?}", ours.created_by));
}

/// All that is not in the stack.
fn head(goroutine: &Goroutine) -> String {
    let Goroutine { status, minutes, locked, bubble, labels, .. } = goroutine;
    format!("[{status}] minutes={minutes:?} locked={locked} bubble={bubble:?} labels={labels:?}")
}

fn entry(line: Option<&Line>) -> String {
    match line {
        None => "nothing".to_owned(),
        Some(Line::Remark(remark)) => remark.clone(),
        Some(Line::Frame(frame)) => {
            let offset = frame.place.offset.map_or_else(String::new, |offset| format!(" +{offset:#x}"));
            format!("{} {}:{}{offset}", frame.function, frame.place.file, frame.place.line)
        }
    }
}

fn brief(goroutine: &Goroutine) -> String {
    let creator = goroutine.created_by.as_ref().map_or("nobody", |creator| creator.function.as_str());
    format!("[{}] {:?} created by {creator}", goroutine.status, goroutine.functions())
}

#[test]
fn every_difference_is_told() {
    let theirs = crate::dump::parse(include_str!("fixtures/go1.27.txt")).unwrap();
    assert_eq!(differences(&theirs, &theirs), "");
    let twice = [&theirs[..], &theirs[..]].concat();
    assert_eq!(differences(&twice, &twice), "");

    let told = |change: &dyn Fn(&mut Vec<Goroutine>)| {
        let mut ours = theirs.clone();
        change(&mut ours);
        differences(&theirs, &ours)
    };
    let changed = |change: &dyn Fn(&mut Goroutine)| told(&|ours| change(&mut ours[1]));
    let id = theirs[1].id;
    assert!(told(&|ours| drop(ours.remove(1))).starts_with(&format!("goroutine {id} is missing: ")));
    assert!(told(&|ours| ours.push(ours[1].clone())).starts_with(&format!("goroutine {id} is none of theirs: ")));
    for said in [
        changed(&|ours| ours.status.push('x')),
        changed(&|ours| ours.minutes = Some(1)),
        changed(&|ours| ours.locked = !ours.locked),
        changed(&|ours| ours.bubble = Some(9)),
        changed(&|ours| ours.labels = Some("{}".to_owned())),
    ] {
        assert!(said.starts_with(&format!("goroutine {id}: head: ")) && said.lines().count() == 1, "{said}");
    }
    let frame = |change: &dyn Fn(&mut crate::dump::Frame)| {
        changed(&|ours| match &mut ours.stack[0] {
            Line::Frame(frame) => change(frame),
            Line::Remark(remark) => panic!("{remark}"),
        })
    };
    for said in [
        frame(&|ours| ours.function.push('x')),
        frame(&|ours| ours.place.file.push('x')),
        frame(&|ours| ours.place.line += 1),
        frame(&|ours| ours.place.offset = Some(ours.place.offset.map_or(1, |offset| offset + 1))),
    ] {
        assert!(said.starts_with(&format!("goroutine {id}: frame 0: ")) && said.lines().count() == 1, "{said}");
    }
    let said = changed(&|ours| ours.created_by = None);
    assert!(said.starts_with(&format!("goroutine {id}: created by: ")), "{said}");
}
