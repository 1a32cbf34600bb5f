//! What a thread waits for, by the function of the kernel that it waits in: all that there is where its system call may not be
//! read. Functions that are not in the table are told by their own name.

use super::waits::Waiting;
use crate::model::WaitKind;

/// Parts of names, the first that fits counts. They are those of Linux 5.10 to 6.18.
const CHANNELS: &[(&str, WaitKind, &str)] = &[
    ("futex", WaitKind::Futex, "futex"),
    ("nanosleep", WaitKind::Sleep, "nanosleep"),
    ("ep_poll", WaitKind::Poll, "epoll"),
    ("do_epoll_wait", WaitKind::Poll, "epoll"),
    ("poll_schedule", WaitKind::Poll, "poll or select"),
    ("do_sys_poll", WaitKind::Poll, "poll"),
    ("do_select", WaitKind::Poll, "select"),
    ("pipe_read", WaitKind::Pipe, "pipe read"),
    ("pipe_write", WaitKind::Pipe, "pipe write"),
    ("wait_for_partner", WaitKind::Pipe, "open of a FIFO"),
    ("unix_stream", WaitKind::Socket, "unix socket"),
    ("unix_", WaitKind::Socket, "unix socket"),
    ("skb", WaitKind::Socket, "socket"),
    ("sk_wait", WaitKind::Socket, "socket"),
    ("sk_stream", WaitKind::Socket, "socket"),
    ("inet_", WaitKind::Socket, "socket"),
    ("tcp_", WaitKind::Socket, "tcp socket"),
    ("do_wait", WaitKind::Child, "wait for a child"),
    ("sigsuspend", WaitKind::Signal, "sigsuspend"),
    ("sigtimedwait", WaitKind::Signal, "sigtimedwait"),
    ("sys_pause", WaitKind::Signal, "pause"),
    ("do_signal_stop", WaitKind::Stopped, "stopped by a signal"),
    ("ptrace_stop", WaitKind::Stopped, "stopped by a debugger"),
    ("io_schedule", WaitKind::Disk, "disk"),
    ("folio_wait", WaitKind::Disk, "disk"),
    ("eventfd", WaitKind::Event, "eventfd"),
    ("timerfd", WaitKind::Event, "timerfd"),
    ("io_cqring", WaitKind::IoUring, "io_uring"),
];

/// What is waited for in the function `channel`; empty if the kernel does not say.
pub(crate) fn waiting(channel: &str) -> Waiting {
    let found = CHANNELS.iter().find(|(part, _, _)| channel.contains(part));
    let (kind, reason) = match found {
        Some(&(_, kind, reason)) => (kind, reason.to_owned()),
        None if channel.is_empty() => (WaitKind::Other, "not known".to_owned()),
        None => (WaitKind::Other, format!("in the kernel's {channel}")),
    };
    Waiting { kind, reason, ..Waiting::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_kernel_tell_kinds() {
        for (channel, kind) in [
            ("futex_wait_queue", WaitKind::Futex),
            ("futex_wait_queue_me", WaitKind::Futex),
            ("hrtimer_nanosleep", WaitKind::Sleep),
            ("do_epoll_wait", WaitKind::Poll),
            ("poll_schedule_timeout.constprop.0", WaitKind::Poll),
            ("pipe_read", WaitKind::Pipe),
            ("unix_stream_read_generic", WaitKind::Socket),
            ("inet_csk_accept", WaitKind::Socket),
            ("do_wait", WaitKind::Child),
        ] {
            assert_eq!(waiting(channel).kind, kind, "{channel}");
        }
        assert_eq!(waiting("jbd2_log_wait_commit").reason, "in the kernel's jbd2_log_wait_commit");
        assert_eq!(waiting("").reason, "not known");
    }
}
