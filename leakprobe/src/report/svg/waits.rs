//! The wait-for graph as a picture, drawn by ourselves: there is no graphviz where it is needed.

use std::io;

use inferno::flamegraph::color::Color;
use quick_xml::Writer;

use super::{
    DEFAULT_WIDTH, MIN_WIDTH,
    head::{self, FONT_SIZE, Head, LegendEntry},
    layout::{Area, Item, Label, Layout, Point, Way, layout},
};
use crate::{
    model::Recording,
    report::{
        Options, Report, evidence,
        shown::Shown,
        waits::{Doing, Edge, Graph, Node},
        words,
    },
};

/// Most nodes that are drawn: in more of them nobody finds anything.
const MOST_NODES: usize = 150;
/// Most characters of a line in a node, and of one that is shown when a node is pointed at.
const WIDTH: usize = 42;
const TITLE_WIDTH: usize = 160;

/// Of a line in a node, and around its text.
const LINE: f64 = 15.0;
const PADDING: f64 = 8.0;
/// No node is narrower.
const NARROWEST: f64 = 120.0;
const LABEL_SIZE: usize = 11;

const TEXT: &str = "#000000";
const DIM: &str = "#444444";
const PLAIN: &str = "#777777";
const RED: &str = "#cc2222";

/// The `.waits.svg` format.
pub(in crate::report) struct Waits;

impl Report for Waits {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let shown = &Shown::of(recording, options);
        let graph = Graph::of(shown, MOST_NODES);
        let target = &recording.target;
        let mut head = Head {
            title: format!("Who waits for whom in {} (pid {})", words::harmless(&target.comm), target.pid),
            subtitle: subtitle(shown, &graph),
            root: String::new(),
            legend: legend(&graph),
            unseen: evidence::unseen(shown),
            width: options.width.unwrap_or(DEFAULT_WIDTH).max(MIN_WIDTH),
        };
        if graph.nodes.is_empty() {
            return head.write_alone("of no thread it is known for whom it waits", out);
        }
        let places = layout(&items(&graph), head.room());
        head.widen(places.width);
        let left_out = match graph.left_out {
            0 => String::new(),
            more => format!("{} not drawn: there are too many", words::count(more, "more waiter")),
        };
        head.write_around(places.height, &left_out, out, |writer, corner| draw(writer, shown, &graph, &places, corner))
    }
}

fn subtitle(shown: &Shown<'_>, graph: &Graph<'_>) -> String {
    let mut parts = Vec::new();
    if !graph.nodes.is_empty() {
        let (waiting, awaited) = (graph.waiting(), graph.awaited());
        let others = if awaited > 0 { words::count(awaited, "other") } else { String::new() };
        let for_whom = match (graph.nodes.iter().any(|node| node.on_circle), awaited) {
            (_, 0) if waiting == 1 => "itself".to_owned(),
            (_, 0) => "each other".to_owned(),
            (true, _) => format!("each other or for {others}"),
            (false, _) => others,
        };
        let wait = if waiting == 1 { "waits" } else { "wait" };
        parts.push(format!("{} {wait} for {for_whom}", words::count(waiting, "thread")));
    }
    parts.push(words::utc(&shown.recording.started));
    parts.extend(shown.filtered_words());
    parts.join(" · ")
}

/// Of each way that a node can look the number of nodes, if there are any.
fn legend(graph: &Graph<'_>) -> Vec<LegendEntry> {
    let entry = |color, name, amount: u64, about: &str| LegendEntry {
        color,
        name,
        amount: words::thousands(amount),
        about: about.to_owned(),
        kind: None,
    };
    let count = |is_counted: &dyn Fn(&Node<'_>) -> bool| {
        graph.nodes.iter().filter(|node| is_counted(node)).map(|node| node.count).sum::<u64>()
    };
    let deadlocked = entry(
        Color { r: 0xcc, g: 0x22, b: 0x22 },
        "deadlocked",
        count(&|node| node.on_circle),
        "they wait for each other for ever: the red edges",
    );
    let others = Doing::ALL.into_iter().map(|doing| {
        let (name, about) = words_of(doing);
        entry(color(doing), name, count(&|node| node.doing == doing), about)
    });
    [deadlocked].into_iter().chain(others).filter(|entry| entry.amount != "0").collect()
}

fn words_of(doing: Doing) -> (&'static str, &'static str) {
    match doing {
        Doing::Waits => ("waiting", "what they wait for stands in them"),
        Doing::Runs => ("running", "on a CPU, or ready to run"),
        Doing::Exited => ("exited", "the thread is gone and will never let go of what it holds"),
        Doing::Elsewhere => ("of another process", "what it does was not looked at"),
        Doing::NotSeen => ("not seen", "the recording does not tell what it does"),
    }
}

