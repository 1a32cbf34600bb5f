//! Code that is made at run time: who makes it, what names it, and why it has no name.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::perfmap::{LARGEST, PerfMap};
use crate::{
    model::{Frame, Gap},
    privilege,
    target::{Budget, Modules, Root, budget::Scarce},
};

/// The module of code that a perf map names.
const JIT: &str = "[jit]";
/// The module of code that belongs to no file and that nothing names.
const ANONYMOUS: &str = "[anon]";
/// One part in so many of a CPU may be spent on reading the perf map.
const SHARE: u32 = 20;

/// Who makes code, and how it is made to tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runtime {
    Node,
    Java,
    DotNet,
    Unknown,
}

impl Runtime {
    /// By the files that are mapped.
    fn of(modules: &Modules) -> Self {
        let mut files = modules.mapped_files().map(|file| file.path.strip_suffix(" (deleted)").unwrap_or(file.path));
        let known = files.find_map(|path| match path.rsplit('/').next().unwrap_or_default() {
            "libjvm.so" => Some(Self::Java),
            "libcoreclr.so" => Some(Self::DotNet),
            "node" | "nodejs" => Some(Self::Node),
            name if name.starts_with("libnode.so") => Some(Self::Node),
            _ => None,
        });
        known.unwrap_or(Self::Unknown)
    }

    /// What to do so that there is a perf map.
    fn advice(self, pid: u32) -> String {
        match self {
            Self::Node => "; start node with --perf-basic-prof".to_owned(),
            Self::Java => format!("; run `jcmd {pid} Compiler.perfmap` (Java 17)"),
            Self::DotNet => "; start it with DOTNET_PerfMapEnabled=1".to_owned(),
            Self::Unknown => String::new(),
        }
    }
}

/// The JIT code of a process.
pub(super) struct Jit {
    pid: u32,
    root: Option<Root>,
    /// In the process's own pid namespace, since that is where it takes the name from.
    file: PathBuf,
    users: Vec<u32>,
    groups: Vec<u32>,
    runtime: Option<Runtime>,
    is_used: bool,
    map: PerfMap,
    /// Length and time of change of the file that was read last.
    read: Option<(u64, i64, i64)>,
    /// When it was read last, and how long that took.
    took: Option<(Instant, Duration)>,
    /// Why the file that is there is not used.
    ignored: Option<String>,
    budget: Budget,
}

/// What the perf map says.
#[derive(Default)]
pub(super) struct Names {
    by_address: HashMap<u64, Arc<str>>,
    /// Why what is not among them has no name.
    why: String,
    /// Whether an address that had a name has another one now.
    pub(super) is_renamed: bool,
}

