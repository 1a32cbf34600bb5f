//! Who could end waits from the other end of what is waited on, in words.

use std::collections::BTreeMap;

use super::words;
use crate::model::{EndRole, OtherEnd, OtherEnds, Task};

/// Processes of each other end that are named.
const MAX_NAMED: usize = 3;

/// Those of one role, after the words that stand before them.
pub(super) struct Ends {
    pub(super) label: &'static str,
    /// What most of the tasks have first.
    pub(super) named: Vec<String>,
}

/// The other ends of what `tasks` wait on.
pub(super) fn other_ends(tasks: &[&Task]) -> Vec<Ends> {
    let mut counts: BTreeMap<(EndRole, String), u64> = BTreeMap::new();
    let waits = || tasks.iter().filter_map(|task| task.wait.as_ref());
    let first = waits().next().map(|wait| &wait.object);
    let alike = waits().all(|wait| Some(&wait.object) == first);
    for (wait, ends) in waits().filter_map(|wait| Some((wait, wait.other_ends.as_deref()?))) {
        if let Some(role) = ends.known.first().map(|end| end.role) {
            // Of several things it is said whose other end it is: `fd 7: …`.
            let of = if alike { String::new() } else { format!("{}: ", name_of(&wait.object)) };
            *counts.entry((role, of + &in_words(ends))).or_default() += 1;
        }
    }
    let roles = [EndRole::Writer, EndRole::Reader, EndRole::Peer, EndRole::Holder, EndRole::Child, EndRole::Tracer];
    let of_role = |role: EndRole| {
        let mut of_role: Vec<(&String, u64)> =
            counts.iter().filter(|((of, _), _)| *of == role).map(|((_, text), count)| (text, *count)).collect();
        of_role.sort_by(|(a, most), (b, least)| least.cmp(most).then_with(|| a.cmp(b)));
        let several = |count| if count == 1 { String::new() } else { format!(" ({})", words::count(count, "thread")) };
        let named = of_role.iter().map(|(text, count)| format!("{text}{}", several(*count))).collect();
        Ends { label: label(role), named }
    };
    roles.into_iter().map(of_role).filter(|ends| !ends.named.is_empty()).collect()
}

/// What stands before the description of a descriptor.
fn name_of(object: &str) -> String {
    words::harmless(object.split(" (").next().unwrap_or_default())
}

fn label(role: EndRole) -> &'static str {
    match role {
        EndRole::Writer | EndRole::Reader | EndRole::Peer => "other end:",
        EndRole::Holder => "held by",
        EndRole::Child => "child:",
        EndRole::Tracer => "traced by",
    }
}

/// `fd 5 of 4711 (redis-server, writer)`.
fn in_words(ends: &OtherEnds) -> String {
    if ends.complete && ends.more == 0 && ends.known.iter().all(|end| end.is_target) {
        let whole = match ends.known.first() {
            Some(OtherEnd { role: EndRole::Writer, fd: Some(fd), .. }) => {
                Some(format!("only this process holds the write end (fd {fd})"))
            }
            Some(OtherEnd { role: EndRole::Reader, fd: Some(fd), .. }) => {
                Some(format!("only this process holds the read end (fd {fd})"))
            }
            _ => None,
        };
        if let Some(whole) = whole {
            return whole;
        }
    }
    let named: Vec<String> = ends.known.iter().take(MAX_NAMED).map(one).collect();
    let more = ends.more + (ends.known.len() - named.len()) as u64;
    let more = if more > 0 { format!(" and {} more", words::thousands(more)) } else { String::new() };
    format!("{}{more}", named.join(" and "))
}

fn one(end: &OtherEnd) -> String {
    let fd = end.fd.map(|fd| format!("fd {fd} of ")).unwrap_or_default();
    if end.is_target {
        return format!("{fd}this process ({})", end.role.name());
    }
    let name = words::harmless(&end.name);
    let doing = end.state.map(|state| format!(", {}", state_words(state))).unwrap_or_default();
    match end.role {
        EndRole::Child | EndRole::Tracer | EndRole::Holder => format!("{fd}{name} ({}{doing})", end.pid),
        role => format!("{fd}{} ({name}, {})", end.pid, role.name()),
    }
}

/// A letter of `/proc/PID/stat`. Source: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
fn state_words(state: char) -> &'static str {
    match state {
        'R' => "runs",
        'S' | 'I' => "sleeps",
        'D' => "sleeps, not to be interrupted",
        'T' => "stopped",
        't' => "stopped by a debugger",
        'Z' => "has ended, nobody asked how",
        _ => "ends",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(role: EndRole, pid: u32, fd: Option<i32>) -> OtherEnd {
        OtherEnd { role, pid, is_target: pid == 7, name: "db".to_owned(), fd, state: None }
    }

    #[test]
    fn a_pipe_that_only_the_process_itself_could_fill_is_told() {
        let ends = |known, complete| OtherEnds { known, more: 0, complete };
        let own = || end(EndRole::Writer, 7, Some(5));
        assert_eq!(in_words(&ends(vec![own()], true)), "only this process holds the write end (fd 5)");
        assert_eq!(in_words(&ends(vec![own()], false)), "fd 5 of this process (writer)");
        let both = ends(vec![own(), end(EndRole::Writer, 9, Some(3))], true);
        assert_eq!(in_words(&both), "fd 5 of this process (writer) and fd 3 of 9 (db, writer)");
        let many =
            OtherEnds { known: (0..5).map(|pid| end(EndRole::Peer, pid, Some(1))).collect(), more: 2, complete: true };
        assert!(in_words(&many).ends_with("fd 1 of 2 (db, peer) and 4 more"));
    }

    #[test]
    fn children_are_told_with_what_they_do() {
        let child = OtherEnd { state: Some('Z'), ..end(EndRole::Child, 9, None) };
        assert_eq!(one(&child), "db (9, has ended, nobody asked how)");
        assert_eq!(one(&end(EndRole::Holder, 9, Some(3))), "fd 3 of db (9)");
    }
}
