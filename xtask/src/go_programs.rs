//! The Go test programs of `leakprobe/tests/programs/go`, built by every Go version in the ways that differ for a
//! profiler, into `target/test-programs/go/VERSION/BUILD/PROGRAM`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::go::{self, Versions};
use crate::{programs, repo, run};

/// A way to build a program.
struct Build {
    name: &'static str,
    cgo: bool,
    arguments: &'static [&'static str],
}

const STRIPPED: [&str; 2] = ["-trimpath", "-ldflags=-s -w"];
// Without the paths of its sources the whole standard library is compiled once more, which it is for what follows anyhow.
const WITHOUT_SYMBOLS: [&str; 1] = [STRIPPED[1]];
const DEFAULT: Build = Build { name: "default", cgo: false, arguments: &[] };
const CGO: Build = Build { name: "cgo", cgo: true, arguments: &[] };
// Stripped too: that is the harder case, and the standard library is compiled for it already.
const SHARED: Build =
    Build { name: "c-shared", cgo: true, arguments: &["-buildmode=c-shared", STRIPPED[0], STRIPPED[1]] };
const PLUGIN: Build = Build { name: "plugin", cgo: true, arguments: &["-buildmode=plugin"] };

/// How `waits` is built by every version.
const EVERY_BUILD: [Build; 5] = [
    DEFAULT,
    Build { name: "stripped", cgo: false, arguments: &WITHOUT_SYMBOLS },
    Build { name: "pie", cgo: false, arguments: &["-buildmode=pie", STRIPPED[0], STRIPPED[1]] },
    CGO,
    Build { name: "cgo-pie", cgo: true, arguments: &["-buildmode=pie", STRIPPED[0], STRIPPED[1]] },
];

/// Programs that some versions suffice for: the oldest, the newest, and one on each side of where layouts changed most.
const SOME: [&str; 9] = ["many", "churn", "leak", "forks", "starting", "goexit", "timers", "ends", "queues"];
const SOME_VERSIONS: [&str; 4] = ["1.19", "1.21", "1.24", "1.27"];

/// One program to make: the command, what it makes, and when what that is made of was last changed.
struct Job {
    command: Command,
    output: PathBuf,
    newest_source: SystemTime,
}

/// Where the built programs lie.
pub(crate) fn folder() -> PathBuf {
    programs::folder().join("go")
}

/// A program of the newest version, built if it is missing.
pub(crate) fn built(build_name: &str, program: &str) -> Result<PathBuf> {
    build(Versions::OfTests)?;
    let newest = SOME_VERSIONS.last().copied().unwrap_or_default();
    Ok(folder().join(newest).join(build_name).join(program))
}

/// Builds what is missing or older than the sources, two at a time.
pub(crate) fn build(versions: Versions) -> Result<()> {
    let sources = repo::root().join("leakprobe/tests/programs/go");
    let newest = newest_below(&sources)?.max(modified(&repo::root().join("xtask/src/go_programs.rs"))?);
    let mut ranked = Vec::new();
    let toolchains = go::toolchains(versions)?;
    for toolchain in &toolchains {
        let version = toolchain.version;
        let newest_source = newest.max(modified(&toolchain.goroot().join("VERSION"))?);
        let folder = folder().join(version);
        let mut rank = 0;
        let mut add = |build: &Build, program: &str, file: &str| -> Result<()> {
            let output = folder.join(build.name).join(file);
            let mut command = toolchain.go();
            command.current_dir(&sources).env("CGO_ENABLED", if build.cgo { "1" } else { "0" });
            // A module's Go version decides how the language and the runtime behave, so each toolchain gets its own.
            command.arg("build").arg(format!("-modfile={}", module(&folder, version)?.display()));
            command.args(build.arguments).arg("-o").arg(&output).arg(format!("./{program}"));
            rank += 1;
            ranked.push((rank, Job { command, output, newest_source }));
            Ok(())
        };
        for build in &EVERY_BUILD {
            add(build, "waits", "waits")?;
        }
        add(&SHARED, "library", "libwaits.so")?;
        add(&PLUGIN, "plugin", "plugin.so")?;
        add(&CGO, "pluginhost", "pluginhost")?;
        if SOME_VERSIONS.contains(&version) {
            for program in SOME {
                add(&DEFAULT, program, program)?;
            }
            add(&CGO, "server", "server")?;
        }
    }
    // One version after the other in each build: two that run at a time would compile the same parts of one standard library.
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut jobs: Vec<Job> = ranked.into_iter().map(|(_, job)| job).collect();
    jobs.extend(leak_suite(&toolchains)?);
    jobs.retain(|job| !modified(&job.output).is_ok_and(|built| built > job.newest_source));
    run_all(jobs)?;
    hosts(&sources.join("host/host.c"), &toolchains)
}

