//! `cargo xtask test`: installs what the tests need and runs them all, on this kernel and in others.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::excerpt::excerpt;
use crate::field::{self, Libraries};
use crate::go::Versions;
use crate::tally::Tally;
use crate::{corpus, debian, fuzz, go_programs, kernels, programs, repo, run};

/// Install what the tests need and pass all of them, here and in other kernels
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to test besides the running one, as for `cargo xtask kernels`; "" for none
    #[arg(long, default_value = kernels::CI_KERNELS, value_name = "SUITE[:VERSION] …")]
    kernels: String,
    /// What takes long, too: all programs of the field, all versions of Go, and in other kernels the tests of what is the same on
    /// every kernel
    #[arg(long)]
    all: bool,
}

/// What the tests run, and the Debian package that holds it.
const NEEDED: [(&str, &str); 30] = [
    ("cc", "gcc"),
    ("c++", "g++"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("/usr/include/asm", "gcc-multilib"),
    ("/usr/lib32/libc.so", "libc6-dev-i386"),
    ("/usr/lib/debug/.build-id", "libc6-dbg"),
    ("musl-gcc", "musl-tools"),
    ("xz", "xz-utils"),
    ("eu-stack", "elfutils"),
    ("etcd", "etcd-server"),
    ("prometheus", "prometheus"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("/usr/share/doc/postgresql", "postgresql"),
    ("mariadbd", "mariadb-server"),
    ("nginx", "nginx-light"),
    ("memcached", "memcached"),
    ("memcslap", "libmemcached-tools"),
    ("javac", "default-jdk-headless"),
    ("python3", "python3"),
    ("java", "default-jre-headless"),
    ("node", "nodejs"),
    ("ruby", "ruby"),
    ("objcopy", "binutils"),
    ("dwz", "dwz"),
    ("rsvg-convert", "librsvg2-bin"),
    ("dot", "graphviz"),
    ("curl", "curl"),
    ("xmllint", "libxml2-utils"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if !debian::is_root()? {
        bail!("the tests load BPF programs and read other processes: run `sudo -E env PATH=$PATH cargo xtask test`");
    }
    debian::install_missing(&NEEDED, "the test suite")?;

    let began = Instant::now();
    run::run(repo::cargo().args(["build", "--release", "--locked"]))?;
    let programs = programs::build()?;
    go_programs::build(if args.all { Versions::All } else { Versions::OfTests })?;
    corpus::build()?;
    field::build(if args.all { Libraries::All } else { Libraries::OfTests })?;
    run::say(&format!("== test programs: {:.0} s", began.elapsed().as_secs_f32()));
    let mut cargo = repo::cargo();
    cargo.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    // The tests of real programs use what users run; unit tests have the checks of a debug build.
    cargo.env("LEAKPROBE_BIN", repo::leakprobe()).env("LEAKPROBE_TEST_PROGRAMS", programs);
    if args.all {
        cargo.env("LEAKPROBE_FIELD_ALL", "1");
    }
    let mut tally = Tally::default();
    let mut failures = Failures::default();
    let began = Instant::now();
    let status = run::tee(&mut cargo, |line| {
        tally.add(Tally::of_line(line).unwrap_or_default());
        failures.line(line);
    })?;
    run::say(&format!("== tests on this kernel, with their build: {:.0} s", began.elapsed().as_secs_f32()));
    if !status.success() && tally.failed == 0 {
        // It did not compile, or a test program died before its result.
        tally.count(false);
    }
    let began = Instant::now();
    tally.add(fuzz::fuzz(None, fuzz::SECONDS)?);
    run::say(&format!("== fuzzing, with its build: {:.0} s", began.elapsed().as_secs_f32()));
    if !args.kernels.trim().is_empty() {
        let began = Instant::now();
        tally.add(kernels::matrix(&kernels::Args::with_kernels(&args.kernels, !args.all))?);
        run::say(&format!("== tests on other kernels: {:.0} s", began.elapsed().as_secs_f32()));
    }
    // Far up by now.
    for line in failures.told {
        run::say(&format!("on this kernel| {line}"));
    }
    run::say(&tally.to_string());
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

/// Why tests failed, from the output of one test program after the other.
#[derive(Default)]
struct Failures {
    /// What the test program that is running has printed so far.
    lines: Vec<String>,
    /// What is to be told of those that have ended.
    told: Vec<String>,
}

impl Failures {
    fn line(&mut self, line: &str) {
        // Every test program begins so.
        if line.starts_with("running ") && line.trim_end().ends_with(['s', 't']) {
            self.lines.clear();
        }
        self.lines.push(line.to_owned());
        if Tally::of_line(line).is_some_and(|tally| tally.failed > 0) {
            let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
            self.told.extend(excerpt(&lines));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_program_that_failed_it_is_told_why() {
        let mut failures = Failures::default();
        let output = "running 1 test\ntest a ... ok\ntest result: ok. 1 passed; 0 failed;\nrunning 2 tests\n\
            test b ... FAILED\nfailures:\n---- b stdout ----\npanicked\ntest result: FAILED. 1 passed; 1 failed;";
        output.lines().for_each(|line| failures.line(line));
        let result = "test result: FAILED. 1 passed; 1 failed;";
        assert_eq!(failures.told, ["failures:", "---- b stdout ----", "panicked", result]);
    }
}
