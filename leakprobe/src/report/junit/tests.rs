use std::process::Command;

use super::*;
use crate::report::{Format, Kind, fixture};

/// The format in words that machines check.
const XSD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/formats/junit.xsd");

fn written(recording: &Recording, options: &Options) -> String {
    let mut out = Vec::new();
    Format::Junit.report().write(recording, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What holds of every such file: it is XML, and its totals are those of its test cases.
pub(in crate::report) fn check(text: &str) {
    let document = roxmltree::Document::parse(text).unwrap();
    let count = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count().to_string();
    for suite in document.descendants().filter(|node| node.tag_name().name().starts_with("testsuite")) {
        for (total, element) in
            [("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")]
        {
            assert_eq!(suite.attribute(total).unwrap(), count(element), "{total}");
        }
    }
    assert!(!text.chars().any(|c| c != '\n' && c.is_control()));
}

/// Whether xmllint finds that it is as the schema says.
fn is_valid(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.junit.xml");
    std::fs::write(&file, text).unwrap();
    let ended = Command::new("xmllint").args(["--noout", "--nonet", "--schema", XSD]).arg(&file).output();
    let ended = ended.expect("xmllint (Debian: libxml2-utils)");
    if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
}

#[test]
fn checks_as_test_results() {
    let options = Options { source_root: Some("/src".into()), ..Options::default() };
    for (name, recording) in [
        ("junit", fixture::check::failed()),
        ("junit_passed", fixture::check::passed()),
        ("junit_incomplete", fixture::check::incomplete()),
        ("junit_no_check", fixture::single_thread()),
    ] {
        let text = written(&recording, &options);
        check(&text);
        is_valid(&text).unwrap();
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn the_schema_finds_what_is_wrong() {
    let text = written(&fixture::check::failed(), &Options::default());
    for (good, bad) in [
        ("<failure ", "<error message=\"x\"/><failure "),
        ("</failure>", "</failure><error message=\"x\"/>"),
        ("time=\"14.", "time=\"about 14."),
        (" failures=\"1\"", ""),
        (" name=\"evidence\"", ""),
        ("line=\"71\"", "line=\"0\""),
        ("classname=", "class="),
    ] {
        let broken = text.replace(good, bad);
        assert_ne!(broken, text, "{good}");
        assert!(is_valid(&broken).is_err(), "{bad}");
    }
}

#[test]
fn what_is_not_shown_fails_all_the_same() {
    let hidden = Options { kind: Kind::Threads, exclude: vec!["orders".parse().unwrap()], ..Options::default() };
    let text = written(&fixture::check::failed(), &hidden);
    assert!(text.contains("failures=\"1\""), "{text}");
}

#[test]
fn verdicts_are_measured_by_what_fails_the_check() {
    let count = |recording: &Recording, what: &str| {
        let text = written(recording, &Options::default());
        text.matches(&format!("<{what} ")).count()
    };
    let mut recording = fixture::check::failed();
    assert_eq!((count(&recording, "failure"), count(&recording, "skipped")), (1, 1));
    recording.check.as_mut().unwrap().fail_on = crate::model::Verdict::Suspect;
    assert_eq!(count(&recording, "failure"), 2);
    recording.check.as_mut().unwrap().fail_on = crate::model::Verdict::Proven;
    assert_eq!(count(&recording, "failure"), 0);
    let check = recording.check.as_mut().unwrap();
    (check.max_tasks, check.incomplete) = (Some(45), vec!["x".into()]);
    assert_eq!((count(&recording, "failure"), count(&recording, "error")), (1, 1));
}
