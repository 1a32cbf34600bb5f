//! apt with lists and a cache of its own, so that packages of any suite can be downloaded without installing them and
//! without touching the machine's apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::run;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How long downloaded lists are good.
const FRESH: Duration = Duration::from_secs(12 * 3600);

/// Where packages come from.
pub(crate) struct Mirror {
    debian: String,
    security: String,
}

impl Mirror {
    /// `url`, or else the mirror that this machine's apt uses.
    pub(crate) fn find(url: Option<&str>) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install debian-archive-keyring, which Debian's packages are checked with");
        }
        if let Some(url) = url {
            let url = url.trim_end_matches('/');
            return Ok(Self { debian: format!("{url}/debian"), security: format!("{url}/debian-security") });
        }
        let sites = run::query(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]))?;
        let site = |name| sites.lines().map(|site| site.trim_end_matches('/')).find(|site| site.ends_with(name));
        let debian = site("/debian").context("this machine's apt knows no Debian mirror: name one with --mirror")?;
        let security = site("/debian-security").map_or_else(|| format!("{debian}-security"), str::to_owned);
        Ok(Self { debian: debian.to_owned(), security })
    }
}

/// One apt: the lists of some suites.
pub(crate) struct Apt {
    dir: PathBuf,
    status: PathBuf,
}

impl Apt {
    /// Packages of `suite` alone, as if nothing were installed.
    pub(crate) fn of_suite(work: &Path, mirror: &Mirror, suite: &str) -> Result<Self> {
        Self::open(work, mirror, suite, &[suite], None)
    }

    /// Packages of `suites`, for a machine where those in the dpkg database `status` are installed. `name` names the
    /// folder of the lists.
    pub(crate) fn open(
        work: &Path,
        mirror: &Mirror,
        name: &str,
        suites: &[&str],
        status: Option<&Path>,
    ) -> Result<Self> {
        let dir = work.join("apt").join(name);
        for below in ["lists/partial", "cache/archives/partial"] {
            let below = dir.join(below);
            fs::create_dir_all(&below).with_context(|| format!("cannot create {}", below.display()))?;
        }
        let apt = Self { status: status.map_or_else(|| dir.join("status"), Path::to_path_buf), dir };
        if status.is_none() {
            apt.write("status", "")?;
        }
        apt.write("sources.list", &suites.iter().map(|suite| sources(mirror, suite)).collect::<String>())?;
        apt.refresh()?;
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.dir.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn refresh(&self) -> Result<()> {
        let stamp = self.dir.join("updated");
        let age =
            fs::metadata(&stamp).and_then(|meta| meta.modified()).ok().map(|at| SystemTime::now().duration_since(at));
        if matches!(age, Some(Ok(age)) if age < FRESH) {
            return Ok(());
        }
        run::say(&format!("refreshing package lists in {}", self.dir.display()));
        match run::query(self.command("apt-get").args(["-qq", "update"])) {
            Ok(_) => self.write("updated", ""),
            // Old lists are better than none.
            Err(_) if stamp.exists() => {
                run::complain("warning: using older package lists, apt could not download newer ones");
                Ok(())
            }
            // apt has said why; its command line is too long to be read.
            Err(_) => {
                bail!("apt cannot download the package lists that {} names", self.dir.join("sources.list").display())
            }
        }
    }

    /// `tool` of apt, bound to this folder.
    pub(crate) fn command(&self, tool: &str) -> Command {
        let dir = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(tool);
        for option in [
            format!("Dir::Etc::sourcelist={}", dir("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", dir("lists")),
            format!("Dir::State::status={}", self.status.display()),
            format!("Dir::Cache={}", dir("cache")),
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            // The `_apt` user may not reach the checkout.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The machine's own apt may be busy; these folders are ours.
            "Debug::NoLocking=1".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// What apt knows of the newest version of `package`.
    pub(crate) fn show(&self, package: &str) -> Option<String> {
        run::ask(self.command("apt-cache").args(["show", "--no-all-versions", package])).filter(|text| !text.is_empty())
    }

    /// Names of all packages that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let names = run::ask(self.command("apt-cache").args(["pkgnames", prefix])).unwrap_or_default();
        names.lines().map(str::to_owned).collect()
    }

    /// Downloads `package` unless it is there, and returns its file.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf> {
        let folder = self.dir.join("deb");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // 'URL' FILE SIZE HASH
        let uris = run::ask(self.command("apt-get").args(["-qq", "download", "--print-uris", package]));
        let name = uris.as_deref().and_then(|uris| uris.split_whitespace().nth(1));
        let name = name.with_context(|| format!("apt offers no {package}"))?;
        let file = folder.join(name);
        if !file.exists() {
            run::say(&format!("downloading {package}"));
            let done = run::query(self.command("apt-get").args(["-qq", "download", package]).current_dir(&folder));
            if done.is_err() || !file.exists() {
                bail!("apt cannot download {package}");
            }
        }
        Ok(file)
    }
}

/// The lines of sources.list for `suite`.
fn sources(mirror: &Mirror, suite: &str) -> String {
    let line = |url: &str, suite: &str| format!("deb [arch=amd64 signed-by={KEYRING}] {url} {suite} main\n");
    // Unstable suites and backports have no security suite of their own.
    let stable = !suite.contains('-') && suite != "sid" && suite != "experimental";
    let security = if stable { line(&mirror.security, &format!("{suite}-security")) } else { String::new() };
    line(&mirror.debian, suite) + &security
}