impl Jit {
    /// That of the process `pid`, whose root is given; what is asked of /proc is asked now.
    pub(super) fn of(pid: u32, root: Option<Root>, budget: Budget) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = |field: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        let inside = numbers("NSpid:").last().copied().unwrap_or(pid);
        Self {
            pid,
            root,
            file: PathBuf::from(format!("/tmp/perf-{inside}.map")),
            users: numbers("Uid:"),
            groups: numbers("Gid:"),
            runtime: None,
            is_used: false,
            map: PerfMap::within(budget.kept()),
            read: None,
            took: None,
            ignored: None,
            budget,
        }
    }

    /// Names of addresses in memory.
    ///
    /// `at_last`: this is the last time that is asked, so that the file is read even if it was read just now.
    pub(super) fn names(&mut self, addresses: &[u64], modules: &Modules, at_last: bool) -> Names {
        let file = self.file.display().to_string();
        self.ignored = None;
        self.is_used |= !addresses.is_empty();
        let runtime = *self.runtime.get_or_insert_with(|| Runtime::of(modules));
        let (opened, metadata) = match self.open() {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = if runtime == Runtime::Unknown { "anonymous memory, such as JIT code" } else { "JIT code" };
                return Names { why: format!("{what}, and no {file}{}", runtime.advice(self.pid)), ..Names::default() };
            }
            Err(error) => {
                self.ignored = Some(format!("{file} is ignored: {error}"));
                return Names { why: format!("JIT code, and {file} is ignored: {error}"), ..Names::default() };
            }
        };
        if !at_last && self.took.is_some_and(|(when, took)| when.elapsed() < took * SHARE) {
            return Names { why: format!("JIT code, and {file} was not read again yet"), ..Names::default() };
        }
        // At most all of its last part is read.
        let budget = &self.budget;
        let unread =
            budget.read(metadata.len().min(LARGEST)).err().or(budget.time_left().is_zero().then_some(Scarce::Time));
        if let Some(scarce) = unread {
            budget.leave_out(&file, scarce);
            return Names { why: format!("JIT code; {} is used up", budget.what(scarce)), ..Names::default() };
        }
        let began = Instant::now();
        let looked_up = budget.timed(|| self.map.look_up(opened, addresses));
        self.took = Some((Instant::now(), began.elapsed()));
        if self.map.is_full {
            budget.leave_out(&file, Scarce::Kept);
        }
        self.read = Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        let why = match &looked_up {
            Err(error) => format!("JIT code, and {file} could not be read: {error}"),
            Ok(_) if self.map.is_cut => {
                format!("JIT code that the last {} MiB of {file} do not name; the rest was not read", LARGEST >> 20)
            }
            Ok(_) => format!("JIT code that {file} does not name"),
        };
        let (by_address, is_renamed) = looked_up.unwrap_or_default();
        Names { by_address, why, is_renamed }
    }

    /// Whether it was ever asked for a name.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Whether the file has been written since it was read.
    pub(super) fn is_news(&self) -> bool {
        let stamp = self.open().ok().map(|(_, metadata)| (metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
        stamp != self.read
    }

    /// Why a file that is there is not used.
    pub(super) fn ignored(&self) -> Option<&str> {
        self.ignored.as_deref()
    }

    /// What may be missing from stacks through such code, if anything.
    pub(super) fn gap(&self) -> Option<Gap> {
        // Measured with .NET Core 3.1: `Monitor.Wait` in System.Private.CoreLib.dll, which was compiled ahead, keeps none.
        (self.runtime == Some(Runtime::DotNet)).then_some(Gap::DotNetFrames)
    }

    /// Opens the file, if it is the process's own. In /tmp, where everybody may write, others may have put it there.
    fn open(&self) -> io::Result<(File, Metadata)> {
        let root = self.root.as_ref().ok_or_else(|| io::Error::other("the process's root cannot be reached"))?;
        let _rights = privilege::for_names_of_targets();
        let (file, metadata) = root.open_no_link(&self.file)?;
        self.check(metadata.uid(), metadata.gid(), metadata.permissions().mode()).map_err(io::Error::other)?;
        Ok((file, metadata))
    }

    fn check(&self, owner: u32, group: u32, mode: u32) -> Result<(), String> {
        if owner != 0 && !self.users.contains(&owner) {
            return Err(format!("it belongs to user {owner}, who is neither the process's nor root"));
        }
        if mode & 0o002 != 0 {
            return Err("everybody may write to it".to_owned());
        }
        if mode & 0o020 != 0 && group != 0 && !self.groups.contains(&group) {
            return Err(format!("group {group} may write to it"));
        }
        Ok(())
    }
}

impl Names {
    /// The frame of an address; `probe` is the one that its name was asked for.
    pub(super) fn frame(&self, probe: u64, address: u64) -> Frame {
        match self.by_address.get(&probe) {
            Some(name) => Frame {
                function: super::name::bounded(name),
                module: JIT.to_owned(),
                address: format!("{address:#x}"),
                ..Frame::default()
            },
            None if self.why.is_empty() => super::unknown(ANONYMOUS, address, "anonymous memory"),
            None => super::unknown(ANONYMOUS, address, &self.why),
        }
    }

    /// Whether an address has a name.
    pub(super) fn has(&self, address: u64) -> bool {
        self.by_address.contains_key(&address)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn jit(directory: &std::path::Path) -> Jit {
        let mut jit = Jit::of(std::process::id(), Some(Root::at(directory).unwrap()), Budget::default());
        jit.file = "/tmp/perf-1.map".into();
        jit
    }

    fn none() -> Modules {
        Modules::from_parts(Vec::new(), &[])
    }

    #[test]
    fn a_map_is_used_only_if_it_is_the_processes_own() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("tmp/perf-1.map");
        let mut jit = jit(root.path());
        let why = |jit: &mut Jit| jit.names(&[0x110], &none(), true).frame(0x110, 0x110).unknown.unwrap();
        assert_eq!(why(&mut jit), "anonymous memory, such as JIT code, and no /tmp/perf-1.map");
        fs::create_dir(root.path().join("tmp")).unwrap();
        fs::write(&file, "100 20 f;g\n").unwrap();
        let frame = jit.names(&[0x110], &none(), true).frame(0x110, 0x110);
        assert_eq!((frame.label().as_str(), frame.module.as_str()), ("f;g", "[jit]"));
        let frame = jit.names(&[0x120], &none(), true).frame(0x120, 0x120);
        assert_eq!(frame.label(), "[anon+0x120]");
        assert_eq!(frame.unknown.unwrap(), "JIT code that /tmp/perf-1.map does not name");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(why(&mut jit), "JIT code, and /tmp/perf-1.map is ignored: everybody may write to it");
        assert!(jit.ignored().is_some());
        fs::rename(&file, root.path().join("other")).unwrap();
        symlink("../other", &file).unwrap();
        assert_eq!(why(&mut jit), "JIT code, and /tmp/perf-1.map is ignored: it is a symbolic link");
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(why(&mut jit), "JIT code, and /tmp/perf-1.map is ignored: it is not a regular file");
    }

    #[test]
    fn owner_and_group_must_be_those_of_the_process() {
        let root = tempfile::tempdir().unwrap();
        let jit = Jit { users: vec![1000], groups: vec![100], ..jit(root.path()) };
        assert_eq!(jit.check(1000, 100, 0o644), Ok(()));
        assert_eq!(jit.check(0, 0, 0o600), Ok(()));
        assert_eq!(jit.check(1000, 100, 0o664), Ok(()), "a group of one's own");
        assert!(jit.check(1000, 101, 0o664).unwrap_err().contains("group 101"));
        assert!(jit.check(1001, 100, 0o644).unwrap_err().contains("user 1001"));
        if nix::unistd::geteuid().is_root() {
            fs::create_dir(root.path().join("tmp")).unwrap();
            let file = root.path().join("tmp/perf-1.map");
            fs::write(&file, "100 20 f\n").unwrap();
            chown(&file, Some(1001), None).unwrap();
            assert!(jit.open().is_err());
            chown(&file, Some(1000), None).unwrap();
            assert!(jit.open().is_ok());
        }
    }
}
