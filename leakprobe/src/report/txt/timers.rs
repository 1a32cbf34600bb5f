//! The timers that are pending though no task waits for them.

use std::io;

use super::{
    Page,
    paint::Style,
    table::{self, Column, Layout},
    wrap,
};
use crate::report::timers::{self, TITLES};

/// Rows that are shown unless all are asked for.
const MAX_ROWS: usize = 10;

impl Page<'_> {
    /// How many, when they fire and what they call; nothing if there is none.
    pub(super) fn timers(&mut self) -> io::Result<()> {
        let mut rows = timers::rows(self.shown);
        if rows.is_empty() {
            return Ok(());
        }
        let found = rows.len();
        rows.truncate(if self.all { found } else { MAX_ROWS });
        let cells: Vec<_> = rows.iter().map(timers::Row::cells).collect();
        let columns = TITLES.iter().enumerate().map(|(place, title)| {
            let (layout, style) = match place {
                0 => (Layout::Right, Style::Bold),
                5 => (Layout::Name, Style::Plain),
                _ => (Layout::Left, Style::Plain),
            };
            let of_row = |row: &[String; 7]| row.get(place).cloned().unwrap_or_default();
            Column::new(title, layout, style, cells.iter().map(of_row))
        });
        self.heading("Pending timers, for which no task waits")?;
        table::write(columns.collect(), self.width, self.paint, self.out)?;
        for (called, facts) in rows.iter().filter_map(timers::Row::judged) {
            let sentence = format!("{called}: {}", facts.join("; "));
            self.wrapped("", 2, &wrap::sentence(&sentence), Style::Plain)?;
        }
        self.left_out((found - rows.len()) as u64, "row")
    }
}
