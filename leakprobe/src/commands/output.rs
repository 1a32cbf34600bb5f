//! What becomes of a recording: the report on stdout, and files.

mod kept;

use std::{
    env,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use regex::Regex;

use self::kept::Unwritten;
use super::{ExitCode, Failure};
use crate::{
    cli::{Color, Kind, Output, View, Weight},
    config,
    model::Recording,
    report::{
        self, Format,
        diff::Pair,
        files::{self, Owner},
    },
};

/// Where everything goes, checked before any work is done: a format that does not exist is found out at once.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    files: Vec<(PathBuf, Format)>,
    /// A file that was not asked for by name, whose own has the process's id in it: failing to write it is a warning.
    by_default: Option<PathBuf>,
    stdout: Option<Format>,
    options: report::Options,
    owner: Option<Owner>,
    quiet: bool,
    /// Whether recordings are new, so that they are lost with an output that cannot be written.
    are_new: bool,
}

impl Plan {
    /// Takes the options apart. `by_default` is written where no output is named.
    pub(super) fn of(output: &Output, by_default: Option<PathBuf>) -> Result<Self, Failure> {
        let named = output.format.as_deref().map(Format::from_name).transpose()?;
        let owner = caller();
        let mut files = Vec::new();
        for path in &output.files {
            let format = match named {
                Some(format) if path.as_os_str() == "-" || Format::from_path(path).is_err() => format,
                _ if path.as_os_str() == "-" => Format::Txt,
                _ => Format::from_path(path)?,
            };
            check_place(path, owner)?;
            files.push((path.clone(), format));
        }
        let stdout_taken = files.iter().any(|(path, _)| path.as_os_str() == "-");
        let stdout = match (stdout_taken, output.json, output.quiet) {
            (true, _, _) => None,
            (false, true, _) => Some(Format::Json),
            (false, false, true) => None,
            (false, false, false) => Some(named.filter(|_| output.files.is_empty()).unwrap_or(Format::Txt)),
        };
        let terminal = io::stdout().is_terminal();
        Ok(Self {
            by_default: by_default.filter(|_| output.files.is_empty() && !output.json && named.is_none()),
            files,
            stdout,
            options: report::Options {
                weight: match output.weight {
                    Weight::Tasks => report::Weight::Tasks,
                    Weight::Time => report::Weight::Time,
                },
                view: match output.view {
                    View::Parked => report::View::Parked,
                    View::Creation => report::View::Creation,
                },
                kind: match output.kind {
                    Kind::Threads => report::Kind::Threads,
                    Kind::Goroutines => report::Kind::Goroutines,
                    Kind::All => report::Kind::All,
                },
                group_by: output.group_by.clone(),
                include: patterns("--include", &output.include)?,
                exclude: patterns("--exclude", &output.exclude)?,
                all_frames: output.all_frames,
                max_depth: output.max_depth,
                color: match output.color {
                    Color::Auto => terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
                    Color::Always => true,
                    Color::Never => false,
                },
                all: output.all,
                source_root: source_root(),
                width: terminal.then(terminal_width).flatten(),
            },
            owner,
            quiet: output.quiet,
            are_new: true,
        })
    }

