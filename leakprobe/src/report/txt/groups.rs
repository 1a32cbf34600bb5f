//! The table of `--group-by`: tasks that have something else in common than their site.

use std::io;

use super::{
    Page,
    paint::Style,
    sites,
    table::{self, Column, Layout},
};
use crate::report::{
    GroupBy, evidence as facts,
    groups::{self, Group},
    words,
};

/// Rows, unless all are asked for.
const MAX_GROUPS: usize = 40;

impl Page<'_> {
    /// Every group in a line, the largest first, with where most of it waits.
    pub(super) fn groups(&mut self, by: &GroupBy) -> io::Result<()> {
        let shown = self.shown;
        let mut groups = groups::groups(shown, by);
        let found = groups.len();
        groups.truncate(if self.all { found } else { MAX_GROUPS });
        let column = |title: &str, layout, style, text: &dyn Fn(&Group<'_>) -> String| {
            Column::new(title, layout, style, groups.iter().map(text))
        };
        let nouns = format!("{}s", facts::noun(shown));
        let title = match by {
            GroupBy::Creator => "created",
            GroupBy::Site => "site",
            GroupBy::Wait => "wait",
            GroupBy::Channel => "channel",
            GroupBy::Label(_) => "label",
            GroupBy::ThreadName => "thread",
        };
        let main_site = |group: &Group<'_>| {
            let largest = group.sites.iter().max_by_key(|&(place, count)| (count, std::cmp::Reverse(place)));
            largest.and_then(|(&place, _)| shown.sites.get(place).copied())
        };
        let columns = vec![
            column(&nouns, Layout::Right, Style::Bold, &|group| words::thousands(group.count)),
            column("parked", Layout::Right, Style::Plain, &|group| match group.parked == group.count {
                true => String::new(),
                false => words::thousands(group.parked),
            }),
            column("oldest", Layout::Right, Style::Plain, &|group| {
                let wait = group.oldest.and_then(|task| task.wait.as_ref());
                match wait {
                    Some(_) if group.parked == 0 => "unknown".to_owned(),
                    Some(wait) => words::age(wait.age_ms, wait.exact),
                    None => String::new(),
                }
            }),
            column(title, Layout::Name, Style::Plain, &|group| group.name.clone()),
            column("sites", Layout::Right, Style::Plain, &|group| words::thousands(group.sites.len() as u64)),
            column("most of them in", Layout::Name, Style::Plain, &|group| {
                main_site(group).map_or_else(String::new, |site| sites::place(shown, &site.stack, None))
            }),
            column("site", Layout::Left, Style::Dim, &|group| {
                main_site(group).map_or_else(String::new, |site| site.id.clone())
            }),
        ];
        writeln!(self.out)?;
        table::write(columns, self.width, self.paint, self.out)?;
        self.left_out((found - groups.len()) as u64, "group")
    }
}
