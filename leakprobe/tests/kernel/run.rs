//! `run -- CMD`: a program from its first instruction.

use crate::support::{
    Running, Variant, chain, children_of, functions, leakprobe, need_root, program_path, settle, wait_for,
};

#[test]
fn run_knows_the_creation_of_every_thread_of_every_variant() {
    for variant in [Variant::Pie, Variant::Static] {
        let program = program_path("many", variant);
        let leakprobe = Running::record(&["run", "-m", "0s", "-i", "1h", "--", program.to_str().unwrap(), "20"]);
        // The program's stdin is /dev/null, so that it ends by itself once all threads are there.
        let recording = leakprobe.recording();
        assert_eq!(recording.target.execs, 0, "the first is our own doing");
        assert_eq!(recording.coverage.created, 20, "{:?} {:?}", recording.coverage, recording.losses);
        assert!(recording.target.comm.starts_with("many"), "{:?}", recording.target);
        assert!(recording.target.ended.is_some());
    }
}

#[test]
fn run_shows_parked_threads_with_who_created_them() {
    need_root();
    // The program's stdin is a pipe that it holds open itself, so that it stays; it keeps nothing of ours open.
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let command =
        format!("exec {} 20 0<>{} >/dev/null 2>&1", program_path("many", Variant::Pie).display(), pipe.display());
    let mut leakprobe = Running::record(&["run", "-m", "0s", "-i", "50ms", "--", "/bin/sh", "-c", &command]);
    leakprobe.attached();
    let pid = wait_for("the program's threads", || {
        children_of(leakprobe.pid())
            .into_iter()
            .find(|&child| std::fs::read_dir(format!("/proc/{child}/task")).is_ok_and(|tasks| tasks.count() == 21))
    });
    let _killed_at_the_end = Kill(pid);
    settle(pid);
    let recording = leakprobe.stop();
    assert_eq!((recording.target.pid, recording.target.execs), (pid, 1), "from the shell to the program");
    assert_eq!(recording.target.ended, None);
    let threads: Vec<_> = recording.tasks.iter().filter(|task| task.id != u64::from(pid)).collect();
    assert_eq!(threads.len(), 20);
    for thread in threads {
        assert!(thread.created_by.known, "{thread:?}");
        chain(&recording, &thread.created_by.stack, &["main"]);
        chain(&recording, &thread.stack, &["park", "run"]);
        assert_eq!(functions(&recording, &thread.created_by.stack).last().map(String::as_str), Some("_start"));
    }
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "it goes on without leakprobe");
}

/// Ends a process that leakprobe leaves running, as it should.
struct Kill(u32);

impl Drop for Kill {
    fn drop(&mut self) {
        // SAFETY: two integers; the process was our grandchild just now.
        unsafe { libc::kill(self.0 as i32, libc::SIGKILL) };
    }
}

#[test]
fn run_of_a_missing_program_is_wrong_usage() {
    need_root();
    leakprobe(["run", "--", "/no/such/program"]).failed(2, &["/no/such/program", "No such file"]);
}

#[test]
fn run_of_a_file_that_is_no_program_is_wrong_usage() {
    need_root();
    leakprobe(["run", "--", "/etc/hostname/x"]).failed(2, &["/etc/hostname/x"]);
}

#[test]
fn run_tells_how_the_program_ended_and_leaves_it_its_stdout() {
    need_root();
    let ended = leakprobe(["run", "--", "/bin/sh", "-c", "echo hello; exit 7"]);
    ended.succeeded();
    assert!(ended.stdout.contains("hello"), "{ended:?}");
    assert!(ended.stderr.contains("exited with status 7"), "{ended:?}");
}
