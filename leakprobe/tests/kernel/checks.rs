//! `ci` and `selftest`: rounds of load on a real program, and how each way of going wrong is told.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use leakprobe::{
    model::{CheckOutcome, Recording, Verdict},
    report::json,
};

use crate::support::{
    Ended, Program, Running, Variant, leakprobe, leakprobe_binary, need_root, program_path, wait_for,
};

/// The arguments of a check of the self-test's program, with `options`; the load is `load`, or that of the self-test.
fn arguments(options: &[&str], load: &[&str]) -> Vec<String> {
    need_root();
    let own = leakprobe_binary();
    let own = own.display();
    let server = format!("{own} selftest-target");
    let fixed = [
        "--exec",
        &server,
        "--ready",
        r"/listening on (\S+)/",
        "--stop-signal",
        "KILL",
        "--settle",
        "300ms",
        "-i",
        "100ms",
        "--max-rounds",
        "1",
    ];
    let own = own.to_string();
    let usual = [own.as_str(), "selftest-load"];
    let load = if load.is_empty() { &usual[..] } else { load };
    // An option that is given takes the place of a fixed one.
    let fixed = fixed.chunks(2).filter(|pair| !options.contains(&pair[0])).flatten().copied();
    let fixed: Vec<&str> = ["ci", "--no-debuginfo"].into_iter().chain(fixed).collect();
    let all = fixed.iter().chain(options).chain(&["-o", "recording.json", "--"]).chain(load);
    all.map(|word| (*word).to_owned()).collect()
}

fn recorded(ended: &Ended) -> Recording {
    json::read(&ended.directory.path().join("recording.json")).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn outcome(recording: &Recording) -> (CheckOutcome, Vec<String>) {
    let check = recording.check.as_ref().unwrap();
    (check.outcome, [&check.reasons[..], &check.incomplete].concat())
}

fn verdict(recording: &Recording, name: &str) -> Verdict {
    let sites = recording.sites.iter().filter(|site| site.names.iter().any(|thread| thread == name));
    sites.map(|site| site.verdict).max().unwrap_or_else(|| panic!("no {name} in {:?}", recording.sites))
}

#[test]
fn the_self_test_finds_every_leak_on_this_kernel_and_no_other() {
    need_root();
    let ended = leakprobe(["selftest", "--go", "/nowhere/go"]);
    ended.succeeded();
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 9, "{ended:?}");
    assert!(lines[..8].iter().all(|line| line.starts_with("ok ")), "{ended:?}");
    assert!(lines[8].contains("goroutines were not tested: there is no `/nowhere/go`"), "{ended:?}");
}

#[test]
fn a_program_that_leaks_with_each_round_fails_its_check_and_a_pool_does_not() {
    let ended = leakprobe(arguments(
        &["--rounds", "2", "--requests", "1", "--artifacts", "all", "--write-baseline", "base.json"],
        &[],
    ));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let recording = recorded(&ended);
    let (outcome, reasons) = outcome(&recording);
    assert_eq!((outcome, reasons.len()), (CheckOutcome::Failed, 2), "{reasons:?}");
    for (name, expected) in [
        ("st-condition", Verdict::Likely),
        ("st-sleeper", Verdict::Likely),
        ("st-deadlock", Verdict::Proven),
        ("st-pool", Verdict::Idle),
    ] {
        assert_eq!(verdict(&recording, name), expected, "{name}: {:?}", recording.sites);
    }
    assert_eq!(recording.target.execs, 0);
    let check = recording.check.as_ref().unwrap();
    assert_eq!(check.rounds.len(), 3);
    assert!(check.rounds.iter().all(|round| round.settled) && check.rounds[1].requests == Some(1), "{check:?}");
    assert!(check.coverage_percent > 99.0, "{check:?}");
    let site = recording.sites.iter().find(|site| site.names == ["st-condition"]).unwrap();
    let course = site.course.as_ref().unwrap();
    // One in the warm-up, one more in each round.
    assert_eq!((&course.counts[..], course.new, course.followed, course.woke), (&[1, 2, 3][..], 2, 1, 0));
    assert!(site.evidence[0].to_string().contains("(1 a round, 1 a request)"), "{:?}", site.evidence);
    assert_eq!(site.finding.as_ref().unwrap().pattern, "thread-condition-never-signalled");
    for name in
        ["report.txt", "report.html", "recording.json", "baseline.json", "before.svg", "after.svg", "difference.svg"]
    {
        let file = ended.directory.path().join("all").join(name);
        assert!(fs::metadata(&file).is_ok_and(|file| file.len() > 200), "{name}");
    }
    // What was known before fails no check.
    let baseline = ended.directory.path().join("base.json");
    let again = leakprobe(arguments(&["--rounds", "2", "--baseline", baseline.to_str().unwrap()], &[]));
    assert_eq!(again.code, Some(0), "{again:?}");
    let recording = recorded(&again);
    let mut found = recording.sites.iter().filter(|site| site.verdict >= Verdict::Likely).peekable();
    assert!(found.peek().is_some() && found.all(|site| site.accepted.is_some()), "{:?}", recording.sites);
}

