//! What is told of a site's goroutines and not of threads: channels, parents, labels.

use std::{collections::BTreeMap, io};

use super::Page;
use crate::{
    model::{Channel, Task, TaskKind},
    report::words,
};

/// Parents, and labels, that are named.
const MAX_PARENTS: usize = 5;
const MAX_LABELS: usize = 3;

impl Page<'_> {
    /// Which goroutines created those of a site, and whether they still live.
    pub(super) fn parents(&mut self, tasks: &[&Task]) -> io::Result<()> {
        let mut named = parents(tasks);
        let more = named.len().saturating_sub(MAX_PARENTS);
        let noun = if named.len() == 1 { "goroutine" } else { "goroutines" };
        named.truncate(MAX_PARENTS);
        self.list(&format!("  in {noun}"), named, more)
    }

    /// The profiler labels of a site's goroutines, the most frequent first.
    pub(super) fn labels(&mut self, tasks: &[&Task]) -> io::Result<()> {
        let mut named = labels(tasks);
        let more = named.len().saturating_sub(MAX_LABELS);
        named.truncate(MAX_LABELS);
        self.list("labels:", named, more)
    }
}

/// The goroutines that created `tasks`, and whether they still live.
pub(in crate::report) fn parents(tasks: &[&Task]) -> Vec<String> {
    let mut parents: BTreeMap<u64, Option<bool>> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.kind == TaskKind::Goroutine) {
        if let Some(parent) = task.created_by.task {
            parents.insert(parent, task.created_by.alive);
        }
    }
    let named = parents.iter().map(|(id, alive)| match alive {
        Some(true) => format!("{id} (alive)"),
        Some(false) => format!("{id} (ended)"),
        None => id.to_string(),
    });
    named.collect()
}

/// The profiler labels of `tasks`, the most frequent first.
pub(in crate::report) fn labels(tasks: &[&Task]) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (name, value) in tasks.iter().filter_map(|task| task.goroutine.as_ref()).flat_map(|it| it.labels.iter()) {
        *counts.entry(words::harmless(&format!("{name}={value}"))).or_default() += 1;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by(|(a, most), (b, least)| least.cmp(most).then_with(|| a.cmp(b)));
    counts.iter().map(|(label, count)| format!("{label} ({})", words::count(*count, "goroutine"))).collect()
}

/// What a task waits on, one text each: the channels of a goroutine with their state.
pub(super) fn objects(task: &Task) -> Vec<String> {
    let channels = task.goroutine.as_ref().map(|goroutine| &*goroutine.channels).unwrap_or_default();
    if channels.is_empty() {
        task.wait.iter().map(|wait| words::harmless(&wait.object)).collect()
    } else {
        channels.iter().map(channel).collect()
    }
}

/// What the `count` goroutines of a site, of which `tasks` are listed, wait on, if it is the same for all; else how many things
/// it is.
pub(in crate::report) fn object_in_short(count: u64, tasks: &[&Task]) -> String {
    let all = tasks.len() as u64 >= count;
    let mut objects: Vec<&str> = tasks.iter().filter_map(|task| task.wait.as_ref()).map(|wait| &*wait.object).collect();
    objects.sort_unstable();
    objects.dedup();
    objects.retain(|object| !object.is_empty());
    match objects.as_slice() {
        [] => String::new(),
        [one] if all => words::harmless(one),
        [one] => format!("{}, …", words::harmless(one)),
        many => format!("{}{} different", if all { "" } else { "≥ " }, words::thousands(many.len() as u64)),
    }
}

/// `chan 0xc000076060 (0/10, 3 receivers, closed)`.
fn channel(channel: &Channel) -> String {
    if channel.address == 0 {
        return "nil channel".to_owned();
    }
    let mut parts = vec![match channel.cap {
        0 => "unbuffered".to_owned(),
        cap => format!("{}/{}", words::thousands(channel.len), words::thousands(cap)),
    }];
    for (n, noun) in [(channel.receivers, "receiver"), (channel.senders, "sender")] {
        if n > 0 {
            parts.push(words::count(n, noun));
        }
    }
    if channel.closed {
        parts.push("closed".to_owned());
    }
    if channel.timer {
        parts.push("of a timer".to_owned());
    }
    format!("chan {:#x} ({})", channel.address, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_with_their_state() {
        let one = Channel {
            address: 0x00c0_0007_6060,
            send: Some(false),
            len: 0,
            cap: 10,
            closed: true,
            receivers: 3,
            senders: 0,
            timer: false,
            value_bytes: None,
        };
        assert_eq!(channel(&one), "chan 0xc000076060 (0/10, 3 receivers, closed)");
        let two = Channel { cap: 0, receivers: 0, senders: 1, closed: false, timer: true, ..one };
        assert_eq!(channel(&two), "chan 0xc000076060 (unbuffered, 1 sender, of a timer)");
        assert_eq!(channel(&Channel { address: 0, ..one }), "nil channel");
    }
}
