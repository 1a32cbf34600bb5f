//! Process groups of what we start for a check: none of them outlives us.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    process,
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill, killpg},
    },
    unistd::{Pid, getppid},
};

use crate::target::pidfd_open;

/// Signals all of a process group by a pidfd of its leader; Linux 6.9.
/// Source: <https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html>.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// All that have not been ended, by their leaders' ids. A pidfd outlives its process, and never comes to mean another one.
static GROUPS: Mutex<BTreeMap<u32, OwnedFd>> = Mutex::new(BTreeMap::new());

/// A process and what it has started. Whatever is left of them is ended when this is dropped.
pub(super) struct Group(u32);

impl Group {
    /// That of a child, which leads it and has not been waited for.
    pub(super) fn of(leader: u32) -> io::Result<Self> {
        let held = pidfd_open(i32::try_from(leader).map_err(io::Error::other)?)?;
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).insert(leader, held);
        Ok(Self(leader))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = groups.remove(&self.0) {
            end(self.0, held.as_fd());
        }
    }
}

/// Ends all of them at once.
pub(super) fn end_all() {
    let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
    for (leader, held) in std::mem::take(&mut *groups) {
        end(leader, held.as_fd());
    }
}

/// Ends what is left of a group, and nothing else: its id may have come to be another's.
fn end(leader: u32, held: BorrowedFd<'_>) {
    if send(held, PIDFD_SIGNAL_PROCESS_GROUP) != Err(Errno::EINVAL) {
        return;
    }
    // Kernels that cannot do that.
    end_by_id(leader, held);
}

/// An id is used again only when neither a process nor a group has it any more. So it is that of our group as long as the leader has
/// not been waited for, or if no process has it.
fn end_by_id(leader: u32, held: BorrowedFd<'_>) {
    let Ok(leader) = i32::try_from(leader).map(Pid::from_raw) else { return };
    let is_ours = send(held, 0).is_ok() || kill(leader, None) == Err(Errno::ESRCH);
    if is_ours {
        let _ = killpg(leader, Signal::SIGKILL);
    }
}

/// SIGKILL by a pidfd; nothing but the question whether it could be sent if `flags` are 0.
fn send(held: BorrowedFd<'_>, flags: libc::c_uint) -> Result<(), Errno> {
    let signal = if flags == 0 { 0 } else { libc::SIGKILL };
    let no_details = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: integers, and no details.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, held.as_raw_fd(), signal, no_details, flags) };
    Errno::result(result).map(drop)
}

/// Has this process killed when its parent ends, however that ends. To be called before the parent lets it do anything.
/// `set-user-ID` programs lose that when they begin, as do those that change their user.
/// Source: <https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html>.
///
/// # Errors
/// If the parent has ended already.
pub(super) fn end_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

/// Has a command's process killed when ours ends: as [`end_with`].
pub(super) fn ends_with_us(command: &mut process::Command) {
    use std::os::unix::process::CommandExt as _;
    let own = process::id();
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(move || end_with(own)) };
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;

    fn runs(pid: u32) -> bool {
        crate::target::Stat::of(pid).is_some_and(|stat| !stat.is_over())
    }

    fn started() -> (process::Child, Group) {
        let child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let group = Group::of(child.id()).unwrap();
        (child, group)
    }

    fn what_is_left_is_ended(end: fn(u32, BorrowedFd<'_>)) {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!"]).process_group(0).stdout(process::Stdio::piped());
        let mut leader = command.spawn().unwrap();
        let held = pidfd_open(leader.id().try_into().unwrap()).unwrap();
        let mut text = String::new();
        let mut output = io::BufReader::new(leader.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut text).unwrap();
        leader.wait().unwrap();
        let left: u32 = text.trim().parse().unwrap();
        assert!(runs(left));
        end(leader.id(), held.as_fd());
        while runs(left) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    #[test]
    fn what_a_leader_has_left_behind_is_ended() {
        what_is_left_is_ended(end);
        what_is_left_is_ended(end_by_id);
    }

    #[test]
    fn another_process_that_has_the_id_of_a_leader_is_left_alone() {
        let (mut first, group) = started();
        first.kill().unwrap();
        first.wait().unwrap();
        let (mut second, other) = started();
        // As if the second one had been given the first one's id.
        let held = GROUPS.lock().unwrap().remove(&first.id()).unwrap();
        end(second.id(), held.as_fd());
        end_by_id(second.id(), held.as_fd());
        assert!(runs(second.id()));
        drop((group, other));
        assert!(!second.wait().unwrap().success());
    }
}
