//! The programs of `leakprobe/tests/corpus`, one for each language, into `target/test-programs/corpus`. What is
//! interpreted is run from its source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::{go, programs, repo, run};

/// A call that leaves no trace on the stack could not be compared by its line.
pub(crate) const C: [&str; 5] = ["-O2", "-g", "-Wall", "-pthread", "-fno-optimize-sibling-calls"];

/// Builds what is missing or older than a source.
pub(crate) fn build() -> Result<()> {
    let sources = repo::root().join("leakprobe/tests/corpus");
    let threads = sources.join("threads");
    let out = programs::folder().join("corpus");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;

    let toolchain = go::newest()?;
    let mut go = toolchain.go();
    go.current_dir(sources.join("go")).env("CGO_ENABLED", "0").args(["build", "-o"]).arg(out.join("go")).arg(".");
    make(&out.join("go"), &files(&sources.join("go"), &["go", "mod"])?, &mut go)?;

    let example = repo::root().join("examples/ci");
    let mut go = toolchain.go();
    go.current_dir(&example).env("CGO_ENABLED", "0").args(["build", "-o"]).arg(out.join("example")).arg(".");
    make(&out.join("example"), &files(&example, &["go", "mod"])?, &mut go)?;

    let c = files(&threads, &["c"])?;
    let cc = |compiler: &str, program: &str, sources: &[PathBuf]| {
        let mut command = Command::new(compiler);
        command.args(C).arg("-o").arg(out.join(program)).args(sources);
        command
    };
    make(&out.join("c"), &files(&threads, &["c", "h"])?, &mut cc("cc", "c", &c))?;
    let cpp = files(&threads, &["cpp"])?;
    make(&out.join("cpp"), &files(&threads, &["cpp", "h"])?, cc("c++", "cpp", &cpp).arg("-std=c++20"))?;

    let rust = files(&threads, &["rs"])?;
    let mut rustc = Command::new("rustc");
    make(&out.join("rust"), &rust, rustc.args(["--edition=2024", "-O", "-g", "-o"]).arg(out.join("rust")).args(&rust))?;
    let java = files(&threads, &["java"])?;
    let mut javac = Command::new("javac");
    make(&out.join("Corpus.class"), &java, javac.args(["-g", "-d"]).arg(&out).args(&java))
}

/// Runs `command`, which makes `output`, if a source is newer.
pub(crate) fn make(output: &Path, sources: &[PathBuf], command: &mut Command) -> Result<()> {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    if let Ok(built) = modified(output)
        && sources.iter().all(|source| modified(source).is_ok_and(|changed| changed < built))
    {
        return Ok(());
    }
    run::run(command)?;
    // A compiler may leave a file untouched that would come out the same.
    let file = fs::File::options().append(true).open(output);
    file.and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot date {}", output.display()))
}

/// The files in `folder` that end so, in a fixed order.
pub(crate) fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
