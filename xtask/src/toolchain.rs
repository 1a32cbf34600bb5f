//! The toolchain of the BPF object: a rustc with the sources of its `core`, bpf-linker with an LLVM no older than
//! rustc's, llvm-objcopy. The object is compared byte for byte, so the versions are pinned here and written down in
//! `leakprobe/bpf/TOOLCHAIN` by each build.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{debian, repo, run};

/// Debian's newest rustc, which comes with its sources in a package of the same version.
const RUSTC: &str = "1.96.0";
const LLVM_MAJOR: &str = "22";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const BPF_LINKER: &str = "0.13.0";
/// llvm-22-dev holds the libLLVM.so that bpf-linker is linked with, and depends on llvm-22, which holds llvm-objcopy.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "llvm-22-dev"];

/// Paths of the programs that make the object.
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) linker: PathBuf,
    pub(crate) objcopy: PathBuf,
}

impl Toolchain {
    /// The toolchain named by `LEAKPROBE_BPF_RUSTC`, `LEAKPROBE_BPF_LINKER` and `LEAKPROBE_BPF_OBJCOPY`; for what they
    /// do not name, the pinned one, installed first if it is missing.
    pub(crate) fn find_or_install() -> Result<Self> {
        let given = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let rustc = given("LEAKPROBE_BPF_RUSTC");
        let linker = given("LEAKPROBE_BPF_LINKER");
        let objcopy = given("LEAKPROBE_BPF_OBJCOPY");

        if (rustc.is_none() || linker.is_none() || objcopy.is_none()) && !packages_present() {
            if debian::os_release("ID").as_deref() != Some("debian") {
                bail!(
                    "the BPF toolchain is installed by itself on Debian only: here, run `rustup toolchain install nightly \
                     --component rust-src` and `cargo install bpf-linker`, and name the programs in LEAKPROBE_BPF_RUSTC \
                     (`rustup which --toolchain nightly rustc`), LEAKPROBE_BPF_LINKER and LEAKPROBE_BPF_OBJCOPY (llvm-objcopy)"
                );
            }
            debian::install(&PACKAGES, "the BPF toolchain")?;
            if !packages_present() {
                bail!("the BPF toolchain is not complete although apt-get installed {}", PACKAGES.join(" "));
            }
        }
        let toolchain = Self {
            rustc: rustc.unwrap_or_else(debian_rustc),
            linker: linker.map_or_else(install_bpf_linker, Ok)?,
            objcopy: objcopy.unwrap_or_else(|| Path::new(LLVM_PREFIX).join("bin/llvm-objcopy")),
        };
        if !has_core_sources(&toolchain.rustc) {
            bail!(
                "{} has no sources of `core`: install its rust-src component (Debian: rust-web-src of the same version)",
                toolchain.rustc.display()
            );
        }
        Ok(toolchain)
    }

    /// The text of `leakprobe/bpf/TOOLCHAIN`.
    pub(crate) fn describe(&self) -> Result<String> {
        let rustc = run::query(Command::new(&self.rustc).arg("--version"))?;
        let verbose = run::query(Command::new(&self.rustc).arg("-vV"))?;
        let rustc_llvm = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: ")).unwrap_or("unknown");
        let objcopy = run::query(Command::new(&self.objcopy).arg("--version"))?;
        let llvm = objcopy.split("LLVM version ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let linker = run::query(Command::new(&self.linker).arg("--version"))?;
        Ok(format!(
            "# What made leakprobe.bpf.o. Written by `cargo xtask build-ebpf`.\n\
             rustc: {}\n\
             rustc's LLVM: {rustc_llvm}\n\
             LLVM: {}\n\
             bpf-linker: {}\n",
            rustc.trim(),
            llvm.unwrap_or("unknown"),
            linker.trim().trim_start_matches("bpf-linker "),
        ))
    }
}

fn debian_rustc() -> PathBuf {
    // By its path: on PATH there usually is rustup's.
    PathBuf::from("/usr/bin/rustc")
}

/// Whether Debian's packages are there. A newer rustc is taken too, since Debian keeps only the newest; TOOLCHAIN then
/// says why the bytes differ.
fn packages_present() -> bool {
    let rustc = run::ask(Command::new(debian_rustc()).arg("--version"));
    let Some(version) = rustc.as_deref().and_then(|text| text.split(' ').nth(1)) else { return false };
    if version != RUSTC {
        run::say(&format!("note: {} is {version}, pinned is {RUSTC}", debian_rustc().display()));
    }
    let llvm = Path::new(LLVM_PREFIX);
    minor(version) >= minor(RUSTC)
        && has_core_sources(&debian_rustc())
        && llvm.join("lib/libLLVM.so").exists()
        && llvm.join("bin/llvm-objcopy").exists()
}

fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

fn has_core_sources(rustc: &Path) -> bool {
    let sysroot = run::ask(Command::new(rustc).args(["--print", "sysroot"]));
    sysroot.is_some_and(|path| Path::new(path.trim()).join("lib/rustlib/src/rust/library/core").exists())
}

fn install_bpf_linker() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let llvm_first = [PathBuf::from(LLVM_PREFIX).join("bin")].into_iter().chain(env::split_paths(&path));
    let llvm_first = env::join_paths(llvm_first).context("PATH cannot be extended")?;
    repo::tool("bpf-linker", BPF_LINKER, |install| {
        install.args(["--no-default-features", "--features", &format!("llvm-{LLVM_MAJOR}")]);
        install.env("LLVM_PREFIX", LLVM_PREFIX).env("PATH", llvm_first);
    })
}
