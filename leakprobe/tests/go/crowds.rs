//! Many goroutines, and goroutines that come and go all the time.

use std::{collections::BTreeMap, fs};

use leakprobe::model::{Loss, TaskKind};

use crate::{
    dump::{Goroutine, Line, parse},
    support::{functions, leakprobe, snapshot},
    target::{ready, take},
};

const VERSIONS: [&str; 4] = ["1.19", "1.21", "1.24", "1.27"];

/// More than the runtime itself can write down: its text is cut off at 64 MB.
#[test]
fn hundreds_of_thousands() {
    // So many are told one by one, and not so many.
    for (version, count) in [("1.19", 200_000), ("1.27", 300_000)] {
        let many = ready(&format!("{version}/default/many"), &[&count.to_string(), "20"]);
        let recording = snapshot(many.pid());
        let mut sites: BTreeMap<(&str, Vec<String>), usize> = BTreeMap::new();
        for site in recording.sites.iter().filter(|site| site.task == TaskKind::Goroutine) {
            let main = |stack: &[u32]| -> Vec<String> {
                // Not the closures of main.main, which pass arguments on.
                let is_main = |name: &String| name.starts_with("main.") && !name.starts_with("main.main.");
                functions(&recording, stack).into_iter().filter(is_main).collect()
            };
            if main(&site.creation) == ["main.main"] {
                *sites.entry((site.wait.as_str(), main(&site.stack))).or_default() += site.count as usize;
            }
        }
        let lock = if version == "1.19" { "semacquire" } else { "sync.Mutex.Lock" };
        let site = |status, function: &str, count| ((status, vec![function.to_owned(); 20]), count);
        let mut expected = BTreeMap::from([
            site("select", "main.selecting", count / 10),
            site(lock, "main.locking", count / 10),
            site("chan receive", "main.receiving", count / 10 * 8),
        ]);
        // What answers commands.
        sites.retain(|(_, functions), _| !functions.iter().any(|function| function == "main.serve"));
        assert_eq!(sites.len(), expected.len(), "{version}: {sites:?}");
        for (site, count) in sites {
            assert_eq!(expected.remove(&site), Some(count), "{version}: {site:?}");
        }
        // Those that are not told one by one are counted, as are the goroutines that answer.
        let listed = recording.tasks.iter().filter(|task| task.kind == TaskKind::Goroutine).count() as u64;
        let go = recording.coverage.go.as_ref().unwrap();
        let not_listed = recording.losses.get(&Loss::GoroutinesNotListed).copied().unwrap_or(0);
        assert_eq!(not_listed > 0, count > 250_000, "{version}: {not_listed}");
        assert_eq!(listed + not_listed, go.goroutines + go.system, "{version}");
        assert!(go.goroutines > count as u64, "{version}: {go:?}");
    }
}

/// No frame is wrong while stacks are moved and goroutines end and are used again.
#[test]
fn goroutines_that_come_and_go() {
    for version in VERSIONS {
        let mut churn = ready(&format!("{version}/default/churn"), &["8"]);
        let before: u64 = churn.ask("created", "created").parse().unwrap();
        let (mut with_stack, mut deepest) = (0, 0);
        for _ in 0..20 {
            let pid = churn.pid().to_string();
            let ended = leakprobe(["snapshot", "-p", &pid, "-o", "all.goroutines.txt", "-o", "all.json"]);
            ended.succeeded();
            let path = |name: &str| ended.directory.path().join(name);
            let mut ours = parse(&fs::read_to_string(path("all.goroutines.txt")).unwrap()).unwrap();
            let recording = leakprobe::report::json::read(&path("all.json")).unwrap();
            let moving = ours.iter().filter(|goroutine| goroutine.status != "running" && is_without_stack(goroutine));
            let counted = recording.losses.get(&Loss::GoroutineUnstable).copied().unwrap_or(0);
            assert!(moving.count() as u64 <= counted, "{version}: only {counted} are said to be unstable: {ours:?}");
            take(&mut ours, 1);
            for goroutine in &ours {
                if !goroutine.is_created_by("main.spawner") {
                    assert!(goroutine.is_created_by("main.main"), "{version}: {goroutine:?}");
                    continue;
                }
                let depth = check_short(goroutine).unwrap_or_else(|why| panic!("{version}: {why}: {goroutine:?}"));
                with_stack += usize::from(depth > 0);
                deepest = deepest.max(depth);
            }
        }
        let created = churn.ask("created", "created").parse::<u64>().unwrap() - before;
        assert!(created > 10_000, "{version}: only {created} goroutines were created meanwhile");
        assert!(with_stack > 1000 && deepest > 50, "{version}: {with_stack} stacks, the deepest {deepest}");
    }
}