    /// Writes everything. The reports come first, so that a full disk does not cost them; what cannot be written costs nothing else,
    /// and if a recording is new, it is kept as a file then. Of several processes each has files of its own, with its id in their
    /// names. Returns the first failure.
    pub(super) fn write(&self, recordings: &[Recording]) -> Result<(), Failure> {
        let is_several = recordings.len() > 1;
        let has_overview = is_several && self.stdout == Some(Format::Txt);
        // Should stdout be full, the reports that follow tell.
        if has_overview {
            let _ = super::print(report::overview(recordings).as_bytes());
        }
        let mut unwritten = Vec::new();
        for recording in recordings {
            if has_overview {
                let _ = super::print(format!("\n{}\n\n", "═".repeat(72)).as_bytes());
            }
            unwritten.push(self.write_stdout(recording).err());
        }
        let mut failure = None;
        for (recording, unwritten) in recordings.iter().zip(unwritten) {
            failure = failure.or(self.write_files(recording, is_several, unwritten));
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes a comparison everywhere; the report comes first.
    pub(super) fn write_diff(&self, pair: &Pair) -> Result<(), Failure> {
        if let Some(format) = self.stdout {
            let _ = pair.write_file(format, &self.options, Path::new("-"), None)?;
        }
        let pictures = report::Options { width: None, color: false, ..self.options.clone() };
        let mut failure = None;
        for (path, format) in &self.files {
            let options = if path.as_os_str() == "-" { &self.options } else { &pictures };
            match pair.write_file(*format, options, path, self.owner) {
                Ok(_) => self.wrote(path),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Writes a file that was not asked for by -o. `kept` is the file that has the recording, if there is one, and then if this is.
    pub(super) fn write_one(
        &self,
        recording: &Recording,
        format: Format,
        path: &Path,
        kept: &mut Option<PathBuf>,
    ) -> Result<(), Failure> {
        let pictures = report::Options { width: None, color: false, ..self.options.clone() };
        let written = write_file(recording, format, &pictures, path, self.owner);
        written.map_err(|unwritten| self.failure(unwritten, recording, kept))?;
        self.wrote(path);
        if format == Format::Json {
            *kept = Some(path.to_owned());
        }
        Ok(())
    }

    /// The same of a comparison.
    pub(super) fn write_pair(&self, pair: &Pair, format: Format, path: &Path) -> Result<(), Failure> {
        let pictures = report::Options { width: None, color: false, ..self.options.clone() };
        let _ = pair.write_file(format, &pictures, path, self.owner)?;
        self.wrote(path);
        Ok(())
    }

    /// The page of a check, with what came since its baseline.
    pub(super) fn write_page_of_check(
        &self,
        recording: &Recording,
        baseline: &Recording,
        path: &Path,
    ) -> Result<(), Failure> {
        let pictures = report::Options { width: None, color: false, ..self.options.clone() };
        let _ = report::write_page_of_check(recording, baseline, &pictures, path, self.owner)?;
        self.wrote(path);
        Ok(())
    }

    /// Says on stdout how the verdict on a site came about.
    pub(super) fn explain(&self, recording: &Recording, site: &str) -> Result<(), Failure> {
        let text = report::explain(recording, site, &self.options)?;
        if !self.quiet {
            let text = if self.has_text_on_stdout() { format!("\n{text}") } else { text };
            super::print(text.as_bytes())?;
        }
        Ok(())
    }

    /// Whether the report goes to stdout as text.
    pub(super) fn has_text_on_stdout(&self) -> bool {
        self.stdout == Some(Format::Txt)
    }

    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whose the files are to be.
    pub(super) const fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// The formats of all outputs.
    pub(super) fn formats(&self) -> impl Iterator<Item = Format> {
        self.stdout.into_iter().chain(self.files.iter().map(|&(_, format)| format))
    }

    /// How everything is to look.
    pub(super) fn options(&self) -> &report::Options {
        &self.options
    }

    fn write_stdout(&self, recording: &Recording) -> Result<(), Unwritten> {
        let Some(format) = self.stdout else { return Ok(()) };
        let text =
            report::Options { width: self.options.width.filter(|_| format == Format::Txt), ..self.options.clone() };
        write_file(recording, format, &text, Path::new("-"), None)
    }

    /// Returns the first failure, or that of stdout, if there is one; what comes after it is still written.
    fn write_files(
        &self,
        recording: &Recording,
        is_several: bool,
        mut unwritten: Option<Unwritten>,
    ) -> Option<Failure> {
        let pid = recording.target.pid;
        let pictures = report::Options { width: None, color: false, ..self.options.clone() };
        let mut kept = None;
        for (path, format) in &self.files {
            let is_stdout = path.as_os_str() == "-";
            // Colours are for the terminal that stdout may be, not for files.
            let options = if is_stdout { &self.options } else { &pictures };
            let path = if is_several && !is_stdout { report::path_of_process(path, pid) } else { path.clone() };
            match write_file(recording, *format, options, &path, self.owner) {
                Ok(()) => {
                    self.wrote(&path);
                    kept = kept.or_else(|| Some(path).filter(|_| *format == Format::Json && !is_stdout));
                }
                Err(failed) => unwritten = unwritten.or(Some(failed)),
            }
        }
        let failure = unwritten.map(|unwritten| self.failure(unwritten, recording, &mut kept));
        if let Some(path) = &self.by_default {
            self.write_default(recording, &report::path_of_process(path, pid), &pictures, &mut kept);
        }
        failure
    }

    /// A file that was not asked for: failing to write it is a warning.
    fn write_default(&self, recording: &Recording, path: &Path, options: &report::Options, kept: &mut Option<PathBuf>) {
        if let Err(error) = files::check_default(path, self.owner) {
            tracing::warn!("{error}");
            return;
        }
        match write_file(recording, Format::Svg, options, path, self.owner) {
            Ok(()) => self.wrote(path),
            Err(unwritten) if unwritten.error.is_too_much() => {
                tracing::warn!("{}", self.failure(unwritten, recording, kept).printable());
            }
            Err(unwritten) => tracing::warn!("{}", unwritten.error),
        }
    }

    /// What to say of an output that could not be written. A new recording is kept in a file of its own, unless there is one that has
    /// it already.
    fn failure(&self, unwritten: Unwritten, recording: &Recording, kept: &mut Option<PathBuf>) -> Failure {
        if !self.are_new {
            return unwritten.error.into();
        }
        if kept.is_none() {
            *kept = kept::keep(recording, &unwritten.path, self.owner);
        }
        unwritten.but_kept(recording, kept.as_deref(), &self.options)
    }

    fn wrote(&self, path: &Path) {
        if path.as_os_str() != "-" {
            self.say(&format!("wrote {}", path.display()));
        }
    }

    /// Tells something on stderr, unless quiet was asked for.
    pub(super) fn say(&self, what: &str) {
        if !self.quiet {
            // A closed stderr is no reason to fail.
            let _ = writeln!(io::stderr(), "{what}");
        }
    }
}

fn write_file(
    recording: &Recording,
    format: Format,
    options: &report::Options,
    path: &Path,
    owner: Option<Owner>,
) -> Result<(), Unwritten> {
    let written = report::write_file(recording, format, options, path, owner);
    written.map(drop).map_err(|error| Unwritten { path: path.to_owned(), format, error })
}

/// Compiles patterns.
fn patterns(option: &str, patterns: &[String]) -> Result<Vec<Regex>, Failure> {
    patterns.iter().map(|text| pattern(option, text)).collect()
}

/// Compiles a pattern, or says of which option and why it cannot be.
pub(super) fn pattern(option: &str, pattern: &str) -> Result<Regex, Failure> {
    config::pattern(pattern).map_err(|why| {
        let what = format!("cannot use {option} {pattern:?}: {why}; give a regular expression such as 'main\\.worker'");
        Failure::new(ExitCode::Usage, what)
    })
}

/// `report FILE.json`.
pub(super) fn render_again(file: &Path, explain: Option<&str>, output: &Output) -> Result<ExitCode, Failure> {
    let mut plan = Plan::of(output, None)?;
    let recording = report::json::read(file)?;
    if let Some(site) = explain {
        // In the place of the report.
        plan.stdout = plan.stdout.filter(|&format| format != Format::Txt);
        plan.explain(&recording, site)?;
    }
    plan.are_new = false;
    plan.write(&[recording])?;
    Ok(ExitCode::Done)
}

/// Finds out before hours of watching that nothing can be written there.
fn check_place(path: &Path, owner: Option<Owner>) -> Result<(), Failure> {
    files::check(path, owner).map_err(|error| Failure::from(error).with_code(ExitCode::Usage))
}

/// The folder below which sources are the user's own: where we were started, or all of what a job of GitHub Actions has checked out.
fn source_root() -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    let workspace = env::var_os("GITHUB_WORKSPACE").map(PathBuf::from).filter(|_| super::ci::github::is_job());
    Some(workspace.filter(|workspace| workspace.is_absolute() && here.starts_with(workspace)).unwrap_or(here))
}

/// The user who called sudo, to whom output files belong.
pub(super) fn caller() -> Option<Owner> {
    let id = |name: &str| env::var(name).ok()?.parse().ok();
    Some(Owner { uid: id("SUDO_UID")?, gid: id("SUDO_GID")? })
}

/// Columns of the terminal on stdout.
fn terminal_width() -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col))
}
