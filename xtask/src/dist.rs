//! `cargo xtask dist`: the release binary as it is given out. Its debug information lies in a file beside it; names of functions stay in
//! it, compressed as "MiniDebugInfo", so that leakprobe and others still name them:
//! <https://sourceware.org/gdb/current/onlinedocs/gdb.html/MiniDebugInfo.html>.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{debian, repo, run};

/// Build the release binary as it is given out, with its debug information beside it
#[derive(clap::Args)]
pub(crate) struct Args {}

/// The largest that the binary may be, bytes.
const LARGEST: u64 = 14_000_000;

pub(crate) fn run(_: &Args) -> Result<()> {
    build().map(drop)
}

/// Builds the program, and fails if it has become larger than it may be.
pub(crate) fn build() -> Result<PathBuf> {
    debian::install_missing(&[("objcopy", "binutils"), ("xz", "xz-utils")], "splitting off debug information")?;
    run::run(repo::cargo().args(["build", "--release", "--locked"]))?;
    let (whole, folder) = (repo::leakprobe(), repo::target().join("dist"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let (program, debug) = (folder.join("leakprobe"), folder.join("leakprobe.debug"));
    run::run(Command::new("objcopy").arg("--only-keep-debug").arg(&whole).arg(&debug))?;
    let names = names(&whole, &debug)?;
    let mut strip = Command::new("objcopy");
    strip.arg("--strip-all").arg(format!("--add-section=.gnu_debugdata={}", names.display()));
    run::run(strip.arg(format!("--add-gnu-debuglink={}", debug.display())).arg(&whole).arg(&program))?;
    let size = program.metadata().with_context(|| format!("cannot read {}", program.display()))?.len();
    if size > LARGEST {
        bail!("{} has {size} bytes, more than {LARGEST}", program.display());
    }
    run::say(&format!("wrote {}, {size} bytes of at most {LARGEST}, and {}", program.display(), debug.display()));
    Ok(program)
}

/// In the names of our own functions, and of those of the standard library that run them: a crate's name comes with its length.
const NAMED: [&str; 3] = ["9leakprobe", "3std", "4core3ops"];

/// Makes the section that names functions: a symbol table of those that the table of dynamic symbols does not have, without those of
/// libraries, which are in the debug information beside it.
fn names(whole: &Path, debug: &Path) -> Result<PathBuf> {
    let dynamic = run::query(Command::new("nm").args(["-D", "--format=posix", "--defined-only"]).arg(whole))?;
    let dynamic: HashSet<&str> = dynamic.lines().filter_map(|line| line.split(' ').next()).collect();
    let all = run::query(Command::new("nm").args(["--format=posix", "--defined-only"]).arg(whole))?;
    let functions = all.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let is_ours = NAMED.iter().any(|krate| name.contains(krate));
        (is_ours && rest.starts_with(['T', 't']) && !dynamic.contains(name)).then_some(name)
    });
    let keep = debug.with_file_name("functions");
    fs::write(&keep, functions.collect::<Vec<_>>().join("\n"))
        .with_context(|| format!("cannot write {}", keep.display()))?;
    let mini = debug.with_file_name("names");
    let mut strip = Command::new("objcopy");
    strip.args(["--strip-all", "--remove-section=.comment"]).arg(format!("--keep-symbols={}", keep.display()));
    run::run(strip.arg(debug).arg(&mini))?;
    run::run(Command::new("xz").args(["--force", "-9"]).arg(&mini))?;
    Ok(mini.with_extension("xz"))
}
