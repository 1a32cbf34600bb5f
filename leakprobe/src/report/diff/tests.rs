use std::path::PathBuf;

use super::*;
use crate::{
    model::{Loss, TaskState},
    report::{View, Weight, fixture},
};

/// The checkout service, and later: more orders wait, one of the loops has gone, and somebody holds a new lock.
fn pair() -> Pair {
    let before = fixture::checkout();
    let mut after = before.clone();
    let like = after.tasks.iter().find(|task| task.site == Some(0)).unwrap().clone();
    for id in 9_000..9_005 {
        after.tasks.push(crate::model::Task { id, ..like.clone() });
        after.sites[0].count += 1;
        after.sites[0].parked += 1;
    }
    after.tasks.retain(|task| task.site != Some(2));
    after.sites[2].count = 0;
    after.sites[2].parked = 0;
    after.sites.retain(|site| site.count > 0);
    for task in &mut after.tasks {
        task.site = task.site.map(|site| if site > 2 { site - 1 } else { site });
    }
    let mut new = after.sites[2].clone();
    new.stack.remove(0);
    new.id = "0badf00d".into();
    let mut task = after.tasks.iter().find(|task| task.site == Some(2)).unwrap().clone();
    task.stack = new.stack.as_slice().into();
    task.site = Some(u32::try_from(after.sites.len()).unwrap());
    task.state = TaskState::Parked;
    task.id = 9_100;
    after.tasks.push(task);
    after.sites.push(new);
    Pair { before: ("before.json".into(), before), after: ("after.json".into(), after) }
}

fn turned(Pair { before, after }: Pair) -> Pair {
    Pair { before: after, after: before }
}

