//! Commands that are kept from something.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Program, Variant, program_path, settle};

/// Nobody's user id.
pub const NOBODY: u32 = 65_534;

/// A folder that everybody may read, for copies of programs: the originals may lie where only root can go.
pub fn open_folder() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap()
}

/// A copy that everybody may run.
pub fn open_copy(program: &Path, folder: &TempDir) -> PathBuf {
    let copy = folder.path().join(program.file_name().unwrap());
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// The test program `many`, started as nobody; and a folder that nobody can run copies of programs from.
pub fn many_of_nobody() -> (Program, TempDir) {
    let folder = open_folder();
    let copy = open_copy(&program_path("many", Variant::Static), &folder);
    let mut program = Program::start(Command::new(&copy).uid(NOBODY).gid(NOBODY));
    program.expect("ready");
    settle(program.pid());
    (program, folder)
}

/// Lets the system call `number` fail with `errno` in the command, by a seccomp filter.
pub fn forbid(command: &mut Command, number: libc::c_long, errno: i32) -> &mut Command {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let filter = [
        // The number is the first word of `struct seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: integers alone.
        let no_new = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the program and its filter live until the call is over.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if no_new == 0 && set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) }
}