#[test]
fn a_leak_is_believed_once_it_grew_in_more_rounds_as_well() {
    let ended = leakprobe(arguments(&["--rounds", "2", "--retry", "1", "--warmup", "0"], &[]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let recording = recorded(&ended);
    assert_eq!(recording.check.as_ref().unwrap().rounds.len(), 5, "{ended:?}");
    let site = recording.sites.iter().find(|site| site.names == ["st-sleeper"]).unwrap();
    assert_eq!(site.course.as_ref().unwrap().counts, [0, 1, 2, 3, 4]);
}

#[test]
fn rules_accept_what_they_name_and_say_when_they_fit_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    let rule = |kind: &str, thread: &str| format!("[[{kind}]]\nthread = \"{thread}\"\nreason = \"known\"\n");
    fs::write(&rules, rule("ignore", "/^st-/") + &rule("ignore", "nobody") + &rule("expect", "st-pool")).unwrap();
    let ended = leakprobe(arguments(&["--rounds", "2", "--config", rules.to_str().unwrap()], &[]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let recording = recorded(&ended);
    let notes = &recording.check.as_ref().unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("line 4") && note.contains("fits no site")), "{notes:?}");
    assert_eq!(notes.len(), 1, "{notes:?}");
}

#[test]
fn load_that_fails_is_no_verdict() {
    let ended = leakprobe(arguments(&["--rounds", "2"], &["false"]));
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let recording = recorded(&ended);
    let (outcome, reasons) = outcome(&recording);
    assert_eq!(outcome, CheckOutcome::Incomplete);
    assert!(reasons[0].starts_with("the warm-up load 1 failed: it exited with status 1"), "{reasons:?}");
    let none = leakprobe(arguments(&["-q"], &["/nowhere/load"]));
    none.failed(2, &["cannot start /nowhere/load"]);
}

#[test]
fn a_load_has_ended_when_its_command_has_whatever_it_leaves_running() {
    need_root();
    // One ends with its process group, the other has left it, and both keep the load's output open.
    let load = "exec 2> /dev/null; sleep 300 & setsid sh -c 'echo $$ > daemon; exec sleep 300' & while [ ! -s daemon ]; do sleep 0.1; done; echo 7";
    let options = ["--settle", "200ms", "-i", "100ms", "--warmup", "0", "--rounds", "1", "-o", "recording.json"];
    let ended = leakprobe(
        ["ci", "--exec", "sleep 60", "--requests-from", r"^\d+$"]
            .iter()
            .chain(&options)
            .chain(&["--", "sh", "-c", load]),
    );
    let daemon = fs::read_to_string(ended.directory.path().join("daemon")).unwrap();
    std::process::Command::new("kill").arg(daemon.trim()).status().unwrap();
    let check = recorded(ended.succeeded()).check.unwrap();
    assert!(!check.notes.iter().any(|note| note.contains("--requests-from")), "{check:?}");
    let round = &check.rounds[1];
    assert_eq!(round.requests, Some(7));
    assert!(round.load_ms < Some(100_000), "{round:?}");
}

#[test]
fn servers_that_are_never_ready_or_end_are_told() {
    need_root();
    let ci = |server: &str, more: &[&str], load: &[&str]| {
        let arguments = ["ci", "-q", "--no-debuginfo", "--settle", "200ms", "-i", "100ms", "--exec", server];
        leakprobe(arguments.iter().chain(more).chain(&["--"]).chain(load))
    };
    let ready = ["--ready", "/never said/", "--ready-timeout", "300ms"];
    ci("sleep 60", &ready, &["true"]).failed(4, &["sleep was not ready within 300ms", "/never said/"]);
    let port = ["--ready", "127.0.0.1:1", "--ready-timeout", "300ms"];
    ci("sleep 60", &port, &["true"]).failed(4, &["nothing accepts connections at 127.0.0.1:1"]);
    // Its queue is full: the kernel drops what asks for a connection, and asks again for two minutes.
    let full = full_port();
    let port = full.0.local_addr().unwrap().to_string();
    let ready = ["--ready", &port, "--ready-timeout", "300ms"];
    let began = std::time::Instant::now();
    ci("sleep 60", &ready, &["true"]).failed(4, &["nothing accepts connections at 127.0.0.1:"]);
    assert!(began.elapsed() < Duration::from_secs(100));
    ci("/nowhere/server", &[], &["true"]).failed(2, &["cannot start /nowhere/server"]);
    // What does not say when it is ready has begun and come to rest before there is load.
    let begun = "read name < /proc/$LEAKPROBE_PID/comm && test \"$name\" = sleep";
    let arguments = ["ci", "--settle", "200ms", "-i", "100ms", "--rounds", "1", "--exec", "sleep 60"];
    let ended = leakprobe(arguments.iter().chain(&["--", "/bin/sh", "-c", begun]));
    let (start, _) = ended.succeeded().stderr.split_once("warm-up 1 of 1: load").unwrap();
    assert!(start.contains("start: level after "), "{ended:?}");
    // It dies under load.
    let ended = ci("sleep 60", &["-o", "seen.json"], &["/bin/sh", "-c", "kill -9 $LEAKPROBE_PID; sleep 5"]);
    ended.failed(4, &["sleep", "ended before a verdict was possible"]);
    let seen = json::read(&ended.directory.path().join("seen.json")).unwrap();
    assert_eq!(seen.check.unwrap().outcome, CheckOutcome::Incomplete);
}

#[test]
fn a_process_that_runs_is_checked_and_left_alone() {
    need_root();
    let mut server = std::process::Command::new("sleep").arg("300").spawn().unwrap();
    let pid = server.id().to_string();
    let ended = leakprobe(["ci", "-p", &pid, "--settle", "200ms", "-i", "100ms", "--rounds", "1", "--", "true"]);
    ended.succeeded();
    assert!(ended.stdout.contains("PASSED") && ended.stderr.contains("round 1 of 1"), "{ended:?}");
    assert!(server.try_wait().unwrap().is_none());
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn what_is_wrong_is_said_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown = file("unknown.toml", "\n[[ignore]]\nfunctoin = \"a\"\nreason = \"b\"\n");
    leakprobe(arguments(&["--config", &unknown], &[])).failed(2, &["unknown.toml line 3", "functoin"]);
    let regex = file("regex.toml", "[[ignore]]\nfunction = \"/(/\"\nreason = \"b\"\n");
    leakprobe(arguments(&["--config", &regex], &[])).failed(2, &["regex.toml line 2", "/(/"]);
    let other = file("other.json", "{\"schema\": \"leakprobe/9\"}");
    leakprobe(arguments(&["--baseline", &other, "-q"], &[])).failed(2, &["other.json", "leakprobe/9"]);
    leakprobe(arguments(&["--config", "/nowhere/rules.toml"], &[])).failed(2, &["cannot read /nowhere/rules.toml"]);
    leakprobe(arguments(&["--requests-from", "("], &[])).failed(2, &["--requests-from"]);
    leakprobe(arguments(&["--artifacts", "/proc/nowhere"], &[])).failed(2, &["cannot create files in /proc/nowhere"]);
    for wrong in
        [&["--rounds", "0"][..], &["--max-growth", "x"], &["--ready", "https://a"], &["--exec", "'"], &["-p", "1"]]
    {
        let ended = leakprobe(arguments(wrong, &[]));
        assert_eq!(ended.code, Some(2), "{wrong:?}: {ended:?}");
    }
}

#[test]
fn numbers_that_are_never_level_are_told() {
    // Threads come in each tenth of a second for as long as the load runs, and beyond.
    let own = leakprobe_binary();
    let server = format!("{} demo-target", own.display());
    need_root();
    let ended = leakprobe([
        "ci",
        "--exec",
        &format!("sh -c 'exec {server} < /dev/zero'"),
        "--settle",
        "1s",
        "--settle-max",
        "1200ms",
        "-i",
        "100ms",
        "--warmup",
        "0",
        "--rounds",
        "1",
        "-o",
        "recording.json",
        "--",
        "true",
    ]);
    let recording = recorded(&ended);
    let check = recording.check.as_ref().unwrap();
    assert!(check.rounds.iter().any(|round| !round.settled), "{check:?}");
    assert!(check.notes.iter().any(|note| note.contains("not level")), "{check:?}");
}

/// A port at which nobody accepts connections, with as many of them as it takes until no more are answered.
fn full_port() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&at, Duration::from_millis(500)).ok();
    let connections = std::iter::from_fn(connect).take(10_000).collect();
    (listener, connections)
}

