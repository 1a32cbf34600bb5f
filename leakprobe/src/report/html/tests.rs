use super::*;
use crate::{
    model::{EndRole, OtherEnd, OtherEnds, WaitKind},
    report::{Format, fixture, waits::tests as waits},
};

fn written(recording: &Recording, options: &Options) -> String {
    let mut out = Vec::new();
    Format::Html.report().write(recording, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What holds of every page: each tag is closed, there is no script but in the frames, and nothing is fetched from elsewhere.
pub(in crate::report) fn check(page: &str) {
    // All that makes this page other than XML are these tags, which have no end.
    let xml = page.replacen("<!DOCTYPE html>", "", 1);
    let xml: Vec<String> = xml
        .lines()
        .map(|line| if line.starts_with("<meta ") { line.replace("\">", "\"/>") } else { line.to_owned() })
        .map(|line| line.replace("<details id=", "<details data-id=").replace(" open><summary>", "><summary>"))
        .collect();
    let xml = xml.join("\n");
    let document = roxmltree::Document::parse(&xml).unwrap();
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(name != "script" && name != "img" && name != "link", "a {name} in the page");
        assert!(!node.attributes().any(|attribute| attribute.name().starts_with("on") || attribute.name() == "src"));
        if let Some(link) = node.attribute("href") {
            assert!(link.starts_with('#'), "{link}");
        }
    }
    assert!(page.contains("default-src 'none'"));
}

/// Without the pictures, which are those of `.svg`, and the style.
fn without_pictures(mut page: String) -> String {
    for (from, to) in [(" srcdoc=\"", "\"></iframe>"), ("<style>", "</style>")] {
        while let Some(start) = page.find(from) {
            let end = page[start..].find(to).unwrap() + start + to.len();
            page.replace_range(start..end, "…");
        }
    }
    page
}

/// Deadlocks, holders, and the other ends of a pipe.
fn acted_upon() -> Recording {
    let mut recording = waits::mixed();
    let end = |pid, is_target| OtherEnd {
        role: EndRole::Writer,
        pid,
        is_target,
        name: "feeder <&".into(),
        fd: Some(4),
        state: None,
    };
    let ends = OtherEnds { known: vec![end(4242, true), end(9, false)], more: 3, complete: true };
    let mut site = fixture::checkout().sites.remove(0);
    site.kind = WaitKind::Futex;
    site.count = 0;
    for (place, id) in [3, 4, 5, 10, 14].into_iter().enumerate() {
        let task = recording.tasks.iter_mut().find(|task| task.id == id).unwrap();
        task.site = Some(0);
        task.kernel_stack = task.stack[..place.min(1)].into();
        let wait = task.wait.as_mut().unwrap();
        wait.other_ends = (id == 14).then(|| Box::new(ends.clone()));
        site.count += 1;
    }
    site.parked = site.count - 1;
    recording.sites = vec![site];
    recording
}

/// Whatever the text report tells of holders, deadlocks, other ends and goroutines stands on the page, too.
#[test]
fn the_page_tells_what_the_text_tells() {
    for recording in [acted_upon(), fixture::go::service(), fixture::checkout()] {
        let all = Options { all: true, width: Some(100_000), ..Options::default() };
        let mut text = Vec::new();
        Format::Txt.report().write(&recording, &all, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let page = written(&recording, &Options { all: true, ..Options::default() });
        let page = quick_xml::escape::unescape(&page).unwrap();
        let is_told = |line: &&str| {
            let starts =
                ["held by", "until the exit", "the other end", "other end:", "labels:", "in goroutine", "in thread"];
            starts.iter().any(|start| line.starts_with(start))
                || line.contains(", held by ")
                || line.contains("Deadlock:")
        };
        let lines: Vec<&str> = text.lines().map(str::trim).filter(is_told).collect();
        assert!(!lines.is_empty());
        for line in lines {
            // Lists are longer on the page.
            let line = line.split(" and ").next().unwrap();
            assert!(page.contains(line), "{line:?} is not on the page\n{text}");
        }
    }
}

#[test]
fn pages() {
    let plain = Options::default();
    for (name, recording, options) in [
        ("html", fixture::checkout(), &plain),
        ("html_idle", fixture::idle_with_gaps(), &plain),
        ("html_check", fixture::check::failed(), &plain),
        ("html_waits", acted_upon(), &plain),
        (
            "html_go",
            fixture::go::service(),
            &Options { max_depth: Some(2), group_by: Some(crate::report::GroupBy::Creator), ..plain.clone() },
        ),
    ] {
        let page = written(&recording, options);
        check(&page);
        std::fs::write(fixture::picture(&format!("{name}.html")), &page).unwrap();
        insta::assert_snapshot!(name, without_pictures(page));
    }
}

#[test]
fn the_page_of_a_check_has_the_difference_too() {
    let mut out = Vec::new();
    write(&fixture::check::failed(), Some(&fixture::go::glance()), &Options::default(), &mut out).unwrap();
    let page = String::from_utf8(out).unwrap();
    check(&page);
    assert!(page.contains("What came since the baseline") && page.contains("after and before"));
}

#[test]
fn every_recording_makes_a_page_of_bounded_size() {
    for (place, recording) in fixture::all().iter().enumerate() {
        let page = written(recording, &Options::default());
        check(&page);
        assert!(page.len() < 20 << 20, "{}", page.len());
        std::fs::write(fixture::picture(&format!("{place}-{}.html", recording.target.comm)), &page).unwrap();
        // A flame graph's script would stop at what it may not do there.
        assert_eq!(page.matches("<iframe").count(), page.matches("history.replaceState=function(){}").count());
        let frames = page.matches("<iframe").count() + page.matches("The picture is too large").count();
        assert_eq!(frames, if recording.sites.is_empty() { 0 } else { 3 });
    }
}
