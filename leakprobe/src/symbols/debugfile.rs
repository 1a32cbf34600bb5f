//! Debug information that was split from a program and installed apart from it.
//!
//! The search is ours and not blazesym's, which looks only where a debug link names a file, takes the build id from a path
//! that may belong to another mount namespace than ours, and reads the whole debug file for a checksum. Here the build id
//! decides, which is what identifies a build: <https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>.

use std::{
    ffi::OsStr,
    fmt::Write,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

/// Where the debug information of `module` may be, best first.
///
/// Whether a file is there, and belongs to the module, is for the caller to see: its build id must be the module's.
pub(super) fn candidates(
    build_id: Option<&[u8]>,
    debug_link: Option<&[u8]>,
    module: &Path,
    directories: &[PathBuf],
) -> Vec<PathBuf> {
    let Some(build_id) = build_id.filter(|id| id.len() >= 8) else {
        // Without a build id nothing proves that a file found by its name belongs to this build.
        return Vec::new();
    };
    let mut found: Vec<PathBuf> =
        directories.iter().map(|directory| directory.join(".build-id").join(hex_path(build_id))).collect();
    let link = debug_link.map(|name| Path::new(OsStr::from_bytes(name)));
    // The link comes from the target: a plain file name, else it could lead anywhere.
    let link = link.filter(|link| {
        let mut parts = link.components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    });
    if let (Some(link), Some(home)) = (link, module.parent().filter(|home| home.is_absolute())) {
        found.push(home.join(".debug").join(link));
        let below = home.strip_prefix("/").unwrap_or(home);
        found.extend(directories.iter().map(|directory| directory.join(below).join(link)));
        found.push(home.join(link));
    }
    found
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

    #[test]
    fn looks_by_build_id_first_and_then_by_name() {
        let id = [0xab, 0xcd, 0xef, 0, 1, 2, 3, 4];
        let directories = ["/usr/lib/debug".into()];
        let found = candidates(Some(&id), Some(b"app.debug"), Path::new("/opt/app"), &directories);
        let expected = [
            "/usr/lib/debug/.build-id/ab/cdef0001020304.debug",
            "/opt/.debug/app.debug",
            "/usr/lib/debug/opt/app.debug",
            "/opt/app.debug",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn a_link_that_leads_away_is_not_followed() {
        for link in ["/etc/shadow", "../../etc/shadow", "..", "", "a/b"] {
            let found = candidates(Some(&[0; 20]), Some(link.as_bytes()), Path::new("/opt/app"), &[]);
            assert_eq!(found, Vec::<PathBuf>::new(), "{link}");
        }
        assert!(candidates(Some(&[1]), Some(b"x"), Path::new("/opt/app"), &["/d".into()]).is_empty());
    }
}
