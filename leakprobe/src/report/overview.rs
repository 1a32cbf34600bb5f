//! Several processes at a glance, before the report of each.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use super::words;
use crate::model::{Recording, TaskKind, TaskState};

/// A table with a line for each process.
#[must_use]
pub fn overview(recordings: &[Recording]) -> String {
    let mut text = format!("{}\n\n", words::count(recordings.len() as u64, "process").replace("processs", "processes"));
    let head = ["pid", "threads", "goroutines", "parked", "sites", "name"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(recordings.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
        let _ = writeln!(text, "{}  {}", cells.join("  "), row[5]);
    }
    text += "\nleakprobe's own cost, in each of the reports, is that of watching all of them.\n";
    text
}

fn row(recording: &Recording) -> [String; 6] {
    let is_parked = |state: TaskState| state == TaskState::Parked;
    let threads = recording.coverage.threads;
    let goroutines = recording.coverage.go.as_ref().map_or_else(String::new, |go| words::thousands(go.goroutines));
    let own = recording.tasks.iter().filter(|task| task.role.is_own());
    let listed = own.filter(|task| is_parked(task.state)).count() as u64;
    let at_sites: u64 = recording.sites.iter().filter(|site| site.role.is_own()).map(|site| site.parked).sum();
    let of_go = recording.sites.iter().any(|site| site.task == TaskKind::Goroutine);
    let parked = if of_go { at_sites } else { listed };
    let sites = recording.sites.iter().filter(|site| site.role.is_own()).count() as u64;
    [
        recording.target.pid.to_string(),
        words::thousands(threads),
        goroutines,
        words::thousands(parked),
        words::thousands(sites),
        words::harmless(&recording.target.comm),
    ]
}

/// The name of the file that is `path` for one process, for the process `pid` of several: `parked-1234.svg`, `a-1234.goroutines.txt`.
#[must_use]
pub fn path_of_process(path: &Path, pid: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A dot in the first place hides a file; it begins no extension.
    let dot = name.char_indices().skip(1).find(|(_, c)| *c == '.').map_or(name.len(), |(dot, _)| dot);
    let (stem, extension) = name.split_at(dot);
    path.with_file_name(format!("{stem}-{pid}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn each_process_has_a_line() {
        let text = overview(&[fixture::checkout(), fixture::idle()]);
        assert!(text.starts_with("2 processes\n\n"), "{text}");
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(text.contains("4242") && text.contains("checkout"), "{text}");
    }

    #[test]
    fn files_of_several_processes_have_their_ids_before_the_extension() {
        for (path, expected) in [
            ("parked.svg", "parked-7.svg"),
            ("out/a.goroutines.txt", "out/a-7.goroutines.txt"),
            ("dir.d/plain", "dir.d/plain-7"),
            (".hidden", ".hidden-7"),
            ("ü.pb.gz", "ü-7.pb.gz"),
        ] {
            assert_eq!(path_of_process(Path::new(path), 7), Path::new(expected), "{path}");
        }
    }
}
