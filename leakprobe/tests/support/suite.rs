//! Programs that lie in a folder of their own: `tests/corpus` and `tests/field`.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A folder of programs, by its name below `tests`.
#[derive(Clone, Copy)]
pub struct Suite(pub &'static str);

impl Suite {
    /// Where the sources lie.
    pub fn source(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(self.0)
    }

    /// Where the built programs lie.
    pub fn built(self) -> PathBuf {
        let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-programs");
        let built = env::var_os("LEAKPROBE_TEST_PROGRAMS").map_or_else(own, PathBuf::from).join(self.0);
        assert!(built.exists(), "{} is not there: run `cargo xtask programs --{}`", built.display(), self.0);
        built
    }

    /// The words of a table that start a program, with these folders in the place of `{built}` and `{source}`.
    pub fn words(self, words: &[String]) -> Vec<String> {
        let [built, source] = [self.built(), self.source()].map(|folder| folder.to_string_lossy().into_owned());
        words.iter().map(|word| word.replace("{built}", &built).replace("{source}", &source)).collect()
    }
}
