//! The programs of `leakprobe/tests/field`, into `target/test-programs/field`: small ones after public reports of leaks, and those that
//! use real libraries, which the ordinary package clients fetch at the versions of the lock files. What is interpreted is run from its
//! source.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::corpus::{C, files, make};
use crate::{debian, go, programs, repo, run};

/// What of the libraries to build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Libraries {
    /// What the tests of each run need.
    OfTests,
    All,
}

/// Builds what is missing or older than a source.
pub(crate) fn build(libraries: Libraries) -> Result<()> {
    let sources = repo::root().join("leakprobe/tests/field");
    let out = programs::folder().join("field");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    small(&sources, &out)?;
    let sources = sources.join("libraries");
    modules(&sources.join("go"), &out)?;
    crates(&sources.join("rust"), &out)?;
    wheels(&sources.join("python"), &out)?;
    packages(&sources.join("node"), &out)?;
    if libraries == Libraries::All { jars(&sources.join("java"), &out) } else { Ok(()) }
}

/// The small programs, which need no library.
fn small(sources: &Path, out: &Path) -> Result<()> {
    // A `go` line before 1.23 gives timers as they were before, up to Go 1.26; and so does an older toolchain.
    let old_line = sources.join("go/go.mod");
    let new_line = out.join("new.mod");
    let newest = go::newest()?;
    let text = format!("module leakprobe.test/field\n\ngo {}\n", newest.version);
    if !fs::read_to_string(&new_line).is_ok_and(|there| there == text) {
        fs::write(&new_line, text).with_context(|| format!("cannot write {}", new_line.display()))?;
    }
    let of_go = files(&sources.join("go"), &["go", "mod"])?;
    for (program, toolchain, module) in [
        ("go", newest, &new_line),
        ("go-old-line", go::of_version("1.26")?, &old_line),
        ("go-old", go::of_version("1.21")?, &old_line),
    ] {
        let output = out.join(program);
        let mut go = toolchain.go();
        go.current_dir(sources.join("go")).env("CGO_ENABLED", "0").arg("build");
        go.arg(format!("-modfile={}", module.display())).arg("-o").arg(&output).arg(".");
        make(&output, &of_go, &mut go)?;
    }
    let mut go = go::newest()?.go();
    go.current_dir(sources.join("load")).env("CGO_ENABLED", "0").args(["build", "-o"]).arg(out.join("load")).arg(".");
    make(&out.join("load"), &files(&sources.join("load"), &["go", "mod"])?, &mut go)?;

    let threads = sources.join("threads");
    let mut cc = Command::new("cc");
    cc.args(C).arg("-o").arg(out.join("threads")).args(files(&threads, &["c"])?);
    make(&out.join("threads"), &files(&threads, &["c", "h"])?, &mut cc)?;
    let java = files(&threads, &["java"])?;
    make(&out.join("Field.class"), &java, Command::new("javac").args(["-g", "-d"]).arg(out).args(&java))
}

/// Go modules, as go.sum has them.
fn modules(source: &Path, out: &Path) -> Result<()> {
    let mut go = go::newest()?.go();
    match env::var_os("GOPROXY") {
        Some(proxy) => go.env("GOPROXY", proxy),
        None => go.env_remove("GOPROXY"),
    };
    go.current_dir(source).env("GOFLAGS", "-mod=readonly").env("CGO_ENABLED", "0");
    go.args(["build", "-o"]).arg(out.join("libraries")).arg(".");
    make(&out.join("libraries"), &files(source, &["go", "mod", "sum"])?, &mut go)
}

/// Crates, as Cargo.lock has them.
fn crates(source: &Path, out: &Path) -> Result<()> {
    let target = repo::target().join("field-crates");
    let mut cargo = repo::cargo();
    cargo.current_dir(source).args(["build", "--release", "--locked", "--target-dir"]).arg(&target);
    run::run(&mut cargo)?;
    let built = target.join("release/field");
    fs::copy(&built, out.join("rust")).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(())
}

/// Wheels, by the hashes of requirements.txt.
fn wheels(source: &Path, out: &Path) -> Result<()> {
    install(&source.join("requirements.txt"), &out.join("python"), |requirements, folder| {
        let mut pip = go::pip()?;
        pip.args(["install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--require-hashes"]);
        pip.args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"]);
        run::run(pip.arg(folder).arg("-r").arg(requirements))
    })
}

/// npm's packages, as package-lock.json has them.
fn packages(source: &Path, out: &Path) -> Result<()> {
    debian::install_missing(&[("npm", "npm")], "a target that uses npm's packages")?;
    install(&source.join("package-lock.json"), &out.join("node"), |lock, folder| {
        let package = lock.with_file_name("package.json");
        for file in [lock, &package] {
            let name = file.file_name().unwrap_or_default();
            fs::copy(file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        run::run(Command::new("npm").current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))
    })
}

/// Maven's artifacts, as pom.xml has them, and the program that uses them.
fn jars(source: &Path, out: &Path) -> Result<()> {
    debian::install_missing(&[("mvn", "maven")], "a target that uses Maven's artifacts")?;
    let folder = out.join("java");
    install(&source.join("pom.xml"), &folder, |pom, folder| {
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(pom);
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies");
        maven.arg(format!("-DoutputDirectory={}", folder.display()));
        run::run(maven.arg(format!("-Dmaven.repo.local={}", repo::target().join("maven").display())))
    })?;
    let java = files(source, &["java"])?;
    let mut javac = Command::new("javac");
    javac.arg("-g").arg("-cp").arg(folder.join("*")).arg("-d").arg(out).args(&java);
    make(&out.join("Libraries.class"), &java, &mut javac)
}

/// Fills `folder` anew if it was not filled by this very lock file.
fn install(lock: &Path, folder: &Path, fill: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
    let filled_by = folder.join("filled-by");
    let text = fs::read(lock).with_context(|| format!("cannot read {}", lock.display()))?;
    if fs::read(&filled_by).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fill(lock, folder)?;
    fs::write(&filled_by, text).with_context(|| format!("cannot write {}", filled_by.display()))
}
