//! The capabilities (capabilities(7)) that leakprobe keeps, and those that are effective at any moment.
//!
//! A command keeps those that its work can need, and gives up the others for good ([`enter`]). Of these few are effective all the time:
//! those that reading a process takes. Others are raised around the call that needs them ([`raise`]). Files of the caller are opened
//! with the caller's own rights ([`for_files`]), whatever leakprobe's file has been given by `setcap`, and so are files that names of the
//! target's lead to ([`for_names_of_targets`]). The table is in docs/security.md.
//!
//! Capabilities belong to threads, and a new thread has those of the one that starts it. So [`enter`] comes before there are threads, and
//! what is raised or lowered is so for the present thread alone.

use std::{collections::HashSet, fs, marker::PhantomData, sync::OnceLock};

use caps::{
    CapSet,
    Capability::{
        self, CAP_BPF, CAP_CHECKPOINT_RESTORE, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_KILL,
        CAP_PERFMON, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_SYSLOG,
    },
    errors::CapsError,
};
use nix::{sys::prctl::set_no_new_privs, unistd::geteuid};

type Set = HashSet<Capability>;

/// What a command does, as far as privileges depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Reads and writes files of the caller, and looks at no process.
    Files,
    /// Looks at processes, and starts nothing but helpers.
    Watch,
    /// Looks at processes, and starts programs of the caller.
    Start,
    /// Reads a process for the leakprobe that has started it, with the rights that this hands on ([`hand_on`]): whoever may run
    /// leakprobe can start it like that as well.
    Help,
    /// Becomes a program of the caller.
    Become,
    /// Is looked at: a program of our own with something to find in it.
    Show,
}

/// What reading a process takes: its memory and `/proc`; `/proc/PID/fd`, tracefs and files that only their owner may read; the files
/// that are mapped, whatever became of their names; programs in the kernel.
const READ: [Capability; 5] = [CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE, CAP_BPF, CAP_PERFMON];
/// What is raised for single calls: mounting tracefs, entering network namespaces, accounting of programs; addresses in the kernel.
const SINGLE_CALLS: [Capability; 2] = [CAP_SYS_ADMIN, CAP_SYSLOG];
/// What makes root the master of all files: those of whoever called sudo may be closed to others.
const FILES: [Capability; 4] = [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_CHOWN, CAP_FOWNER];
/// How the helper of root becomes another user, and how it is ended.
const HELPER: [Capability; 3] = [CAP_SETUID, CAP_SETGID, CAP_KILL];

/// What does as well where a capability is not to be had: older kernels and container runtimes do not know all of them, and Docker gives
/// root the right to write all files, but not the lesser one to read them.
const fn instead(capability: Capability) -> Option<Capability> {
    match capability {
        CAP_BPF | CAP_PERFMON | CAP_CHECKPOINT_RESTORE => Some(CAP_SYS_ADMIN),
        CAP_DAC_READ_SEARCH => Some(CAP_DAC_OVERRIDE),
        _ => None,
    }
}

/// The rights of whoever called leakprobe: those that any other program would have in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Caller {
    for_files: Set,
    for_programs: Set,
}

/// What is to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    /// Except while something is raised, or done with the caller's rights.
    effective: Set,
    /// What is permitted for good. `None`: what is, since what programs get that are started depends on it.
    kept: Option<Set>,
    caller: Caller,
}

/// Known once [`enter`] was called.
static CALLER: OnceLock<Caller> = OnceLock::new();

/// The sets of a thread, and whose it is.
struct Sets {
    is_root: bool,
    permitted: Set,
    effective: Set,
    inheritable: Set,
    ambient: Set,
}

impl Sets {
    fn read() -> Result<Self, CapsError> {
        Ok(Self {
            is_root: geteuid().is_root(),
            permitted: caps::read(None, CapSet::Permitted)?,
            effective: caps::read(None, CapSet::Effective)?,
            inheritable: caps::read(None, CapSet::Inheritable)?,
            ambient: caps::read(None, CapSet::Ambient).unwrap_or_default(),
        })
    }

