//! The comparison table: what was measured, beside whom, and whether the goal was met. Printed, and written to a page.

use std::fmt::Write;

/// A goal, in words, and whether it was met.
pub(super) struct Goal {
    what: String,
    met: bool,
}

/// A goal that is met if `met`.
pub(super) fn goal(met: bool, what: impl Into<String>) -> Option<Goal> {
    Some(Goal { what: what.into(), met })
}

/// One thing that was measured.
struct Row {
    what: String,
    ours: String,
    beside: String,
    goal: Option<Goal>,
}

/// Rows under one heading.
struct Section {
    title: String,
    /// How it was measured.
    how: String,
    rows: Vec<Row>,
}

/// All that was measured.
#[derive(Default)]
pub(super) struct Table {
    sections: Vec<Section>,
}

impl Table {
    /// What follows is about `title`; `how` it was measured is a sentence.
    pub(super) fn section(&mut self, title: &str, how: impl Into<String>) {
        self.sections.push(Section { title: title.to_owned(), how: how.into(), rows: Vec::new() });
    }

    /// What was measured, of leakprobe and of what stands beside it.
    pub(super) fn row(
        &mut self,
        what: impl Into<String>,
        ours: impl Into<String>,
        beside: impl Into<String>,
        goal: Option<Goal>,
    ) {
        let row = Row { what: what.into(), ours: ours.into(), beside: beside.into(), goal };
        match self.sections.last_mut() {
            Some(section) => section.rows.push(row),
            None => self.sections.push(Section { title: String::new(), how: String::new(), rows: vec![row] }),
        }
    }

    /// As Markdown, of which a terminal shows as much.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::new();
        for Section { title, how, rows } in &self.sections {
            let _ = write!(text, "\n## {title}\n\n{how}\n\n");
            let head = ["", "leakprobe", "beside it", "goal"].map(str::to_owned);
            let mut lines = vec![head];
            lines.extend(rows.iter().map(Row::cells));
            let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            let widths = [width(0), width(1), width(2), width(3)];
            for (n, line) in lines.iter().enumerate() {
                let cells: Vec<String> =
                    line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                let _ = writeln!(text, "| {} |", cells.join(" | "));
                if n == 0 {
                    let _ = writeln!(text, "|{}|", widths.map(|width| "-".repeat(width + 2)).join("|"));
                }
            }
        }
        text
    }

    /// Goals that were missed.
    pub(super) fn missed(&self) -> usize {
        let goals = self.sections.iter().flat_map(|section| &section.rows).filter_map(|row| row.goal.as_ref());
        goals.filter(|goal| !goal.met).count()
    }
}

impl Row {
    fn cells(&self) -> [String; 4] {
        let goal =
            self.goal.as_ref().map(|Goal { what, met }| format!("{what}: {}", if *met { "met" } else { "MISSED" }));
        [self.what.clone(), self.ours.clone(), self.beside.clone(), goal.unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_and_counts_what_was_missed() {
        let mut table = Table::default();
        table.section("Threads", "In one run.");
        table.row("snapshot", "0.1 s", "12 s", goal(true, "×60"));
        table.row("memory", "90 MB", "", goal(false, "under 80 MB"));
        let text = table.markdown();
        assert!(text.contains("| snapshot | 0.1 s     | 12 s      | ×60: met            |"), "{text}");
        assert!(text.contains("MISSED"), "{text}");
        assert_eq!(table.missed(), 1);
    }
}
