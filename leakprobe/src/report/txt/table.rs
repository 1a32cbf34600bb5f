//! A table that fits a width: columns of names give way, the others keep what they need.

use std::io;

use super::paint::{Paint, Style};
use crate::report::words;

/// Between columns.
const GAP: &str = "  ";

/// No column of names becomes narrower than this; a narrower terminal has to wrap.
const MIN_NAME_WIDTH: usize = 8;

/// How a column is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Numbers and times: to the right, never cut.
    Right,
    /// Short words: to the left, never cut.
    Left,
    /// Functions and phrases: to the left, shortened if there is no room.
    Name,
}

/// One column.
pub(super) struct Column {
    title: String,
    layout: Layout,
    style: Style,
    cells: Vec<String>,
}

impl Column {
    /// A column with one cell a row. Names in cells are made harmless here.
    pub(super) fn new(title: &str, layout: Layout, style: Style, cells: impl Iterator<Item = String>) -> Self {
        // A table may have as many rows as a recording has sites, and each of them the longest name of all.
        let cells = cells.map(|cell| words::harmless(&words::both_ends(&cell))).collect();
        Self { title: title.into(), layout, style, cells }
    }

    /// Characters of the widest cell.
    fn natural_width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(self.title.chars().count())
    }
}

/// Writes `columns` in at most `width` characters, with a title line. A column that is empty in every row is left out.
pub(super) fn write(columns: Vec<Column>, width: usize, paint: Paint, out: &mut dyn io::Write) -> io::Result<()> {
    let is_used = |column: &Column| column.cells.iter().any(|cell| !cell.is_empty());
    let columns: Vec<Column> = columns.into_iter().filter(is_used).collect();
    let widths = widths(&columns, width);
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let titles = columns.iter().map(|column| (column.title.as_str(), Style::Dim));
    write_line(&columns, &widths, titles, paint, out)?;
    for row in 0..rows {
        let cells = columns.iter().map(|column| {
            let cell = column.cells.get(row).map_or("", String::as_str);
            (cell, column.style)
        });
        write_line(&columns, &widths, cells, paint, out)?;
    }
    Ok(())
}

fn write_line<'a>(
    columns: &[Column],
    widths: &[usize],
    cells: impl Iterator<Item = (&'a str, Style)>,
    paint: Paint,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut line = String::new();
    // Spaces are written only before the next text, so that no line ends with them.
    let mut spaces = 0;
    for (place, ((column, &width), (cell, style))) in columns.iter().zip(widths).zip(cells).enumerate() {
        if place > 0 {
            spaces += GAP.len();
        }
        let cell = words::shorten(cell, width);
        let free = width - cell.chars().count().min(width);
        let (before, after) = match column.layout {
            Layout::Right => (free, 0),
            Layout::Left | Layout::Name => (0, free),
        };
        spaces += before;
        if !cell.is_empty() {
            line.extend(std::iter::repeat_n(' ', spaces));
            line += &paint.paint(style, &cell);
            spaces = 0;
        }
        spaces += if cell.is_empty() { width - before } else { after };
    }
    writeln!(out, "{line}")
}

/// The width of each column. Columns of names share what the others leave: each gets what it needs if that is less than its
/// share, and the rest is shared by those that need more.
fn widths(columns: &[Column], width: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(Column::natural_width).collect();
    let gaps = GAP.len() * columns.len().saturating_sub(1);
    let is_name = |place: &usize| columns[*place].layout == Layout::Name;
    let fixed: usize = (0..columns.len()).filter(|place| !is_name(place)).map(|place| widths[place]).sum();
    let mut free = width.saturating_sub(fixed + gaps);
    let mut names: Vec<usize> = (0..columns.len()).filter(is_name).collect();
    names.sort_by_key(|&place| widths[place]);
    let mut left = names.len();
    for place in names {
        let share = (free / left).max(MIN_NAME_WIDTH);
        widths[place] = widths[place].min(share);
        free = free.saturating_sub(widths[place]);
        left -= 1;
        // Shortening leaves out whole parts of a name, so that it may need less than it was given.
        let cells = columns[place].cells.iter();
        let shortened = cells.map(|cell| words::shorten(cell, widths[place]).chars().count());
        let title = columns[place].title.chars().count();
        let needed = shortened.max().unwrap_or(0).max(title);
        free += widths[place] - widths[place].min(needed);
        widths[place] = widths[place].min(needed);
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &str, layout: Layout, cells: &[&str]) -> Column {
        let cells = cells.iter().map(|cell| (*cell).to_owned());
        Column::new(title, layout, Style::Plain, cells)
    }

    fn written(columns: Vec<Column>, width: usize) -> String {
        let mut out = Vec::new();
        write(columns, width, Paint { color: false }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_share_what_numbers_leave() {
        let columns = || {
            vec![
                column("n", Layout::Right, &["7", "1,234"]),
                column("unused", Layout::Left, &["", ""]),
                column("short", Layout::Name, &["f", "main"]),
                column("long", Layout::Name, &["a::b::c::d::e::f::g::h::i::j", ""]),
                column("id", Layout::Left, &["x", "y"]),
            ]
        };
        insta::assert_snapshot!(written(columns(), 80), @r"
            n  short  long                          id
            7  f      a::b::c::d::e::f::g::h::i::j  x
        1,234  main                                 y
        ");
        insta::assert_snapshot!(written(columns(), 36), @r"
            n  short  long              id
            7  f      …::f::g::h::i::j  x
        1,234  main                     y
        ");
        for line in written(columns(), 36).lines() {
            assert!(line.chars().count() <= 36, "{line}");
        }
    }
}