/// The children of a process that have not ended.
fn servers(running: &Running) -> Vec<u32> {
    crate::support::children_of(running.pid())
}

#[test]
fn ctrl_c_in_each_phase_ends_the_server_and_still_reports() {
    let file_with =
        |directory: &Path, words: &str| fs::read_to_string(directory.join("phase")).is_ok_and(|text| text == words);
    // In the load, while numbers settle, and before the program is ready.
    let in_load = arguments(&["--rounds", "2"], &["/bin/sh", "-c", "printf load > phase; sleep 60"]);
    let settling = arguments(
        &["--rounds", "2", "--settle", "50s", "--settle-max", "60s"],
        &["/bin/sh", "-c", "printf load > phase"],
    );
    for (options, phase) in [(in_load, "load"), (settling, "load")] {
        let running = Running::start(&options);
        let directory = running.directory().to_owned();
        wait_for("the load to run", || file_with(&directory, phase).then_some(()));
        std::thread::sleep(Duration::from_millis(300));
        let servers = servers(&running);
        assert!(!servers.is_empty());
        running.kill(libc::SIGINT);
        let ended = running.end();
        assert_eq!(ended.code, Some(6), "{ended:?}");
        let recording = recorded(&ended);
        let (outcome, reasons) = outcome(&recording);
        assert_eq!(outcome, CheckOutcome::Incomplete);
        assert!(reasons[0].contains("stopped before all rounds were done"), "{reasons:?}");
        for pid in servers {
            assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "{pid} was left behind");
        }
    }
    let never =
        ["ci", "--exec", "sleep 300", "--ready", "/never/", "-i", "100ms", "-o", "recording.json", "--", "true"];
    let mut running = Running::start(never);
    running.attached();
    std::thread::sleep(Duration::from_millis(300));
    running.kill(libc::SIGINT);
    let ended = running.end();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert_eq!(outcome(&recorded(&ended)).0, CheckOutcome::Incomplete);
}

