use roxmltree::{Document, Node, ParsingOptions};

use super::*;
use crate::report::fixture;

fn drawn(recording: &Recording, options: &Options) -> String {
    let mut out = Vec::new();
    Svg.write(recording, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn parsed(svg: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(svg, options).unwrap()
}

fn with_id<'a>(document: &'a Document<'a>, id: &str) -> Node<'a, 'a> {
    document.descendants().find(|node| node.attribute("id") == Some(id)).unwrap()
}

fn number(node: Node<'_, '_>, attribute: &str) -> f64 {
    let value = node.attribute(attribute).unwrap();
    value.trim_end_matches('%').parse().unwrap()
}

/// Every combination of what may change a picture.
fn options() -> Vec<Options> {
    let mut all = Vec::new();
    for weight in [Weight::Tasks, Weight::Time] {
        for view in [View::Parked, View::Creation] {
            for width in [None, Some(0), Some(600), Some(2_000)] {
                all.push(Options { weight, view, width, ..Options::default() });
            }
        }
    }
    all
}

#[test]
fn nothing_lies_on_anything_else() {
    for recording in fixture::all() {
        for options in options() {
            let svg = drawn(&recording, &options);
            let document = parsed(&svg);
            if Stacks::of(&Shown::of(&recording, &options), &options).is_empty() {
                continue;
            }
            let height = number(document.root_element(), "height");
            let view_box = document.root_element().attribute("viewBox").unwrap();
            assert!(view_box.ends_with(&format!(" {height}")), "{view_box}");

            let frames = with_id(&document, "frames");
            let top = number(frames, "y");
            let rects = || {
                let nodes = frames.descendants();
                nodes.filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "rect")))
            };
            let first = rects().map(|rect| top + number(rect, "y")).fold(height, f64::min);
            let last = rects().map(|rect| top + number(rect, "y") + number(rect, "height")).fold(0.0, f64::max);
            let details = number(with_id(&document, "details"), "y");
            assert!(last < details - FONT_SIZE as f64 && details < height);
            assert_eq!(details, number(with_id(&document, "matched"), "y"));

            let subtitle = number(with_id(&document, "subtitle"), "y");
            let width = number(document.root_element(), "width");
            let legend = with_id(&document, "legend");
            for text in legend.descendants().filter(|node| node.tag_name().name() == "text") {
                let (x, y) = (number(text, "x"), number(text, "y"));
                assert!(y - FONT_SIZE as f64 > subtitle && y < first);
                let length = text.text().unwrap().chars().count() as f64;
                assert!(x + length * FONT_SIZE as f64 * 0.6 < width, "{options:?}");
            }
        }
    }
}

#[test]
fn the_legend_counts_every_parked_task_once() {
    for recording in fixture::all() {
        for options in options() {
            let shown = Shown::of(&recording, &options);
            let stacks = Stacks::of(&shown, &options);
            let counted: u64 = stacks.iter().map(|stack| stack.tasks).sum();
            let unknown: u64 = shown.sites.iter().map(|site| site.count - site.parked).sum();
            assert_eq!(counted, shown.parked() + unknown);
        }
    }
}

#[test]
fn an_empty_picture_says_what_was_not_seen() {
    let svg = drawn(&fixture::idle_with_gaps(), &Options::default());
    parsed(&svg);
    assert!(svg.contains("no thread was parked for longer than 1 s"));
    assert!(svg.contains("Not seen: creations were not watched"));
    let svg = drawn(&fixture::idle(), &Options::default());
    assert!(!svg.contains("Not seen"));
}

#[test]
fn the_same_recording_gives_the_same_bytes() {
    let recording = fixture::large();
    let first = drawn(&recording, &Options::default());
    let again = drawn(&recording, &Options::default());
    assert!(first == again);
}

#[test]
fn the_frame_below_all_says_whose_they_are() {
    let svg = drawn(&fixture::checkout(), &Options { weight: Weight::Time, ..Options::default() });
    let document = parsed(&svg);
    let frames = with_id(&document, "frames").descendants();
    let root = frames.filter(|node| node.tag_name().name() == "g").find_map(|frame| {
        let texts: Vec<&str> = frame.children().filter_map(|node| node.text()).map(str::trim).collect();
        texts.first()?.ends_with(" ms, 100%)").then_some(texts)
    });
    let root = root.unwrap();
    assert!(root[0].starts_with("checkout (pid 4242), 190 threads ("), "{root:?}");
    assert_eq!(root.last(), Some(&"checkout (pid 4242), 190 threads"));
}
