//! What is written: every format, whole or not at all, and never at the cost of the report.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use leakprobe::report::{Format, json};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::support::{
    Ended, Program, Running, Variant, leakprobe, leakprobe_binary, need_root, settle, snapshot, wait_for,
};

fn parked() -> (Program, String) {
    need_root();
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let pid = program.pid().to_string();
    (program, pid)
}

#[test]
fn every_format_is_written_and_the_report_goes_to_stdout() {
    let (_program, pid) = parked();
    let names = [
        "a.svg",
        "a.folded",
        "a.json",
        "a.txt",
        "a.goroutines.txt",
        "a.pb.gz",
        "a.speedscope.json",
        "a.pftrace",
        "a.html",
        "a.waits.svg",
        "a.dot",
        "a.junit.xml",
        "a.sarif",
        "a.md",
    ];
    assert_eq!(names.len(), Format::ALL.len());
    let mut args = vec!["snapshot", "-p", &pid, "-m", "0s"];
    args.extend(names.iter().flat_map(|name| ["-o", name]));
    let ended = leakprobe(args);
    ended.succeeded();
    assert!(ended.stdout.contains("park") && ended.stdout.contains("100"), "{ended:?}");
    let read = |name: &str| fs::read_to_string(ended.directory.path().join(name)).unwrap();
    assert!(read("a.svg").contains("<svg"));
    assert!(read("a.waits.svg").contains("other end"), "main reads what the test writes");
    let folded = read("a.folded");
    assert!(folded.lines().any(|line| line.ends_with(";[futex] 100") && line.contains(";run;park;")), "{folded}");
    assert!(read("a.txt").contains("park"));
    let recording = json::read(&ended.directory.path().join("a.json")).unwrap();
    assert_eq!(recording.tasks.len(), 101);
    assert_eq!((recording.duration_ms, recording.coverage.snapshots), (0, 1));
    let html = read("a.html");
    assert!(html.contains("100 threads") && html.matches("<iframe").count() == 4 && html.contains(">park<"), "{html}");
    let speedscope: serde_json::Value = serde_json::from_str(&read("a.speedscope.json")).unwrap();
    let weights = speedscope["profiles"][0]["weights"].as_array().unwrap();
    assert!(weights.iter().any(|weight| weight == 100), "{weights:?}");
    // No check: nothing was judged, and that is said.
    assert!(read("a.junit.xml").contains("<skipped ") && read("a.md").contains("no check"), "{}", read("a.md"));
    assert!(read("a.sarif").contains("\"results\": []"));
    let bytes = |name: &str| fs::read(ended.directory.path().join(name)).unwrap();
    assert!(bytes("a.pb.gz").starts_with(&[0x1f, 0x8b]));
    let trace = bytes("a.pftrace");
    let wait = b"condition variable";
    assert!(trace.windows(wait.len()).any(|window| window == wait), "no wait in the trace");
    // Nothing else is left behind.
    let mut left: Vec<_> =
        fs::read_dir(ended.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    let mut names = names;
    names.sort_unstable();
    assert_eq!(left, names);
}

#[test]
fn what_is_parked_in_one_recording_and_not_in_another_is_told() {
    let (_program, pid) = parked();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let [many, again, other, picture] = ["many.json", "again.json", "other.json", "diff.svg"].map(file);
    for recording in [&many, &again] {
        leakprobe(["snapshot", "-q", "-p", &pid, "-m", "0s", "-o", recording]).succeeded();
    }
    let waits = Program::ready("creators", Variant::Pie);
    settle(waits.pid());
    leakprobe(["snapshot", "-q", "-p", &waits.pid().to_string(), "-m", "0s", "-o", &other]).succeeded();

    let same = leakprobe(["diff", &many, &again]);
    assert!(same.succeeded().stdout.contains("At no site are more threads parked than before"), "{same:?}");
    let more = leakprobe(["diff", &other, &many, "-o", &picture]);
    assert_eq!(more.code, Some(1), "{more:?}");
    assert!(more.stdout.contains("new") && more.stdout.contains("different programs"), "{more:?}");
    assert!(fs::read_to_string(&picture).unwrap().contains("100 threads"));
    leakprobe(["diff", &many, &again, "-o", "a.pb.gz"]).failed(2, &["pprof", "svg"]);
}

#[test]
fn a_check_writes_every_report_and_tells_the_job_that_it_runs_in() {
    let (_program, pid) = parked();
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.md");
    fs::write(&summary, "before\n").unwrap();
    let check = |args: &[&str]| {
        let mut command = Command::new(leakprobe_binary());
        command.args(["ci", "-p", &pid, "--rounds", "2", "--settle", "500ms", "--artifacts", "out"]);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary).args(args);
        Running::of(command.args(["--", "true"])).end()
    };
    let passed = check(&[]);
    assert!(passed.succeeded().stdout.starts_with("PASSED: no growth in 2 rounds"), "{passed:?}");
    assert!(!passed.stdout.contains("\n::"), "{passed:?}");
    let out = passed.directory.path().join("out");
    let mut names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "after.folded",
        "after.svg",
        "baseline.json",
        "before.svg",
        "difference.svg",
        "junit.xml",
        "leakprobe.sarif",
        "recording.json",
        "report.html",
        "report.md",
        "report.txt",
    ];
    assert_eq!(names, expected);
    let markdown = fs::read_to_string(out.join("report.md")).unwrap();
    assert_eq!(fs::read_to_string(&summary).unwrap(), format!("before\n{markdown}"));
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("What came since the baseline"));

    let failed = check(&["--max-tasks", "50"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.starts_with("FAILED: there are 101 tasks") && failed.stdout.contains("\n::error title="));
    let quiet = check(&["--max-tasks", "50", "-q"]);
    assert_eq!((quiet.code, quiet.stdout.as_str()), (Some(1), ""), "{quiet:?}");

    // How the verdict came about, then and later.
    let recording = json::read(&out.join("recording.json")).unwrap();
    let id = &recording.sites[0].id;
    let file = out.join("recording.json").display().to_string();
    let explained = leakprobe(["report", &file, "--explain", &id[..6]]);
    let told = &explained.succeeded().stdout;
    assert!(told.starts_with(&format!("Site {id}: ")) && told.contains("Verdict: idle"), "{told}");
    leakprobe(["report", &file, "--explain", "nope"]).failed(2, &["`nope`", id]);
    let unknown = check(&["--explain", "nope"]);
    assert_eq!(unknown.code, Some(0), "it may have been mended: {unknown:?}");
    assert!(unknown.stdout.starts_with("PASSED") && unknown.stderr.contains("`nope`"), "{unknown:?}");
}

