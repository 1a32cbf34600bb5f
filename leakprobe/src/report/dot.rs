//! The wait-for graph in the language of graphviz: `dot -Tsvg` draws it.
//!
//! Language: <https://graphviz.org/doc/info/lang.html>

use std::io;

use super::{Options, Report, shown::Shown, waits::Graph, words};
use crate::model::Recording;

/// Most nodes that are drawn; nobody can look at more.
const MOST_NODES: usize = 2_000;
/// Most characters of a line in a node.
const WIDTH: usize = 60;

/// The `.dot` format.
pub(super) struct Dot;

impl Report for Dot {
    fn write(&self, recording: &Recording, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
        let graph = Graph::of(&Shown::of(recording, options), MOST_NODES);
        let target = &recording.target;
        let title = format!("Who waits for whom in {} (pid {})", words::harmless(&target.comm), target.pid);
        let red = |on_circle: bool| if on_circle { ", color=red, penwidth=2" } else { "" };
        writeln!(out, "digraph waits {{")?;
        writeln!(out, "  label={}; labelloc=t; rankdir=LR;", quoted(&title))?;
        writeln!(out, "  node [shape=box, fontname=\"sans-serif\"]; edge [fontname=\"sans-serif\", fontsize=10];")?;
        for node in &graph.nodes {
            let told: Vec<String> = node.told(WIDTH).collect();
            writeln!(out, "  {} [label={}{}];", node.id.name(), quoted(&told.join("\n")), red(node.on_circle))?;
        }
        for edge in &graph.edges {
            if let (Some(from), Some(to)) = (graph.nodes.get(edge.from), graph.nodes.get(edge.to)) {
                let (from, to) = (from.id.name(), to.id.name());
                writeln!(out, "  {from} -> {to} [label={}{}];", quoted(edge.why), red(edge.on_circle))?;
            }
        }
        if graph.left_out > 0 {
            let text = format!("{} not drawn: there are too many", words::count(graph.left_out, "more waiter"));
            writeln!(out, "  left_out [shape=plaintext, label={}];", quoted(&text))?;
        }
        writeln!(out, "}}")
    }
}

/// A string as graphviz wants it; line breaks are its own.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, fixture, waits::tests as graphs};

    fn written(recording: &Recording) -> String {
        let mut out = Vec::new();
        Format::Dot.report().write(recording, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn graphs_in_graphviz_s_language() {
        insta::assert_snapshot!("dot", written(&graphs::mixed()));
        assert!(!written(&fixture::idle()).contains(" -> "));
    }

    #[test]
    fn what_means_something_in_a_string_is_escaped() {
        assert_eq!(quoted("a \"b\" \\n\nc"), r#""a \"b\" \\n\nc""#);
    }
}
