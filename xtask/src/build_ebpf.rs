//! `cargo xtask build-ebpf`: makes the BPF object that is committed and embedded in the binary.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::Toolchain;
use crate::{checked, repo, run};

const TARGET: &str = "bpfel-unknown-none";

/// Build leakprobe's BPF object, installing the toolchain if it is missing
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing: build afresh and fail if the committed object differs by a byte
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check { check() } else { build() }
}

fn build() -> Result<()> {
    let toolchain = Toolchain::find_or_install()?;
    let built = compile(&toolchain, &repo::target().join("bpf"))?;
    let committed = repo::bpf_object();
    fs::copy(&built, &committed).with_context(|| format!("cannot write {}", committed.display()))?;
    let description = committed.with_file_name("TOOLCHAIN");
    fs::write(&description, format!("{}{}", toolchain.describe()?, sums()?))
        .with_context(|| format!("cannot write {}", description.display()))?;
    run::say(&format!("wrote {}: {}", committed.display(), fingerprint(&committed)?));
    Ok(())
}

/// All that decides what the object is, and that lies in the checkout.
const SOURCES: [&str; 4] = ["leakprobe-common", "leakprobe-ebpf", "xtask/src/build_ebpf.rs", "xtask/src/toolchain.rs"];

/// What `TOOLCHAIN` says of sources and object.
fn sums() -> Result<String> {
    let (sources, object) = (checked::sum(&SOURCES)?, checked::sum(&["leakprobe/bpf/leakprobe.bpf.o"])?);
    Ok(format!("sources: sha256 {sources}\nobject: sha256 {object}\n"))
}

/// Fails if the committed object is not, byte for byte, what its source makes. It is built for that unless sources and object are those
/// of the last `cargo xtask build-ebpf`.
pub(crate) fn check_if_changed() -> Result<()> {
    let committed = repo::bpf_object();
    let written = fs::read_to_string(committed.with_file_name("TOOLCHAIN")).unwrap_or_default();
    if written.ends_with(&sums()?) {
        run::say(&format!("the BPF object and its sources are those of its last build: {}", fingerprint(&committed)?));
        return Ok(());
    }
    check()
}

/// Fails if the committed object is not, byte for byte, what its source makes.
fn check() -> Result<()> {
    let toolchain = Toolchain::find_or_install()?;
    // Nothing of an earlier build may decide what is compared.
    let target = repo::target().join("bpf-check");
    if target.exists() {
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    let built = compile(&toolchain, &target)?;
    let committed = repo::bpf_object();
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    if read(&built)? == read(&committed)? {
        run::say(&format!("the committed BPF object is what its source makes: {}", fingerprint(&committed)?));
        return Ok(());
    }
    run::say(&format!("committed: {}", fingerprint(&committed)?));
    run::say(&format!("built now: {}", fingerprint(&built)?));
    let written = fs::read_to_string(committed.with_file_name("TOOLCHAIN")).unwrap_or_default();
    let present = toolchain.describe()?;
    for (line, was) in differing(&present, &written) {
        run::say(&format!("another toolchain: {line}, the committed object was made with {was}"));
    }
    bail!("the committed BPF object differs from its source: run `cargo xtask build-ebpf` and commit leakprobe/bpf");
}

/// The lines of `present` that are not in `written`, each with what is written there instead.
fn differing<'a>(present: &'a str, written: &'a str) -> Vec<(&'a str, &'a str)> {
    let value_of = |key: &str| written.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    let lines = present.lines().filter_map(|line| Some((line, line.split_once(": ")?)));
    lines
        .map(|(line, (key, value))| (line, value, value_of(key).unwrap_or("an unknown version")))
        .filter(|(_, value, was)| value != was)
        .map(|(line, _, was)| (line, was))
        .collect()
}

/// Compiles the BPF crate into `target` and returns the stripped object.
fn compile(toolchain: &Toolchain, target: &Path) -> Result<PathBuf> {
    // The sources must lie in CARGO_HOME before `rustflags` can say where.
    run::run(bpf_cargo(toolchain).args(["fetch", "--locked"]))?;
    let mut cargo = bpf_cargo(toolchain);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain)?);
    cargo.args(["build", "--locked", "--release", "--target", TARGET, "-Zbuild-std=core", "--target-dir"]).arg(target);
    run::run(&mut cargo)?;

    let linked = target.join(TARGET).join("release/leakprobe");
    let stripped = linked.with_extension("bpf.o");
    // The DWARF is not needed any more, once the linker has made .BTF and .BTF.ext from it.
    run::run(Command::new(&toolchain.objcopy).arg("--strip-debug").args([&linked, &stripped]))?;
    Ok(stripped)
}

/// A cargo in the BPF crate that uses the toolchain, and nothing that the user or an outer cargo chose for other builds.
fn bpf_cargo(toolchain: &Toolchain) -> Command {
    // RUSTUP_* is kept: it decides which cargo runs, not what it makes.
    const FOREIGN: [&str; 7] =
        ["RUSTFLAGS", "RUSTC", "CARGO_ENCODED_", "CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"];
    let mut cargo = repo::cargo();
    cargo.current_dir(repo::root().join("leakprobe-ebpf"));
    for (name, _) in env::vars_os() {
        if FOREIGN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(&name);
        }
    }
    // Empty overrides a wrapper in the user's cargo configuration as well.
    cargo.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    // build-std is unstable; the pinned rustc is a stable release.
    cargo.env("RUSTC", &toolchain.rustc).env("RUSTC_BOOTSTRAP", "1");
    cargo
}

/// Flags that make the same bytes from every checkout, `CARGO_HOME` and registry mirror: .BTF.ext names source files.
fn rustflags(toolchain: &Toolchain) -> Result<String> {
    let text =
        |path: &Path| path.to_str().map(str::to_owned).with_context(|| format!("{} is no UTF-8", path.display()));
    let mut flags = vec![
        format!("-Clinker={}", text(&toolchain.linker)?),
        "-Clink-arg=--btf".to_owned(),
        // bpf-linker makes BTF from it.
        "-Cdebuginfo=2".to_owned(),
        // Which registers pt_regs has: that of the machine that the object runs on.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        format!("--remap-path-prefix={}=leakprobe", text(repo::root())?),
    ];
    let cargo_home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => Path::new(&env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
    };
    // One folder for each registry, named after it.
    let registries = cargo_home.join("registry/src");
    for registry in fs::read_dir(&registries).with_context(|| format!("cannot read {}", registries.display()))? {
        let registry = registry.with_context(|| format!("cannot read {}", registries.display()))?;
        flags.push(format!("--remap-path-prefix={}=registry", text(&registry.path())?));
    }
    Ok(flags.join("\x1f"))
}

fn fingerprint(file: &Path) -> Result<String> {
    let size = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    let sum = run::query(Command::new("sha256sum").arg(file))?;
    Ok(format!("{size} bytes, sha256 {}", sum.split(' ').next().unwrap_or("unknown")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_versions_that_differ() {
        let written = "# comment: none\nrustc: 1.96\nLLVM: 22\n";
        let present = "# comment\nrustc: 1.97\nLLVM: 22\nbpf-linker: 1\n";
        let expected = [("rustc: 1.97", "1.96"), ("bpf-linker: 1", "an unknown version")];
        assert_eq!(differing(present, written), expected);
    }
}
