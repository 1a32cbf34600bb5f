//! `cases.toml`, and how its programs are started.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// The whole table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// By language, how its programs are started.
    start: BTreeMap<String, Vec<String>>,
    /// Leaking programs, which have a repaired variant each.
    #[serde(rename = "case")]
    pub(crate) cases: Vec<Case>,
    /// Programs that do not leak, in their only variant.
    pub(crate) healthy: Vec<Case>,
}

/// One program. The fields are explained in the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) language: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) pattern: String,
    #[serde(default)]
    pub(crate) verdict: String,
    #[serde(default = "one")]
    pub(crate) tasks: usize,
    #[serde(default = "one")]
    pub(crate) every: usize,
    #[serde(default)]
    pub(crate) after: usize,
    pub(crate) give_up: Option<String>,
    pub(crate) parks: Option<String>,
    pub(crate) creates: Option<String>,
    #[serde(default)]
    pub(crate) beside: Vec<String>,
}

fn one() -> usize {
    1
}

/// Where the sources lie.
pub(crate) fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

impl Table {
    pub(crate) fn read() -> Self {
        toml::from_str(include_str!("cases.toml")).unwrap()
    }

    fn command(&self, case: &Case) -> Command {
        let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-programs");
        let built = env::var_os("LEAKPROBE_TEST_PROGRAMS").map_or_else(own, PathBuf::from).join("corpus");
        assert!(built.exists(), "{} is not there: run `cargo xtask programs --corpus`", built.display());
        let mut words = self.start[&case.language].iter().map(|word| {
            word.replace("{built}", &built.to_string_lossy()).replace("{source}", &source().to_string_lossy())
        });
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command
    }

    /// The server in one of its variants.
    pub(crate) fn start(&self, case: &Case, variant: &str) -> Command {
        let mut command = self.command(case);
        command.args([&case.name, variant]);
        command
    }

    /// Makes requests to it, none of which may fail.
    pub(crate) fn load(&self, case: &Case, address: &str, requests: usize, at_a_time: usize) {
        let mut command = self.command(case);
        command.args(["load", address, &requests.to_string(), &at_a_time.to_string()]).args(&case.give_up);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.trim() == format!("{requests} requests"), "{command:?}: {output:?}");
    }
}