fn written(pair: &Pair, format: Format, options: &Options) -> String {
    let mut out = Vec::new();
    pair.write(format, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn comparisons() {
    let options = Options::default();
    assert_eq!(pair().outcome(&options), Outcome::More);
    insta::assert_snapshot!("diff_txt", written(&pair(), Format::Txt, &options));
    insta::assert_snapshot!("diff_json", written(&pair(), Format::Json, &options));
    insta::assert_snapshot!("diff_folded", written(&pair(), Format::Folded, &options));
    let same = Pair { after: pair().before, before: pair().before };
    assert_eq!(same.outcome(&options), Outcome::NoMore);
    insta::assert_snapshot!("diff_txt_same", written(&same, Format::Txt, &options));
    let mut lost = turned(pair());
    lost.after.1.losses.insert(Loss::GoroutineLeftOut, 3);
    lost.after.1.sites.retain(|site| site.id != lost.before.1.sites[3].id && site.count != 8);
    assert_eq!(lost.outcome(&options), Outcome::Incomplete);
    insta::assert_snapshot!("diff_txt_incomplete", written(&lost, Format::Txt, &options));
}

#[test]
fn the_numbers_of_the_folded_stacks_are_those_of_both() {
    let (pair, options) = (pair(), Options::default());
    let sums = |text: &str, column: usize| {
        let number = |line: &str| line.rsplit(' ').nth(column).unwrap().parse::<u64>().unwrap();
        text.lines().map(number).sum::<u64>()
    };
    let both = written(&pair, Format::Folded, &options);
    for (recording, column) in [(&pair.before.1, 1), (&pair.after.1, 0)] {
        let mut one = Vec::new();
        Format::Folded.report().write(recording, &options, &mut one).unwrap();
        assert_eq!(sums(&both, column), sums(&String::from_utf8(one).unwrap(), 0));
    }
}

/// What has gone altogether has no width, so that it must not have the colour of frames of which a part has.
#[test]
fn each_entry_of_the_legend_has_a_colour_of_its_own() {
    let svg = written(&pair(), Format::Svg, &Options::default());
    let legend = svg.split("<g id=\"legend\">").nth(1).unwrap().split("<svg").next().unwrap();
    assert!(legend.contains("gone, no width"), "{legend}");
    let fills: Vec<&str> = legend
        .split("<rect")
        .skip(1)
        .map(|rect| rect.split("fill=\"").nth(1).unwrap().split('"').next().unwrap())
        .collect();
    let different: std::collections::BTreeSet<&str> = fills.iter().copied().collect();
    assert_eq!((fills.len(), different.len()), (4, 4), "{fills:?}");
}

#[test]
fn pictures_are_red_where_more_are_parked_and_blue_where_fewer_are() {
    for (name, weight, view) in [
        ("parked", Weight::Tasks, View::Parked),
        ("time", Weight::Time, View::Parked),
        ("creation", Weight::Tasks, View::Creation),
    ] {
        let options = Options { weight, view, ..Options::default() };
        let path = fixture::picture(&format!("diff-{name}.svg"));
        let _ = pair().write_file(Format::Svg, &options, &path, None).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        let parsing = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
        roxmltree::Document::parse_with_options(&svg, parsing).unwrap();
    }
    let svg = written(&pair(), Format::Svg, &Options::default());
    let fill_of = |function: &str| {
        let start = svg.find(&format!("<title>{function} (")).unwrap();
        let fill = svg[start..].split("fill=\"rgb(").nth(1).unwrap().split(')').next().unwrap();
        fill.split(',').map(|part| part.parse().unwrap()).collect::<Vec<u8>>()
    };
    let more = fill_of("orders::confirm(orders::Order const&amp;)");
    assert!(more[0] > more[2], "{more:?}");
    let title = "<title>orders::confirm(orders::Order const&amp;) (185 threads, 98.40%; before: 180)</title>";
    assert!(svg.contains(title), "{svg}");
    assert!(svg.contains("<title>[pipe] (1 thread, 0.53%; before: 1)</title>"));
    let turned = turned(pair());
    let svg = written(&turned, Format::Svg, &Options::default());
    let start = svg.find("<title>orders::confirm(orders::Order const&amp;) (").unwrap();
    let fill: Vec<u8> = svg[start..]
        .split("fill=\"rgb(")
        .nth(1)
        .unwrap()
        .split(')')
        .next()
        .unwrap()
        .split(',')
        .map(|part| part.parse().unwrap())
        .collect();
    assert!(fill[2] > fill[0], "{fill:?}");
    // Nothing is parked any more.
    let mut gone = pair();
    gone.after.1 = fixture::idle();
    assert!(written(&gone, Format::Svg, &Options::default()).contains("At no site are more"));
}

#[test]
fn pages() {
    let page = written(&pair(), Format::Html, &Options::default());
    html::tests::check(&page);
    assert!(page.contains("6 more threads parked, at 2 sites") && page.matches("<iframe").count() == 1, "{page}");
    std::fs::write(fixture::picture("diff.html"), &page).unwrap();
}

#[test]
fn what_is_not_shown_is_not_compared() {
    let none = Options { include: vec!["no such function".parse().unwrap()], ..Options::default() };
    assert_eq!(pair().outcome(&none), Outcome::NoMore);
    assert_eq!(written(&pair(), Format::Folded, &none), "");
}

#[test]
fn other_formats_are_refused_in_one_sentence() {
    let error = check_format(Format::Pprof).unwrap_err();
    insta::assert_snapshot!(error, @"a comparison cannot be written as pprof: use one of svg, folded, json, txt, html");
}

#[test]
fn the_schema_in_docs_is_that_of_the_types() {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/diff.schema.json"));
    let schema = schema().unwrap();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == schema,
        "run `UPDATE_SCHEMA=1 cargo test -p leakprobe --lib schema`"
    );
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("diff.json", serde_json::from_str(&schema).unwrap()).unwrap();
    let compiled = compiler.compile("diff.json", &mut schemas).unwrap();
    let file: serde_json::Value = serde_json::from_str(&written(&pair(), Format::Json, &Options::default())).unwrap();
    assert!(schemas.validate(&file, compiled).is_ok());
}