/// The programs of the newest toolchain's own leak tests, which lie with its sources, and the list of their cases.
fn leak_suite(toolchains: &[go::Toolchain]) -> Result<Vec<Job>> {
    let Some(toolchain) = toolchains.last() else { return Ok(Vec::new()) };
    let runtime = toolchain.goroot().join("src/runtime");
    let folder = folder().join(toolchain.version).join("leak-suite");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(runtime.join("goroutineleakprofile_test.go"), folder.join("cases.txt"))
        .with_context(|| format!("cannot copy the list of Go's leak tests from {}", runtime.display()))?;
    let job = |program: &str, package: &str| -> Result<Job> {
        let output = folder.join(program);
        let mut command = toolchain.go();
        // Part of the standard library's module, which is not ours to change.
        command.env("GOFLAGS", "").current_dir(runtime.join("testdata/testgoroutineleakprofile"));
        command.arg("build").arg("-o").arg(&output).arg(package);
        Ok(Job { command, output, newest_source: modified(&toolchain.goroot().join("VERSION"))? })
    };
    Ok(vec![job("small", ".")?, job("goker", "./goker")?])
}

/// The C programs that Go libraries are loaded into.
fn hosts(source: &Path, toolchains: &[go::Toolchain]) -> Result<()> {
    let mut jobs = Vec::new();
    let mut add = |output: PathBuf, after: &[&Path], arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("cc");
        command.args(["-O2", "-pthread", "-o"]).arg(&output).arg(source).args(arguments);
        let mut newest_source = modified(source)?;
        for file in after {
            newest_source = newest_source.max(modified(file)?);
        }
        if !modified(&output).is_ok_and(|built| built > newest_source) {
            jobs.push(Job { command, output, newest_source });
        }
        Ok(())
    };
    add(folder().join("host"), &[], &[])?;
    for toolchain in toolchains {
        let library = folder().join(toolchain.version).join("c-shared/libwaits.so");
        let path = library.to_string_lossy();
        let host = library.with_file_name("host");
        add(host, &[&library], &["-DLINKED", &path, "-Wl,-rpath,$ORIGIN"])?;
    }
    run_all(jobs)
}

/// Runs the jobs.
fn run_all(jobs: Vec<Job>) -> Result<()> {
    run::all(jobs, |mut job| {
        if let Some(parent) = job.output.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        run::run(&mut job.command)?;
        // The linker may leave a file untouched that would come out the same.
        let file = fs::File::options().append(true).open(&job.output);
        file.and_then(|file| file.set_modified(SystemTime::now()))
            .with_context(|| format!("cannot date {}", job.output.display()))
    })
}

/// The module file for a version.
fn module(folder: &Path, version: &str) -> Result<PathBuf> {
    let path = folder.join("go.mod");
    let text = format!("module leakprobe.test/programs\n\ngo {version}\n");
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(path);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn modified(path: &Path) -> Result<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).with_context(|| format!("cannot read {}", path.display()))
}

fn newest_below(folder: &Path) -> Result<SystemTime> {
    let mut newest = modified(folder)?;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        newest = newest.max(if path.is_dir() { newest_below(&path)? } else { modified(&path)? });
    }
    Ok(newest)
}