#[test]
fn json_and_dash_go_to_stdout() {
    let (_program, pid) = parked();
    let of = |text: &str| json::read_from(text.as_bytes(), Path::new("stdout")).unwrap().tasks.len();
    assert_eq!(of(&leakprobe(["snapshot", "-p", &pid, "--json"]).succeeded().stdout), 101);
    assert_eq!(of(&leakprobe(["snapshot", "-p", &pid, "-o", "-", "--format", "json"]).succeeded().stdout), 101);
    let table = leakprobe(["snapshot", "-p", &pid, "-o", "-"]);
    assert!(table.succeeded().stdout.contains("park"), "{table:?}");
    let quiet = leakprobe(["snapshot", "-p", &pid, "-q"]);
    assert_eq!((quiet.succeeded().stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    // dump is another name for it.
    assert!(leakprobe(["dump", "-p", &pid]).succeeded().stdout.contains("park"));
}

#[test]
fn a_reader_of_stdout_who_has_left_is_no_error() {
    let (_program, pid) = parked();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(leakprobe_binary())
        .args(["snapshot", "-p", &pid, "--json", "-o", "a.txt"])
        .current_dir(folder.path())
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let status = wait_for("leakprobe to end", || child.try_wait().unwrap());
    assert_eq!((status.code(), stderr.trim()), (Some(0), "wrote a.txt"));
    assert!(folder.path().join("a.txt").exists());
}

#[test]
fn a_directory_that_is_missing_is_found_out_before_any_work() {
    let (_program, pid) = parked();
    let ended = leakprobe(["snapshot", "-p", &pid, "-o", "no/such/a.svg", "-o", "b.json"]);
    ended.failed(2, &["no/such", "create it"]);
    assert_eq!(ended.stdout, "");
    assert_eq!(fs::read_dir(ended.directory.path()).unwrap().count(), 0);
}

#[test]
fn a_directory_that_cannot_be_written_is_found_out_before_any_work() {
    let (_program, pid) = parked();
    let closed = Tiny::new();
    let folder = closed.0.path().display().to_string();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, closed.0.path(), None::<&str>, flags, None::<&str>).unwrap();
    let inside = closed.0.path().join("a.json").display().to_string();
    let outputs: [&[&str]; 4] = [
        &["attach", "-p", &pid, "-o", &inside],
        &["ci", "-p", &pid, "--write-baseline", &inside, "--", "true"],
        &["ci", "-p", &pid, "--artifacts", &folder, "--", "true"],
        &["run", "-o", &inside, "--", "/no/such/program"],
    ];
    for output in outputs {
        leakprobe(output).failed(2, &["ead-only file system", "choose another directory"]);
    }
}

#[test]
fn a_directory_that_vanishes_while_we_watch_costs_only_that_file() {
    let (_program, pid) = parked();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("a.svg");
    let mut leakprobe = Running::start([
        "attach",
        "-p",
        &pid,
        "-m",
        "0s",
        "-i",
        "50ms",
        "-o",
        picture.to_str().unwrap(),
        "-o",
        "b.json",
    ]);
    leakprobe.attached();
    drop(folder);
    leakprobe.kill(libc::SIGINT);
    let ended = leakprobe.end();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("a.svg") && ended.stdout.contains("park"), "{ended:?}");
    assert!(ended.stderr.contains("what was seen is kept in b.json,"), "{ended:?}");
    assert_eq!(fs::read_dir(ended.directory.path()).unwrap().count(), 1, "it is kept once");
    json::read(&ended.directory.path().join("b.json")).unwrap();
}

