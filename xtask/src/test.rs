//! `cargo xtask test`: installs what the tests need and runs them all, on this kernel and in others.

use anyhow::{Result, bail};

use crate::tally::{self, Tally};
use crate::{debian, go_programs, kernels, programs, repo, run};

/// Install what the tests need and pass all of them, here and in other kernels
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to test besides the running one, as for `cargo xtask kernels`; "" for none
    #[arg(long, default_value = kernels::CI_KERNELS, value_name = "SUITE[:VERSION] …")]
    kernels: String,
}

/// What the tests run, and the Debian package that holds it.
const NEEDED: [(&str, &str); 23] = [
    ("cc", "gcc"),
    ("c++", "g++"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("/usr/include/asm", "gcc-multilib"),
    ("/usr/lib32/libc.so", "libc6-dev-i386"),
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
    ("javac", "default-jdk-headless"),
    ("python3", "python3"),
    ("java", "default-jre-headless"),
    ("node", "nodejs"),
    ("rsvg-convert", "librsvg2-bin"),
    ("dot", "graphviz"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if !debian::is_root()? {
        bail!("the tests load BPF programs and read other processes: run `sudo -E env PATH=$PATH cargo xtask test`");
    }
    debian::install_missing(&NEEDED, "the test suite")?;

    run::run(repo::cargo().args(["build", "--release", "--locked"]))?;
    let programs = programs::build()?;
    go_programs::build()?;
    let mut cargo = repo::cargo();
    cargo.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    // The tests of real programs use what users run; unit tests have the checks of a debug build.
    cargo.env("LEAKPROBE_BIN", repo::leakprobe()).env("LEAKPROBE_TEST_PROGRAMS", programs);
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    let status = run::tee(&mut cargo, |line| {
        tally.add(Tally::of_line(line).unwrap_or_default());
        failed.extend(tally::failed_test(line).map(str::to_owned));
    })?;
    if !status.success() && tally.failed == 0 {
        // It did not compile, or a test program died before its result.
        tally.count(false);
    }
    if !args.kernels.trim().is_empty() {
        tally.add(kernels::matrix(&kernels::Args::with_kernels(&args.kernels))?);
    }
    // Far up by now.
    for name in failed {
        run::say(&format!("failed on this kernel: {name}"));
    }
    run::say(&tally.to_string());
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}
