//! Descriptors in words.

use super::FdInfo;
use crate::{
    model::span,
    snapshot::{proc, waits::arguments::signal_set},
};

/// Of several descriptors, those that are named.
pub(super) const MOST_NAMED: usize = 3;

/// What has no name in any file system: `timerfd, fires in 59m 3s`.
pub(super) fn anonymous(name: &str, info: &FdInfo) -> String {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match name {
        "eventfd" => match info.count {
            Some(count) => format!("eventfd, count {count}"),
            None => "eventfd".to_owned(),
        },
        "timerfd" => match info.timer_ns {
            Some(0) => "timerfd, not set".to_owned(),
            Some(ns) => format!("timerfd, fires in {}", span(ns / 1_000_000)),
            None => "timerfd".to_owned(),
        },
        "signalfd" => match info.signals {
            Some(set) => format!("signalfd, {}", signal_set(set)),
            None => "signalfd".to_owned(),
        },
        "inotify" => format!("inotify, {}", plural(info.watches, "watch", "watches")),
        "fanotify" => format!("fanotify, {}", plural(info.watches, "mark", "marks")),
        "pidfd" => match info.process {
            Some(pid) if pid > 0 => match proc::comm(pid) {
                Some(name) => format!("pidfd of {name} ({pid})"),
                None => format!("pidfd of {pid}"),
            },
            Some(_) => "pidfd of a process that has ended".to_owned(),
            None => "pidfd".to_owned(),
        },
        "io_uring" => match info.ring {
            Some([queued, done]) => {
                format!("io_uring, {queued} not taken by the kernel, {done} not taken by the program")
            }
            None => "io_uring".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// `1 descriptor`, `3 descriptors`.
pub(crate) fn count(number: u64) -> String {
    plural(number, "descriptor", "descriptors")
}

/// `total` descriptors, of which the first are named.
pub(super) fn list(named: &[String], total: u64) -> String {
    match (named, total) {
        ([one], 1) => one.clone(),
        ([], _) => count(total),
        _ => {
            let more = total.saturating_sub(named.len() as u64);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{}: {}{more}", count(total), named.join(", "))
        }
    }
}

fn plural(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_is_told_by_its_state() {
        let nothing = FdInfo::default();
        assert_eq!(anonymous("[eventfd]", &FdInfo { count: Some(2), ..nothing.clone() }), "eventfd, count 2");
        let timer = |ns| anonymous("[timerfd]", &FdInfo { timer_ns: Some(ns), ..FdInfo::default() });
        assert_eq!((timer(0), timer(61_000_000_000)), ("timerfd, not set".into(), "timerfd, fires in 1m 1s".into()));
        assert_eq!(
            anonymous("[pidfd]", &FdInfo { process: Some(-1), ..nothing.clone() }),
            "pidfd of a process that has ended"
        );
        assert_eq!(anonymous("inotify", &FdInfo { watches: 1, ..nothing.clone() }), "inotify, 1 watch");
        assert_eq!(anonymous("[userfaultfd]", &nothing), "userfaultfd");
    }

    #[test]
    fn the_first_of_many_are_named() {
        let named = ["fd 1".to_owned(), "fd 2".to_owned()];
        assert_eq!(list(&named, 2), "2 descriptors: fd 1, fd 2");
        assert_eq!(list(&named, 9), "9 descriptors: fd 1, fd 2 and 7 more");
        assert_eq!(list(&named[..1], 1), "fd 1");
        assert_eq!(list(&[], 0), "0 descriptors");
    }
}
