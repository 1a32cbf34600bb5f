//! A program that is stopped, and the words in it that leakprobe reads.

use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    io,
    os::unix::{fs::FileExt, process::CommandExt},
    process::Command,
};

use crate::{
    numbers::Numbers,
    outcome::snapshot,
    support::{Program, settle, switches, tids, wait_for},
};

/// Where what leakprobe reads is in its log.
const LOG: (&str, &str) = ("LEAKPROBE_LOG", "leakprobe::target::answers=trace");
/// Longer pieces are whole tables that are searched, and single words of them mean little.
const SMALL: usize = 4096;

/// A program that was started, has come to rest, and was stopped.
pub(crate) struct Stopped {
    program: Program,
    memory: File,
}

/// A piece of memory: where it begins, and how many bytes it has.
type Piece = (u64, usize);

/// Words that were replaced: where, by what, and what was there before.
pub(crate) struct Changed(Vec<[u64; 3]>);

impl Stopped {
    /// Starts a program at the same addresses as ever.
    pub(crate) fn start(command: &mut Command) -> Self {
        let fixed = || {
            // SAFETY: an integer alone.
            let old = unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) };
            if old < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: the closure makes one system call and allocates nothing.
        let mut program = Program::start(unsafe { command.pre_exec(fixed) });
        program.expect("ready");
        settle(program.pid());
        program.kill(libc::SIGSTOP);
        let pid = program.pid();
        let is_stopped = |tid: u64| switches(pid, tid).is_none_or(|(_, state)| state == 'T');
        wait_for("all threads to be stopped", || tids(pid).into_iter().all(is_stopped).then_some(()));
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
        Self { program, memory }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// What leakprobe reads of it.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let folder = tempfile::tempdir().unwrap();
        let output = snapshot(self.pid()).current_dir(folder.path()).env(LOG.0, LOG.1).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        let listed =
            log.lines().filter_map(|line| line.split_once("reads ")).flat_map(|(_, list)| list.split_whitespace());
        let pieces: BTreeSet<Piece> = listed.filter_map(piece).filter(|&(at, _)| self.word(at).is_some()).collect();
        assert!(pieces.len() > 20, "{}: {log}", output.status);
        pieces.into_iter().collect()
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        // A file has no offset beyond.
        let is_address = i64::try_from(address).is_ok();
        (is_address && self.memory.read_exact_at(&mut bytes, address).is_ok()).then(|| u64::from_le_bytes(bytes))
    }

    /// Replaces words of these pieces.
    pub(crate) fn change(&self, pieces: &[Piece], words: usize, numbers: &mut Numbers) -> Changed {
        let small: Vec<Piece> = pieces.iter().copied().filter(|&(_, len)| len <= SMALL).collect();
        let pointers: Vec<u64> = pieces.iter().map(|&(address, _)| address).collect();
        let mut changed = Changed(Vec::new());
        for _ in 0..words {
            let among = if numbers.below(4) > 0 { &small } else { pieces };
            let &(start, len) = numbers.one_of(among);
            let address = start + 8 * numbers.below(len / 8) as u64;
            let Some(before) = self.word(address) else { continue };
            let now = numbers.instead_of(before, address, &pointers);
            // Private mappings can be written whatever their protection.
            if self.memory.write_all_at(&now.to_le_bytes(), address).is_ok() {
                changed.0.push([address, now, before]);
            }
        }
        changed
    }

    /// Puts back what was there.
    pub(crate) fn restore(&self, changed: Changed) {
        for [address, _, before] in changed.0.into_iter().rev() {
            self.memory.write_all_at(&before.to_le_bytes(), address).unwrap();
        }
    }
}

impl Changed {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.0.iter();
        words.try_for_each(|[address, now, before]| write!(f, "[{address:#x}] = {now:#x} (was {before:#x}) "))
    }
}

/// `ADDRESS+LENGTH`.
fn piece(text: &str) -> Option<Piece> {
    let (address, len) = text.strip_prefix("0x")?.split_once('+')?;
    Some((u64::from_str_radix(address, 16).ok()?, len.parse().ok()?))
}
