use super::*;
use crate::report::{Format, fixture};

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

#[test]
fn pages() {
    let plain = Options::default();
    for (name, recording, options) in [
        ("html", fixture::checkout(), &plain),
        ("html_idle", fixture::idle_with_gaps(), &plain),
        (
            "html_go",
            fixture::go::service(),
            &Options { max_depth: Some(2), group_by: Some(crate::report::GroupBy::Creator), ..plain.clone() },
        ),
    ] {
        let page = written(&recording, options);
        check(&page);
        insta::assert_snapshot!(name, without_pictures(page));
    }
}

#[test]
fn every_recording_makes_a_page_of_bounded_size() {
    for (place, recording) in fixture::all().iter().enumerate() {
        let page = written(recording, &Options::default());
        check(&page);
        assert!(page.len() < 20 << 20, "{}", page.len());
        std::fs::write(fixture::picture(&format!("{place}-{}.html", recording.target.comm)), &page).unwrap();
        // A picture's script would stop at what it may not do there.
        assert_eq!(page.matches("<iframe").count(), page.matches("history.replaceState=function(){}").count());
        let frames = page.matches("<iframe").count() + page.matches("The picture is too large").count();
        assert_eq!(frames, if recording.sites.is_empty() { 0 } else { 3 });
    }
}