/// A file system of 8 KB, in a namespace of its own: gone with the test.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount(Some("tiny"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=8k")).unwrap();
        Self(folder)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_costs_only_that_file_and_leaves_nothing_half_written() {
    let (_program, pid) = parked();
    let tiny = Tiny::new();
    let picture = tiny.0.path().join("a.svg");
    fs::write(&picture, "what was there before").unwrap();
    let ended = leakprobe(["snapshot", "-p", &pid, "-m", "0s", "-o", picture.to_str().unwrap()]);
    ended.failed(3, &[picture.to_str().unwrap(), "no space is left"]);
    assert!(ended.stdout.contains("park"), "the report is there all the same: {ended:?}");
    assert_eq!(fs::read_to_string(&picture).unwrap(), "what was there before");
    assert_eq!(fs::read_dir(tiny.0.path()).unwrap().count(), 1, "no temporary file is left");
    is_kept_here(&ended, &pid);
    let ended = leakprobe(["snapshot", "-p", &pid, "-m", "0s", "--format", "svg", "-o", "/dev/full"]);
    ended.failed(3, &["/dev/full", "no space is left"]);
    assert!(ended.stdout.contains("park"), "{ended:?}");
    is_kept_here(&ended, &pid);
    assert!(!Path::new("/dev/full.json").exists());
}

/// Whether what was seen is kept where leakprobe was started, for nobody else to read.
fn is_kept_here(ended: &Ended, pid: &str) {
    let name = format!("leakprobe-{pid}.json");
    assert!(ended.stderr.contains(&format!("what was seen is kept in {name}, from which")), "{ended:?}");
    let kept = ended.directory.path().join(name);
    assert_eq!(json::read(&kept).unwrap().tasks.len(), 101);
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&kept).unwrap()) & 0o777, 0o600);
}

#[test]
fn a_full_disk_under_stdout_is_told() {
    let (_program, pid) = parked();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut snapshot = Command::new(leakprobe_binary());
    snapshot.args(["snapshot", "-p", &pid, "-o", "a.svg"]).current_dir(folder.path()).stdout(Stdio::from(full));
    let output = snapshot.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no space is left"), "{output:?}");
    let name = |kind: &str| folder.path().join(kind);
    assert!(fs::read_to_string(name("a.svg")).unwrap().contains("</svg>"), "files are written all the same");
    assert_eq!(json::read(&name(&format!("leakprobe-{pid}.json"))).unwrap().tasks.len(), 101);
}

