//! `cases.toml`, and how its programs are started.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::support::Suite;

/// The programs.
pub(crate) const CORPUS: Suite = Suite("corpus");

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
    /// Programs that leave behind what never waits.
    pub(crate) restless: Vec<Case>,
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

impl Table {
    pub(crate) fn read() -> Self {
        toml::from_str(include_str!("cases.toml")).unwrap()
    }

    fn words(&self, case: &Case) -> Vec<String> {
        CORPUS.words(&self.start[&case.language])
    }

    /// The command of the server in one of its variants.
    pub(crate) fn start(&self, case: &Case, variant: &str) -> Vec<String> {
        let mut words = self.words(case);
        words.extend([case.name.clone(), variant.to_owned()]);
        words
    }

    /// The command that makes requests to it, none of which may fail; its address is in LEAKPROBE_READY.
    pub(crate) fn load(&self, case: &Case, requests: usize, at_a_time: usize) -> String {
        let words = shlex::try_join(self.words(case).iter().map(String::as_str)).unwrap();
        let give_up = case.give_up.clone().unwrap_or_default();
        format!("{words} load \"$LEAKPROBE_READY\" {requests} {at_a_time} {give_up}")
    }
}