/// Whether it is said that its stack cannot be had: it runs, or ran each time that it was looked at.
fn is_without_stack(goroutine: &Goroutine) -> bool {
    goroutine.stack == [Line::Remark("goroutine running on other thread; stack unavailable".to_owned())]
}

/// How many frames of its own a goroutine of `main.short` has, all of which must be where they can be: whatever the runtime
/// does, then perhaps `main.leaf`, any number of `main.grow`, and `main.short`.
fn check_short(goroutine: &Goroutine) -> Result<usize, &'static str> {
    let functions = goroutine.functions();
    let own = functions.iter().position(|function| function.starts_with("main.")).unwrap_or(functions.len());
    let (runtime, own) = functions.split_at(own);
    // One that has not run yet is at the entry of what passes the arguments on; one that was stopped in there by a signal, at
    // any of its instructions, has the runtime's frames for that as well.
    let passes_on = |function: &&str| ["main.spawner.func1", "main.spawner.gowrap1"].contains(function);
    if own.first().is_some_and(passes_on) {
        let has_not_called = runtime.iter().all(|function| function.starts_with("runtime.asyncPreempt"));
        let alone = own.get(1..).is_some_and(|rest| rest.is_empty() || rest == ["runtime.goexit"]);
        return if has_not_called && alone { Ok(1) } else { Err("it runs already") };
    }
    let packages = ["runtime.", "sync.", "time.", "internal/", "sync/atomic."];
    if !runtime.iter().all(|function| packages.iter().any(|package| function.starts_with(package))) {
        return Err("a frame of a package that it does not call");
    }
    if own.is_empty() {
        let has_none = is_without_stack(goroutine) || goroutine.status == "runnable";
        return if has_none { Ok(0) } else { Err("no frame") };
    }
    // Go 1.19 leaves out all frames beyond the hundredth, and says so only if it has not left out others before that: the
    // runtime's innermost ones, a dozen at most.
    let is_old = goroutine.created_by.as_ref().is_some_and(|creator| creator.parent.is_none());
    let is_cut = matches!(goroutine.stack.last(), Some(Line::Remark(_))) || is_old && functions.len() > 88;
    let rest = own.strip_prefix(&["main.leaf"]).unwrap_or(own);
    let rest = rest.strip_suffix(&["main.short"]).or(is_cut.then_some(rest));
    match rest {
        None => Err("it does not begin in main.short"),
        Some(rest) if rest.iter().all(|function| *function == "main.grow") => Ok(own.len()),
        Some(_) => Err("a frame that cannot be there"),
    }
}

#[test]
fn wrong_stacks_of_the_churn_are_told() {
    let goroutine = |status: &str, functions: &[&str], remark: &str| {
        let frames: String = functions.iter().map(|function| format!("{function}()\n\t/a.go:1\n")).collect();
        let text = format!("goroutine 7 [{status}]:\n{frames}{remark}created by main.spawner\n\t/a.go:1\n");
        check_short(&parse(&text).unwrap()[0])
    };
    assert_eq!(goroutine("runnable", &["main.spawner.gowrap1", "runtime.goexit"], ""), Ok(1));
    let preempted = ["runtime.asyncPreempt2", "runtime.asyncPreempt", "main.spawner.func1", "runtime.goexit"];
    assert_eq!(goroutine("runnable", &preempted, ""), Ok(1));
    assert_eq!(goroutine("chan send", &["main.leaf", "main.grow", "main.grow", "main.short"], ""), Ok(4));
    assert_eq!(goroutine("sleep", &["time.Sleep", "main.leaf", "main.grow", "main.short"], ""), Ok(3));
    assert_eq!(goroutine("chan send", &["main.leaf", "main.grow"], "...additional frames elided...\n"), Ok(2));
    assert_eq!(goroutine("running", &[], "\tgoroutine running on other thread; stack unavailable\n"), Ok(0));
    for wrong in [
        goroutine("chan send", &["main.leaf", "main.grow"], ""),
        goroutine("chan send", &["main.grow", "main.leaf", "main.short"], ""),
        goroutine("chan send", &["main.leaf", "main.short", "main.grow", "main.short"], ""),
        goroutine("chan send", &["main.leaf", "runtime.goexit", "main.short"], ""),
        goroutine("chan send", &["os.Open", "main.leaf", "main.grow", "main.short"], ""),
        goroutine("chan send", &["main.spawner.gowrap1", "main.short"], ""),
        goroutine("chan send", &["main.main"], ""),
        goroutine("chan send", &[], ""),
    ] {
        assert!(wrong.is_err(), "{wrong:?}");
    }
}