    /// What is permitted of these, or does as well.
    fn of(&self, wanted: &[Capability]) -> Set {
        let has = |capability: &Capability| self.permitted.contains(capability);
        let found = |&wanted: &Capability| [Some(wanted), instead(wanted)].into_iter().flatten().find(has);
        wanted.iter().filter_map(found).collect()
    }

    /// Of a user, what the caller gives to every program. What a file was given by `setcap` is not among it.
    fn of_caller(&self) -> &Set {
        if self.is_root { &self.effective } else { &self.ambient }
    }

    /// What is to be in force during some work.
    fn during(&self, work: Work) -> Plan {
        let for_programs = self.of_caller() & &self.permitted;
        let for_files = &for_programs & &Set::from(FILES);
        // Without this right one may only read processes that may do no more than oneself.
        let may_read_all = self.permitted.contains(&CAP_SYS_PTRACE);
        let read = if may_read_all { self.of(&READ) } else { self.permitted.clone() };
        let (effective, kept) = match work {
            Work::Files => (for_files.clone(), Some(for_files.clone())),
            Work::Watch => {
                let mut kept = &(&read | &self.of(&SINGLE_CALLS)) | &for_files;
                if self.is_root {
                    kept.extend(self.of(&HELPER));
                }
                (read, Some(kept))
            }
            Work::Help => {
                let handed = if self.is_root { read } else { &read & &self.inheritable };
                (handed.clone(), Some(handed))
            }
            // What they started may have become another user's.
            Work::Start => (&read | &self.of(&[CAP_KILL]), None),
            Work::Become => (for_programs.clone(), None),
            Work::Show => (Set::new(), Some(Set::new())),
        };
        let possible = kept.as_ref().unwrap_or(&self.permitted);
        // Where the machine's table of open files is full, root opens files nevertheless.
        let for_files =
            if self.is_root { &for_files | &(&for_programs & &Set::from([CAP_SYS_ADMIN])) } else { for_files };
        let caller = Caller { for_files: &for_files & possible, for_programs: &for_programs & possible };
        Plan { effective, kept, caller }
    }
}

/// Gives up what `work` does not take. To be called before there are threads, and before anything is read that belongs to others.
///
/// # Errors
/// If capabilities that do not come from the caller could not be given up.
pub(crate) fn enter(work: Work) -> Result<(), CapsError> {
    let sets = Sets::read()?;
    let Plan { mut effective, kept, caller } = sets.during(work);
    let _ = CALLER.set(caller);
    if sets.is_root && matches!(work, Work::Watch | Work::Start) && is_table_full() {
        effective.extend(sets.permitted.get(&CAP_SYS_ADMIN));
    }
    let set = || -> Result<(), CapsError> {
        let Some(kept) = kept else {
            return caps::set(None, CapSet::Effective, &effective);
        };
        if sets.effective.contains(&CAP_SETPCAP) {
            for other in caps::read(None, CapSet::Bounding)?.difference(&kept) {
                caps::drop(None, CapSet::Bounding, *other)?;
            }
        }
        caps::set(None, CapSet::Inheritable, &(&sets.inheritable & &kept))?;
        caps::set(None, CapSet::Effective, &effective)?;
        caps::set(None, CapSet::Permitted, &kept)?;
        set_no_new_privs().map_err(|error| error.to_string().into())
    };
    // Where a sandbox forbids it, the caller keeps what the caller has anyway.
    set().or_else(|error| if sets.permitted.is_subset(sets.of_caller()) { Ok(()) } else { Err(error) })
}

/// A set of the present thread that is another one until this is dropped.
#[must_use]
pub(crate) struct Changed {
    which: CapSet,
    before: Option<Set>,
    /// Capabilities are those of one thread, so this value may not be sent to another.
    _thread: PhantomData<*const ()>,
}

impl Changed {
    fn to(which: CapSet, change: impl FnOnce(&Set) -> Option<Set>) -> Self {
        let before = caps::read(None, which).ok();
        let before = before.filter(|before| change(before).is_some_and(|set| caps::set(None, which, &set).is_ok()));
        Self { which, before, _thread: PhantomData }
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = caps::set(None, self.which, before);
        }
    }
}

