//! Recordings, in every format.

use std::path::Path;

use super::{Format, GroupBy, Kind, Options, View, Weight, annotations, diff, explain, json, overview};

/// Reads a recording and writes it in every format, by several options.
pub(crate) fn recording(data: &[u8]) {
    let Ok(recording) = json::read_from(data, Path::new("x.json")) else { return };
    let all = Options {
        all: true,
        all_frames: true,
        color: true,
        weight: Weight::Time,
        view: View::Creation,
        kind: Kind::Threads,
        group_by: Some(GroupBy::Creator),
        width: Some(40),
        ..Options::default()
    };
    let few = Options { max_depth: Some(1), kind: Kind::Goroutines, ..Options::default() };
    for options in [Options::default(), all, few] {
        for format in Format::ALL {
            let mut out = Vec::new();
            let _ = format.report().write(&recording, &options, &mut out);
            let is_text = matches!(
                format,
                Format::Txt
                    | Format::Folded
                    | Format::Svg
                    | Format::Html
                    | Format::Markdown
                    | Format::Junit
                    | Format::Dot
            );
            if is_text {
                let text = String::from_utf8_lossy(&out);
                let is_control =
                    |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{0}'..='\u{8}');
                assert!(!text.chars().any(is_control), "control character in {format:?}");
                assert!(options.color || !text.contains('\u{1b}'), "escape in {format:?}");
            }
        }
        for site in recording.sites.iter().take(3) {
            let _ = explain(&recording, &site.id, &options);
        }
        let pair = diff::Pair { before: ("a".into(), recording.clone()), after: ("b".into(), recording.clone()) };
        let _ = pair.outcome(&options);
        let _ = annotations(&recording, &options);
    }
    let _ = overview(&[recording.clone(), recording]);
}