#[test]
fn a_second_ctrl_c_ends_all_at_once() {
    need_root();
    let server = "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 1; done'";
    let load = ["--", "sh", "-c", "printf load > phase; sleep 300"];
    let running = Running::start(["ci", "--exec", server, "--ready", "/ready/", "-i", "100ms"].iter().chain(&load));
    let (directory, pid) = (running.directory().to_owned(), running.pid());
    wait_for("the load to run", || fs::read_to_string(directory.join("phase")).is_ok().then_some(()));
    let servers = servers(&running);
    assert!(!servers.is_empty());
    // The server does not end by itself, which would be waited for.
    let runs = || matches!(fs::read_to_string(format!("/proc/{pid}/stat")), Ok(stat) if !stat.contains(") Z "));
    while runs() {
        running.kill(libc::SIGINT);
        std::thread::sleep(Duration::from_millis(300));
    }
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    for pid in servers {
        wait_for("all to end", || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
    }
}

#[test]
fn threads_that_each_round_leaves_running_are_a_leak_of_their_creator() {
    let server = program_path("spinner", Variant::Pie).display().to_string();
    let options = ["--exec", &server, "--ready", "/ready/", "--warmup", "0", "--rounds", "3"];
    let ended = leakprobe(arguments(&options, &["sh", "-c", "kill -USR1 $LEAKPROBE_PID; sleep 0.2"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let recording = recorded(&ended);
    let site = &recording.sites[0];
    assert_eq!(
        (site.verdict, &site.course.as_ref().unwrap().counts[..]),
        (Verdict::Likely, &[0, 1, 2, 3][..]),
        "{site:?}"
    );
    let creation = site.creation.iter().map(|&frame| &*recording.frames[frame as usize].function);
    assert!(creation.into_iter().any(|function| function == "handle"), "{site:?}");
}

#[test]
fn rounds_go_on_while_something_may_still_stop_and_no_longer() {
    // A thread with each load, and a pool that is full from the start.
    let ended = leakprobe(arguments(&["--rounds", "2", "--max-rounds", "4"], &[]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let recording = recorded(&ended);
    assert_eq!(recording.check.as_ref().unwrap().rounds.len(), 5, "{ended:?}");
    assert_eq!(verdict(&recording, "st-condition"), Verdict::Likely);
    // Nothing grows.
    let ended = leakprobe([
        "ci",
        "--exec",
        "sleep 60",
        "--settle",
        "200ms",
        "-i",
        "100ms",
        "--rounds",
        "2",
        "-o",
        "recording.json",
        "--",
        "true",
    ]);
    assert_eq!(recorded(ended.succeeded()).check.unwrap().rounds.len(), 3);
}

/// Has one child, and one more with each SIGUSR1.
const PARENT: &str = r#"
cd "$(mktemp -d)"; mkfifo never; exec 3<>never; rm never
children=
more() { sleep 300 & children="$children $!"; }
trap more USR1
trap 'kill $children; exit' TERM
more
echo ready
while :; do read -r line <&3; done
"#;

#[test]
fn processes_that_it_has_created_are_told_and_no_pass_if_each_round_leaves_one() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("parent.sh");
    fs::write(&script, PARENT).unwrap();
    let server = format!("sh {}", script.display());
    let options = ["--exec", &server, "--ready", "/ready/", "--stop-signal", "TERM", "--warmup", "0", "--rounds", "2"];

    let ended = leakprobe(arguments(&options, &["true"]));
    ended.succeeded();
    let check = recorded(&ended).check.unwrap();
    assert_eq!(check.outcome, CheckOutcome::Passed, "{check:?}");
    let expected = "1 process that it has created was not judged: sleep (";
    assert!(check.notes.iter().any(|note| note.starts_with(expected)), "{check:?}");
    assert!(ended.stdout.contains(expected), "{ended:?}");

    let ended = leakprobe(arguments(&options, &["sh", "-c", "kill -USR1 $LEAKPROBE_PID; sleep 0.2"]));
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let (outcome, reasons) = outcome(&recorded(&ended));
    assert_eq!(outcome, CheckOutcome::Incomplete, "{reasons:?}");
    let expected = "the processes that it has created are more with each round (1, 2, 3): that is a leak of processes, which is not judged";
    assert!(reasons.iter().any(|reason| reason == expected), "{reasons:?}");
}

/// Begins anew with SIGUSR1, in the same process.
const RESTARTS: &str = r#"
trap 'exec sh "$0"' USR1
cd "$(mktemp -d)"; mkfifo never; exec 3<>never; rm never
echo ready
while :; do read -r line <&3; done
"#;

#[test]
fn a_program_that_began_anew_between_rounds_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("restarts.sh");
    fs::write(&script, RESTARTS).unwrap();
    let server = format!("sh {}", script.display());
    let options = ["--exec", &server, "--ready", "/ready/", "--stop-signal", "TERM", "--warmup", "0", "--rounds", "2"];
    let once = "[ -e done ] || { : > done; kill -USR1 $LEAKPROBE_PID; }";
    let ended = leakprobe(arguments(&options, &["sh", "-c", once]));
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let recording = recorded(&ended);
    let (outcome, reasons) = outcome(&recording);
    assert_eq!(outcome, CheckOutcome::Incomplete, "{reasons:?}");
    let expected = "it began another program once after the baseline (exec)";
    assert!(reasons.iter().any(|reason| reason.starts_with(expected)), "{reasons:?}");
    assert_eq!(recording.check.unwrap().power, None);
}

/// Its child works with each line that the load writes; it does nothing itself.
const PRE_FORK: &str = r#"
mkfifo work; exec 3<>work
(while read -r line <&3; do i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done; : > done; done) &
child=$!
trap 'kill $child; exit' TERM
echo ready
wait
"#;

#[test]
fn a_program_whose_children_do_the_work_does_not_pass_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("server.sh");
    fs::write(&script, PRE_FORK).unwrap();
    let place = folder.path().display();
    let server = format!("sh -c 'cd {place}; exec sh server.sh'");
    let options = ["--exec", &server, "--ready", "/ready/", "--stop-signal", "TERM", "--warmup", "0", "--rounds", "2"];
    let load = format!("cd {place}; rm -f done; echo go > work; while [ ! -e done ]; do sleep 0.05; done");
    let ended = leakprobe(arguments(&options, &["sh", "-c", &load]));
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let (outcome, reasons) = outcome(&recorded(&ended));
    assert_eq!(outcome, CheckOutcome::Incomplete, "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("% of the work (CPU time during the load)")), "{reasons:?}");
}

/// Its child is the self-test's program, which leaks.
fn with_worker(options: &[&str]) -> Ended {
    let server = format!("sh -c '{} selftest-target & wait'", leakprobe_binary().display());
    leakprobe(arguments(&[&["--exec", &server, "--rounds", "2"], options].concat(), &[]))
}

#[test]
fn workers_are_judged_if_forks_are_followed() {
    let ended = with_worker(&["--follow-forks"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let mut outcomes: Vec<(String, CheckOutcome)> = Vec::new();
    for entry in fs::read_dir(ended.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let recording = json::read(&path).unwrap();
            outcomes.push((recording.target.comm.clone(), outcome(&recording).0));
        }
    }
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(matches!(&outcomes[..], [(_, CheckOutcome::Failed), (_, CheckOutcome::Passed)]), "{outcomes:?} {ended:?}");
    assert!(ended.stdout.trim_end().lines().last().unwrap().starts_with("FAILED: 1 of 2 processes"), "{ended:?}");
}

#[test]
fn several_processes_are_judged_each_by_itself() {
    need_root();
    let [first, second] = [Variant::Pie; 2].map(|variant| Program::ready("waits", variant));
    let pids = format!("{},{}", first.pid(), second.pid());
    let ended = leakprobe(["ci", "-p", &pids, "--settle", "200ms", "-i", "100ms", "--rounds", "1", "--", "true"]);
    ended.succeeded();
    assert!(
        ended.stdout.contains(&format!("PASSED: 2 of 2 processes ({}, {})", first.pid(), second.pid())),
        "{ended:?}"
    );
    // One of them ends.
    let load = format!("kill {}; sleep 0.2", second.pid());
    let rounds = ["--warmup", "0", "--settle", "200ms", "-i", "100ms", "--rounds", "1", "--", "sh", "-c", &load];
    let check = || leakprobe(["ci", "-p", &pids].iter().chain(&rounds));
    let ended = check();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let expected = format!("INCOMPLETE: process {} ended before all rounds were done", second.pid());
    assert!(ended.stdout.contains(&expected), "{ended:?}");
    drop(second);
    check().failed(4, &["no process with pid"]);
}
