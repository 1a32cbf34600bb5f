//! Where in the kernel a thread sleeps: what the system call alone does not tell.

use super::{Context, Waiting};
use crate::{model::WaitKind, snapshot::proc};

/// `TASK_UNINTERRUPTIBLE` and `TASK_NOLOAD`: who has both only idles.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/include/linux/sched.h#L97>
const UNINTERRUPTIBLE: u32 = 2;
const NO_LOAD: u32 = 0x400;

impl Context<'_> {
    /// Sets right what `waiting` says by the thread's state, and the function of the kernel that it sleeps in. That is asked for
    /// where the call leaves room for doubt only: it takes as long as opening a file, and the right to trace the thread.
    pub(super) fn look_into_kernel(&self, tid: u32, state: u32, waiting: &mut Waiting) {
        let is_uninterruptible = state & UNINTERRUPTIBLE != 0 && state & NO_LOAD == 0;
        if is_uninterruptible && matches!(waiting.kind, WaitKind::File | WaitKind::Other | WaitKind::Event) {
            waiting.kind = WaitKind::Disk;
        }
        if !matches!(waiting.kind, WaitKind::Disk | WaitKind::PageFault | WaitKind::File | WaitKind::Other) {
            return;
        }
        let Some(place) = function(self.task, tid) else { return };
        set_right(&place, waiting);
    }
}

/// The function in which a thread sleeps, without what the compiler added to its name; `None` if the kernel does not tell.
fn function(process: u32, tid: u32) -> Option<String> {
    let (name, _) = proc::text(format!("/proc/{process}/task/{tid}/wchan"), 256)?;
    let name = name.split('.').next().unwrap_or_default().trim();
    // It is 0 for those who run, and for those who may not know.
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && *name != "0";
    Some(name).filter(is_name).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Takes `place` into account.
fn set_right(place: &str, waiting: &mut Waiting) {
    match place {
        // <https://elixir.bootlin.com/linux/v6.12/source/fs/userfaultfd.c#L355>
        "handle_userfault" => {
            if waiting.kind != WaitKind::PageFault {
                waiting.reason += ", page fault";
            }
            waiting.kind = WaitKind::PageFault;
            waiting.reason += " (userfaultfd)";
        }
        // Opening a FIFO, until somebody opens the other end: <https://elixir.bootlin.com/linux/v6.12/source/fs/pipe.c#L1033>
        "wait_for_partner" | "fifo_open" => waiting.kind = WaitKind::Pipe,
        // Another process decides about the call: <https://elixir.bootlin.com/linux/v6.12/source/kernel/seccomp.c#L1104>
        "seccomp_do_user_notification" | "__seccomp_filter" => {
            waiting.kind = WaitKind::Other;
            waiting.reason += " (held by a seccomp supervisor)";
        }
        // <https://elixir.bootlin.com/linux/v6.12/source/kernel/signal.c#L2606>
        "do_freezer_trap" | "__refrigerator" => {
            waiting.kind = WaitKind::Stopped;
            "frozen".clone_into(&mut waiting.reason);
        }
        _ if matches!(waiting.kind, WaitKind::Disk | WaitKind::PageFault) => {
            waiting.reason += " in ";
            waiting.reason += place;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(place: &str, kind: WaitKind) -> (WaitKind, String) {
        let mut waiting = Waiting { kind, reason: "read".to_owned(), ..Waiting::default() };
        set_right(place, &mut waiting);
        (waiting.kind, waiting.reason)
    }

    #[test]
    fn the_kernel_function_tells_what_the_call_does_not() {
        let owned = |kind, reason: &str| (kind, reason.to_owned());
        let io = told("folio_wait_bit_common", WaitKind::Disk);
        assert_eq!(io, owned(WaitKind::Disk, "read in folio_wait_bit_common"));
        assert_eq!(told("handle_userfault", WaitKind::File).0, WaitKind::PageFault);
        assert_eq!(told("wait_for_partner", WaitKind::File), owned(WaitKind::Pipe, "read"));
        assert_eq!(told("seccomp_do_user_notification", WaitKind::File).0, WaitKind::Other);
        assert_eq!(told("do_freezer_trap", WaitKind::Other), owned(WaitKind::Stopped, "frozen"));
        assert_eq!(told("n_tty_read", WaitKind::File), owned(WaitKind::File, "read"));
    }

    #[test]
    fn a_thread_that_runs_sleeps_nowhere() {
        let pid = std::process::id();
        let tid = nix::unistd::gettid().as_raw() as u32;
        assert_eq!(function(pid, tid), None);
        assert_eq!(function(pid, u32::MAX), None);
    }
}
