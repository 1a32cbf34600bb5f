//! A recording that would be lost with an output that cannot be written: it is kept as a file, from which all outputs can be made.

use std::{
    env, iter,
    path::{Path, PathBuf},
};

use super::super::Failure;
use crate::{
    model::Recording,
    report::{
        self, Format, Options,
        files::{self, Owner},
    },
};

/// Most names that are tried in one directory.
const MOST_NAMES: u32 = 100;

/// An output that could not be written.
pub(super) struct Unwritten {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) error: report::Error,
}

impl Unwritten {
    /// What is to be said of it, if `kept` is the file with the recording, of which there is none if it could not be kept either.
    pub(super) fn but_kept(self, recording: &Recording, kept: Option<&Path>, options: &Options) -> Failure {
        let more = match kept {
            Some(kept) => {
                let what = if self.error.is_too_much() { "a smaller one" } else { "any output" };
                let command = self.command(kept, recording, options);
                format!("what was seen is kept in {}, from which `{command}` makes {what}", kept.display())
            }
            None => "what was seen could not be kept as a recording either".to_owned(),
        };
        Failure::from(self.error).and(&more)
    }

    /// How an output is made from the recording that is in `kept`.
    fn command(&self, kept: &Path, recording: &Recording, options: &Options) -> String {
        let mut command = format!("leakprobe report {}", kept.display());
        if !self.error.is_too_much() {
            return command + " -o FILE";
        }
        if self.path != Path::new("-") {
            command += &format!(" -o {}", self.path.display());
        }
        if Format::from_path(&self.path).ok() != Some(self.format) {
            command += &format!(" --format {}", self.format);
        }
        if let Some(depth) = report::depth_that_fits(recording, self.format, options) {
            command += &format!(" --max-depth {depth}");
        }
        command
    }
}

/// Keeps a recording beside `path`, which could not be written, or where we are, or where temporary files are. Returns its name.
pub(super) fn keep(recording: &Recording, path: &Path, owner: Option<Owner>) -> Option<PathBuf> {
    let beside = files::is_in_directory(path, owner).then(|| {
        let mut name = path.as_os_str().to_owned();
        name.push(".json");
        PathBuf::from(name)
    });
    let plain = PathBuf::from(format!("leakprobe-{}.json", recording.target.pid));
    let temporary = env::temp_dir().join(&plain);
    let here = files::check_default(&plain, owner).is_ok().then_some(plain);
    [beside, here, Some(temporary)].into_iter().flatten().find_map(|path| keep_as(recording, path, owner))
}

/// Writes a recording under the first name like `path` that nothing has.
fn keep_as(recording: &Recording, path: PathBuf, owner: Option<Owner>) -> Option<PathBuf> {
    let others: Vec<PathBuf> = (2..=MOST_NAMES).map(|number| path.with_extension(format!("{number}.json"))).collect();
    for path in iter::once(path).chain(others) {
        match report::keep(recording, &path, owner) {
            Ok(()) => return Some(path),
            Err(error) if error.is_taken() => {}
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_recording_is_kept_beside_what_could_not_be_written_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (picture, recording) = (folder.path().join("x.svg"), fixture::checkout());
        let kept = |n: usize| {
            let kept = keep(&recording, &picture, None).unwrap();
            assert_eq!(report::json::read(&kept).unwrap(), recording, "{n}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), n);
            kept.strip_prefix(folder.path()).unwrap().to_owned()
        };
        assert_eq!([kept(1), kept(2)], [Path::new("x.svg.json"), Path::new("x.svg.2.json")]);
    }

    #[test]
    fn the_sentence_says_where_it_is_and_how_a_smaller_output_is_made() {
        let recording = fixture::checkout();
        let told = |path: &str, format, error: report::Error| {
            let unwritten = Unwritten { path: path.into(), format, error };
            unwritten.but_kept(&recording, Some("k.json".as_ref()), &Options::default()).to_string()
        };
        let large = |format| report::Error::TooMuchToRender { path: "x".into(), format, most_mib: 320 };
        let end = |text: String| text.split_once("--max-depth; ").unwrap().1.to_owned();
        assert_eq!(
            end(told("x.svg", Format::Svg, large(Format::Svg))),
            "what was seen is kept in k.json, from which `leakprobe report k.json -o x.svg --max-depth 512` makes a smaller one"
        );
        assert!(end(told("-", Format::Html, large(Format::Html))).contains("k.json --format html --max-depth 512`"));
        let full = report::Error::Write { path: "x.svg".into(), source: io::ErrorKind::StorageFull.into() };
        let told = told("x.svg", Format::Svg, full);
        assert!(
            told.ends_with("kept in k.json, from which `leakprobe report k.json -o FILE` makes any output"),
            "{told}"
        );
    }
}
