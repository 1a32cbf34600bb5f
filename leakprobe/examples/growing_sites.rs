//! Attaches to a process, and prints after each snapshot at which sites there are more tasks than before: `growing_sites PID`.

use std::{collections::HashMap, io::Write};

use leakprobe::{
    model::{Frame, Recording},
    watch::{Error, Options, Update, Watcher},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid = std::env::args().nth(1).ok_or("usage: growing_sites PID")?.parse()?;
    for line in growing_sites(pid)? {
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
}

/// A line for each site that has grown from one snapshot to the next, for as long as the process runs.
pub fn growing_sites(pid: u32) -> Result<impl Iterator<Item = String>, Error> {
    let watcher = Watcher::attach(&[pid], &Options::default())?;
    let mut before = None;
    let next = move || loop {
        if let Update::Snapshot { pid, .. } = watcher.next()?
            && let Some(recording) = watcher.recording(pid)
        {
            let counts = recording.sites.iter().map(|site| (site.id.clone(), site.count)).collect();
            return Some(before.replace(counts).map_or_else(Vec::new, |before| growing(&before, &recording)));
        }
    };
    Ok(std::iter::from_fn(next).flatten())
}

/// A line for each site at which more tasks wait than there were before.
fn growing(before: &HashMap<String, u64>, recording: &Recording) -> Vec<String> {
    let frames = |stack: &[u32]| stack.iter().map(|&index| &recording.frames[index as usize]).collect::<Vec<_>>();
    let grown = recording.sites.iter().filter(|site| before.get(&site.id).is_none_or(|&count| site.count > count));
    grown
        .map(|site| {
            // Innermost first: below the functions of the C library.
            let creator = frames(&site.creation).into_iter().find(|frame| frame.is_users());
            let creator = creator.map_or_else(|| "?".to_owned(), Frame::label);
            format!("{}: {} tasks in {}, created by {creator}", site.id, site.count, site.wait)
        })
        .collect()
}