#[test]
fn files_belong_to_the_user_who_called_sudo() {
    use std::os::unix::fs::MetadataExt;
    let (_program, pid) = parked();
    let ended = Running::of(
        Command::new(leakprobe_binary())
            .args(["snapshot", "-p", &pid, "-q", "-o", "a.json"])
            .env("SUDO_UID", "1234")
            .env("SUDO_GID", "4321"),
    )
    .end();
    let meta = fs::metadata(ended.succeeded().directory.path().join("a.json")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
}

#[test]
fn a_recording_is_rendered_again_by_a_user_without_privileges() {
    let (program, pid) = parked();
    let text = leakprobe(["snapshot", "-p", &pid, "--json", "-m", "0s"]).succeeded().stdout.clone();
    drop(program);
    let mut folder = tempfile::tempdir_in("/tmp").unwrap();
    folder.disable_cleanup(false);
    let open =
        |path: &Path, mode| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    open(folder.path(), 0o777);
    let (recording, copy) = (folder.path().join("a.json"), folder.path().join("leakprobe"));
    fs::write(&recording, &text).unwrap();
    fs::copy(leakprobe_binary(), &copy).unwrap();
    open(&copy, 0o755);
    let report = |args: &[&str]| {
        Running::of(Command::new(&copy).arg("report").arg(&recording).args(args).uid(65_534).gid(65_534)).end()
    };
    let ended = report(&[]);
    assert!(ended.succeeded().stdout.contains("park"), "{ended:?}");
    let (first, second) = (folder.path().join("1.svg"), folder.path().join("2.svg"));
    for picture in [&first, &second] {
        report(&["-q", "-o", picture.to_str().unwrap()]).succeeded();
    }
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap(), "the same recording makes the same picture");
    let again = report(&["--json"]);
    assert_eq!(again.succeeded().stdout, text);

    // Every kind of damage is found out, and said in one sentence.
    for damaged in [
        "",
        "{",
        "[]",
        "{\"schema\":\"leakprobe/99\"}",
        &text[..text.len() / 2],
        &text.replace("\"stack\":[", "\"stack\":[999999,"),
    ] {
        fs::write(&recording, damaged).unwrap();
        report(&[]).failed(2, &["a.json"]);
    }
    fs::remove_file(&recording).unwrap();
    report(&[]).failed(2, &["a.json", "no such file"]);
}

#[test]
fn a_snapshot_of_a_program_with_hostile_names_is_a_whole_picture() {
    let mut program = Program::ready("names", Variant::Pie);
    program.ask("main <&\"\u{1b}[31m;|", "named");
    settle(program.pid());
    let recording = snapshot(program.pid());
    assert!(recording.tasks.iter().any(|task| task.name.starts_with("<&\"")), "{:?}", recording.tasks);
    let pid = program.pid().to_string();
    let ended = leakprobe(["snapshot", "-p", &pid, "-m", "0s", "-o", "a.svg"]);
    ended.succeeded();
    assert!(!ended.stdout.contains('\u{1b}'), "{ended:?}");
    let svg = fs::read_to_string(ended.directory.path().join("a.svg")).unwrap();
    assert!(!svg.contains("<&\"") && !svg.contains('\u{1b}'));
}

#[test]
fn demo_shows_its_leak_and_writes_its_picture() {
    need_root();
    let ended = leakprobe(["demo", "-d", "1500ms"]);
    ended.succeeded();
    assert!(ended.stdout.contains("process_order"), "{ended:?}");
    assert!(fs::read_to_string(ended.directory.path().join("parked.svg")).unwrap().contains("process_order"));
}

/// Also by a program whose debug information was stripped.
#[test]
fn demo_shows_its_own_functions_by_name() {
    need_root();
    let ended = leakprobe(["demo", "-d", "1500ms", "-o", "parked.folded"]);
    ended.succeeded();
    let folded = fs::read_to_string(ended.directory.path().join("parked.folded")).unwrap();
    for function in
        ["process_order;", "wait_for_payment;", "refresh_cache;", "listen_for_admin;", "clean_up_every_hour;"]
    {
        assert!(folded.contains(function), "no {function} in {folded}");
    }
}
