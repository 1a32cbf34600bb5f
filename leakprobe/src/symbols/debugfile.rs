//! Debug information that was split from a program and installed apart from it.
//!
//! The search is ours and not blazesym's, which looks only where a debug link names a file, and takes the build id from a path
//! that may belong to another mount namespace than ours. Here the build id decides, which is what identifies a build; where a
//! program has none, the checksum beside its debug link does.
//! <https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>

use std::{
    ffi::OsStr,
    fmt::Write,
    fs::File,
    io::{self, Read, Seek},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::elf::{AltLink, DebugLink};
use crate::target::Budget;

/// Where debug information may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// Whether it lies where packages install it, and not beside the program.
    pub(super) is_installed: bool,
}

/// What proves that a file belongs to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof<'a> {
    BuildId(&'a [u8]),
    Checksum(u32),
}

impl<'a> Proof<'a> {
    /// What can prove it; without, no file found by its name is known to belong to this build.
    pub(super) fn of(build_id: Option<&'a [u8]>, link: Option<&DebugLink>) -> Option<Self> {
        let build_id = build_id.filter(|id| id.len() >= 8).map(Self::BuildId);
        build_id.or_else(|| link?.crc.map(Self::Checksum))
    }
}

/// Where the debug information of `module` may be, best first.
pub(super) fn candidates(
    proof: Proof<'_>,
    link: Option<&DebugLink>,
    module: &Path,
    directories: &[PathBuf],
) -> Vec<Candidate> {
    let installed = |path| Candidate { path, is_installed: true };
    let beside = |path| Candidate { path, is_installed: false };
    let mut found = Vec::new();
    if let Proof::BuildId(id) = proof {
        found.extend(directories.iter().map(|directory| installed(directory.join(".build-id").join(hex_path(id)))));
    }
    let link = link.map(|link| Path::new(OsStr::from_bytes(&link.name)));
    // The link comes from the target: a plain file name, else it could lead anywhere.
    let link = link.filter(|link| {
        let mut parts = link.components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    });
    if let (Some(link), Some(home)) = (link, module.parent().filter(|home| home.is_absolute())) {
        found.push(beside(home.join(".debug").join(link)));
        let below = home.strip_prefix("/").unwrap_or(home);
        found.extend(directories.iter().map(|directory| installed(directory.join(below).join(link))));
        found.push(beside(home.join(link)));
    }
    found
}

/// Where that may be what several debug files share, one of which lies at `beside`.
pub(super) fn shared(link: &AltLink, beside: &Path, directories: &[PathBuf]) -> Vec<Candidate> {
    let by_id = directories.iter().map(|directory| directory.join(".build-id").join(hex_path(&link.build_id)));
    let home = beside.parent().unwrap_or(Path::new("/"));
    let paths = by_id.chain([home.join(&link.path)]);
    paths.map(|path| Candidate { path, is_installed: true }).collect()
}

/// The CRC-32 of a file's content; `None` if it has more bytes than `largest`, or than may be read.
pub(super) fn checksum(file: &File, largest: u64, budget: &Budget) -> io::Result<Option<u32>> {
    let length = file.metadata()?.len();
    if length > largest || budget.read(length).is_err() {
        return Ok(None);
    }
    let mut file = file;
    file.rewind()?;
    let mut sum = crc32fast::Hasher::new();
    let mut rest = file.take(length);
    let mut piece = vec![0; 1 << 20];
    loop {
        match rest.read(&mut piece)? {
            0 => return Ok(Some(sum.finalize())),
            length => sum.update(&piece[..length]),
        }
    }
}

/// `ab/cdef….debug`
fn hex_path(build_id: &[u8]) -> String {
    let mut path = String::with_capacity(build_id.len() * 2 + 8);
    for (index, byte) in build_id.iter().enumerate() {
        if index == 1 {
            path.push('/');
        }
        // Writing into a String cannot fail.
        let _ = write!(path, "{byte:02x}");
    }
    path + ".debug"
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &[u8] = &[0xab, 0xcd, 0xef, 0, 1, 2, 3, 4];

    fn link(name: &str) -> DebugLink {
        DebugLink { name: name.as_bytes().to_vec(), crc: Some(7) }
    }

    #[test]
    fn looks_by_build_id_first_and_then_by_name() {
        let directories = ["/usr/lib/debug".into()];
        let by = |proof| -> Vec<PathBuf> {
            let found = candidates(proof, Some(&link("app.debug")), Path::new("/opt/app"), &directories);
            found.into_iter().map(|candidate| candidate.path).collect()
        };
        let expected = [
            "/usr/lib/debug/.build-id/ab/cdef0001020304.debug",
            "/opt/.debug/app.debug",
            "/usr/lib/debug/opt/app.debug",
            "/opt/app.debug",
        ];
        assert_eq!(by(Proof::BuildId(ID)), expected.map(PathBuf::from));
        assert_eq!(by(Proof::Checksum(7)), expected[1..].iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_link_that_leads_away_is_not_followed() {
        for name in ["/etc/shadow", "../../etc/shadow", "..", "", "a/b"] {
            let found = candidates(Proof::BuildId(&[0; 20]), Some(&link(name)), Path::new("/opt/app"), &[]);
            assert_eq!(found, [], "{name}");
        }
    }

    #[test]
    fn without_build_id_and_checksum_nothing_is_looked_for() {
        assert_eq!(Proof::of(Some(ID), None), Some(Proof::BuildId(ID)));
        assert_eq!(Proof::of(Some(&[1]), Some(&link("x"))), Some(Proof::Checksum(7)));
        assert_eq!(Proof::of(Some(&[1]), None), None);
        assert_eq!(Proof::of(None, Some(&DebugLink { crc: None, ..link("x") })), None);
    }
}