/// Light, so that black text can be read on it, and to be told apart with any colour vision.
fn color(doing: Doing) -> Color {
    match doing {
        Doing::Waits => Color { r: 0xf9, g: 0xe3, b: 0xc4 },
        Doing::Runs => Color { r: 0xb5, g: 0xe6, b: 0xc9 },
        Doing::Exited => Color { r: 0xc8, g: 0xc8, b: 0xc8 },
        Doing::Elsewhere => Color { r: 0xc3, g: 0xdc, b: 0xfa },
        Doing::NotSeen => Color { r: 0xff, g: 0xff, b: 0xff },
    }
}

fn items(graph: &Graph<'_>) -> Vec<Item> {
    let mut items: Vec<Item> = graph
        .nodes
        .iter()
        .map(|node| {
            let longest = node.told(WIDTH).map(|line| head::text_width(&line)).max().unwrap_or(0);
            let width = (longest as f64 + 2.0 * PADDING).max(NARROWEST);
            Item { width, height: node.told(WIDTH).count() as f64 * LINE + 2.0 * PADDING, next: None, label: 0.0 }
        })
        .collect();
    for edge in &graph.edges {
        if let Some(item) = items.get_mut(edge.from) {
            item.next = Some(edge.to);
            item.label = head::text_width(edge.why) as f64 * LABEL_SIZE as f64 / FONT_SIZE as f64;
        }
    }
    items
}

