//! The test programs, compiled in the variants that differ for a profiler.

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// A position-independent executable, as distributions build.
    Pie,
    /// At a fixed address.
    NoPie,
    /// Without shared libraries, at a fixed address.
    Static,
    /// Without shared libraries, position-independent.
    StaticPie,
    /// Without symbols, but not without unwind information.
    Stripped,
}

impl Variant {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Pie, Self::NoPie, Self::Static, Self::StaticPie, Self::Stripped];

    /// What its file names end in, as `cargo xtask test` names them.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Pie => "",
            Self::NoPie => "-nopie",
            Self::Static => "-static",
            Self::StaticPie => "-static-pie",
            Self::Stripped => "-stripped",
        }
    }

    fn c_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Pie => &["-pie", "-fPIE"],
            Self::NoPie => &["-no-pie", "-fno-pie"],
            Self::Static => &["-static", "-no-pie", "-fno-pie"],
            Self::StaticPie => &["-static-pie", "-fPIE"],
            Self::Stripped => &["-pie", "-fPIE", "-s"],
        }
    }

    fn rust_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Pie => &[],
            Self::NoPie => &["-Crelocation-model=static"],
            Self::Static => &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"],
            Self::StaticPie => &["-Ctarget-feature=+crt-static"],
            Self::Stripped => &["-Cstrip=symbols"],
        }
    }
}

/// The program `name`, built if it has to be. `LEAKPROBE_TEST_PROGRAMS` names a folder of programs that are built already.
pub fn program_path(name: &str, variant: Variant) -> PathBuf {
    let file = format!("{name}{}", variant.suffix());
    if let Some(folder) = env::var_os("LEAKPROBE_TEST_PROGRAMS") {
        let path = Path::new(&folder).join(file);
        assert!(path.exists(), "LEAKPROBE_TEST_PROGRAMS is set, but {} is not there", path.display());
        return path;
    }
    static BUILT: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&file);
    if built.get_or_insert_default().insert(file) {
        build(name, variant, &path);
    }
    path
}

fn build(name: &str, variant: Variant, path: &Path) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    if sources.join(name).join("Cargo.toml").exists() {
        return build_crate(name, path);
    }
    let (compiler, source) = [("cc", "c"), ("c++", "cpp"), ("rustc", "rs")]
        .into_iter()
        .map(|(compiler, extension)| (compiler, sources.join(format!("{name}.{extension}"))))
        .find(|(_, source)| source.exists())
        .unwrap_or_else(|| panic!("there is no test program {name} in {}", sources.display()));
    let shared = [sources.join("common.h"), sources.join("common/mod.rs")];
    if is_newer(path, &source) && shared.iter().all(|shared| is_newer(path, shared)) {
        return;
    }
    // Under a name of our own and then renamed: another test target may build or run the same program.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut command = Command::new(compiler);
    if compiler == "rustc" {
        command.args(["--edition=2024", "-O"]).args(variant.rust_arguments());
    } else {
        command.args(["-O2", "-fomit-frame-pointer", "-pthread"]).args(variant.c_arguments());
        if compiler == "c++" {
            command.arg("-std=c++20");
        }
    }
    run(command.arg("-o").arg(&new).arg(&source));
    fs::rename(&new, path).unwrap_or_else(|error| panic!("cannot rename {}: {error}", new.display()));
}

/// A program that is a crate of its own, since it needs others.
fn build_crate(name: &str, path: &Path) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crates");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Without debug information, as the others.
    command.args(["build", "--release", "--locked", "--config", "profile.release.debug=false", "-p", name]);
    run(command.arg("--target-dir").arg(&target));
    let new = path.with_extension(format!("{}.new", std::process::id()));
    fs::copy(target.join("release").join(name), &new).unwrap();
    fs::rename(&new, path).unwrap();
}

fn run(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}, for the test programs: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

fn is_newer(program: &Path, source: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    matches!((modified(program), modified(source)), (Some(program), Some(source)) if program > source)
}
