//! Two recordings compared, for a person.

use std::io;

use super::{
    DEFAULT_WIDTH, Page,
    paint::{Paint, Style},
    sites,
    stacks::Texts,
    table::{self, Column, Layout},
    wrap,
};
use crate::{
    analysis::{Change, Outcome, Row},
    model::{Site, Task},
    report::{Options, diff::Compared, shown::Shown, words},
};

/// Rows of the table, and sites told in full, unless all are asked for.
const MAX_ROWS: usize = 30;
const MAX_FULL: usize = 3;

pub(in crate::report) fn write(compared: &Compared<'_>, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let mut page = page(compared.after, options, out);
    page.sides(compared)?;
    page.judgement(compared)?;
    page.rows(compared)?;
    let rows = compared.diff.rows.iter().filter(|row| row.change <= Change::Unclear);
    let most = if options.all { usize::MAX } else { MAX_FULL };
    for row in rows.take(most) {
        if let Some((shown, site)) = compared.place_of(row) {
            page.row(row, shown, site)?;
        }
    }
    Ok(())
}

fn page<'a>(shown: &'a Shown<'a>, options: &Options, out: &'a mut dyn io::Write) -> Page<'a> {
    Page {
        recording: shown.recording,
        shown,
        all: options.all,
        width: options.width.unwrap_or(DEFAULT_WIDTH),
        paint: Paint { color: options.color },
        texts: Texts::default(),
        out,
    }
}

impl Page<'_> {
    /// Which recordings these are.
    fn sides(&mut self, compared: &Compared<'_>) -> io::Result<()> {
        let [before, after] = &compared.names;
        for (label, name, shown) in [("before", before, compared.before), ("after", after, compared.after)] {
            let target = &shown.recording.target;
            let text = format!(
                "{name}: {} (pid {}) at {}, {} parked of {}",
                words::harmless(&target.comm),
                target.pid,
                words::utc(&shown.recording.started),
                words::thousands(shown.parked()),
                super::facts::alive(shown),
            );
            let label = format!("{label:<8}");
            self.wrapped(&label, 8, &wrap::sentence(&text), Style::Plain)?;
        }
        match compared.after.filtered_words() {
            Some(left_out) => self.wrapped("", 2, &wrap::sentence(&left_out), Style::Warning),
            None => Ok(()),
        }
    }

    /// What it comes to, and what speaks against it.
    fn judgement(&mut self, compared: &Compared<'_>) -> io::Result<()> {
        let fewer = compared.fewer();
        let fewer = if fewer.is_empty() { fewer } else { format!("; {fewer}") };
        let sentence = words::capitalized(&compared.sentence());
        let style = if compared.diff.outcome == Outcome::Incomplete { Style::Warning } else { Style::Bold };
        writeln!(self.out)?;
        self.wrapped("", 0, &wrap::sentence(&format!("{sentence}{fewer}.")), style)?;
        for reason in &compared.diff.reasons {
            self.wrapped("  because  ", 11, &wrap::sentence(&words::harmless(reason)), Style::Warning)?;
        }
        for note in &compared.diff.notes {
            self.wrapped("  note     ", 11, &wrap::sentence(&words::harmless(note)), Style::Plain)?;
        }
        Ok(())
    }

    /// Every site that changed in a line.
    fn rows(&mut self, compared: &Compared<'_>) -> io::Result<()> {
        let is_told = |row: &&Row<'_>| self.all || row.change != Change::Same;
        let rows: Vec<&Row<'_>> = compared.diff.rows.iter().filter(is_told).collect();
        let most = if self.all { rows.len() } else { MAX_ROWS.min(rows.len()) };
        let left_out = (rows.len() - most) as u64;
        let told: Vec<(&Row<'_>, &Shown<'_>, &Site)> = rows
            .into_iter()
            .take(most)
            .filter_map(|row| compared.place_of(row).map(|(shown, site)| (row, shown, site)))
            .collect();
        let column = |title: &str, layout, style, text: &dyn Fn(&Row<'_>, &Shown<'_>, &Site) -> String| {
            Column::new(title, layout, style, told.iter().map(|(row, shown, site)| text(row, shown, site)))
        };
        let number = |count: u64, parked: u64| match count - parked.min(count) {
            0 => words::thousands(count),
            unknown => format!("{} ({} unknown)", words::thousands(count), words::thousands(unknown)),
        };
        let columns = vec![
            column("change", Layout::Left, Style::Bold, &|row, _, _| row.change.name().to_owned()),
            column("before", Layout::Right, Style::Plain, &|row, _, _| number(row.before.count, row.before.parked)),
            column("after", Layout::Right, Style::Bold, &|row, _, _| number(row.after.count, row.after.parked)),
            column("oldest", Layout::Right, Style::Plain, &|row, _, _| match row.after.count {
                0 => String::new(),
                _ if row.after.parked == 0 && !row.after.oldest_exact => "unknown".to_owned(),
                _ => words::age(row.after.oldest_ms, row.after.oldest_exact),
            }),
            column("verdict", Layout::Left, Style::Bold, &|_, _, site| site.verdict.name().to_owned()),
            column("wait", Layout::Name, Style::Plain, &|_, _, site| sites::operation(site.kind, &site.wait)),
            column("created by", Layout::Name, Style::Plain, &|row, shown, site| match row.creators_unknown {
                true => "not known in both".to_owned(),
                false => sites::creator(shown, site, task_at(shown, site)),
            }),
            column("parked in", Layout::Name, Style::Plain, &|_, shown, site| {
                sites::place(shown, &site.stack, task_at(shown, site).map(|task| task.stack_end))
            }),
            column("site", Layout::Left, Style::Dim, &|row, _, _| row.id.to_owned()),
        ];
        if !told.is_empty() {
            writeln!(self.out)?;
            table::write(columns, self.width, self.paint, self.out)?;
        }
        self.left_out(left_out, "site")?;
        match compared.diff.sites(Change::Same) as u64 {
            0 => Ok(()),
            _ if self.all => Ok(()),
            same => writeln!(self.out, "{}", self.paint.dim(&format!("{} as before", words::count(same, "site")))),
        }
    }

    /// A site's stacks.
    fn row(&mut self, row: &Row<'_>, shown: &Shown<'_>, site: &Site) -> io::Result<()> {
        let (before, after) = (words::thousands(row.before.count), words::thousands(row.after.count));
        self.heading(&format!("Site {}: {before} → {after}", words::harmless(row.id)))?;
        let mut page = Page {
            recording: shown.recording,
            shown,
            all: self.all,
            width: self.width,
            paint: self.paint,
            texts: Texts::default(),
            out: &mut *self.out,
        };
        writeln!(page.out, "  parked in")?;
        page.stack(&site.stack, task_at(shown, site).map_or("", |task| task.stack_end.explain()))?;
        writeln!(page.out, "  created by")?;
        if site.creation.is_empty() {
            let why = page.note("its creation was not seen");
            writeln!(page.out, "    {why}")
        } else {
            page.stack(&site.creation, "")
        }
    }
}

/// A task of a site.
fn task_at<'a>(shown: &Shown<'a>, site: &Site) -> Option<&'a Task> {
    let is_there = |task: &&&Task| {
        shown.site_of(task).and_then(|place| shown.sites.get(place)).is_some_and(|found| std::ptr::eq(*found, site))
    };
    shown.tasks.iter().find(is_there).copied()
}