/// Draws everything below the head, from `corner` on.
fn draw<W: io::Write>(
    writer: &mut Writer<W>,
    shown: &Shown<'_>,
    graph: &Graph<'_>,
    places: &Layout,
    corner: Point,
) -> io::Result<()> {
    let move_there = format!("translate({} {})", number(corner.x), number(corner.y));
    let group = [("id", "waits"), ("transform", move_there.as_str())];
    writer.create_element("g").with_attributes(group).write_inner_content(|writer| {
        for (id, color) in [("arrow", PLAIN), ("arrow-red", RED)] {
            write_arrow(writer, id, color)?;
        }
        for edge in &graph.edges {
            let way = places.edges.get(edge.from).and_then(Option::as_ref);
            if let (Some((way, label)), Some(from), Some(to)) =
                (way, graph.nodes.get(edge.from), graph.nodes.get(edge.to))
            {
                write_edge(writer, edge, [from, to], way, *label)?;
            }
        }
        for (node, area) in graph.nodes.iter().zip(&places.nodes) {
            write_node(writer, shown, node, area)?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_arrow<W: io::Write>(writer: &mut Writer<W>, id: &str, color: &str) -> io::Result<()> {
    let marker = [
        ("id", id),
        ("viewBox", "0 0 10 10"),
        ("refX", "9"),
        ("refY", "5"),
        ("markerWidth", "9"),
        ("markerHeight", "9"),
        ("markerUnits", "userSpaceOnUse"),
        ("orient", "auto"),
    ];
    writer.create_element("marker").with_attributes(marker).write_inner_content(|writer| {
        writer.create_element("path").with_attributes([("d", "M0 0L10 5L0 10z"), ("fill", color)]).write_empty()?;
        Ok(())
    })?;
    Ok(())
}

fn write_edge<W: io::Write>(
    writer: &mut Writer<W>,
    edge: &Edge,
    [from, to]: [&Node<'_>; 2],
    way: &Way,
    label: Label,
) -> io::Result<()> {
    let (color, width, arrow) = match edge.on_circle {
        true => (RED, "2", "url(#arrow-red)"),
        false => (PLAIN, "1.2", "url(#arrow)"),
    };
    writer.create_element("g").write_inner_content(|writer| {
        let who = |node: &Node| node.lines.first().map_or(String::new(), |line| words::cut_middle(line, TITLE_WIDTH));
        head::write_title(writer, &format!("{} → {}: {}", who(from), who(to), edge.why))?;
        let way = path(way);
        let path =
            [("d", way.as_str()), ("fill", "none"), ("stroke", color), ("stroke-width", width), ("marker-end", arrow)];
        writer.create_element("path").with_attributes(path).write_empty()?;
        let text = [
            ("x", number(label.at.x)),
            ("y", number(label.at.y)),
            ("text-anchor", label.anchor.into()),
            ("font-size", LABEL_SIZE.to_string()),
            ("fill", if edge.on_circle { RED } else { DIM }.into()),
        ];
        head::write_text(writer, &text, edge.why)
    })?;
    Ok(())
}

fn path(way: &Way) -> String {
    let at = |point: &Point| format!("{} {}", number(point.x), number(point.y));
    match way {
        Way::Curve([start, turn, leave, arrive, end]) => {
            format!("M{}L{}C{} {} {}", at(start), at(turn), at(leave), at(arrive), at(end))
        }
        Way::Corners([a, b, c, d]) => format!("M{}L{}L{}L{}", at(a), at(b), at(c), at(d)),
    }
}

fn write_node<W: io::Write>(writer: &mut Writer<W>, shown: &Shown<'_>, node: &Node<'_>, area: &Area) -> io::Result<()> {
    let (left, top) = (area.middle.x - area.width / 2.0, area.middle.y - area.height / 2.0);
    let (stroke, stroke_width) = if node.on_circle { (RED, "2") } else { (PLAIN, "1") };
    let rect = |by: f64| {
        [
            ("x", number(left + by)),
            ("y", number(top + by)),
            ("width", number(area.width)),
            ("height", number(area.height)),
            ("rx", "4".into()),
            ("fill", head::hex(color(node.doing))),
            ("stroke", stroke.into()),
            ("stroke-width", stroke_width.into()),
            ("stroke-dasharray", if node.doing == Doing::Exited { "5 3" } else { "none" }.into()),
        ]
    };
    let group = [("id", node.id.name())];
    let group = group.iter().map(|(name, value)| (*name, value.as_str()));
    writer.create_element("g").with_attributes(group).write_inner_content(|writer| {
        let details = node.details(shown);
        let details = details.iter().map(|line| words::cut_middle(line, TITLE_WIDTH));
        let told: Vec<String> = node.told(TITLE_WIDTH).chain(details).collect();
        head::write_title(writer, &told.join("\n"))?;
        // Several look like a pile.
        let behind = if node.count > 1 { [3.0, 0.0].as_slice() } else { &[0.0] };
        for &by in behind {
            let rect = rect(by);
            let rect = rect.iter().map(|(name, value)| (*name, value.as_str()));
            writer.create_element("rect").with_attributes(rect).write_empty()?;
        }
        for (row, line) in node.told(WIDTH).enumerate() {
            let y = top + PADDING + (row as f64 + 0.8) * LINE;
            let mut text = vec![("x", number(left + PADDING)), ("y", number(y))];
            text.push(("fill", if row == 0 { TEXT } else { DIM }.into()));
            if row == 0 {
                text.push(("font-weight", "bold".into()));
            }
            head::write_text(writer, &text, &line)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// A tenth of a pixel is as much as can be seen.
fn number(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, fixture, waits::tests as graphs};

    fn written(recording: &Recording) -> String {
        let mut out = Vec::new();
        Format::WaitsSvg.report().write(recording, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn pictures_of_who_waits_for_whom() {
        let chain: Vec<(u64, u64, &str)> = (1..8).map(|id| (id, id + 1, "mutex")).collect();
        let forest: Vec<(u64, u64, &str)> = (0..90).map(|id| (id + 1_000, id / 3 + 1, "rwlock (read)")).collect();
        let many: Vec<(u64, u64, &str)> = (1..400).map(|id| (id, id + 1_000, "mutex")).collect();
        for (name, recording) in [
            ("none", fixture::checkout()),
            ("self", graphs::deadlocked(&[1], &[])),
            ("one", graphs::recording(&[(1, 2, "mutex")])),
            ("two", graphs::deadlocked(&[1, 2], &[])),
            (
                "two-and-more",
                graphs::deadlocked(&[1, 2], &[(3, 1, "mutex"), (4, 1, "join"), (5, 2, "mutex"), (6, 5, "join")]),
            ),
            ("three", graphs::deadlocked(&[1, 2, 3], &[])),
            (
                "three-and-more",
                graphs::deadlocked(&[1, 2, 3], &[(4, 1, "mutex"), (5, 2, "join"), (6, 3, "mutex"), (7, 3, "join")]),
            ),
            ("six", graphs::deadlocked(&[1, 2, 3, 4, 5, 6], &[(8, 2, "mutex"), (9, 2, "join")])),
            ("forty", graphs::crowd()),
            ("chain", graphs::recording(&chain)),
            ("mixed", graphs::mixed()),
            ("forest", graphs::recording(&forest)),
            ("many", graphs::recording(&many)),
        ] {
            let svg = written(&recording);
            std::fs::write(fixture::picture(&format!("waits-{name}.svg")), &svg).unwrap();
            roxmltree::Document::parse(&svg).unwrap();
            assert!(svg.len() < 1 << 20, "{name}: {}", svg.len());
            if ["none", "three", "forty", "mixed"].contains(&name) {
                insta::assert_snapshot!(format!("waits_{name}"), svg.replace("><", ">\n<"));
            }
            let left_out = svg.contains("more waiters not drawn");
            assert_eq!(left_out, name == "many", "{name}");
        }
    }

    #[test]
    fn only_what_is_deadlocked_is_red() {
        let svg = written(&graphs::mixed());
        let edges = svg.matches("url(#arrow").count();
        assert_eq!((edges, svg.matches("url(#arrow-red)").count()), (11, 2));
        assert!(svg.contains("the &quot;other&quot; &lt;&amp; (13)"), "{svg}");
        assert!(!written(&graphs::crowd()).contains("deadlocked"));
    }
}
