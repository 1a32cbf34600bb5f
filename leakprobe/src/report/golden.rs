//! Whole outputs, as they were looked at and found good. `INSTA_UPDATE=always cargo test` writes them anew.

use super::{Format, GroupBy, Kind, Options, View, Weight, fixture};
use crate::model::Recording;

fn written(format: Format, recording: &Recording, options: &Options) -> String {
    let mut out = Vec::new();
    format.report().write(recording, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn folded() {
    let creation = Options { view: View::Creation, ..Options::default() };
    let time = Options { weight: Weight::Time, ..Options::default() };
    let recording = fixture::checkout();
    let format = Format::Folded;
    insta::assert_snapshot!("folded", written(format, &recording, &Options::default()));
    insta::assert_snapshot!("folded_creation", written(format, &recording, &creation));
    insta::assert_snapshot!("folded_time", written(format, &recording, &time));
    assert_eq!(written(format, &fixture::idle(), &time), "");
}

#[test]
fn json() {
    let recording = fixture::single_thread();
    insta::assert_snapshot!("json", written(Format::Json, &recording, &Options::default()));
}

/// Without the script and style, which are inferno's.
#[test]
fn svg() {
    let without = |mut svg: String, tag: &str| {
        let start = svg.find(&format!("<{tag} ")).unwrap();
        let end = svg.find(&format!("</{tag}>")).unwrap();
        svg.replace_range(start..end, "");
        svg.replace("><", ">\n<")
    };
    let svg = written(Format::Svg, &fixture::checkout(), &Options::default());
    insta::assert_snapshot!("svg", without(without(svg, "script"), "style"));
    let svg = written(Format::Svg, &fixture::idle_with_gaps(), &Options::default());
    insta::assert_snapshot!("svg_nothing_parked", svg.replace("><", ">\n<"));
}

#[test]
fn txt() {
    let format = Format::Txt;
    let plain = Options::default();
    let narrow = Options { width: Some(80), ..Options::default() };
    let all = Options { all: true, ..Options::default() };
    let narrow_all = Options { all: true, width: Some(80), ..Options::default() };
    let color = Options { color: true, ..Options::default() };
    insta::assert_snapshot!("txt", written(format, &fixture::checkout(), &plain));
    insta::assert_snapshot!("txt_narrow", written(format, &fixture::checkout(), &narrow));
    insta::assert_snapshot!("txt_single", written(format, &fixture::single_thread(), &plain));
    insta::assert_snapshot!("txt_check_failed", written(format, &fixture::check::failed(), &plain));
    insta::assert_snapshot!("txt_check_passed", written(format, &fixture::check::passed(), &plain));
    insta::assert_snapshot!("txt_check_incomplete", written(format, &fixture::check::incomplete(), &plain));
    insta::assert_snapshot!("txt_large", written(format, &fixture::large(), &plain));
    insta::assert_snapshot!("txt_idle", written(format, &fixture::idle(), &plain));
    insta::assert_snapshot!("txt_gaps", written(format, &fixture::idle_with_gaps(), &plain));
    insta::assert_snapshot!("txt_all", written(format, &fixture::checkout(), &all));
    insta::assert_snapshot!("txt_idle_all", written(format, &fixture::idle(), &all));
    insta::assert_snapshot!("txt_crowd", written(format, &fixture::crowd(), &narrow));
    insta::assert_snapshot!("txt_crowd_all", written(format, &fixture::crowd(), &narrow_all));
    let colored = written(format, &fixture::single_thread(), &color);
    insta::assert_snapshot!("txt_color", colored.replace('\x1b', "ESC"));
}

#[test]
fn goroutines() {
    let (service, glance, native) = (fixture::go::service(), fixture::go::glance(), fixture::single_thread());
    let plain = Options::default();
    let by = |group_by| Options { group_by: Some(group_by), ..Options::default() };
    let pattern = |pattern: &str| vec![pattern.parse().unwrap()];
    let threads = Options { kind: Kind::Threads, ..Options::default() };
    let goroutines = Options { kind: Kind::Goroutines, ..Options::default() };
    let inside = Options { include: pattern("gopark"), ..Options::default() };
    let all = Options { all: true, all_frames: true, ..Options::default() };
    let cut = Options { max_depth: Some(1), ..Options::default() };
    let filtered =
        Options { include: pattern(r"^main\.|shop/orders"), exclude: pattern("refresh"), ..Options::default() };
    for (name, format, recording, options) in [
        ("go_txt", Format::Txt, &service, &plain),
        ("go_txt_threads", Format::Txt, &service, &threads),
        ("go_txt_all", Format::Txt, &service, &all),
        ("go_txt_filtered", Format::Txt, &service, &filtered),
        ("go_txt_max_depth", Format::Txt, &service, &cut),
        ("go_txt_glance", Format::Txt, &glance, &plain),
        ("go_txt_of_a_native_program", Format::Txt, &native, &goroutines),
        ("go_txt_filtered_by_what_is_hidden", Format::Txt, &service, &inside),
        ("go_txt_by_creator", Format::Txt, &service, &by(GroupBy::Creator)),
        ("go_txt_by_wait", Format::Txt, &service, &by(GroupBy::Wait)),
        ("go_txt_by_channel", Format::Txt, &service, &by(GroupBy::Channel)),
        ("go_txt_by_label", Format::Txt, &service, &by(GroupBy::Label(Some("tenant".into())))),
        ("go_txt_by_thread", Format::Txt, &service, &by(GroupBy::ThreadName)),
        ("go_folded", Format::Folded, &service, &plain),
        ("go_folded_all_frames", Format::Folded, &service, &all),
        ("go_folded_max_depth", Format::Folded, &service, &cut),
        ("go_folded_by_label", Format::Folded, &service, &by(GroupBy::Label(None))),
        ("go_folded_glance", Format::Folded, &glance, &plain),
        ("go_json", Format::Json, &glance, &plain),
        ("go_goroutines_txt", Format::GoroutinesTxt, &service, &plain),
        ("go_goroutines_txt_filtered", Format::GoroutinesTxt, &service, &filtered),
    ] {
        insta::assert_snapshot!(name, written(format, recording, options));
    }
}

#[test]
fn every_recording_makes_every_picture() {
    for (place, recording) in fixture::all().iter().enumerate() {
        for (name, view, weight) in [
            ("parked", View::Parked, Weight::Tasks),
            ("time", View::Parked, Weight::Time),
            ("creation", View::Creation, Weight::Tasks),
        ] {
            let options = Options { view, weight, ..Options::default() };
            let comm = &recording.target.comm;
            let path = fixture::picture(&format!("{place}-{comm}-{name}.svg"));
            let written = super::write_file(recording, Format::Svg, &options, &path, None);
            assert_eq!(written.unwrap(), super::files::Written::Whole);
        }
    }
}