/// Raises capabilities as far as they are permitted.
pub(crate) fn raise(wanted: &[Capability]) -> Changed {
    Changed::to(CapSet::Effective, |before| {
        let permitted = caps::read(None, CapSet::Permitted).ok()?;
        let missing: Set = wanted.iter().copied().filter(|it| permitted.contains(it) && !before.contains(it)).collect();
        (!missing.is_empty()).then(|| before | &missing)
    })
}

/// Lets files be opened where the machine's table of open files (`fs.file-max`) is nearly full, as by the process that is looked at: for
/// that limit the kernel makes an exception of who has `CAP_SYS_ADMIN`.
/// Source: <https://elixir.bootlin.com/linux/v6.12/source/fs/file_table.c> (`alloc_empty_file`).
pub(crate) fn room_for_files() -> Changed {
    raise(if is_table_full() { &[CAP_SYS_ADMIN] } else { &[] })
}

fn is_table_full() -> bool {
    fs::read_to_string("/proc/sys/fs/file-nr").map_or(true, |text| is_nearly_full(&text))
}

/// Whether nine tenths are in use, by the three numbers of that file: in use, free, and how many there may be.
fn is_nearly_full(text: &str) -> bool {
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    matches!(numbers[..], [used, free, most] if used.saturating_sub(free) >= most / 10 * 9)
}

/// Rights for files that the caller names: the caller's own.
pub(crate) fn for_files() -> Changed {
    Changed::to(CapSet::Effective, |_| CALLER.get().map(|caller| caller.for_files.clone()))
}

/// Rights for files to which names lead that the process that is looked at may have made: its perf map, debug files. Whoever it belongs to
/// can have any file there, by a mount that only it sees. So what may be read of files is what the caller may read; what else is in force
/// stays so.
pub(crate) fn for_names_of_targets() -> Changed {
    Changed::to(CapSet::Effective, |before| {
        CALLER.get().map(|caller| &(before - &Set::from(FILES)) | &caller.for_files)
    })
}

/// Rights for finding and starting programs: the caller's own.
pub(crate) fn for_programs() -> Changed {
    Changed::to(CapSet::Effective, |_| CALLER.get().map(|caller| caller.for_programs.clone()))
}

/// Lets a helper that is started meanwhile read processes as we may. It knows its rights by its inheritable set: what is in there is kept
/// when a program begins, and only who has a capability can put it there.
/// Source: <https://man7.org/linux/man-pages/man7/capabilities.7.html>.
pub(crate) fn hand_on() -> Changed {
    Changed::to(CapSet::Inheritable, |before| Some(before | &Sets::read().ok()?.of(&READ)))
}

/// Whether we have a capability, or may raise it; or one that does as well.
pub(crate) fn may(capability: Capability) -> bool {
    let permitted = caps::read(None, CapSet::Permitted).unwrap_or_default();
    [Some(capability), instead(capability)].into_iter().flatten().any(|it| permitted.contains(&it))
}

/// What to do where a process of another user cannot be read: the capabilities that we lack for that. Empty if we have them.
pub(crate) fn advice_to_read_others() -> String {
    advice(&[CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH])
}

/// The names of the capabilities that reading other users' processes takes and that we lack.
pub(crate) fn lacking_to_read_others() -> Vec<String> {
    lacking(&[CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH])
}

fn lacking(wanted: &[Capability]) -> Vec<String> {
    wanted.iter().filter(|it| !may(**it)).map(ToString::to_string).collect()
}

/// What to do where something takes capabilities: those of them that we lack. Empty if we have them all.
pub(crate) fn advice(wanted: &[Capability]) -> String {
    match lacking(wanted).as_slice() {
        [] => String::new(),
        lacking => format!("; run with sudo, or grant {}", lacking.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use caps::Capability::{CAP_NET_ADMIN, CAP_NET_RAW};

    use super::*;

    fn root(permitted: &[Capability]) -> Sets {
        let all: Set = permitted.iter().copied().collect();
        Sets { is_root: true, permitted: all.clone(), effective: all, inheritable: Set::new(), ambient: Set::new() }
    }

    fn set(of: &[Capability]) -> Set {
        of.iter().copied().collect()
    }

    #[test]
    fn root_keeps_little_and_less_of_it_is_effective() {
        let all = Sets { is_root: true, permitted: caps::all(), effective: caps::all(), ..root(&[]) };
        let watch = all.during(Work::Watch);
        assert_eq!(watch.effective, set(&READ));
        let kept = watch.kept.unwrap();
        assert_eq!(kept, set(&[&READ[..], &SINGLE_CALLS, &FILES, &HELPER].concat()));
        let for_files = &set(&FILES) | &set(&[CAP_SYS_ADMIN]);
        assert_eq!(watch.caller, Caller { for_files: for_files.clone(), for_programs: kept });
        let files = all.during(Work::Files);
        assert_eq!((files.kept, files.caller.for_files), (Some(set(&FILES)), set(&FILES)));
        let start = all.during(Work::Start);
        assert_eq!(start.kept, None, "programs get what depends on it");
        assert_eq!(start.effective, &set(&READ) | &set(&[CAP_KILL]));
        assert_eq!(start.caller, Caller { for_files, for_programs: caps::all() });
        assert_eq!(all.during(Work::Become).effective, caps::all());
        assert_eq!(all.during(Work::Show).kept, Some(Set::new()));
    }

    #[test]
    fn a_full_table_of_files_is_noticed() {
        let full = ["900\t0\t1000", "1000 50 1000", "99999999 0 20"].map(is_nearly_full);
        assert_eq!(full, [true; 3]);
        let other =
            ["2400\t0\t9223372036854775807\n", "899 0 1000", "1000 200 1000", "", "1 2", "x 0 1"].map(is_nearly_full);
        assert_eq!(other, [false; 6]);
    }

    #[test]
    fn in_containers_others_do_as_well() {
        let watch = root(&[CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_DAC_OVERRIDE, CAP_NET_RAW]).during(Work::Watch);
        assert_eq!(watch.effective, set(&[CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_DAC_OVERRIDE]));
        assert_eq!(watch.kept.unwrap(), watch.effective);
        // Who may not read all processes may read those that may do no more: each right counts.
        let few = [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_NET_RAW];
        let watch = root(&few).during(Work::Watch);
        assert_eq!((watch.effective, watch.kept), (set(&few), Some(set(&few))));
    }

    #[test]
    fn what_a_file_was_granted_is_for_processes_and_what_the_caller_has_is_for_files() {
        let permitted = &set(&READ) | &set(&[CAP_DAC_OVERRIDE]);
        let user = |ambient: &[Capability]| Sets {
            is_root: false,
            permitted: &permitted | &set(ambient),
            effective: &permitted | &set(ambient),
            inheritable: set(ambient),
            ambient: set(ambient),
        };
        let none = Caller { for_files: Set::new(), for_programs: Set::new() };
        for work in [Work::Files, Work::Watch, Work::Start, Work::Help, Work::Become, Work::Show] {
            let plan = user(&[]).during(work);
            assert_eq!(plan.caller, none, "{work:?}");
            let is_at_work = matches!(work, Work::Watch | Work::Start);
            assert_eq!(plan.effective, if is_at_work { set(&READ) } else { Set::new() }, "{work:?}");
        }
        assert_eq!(user(&[]).during(Work::Files).kept, Some(Set::new()));
        assert_eq!(user(&[]).during(Work::Watch).kept, Some(set(&READ)));
        let handed = Sets { inheritable: set(&[CAP_SYS_PTRACE, CAP_NET_RAW]), ..user(&[]) };
        assert_eq!(handed.during(Work::Help).kept, Some(set(&[CAP_SYS_PTRACE])));
        let own = [CAP_DAC_READ_SEARCH, CAP_NET_ADMIN];
        let caller = user(&own).during(Work::Start).caller;
        assert_eq!(caller, Caller { for_files: set(&own[..1]), for_programs: set(&own) });
        assert_eq!(user(&own).during(Work::Become).effective, set(&own));
    }
}
