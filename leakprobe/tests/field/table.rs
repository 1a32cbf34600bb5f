//! `cases.toml` and `libraries.toml`, and how their programs are started.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use leakprobe::model::Verdict;
use serde::Deserialize;

use crate::support::Suite;

/// The programs.
pub(crate) const FIELD: Suite = Suite("field");

/// One of the two tables.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// How programs are started, by the first word of [`Case::start`].
    start: BTreeMap<String, Vec<String>>,
    #[serde(rename = "case")]
    pub(crate) cases: Vec<Case>,
}

/// What a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Is {
    /// It leaks, and is to be found.
    Leak,
    /// It does not, and is not to be accused.
    Healthy,
    /// Rounds of load cannot decide it.
    Undecided,
}

/// What a leak is reported by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// By its creator, once, with its places.
    Creator,
}

/// One program. The fields are explained in the tables.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) language: String,
    pub(crate) is: Is,
    pub(crate) start: Vec<String>,
    #[serde(default = "six")]
    pub(crate) requests: usize,
    #[serde(default = "one")]
    pub(crate) at_a_time: usize,
    pub(crate) time_out: Option<String>,
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(default)]
    pub(crate) at: Vec<String>,
    #[serde(default)]
    pub(crate) by: Vec<String>,
    pub(crate) unit: Option<Unit>,
    #[serde(default)]
    pub(crate) patterns: Vec<String>,
    pub(crate) least: Option<Verdict>,
    #[serde(default)]
    pub(crate) says: Vec<String>,
    #[serde(default)]
    pub(crate) never: Vec<String>,
    #[serde(default)]
    pub(crate) exit: Vec<i32>,
    #[serde(default)]
    pub(crate) long: bool,
    #[serde(default)]
    pub(crate) quick: bool,
    #[serde(default)]
    fixed: bool,
    pub(crate) needs: Option<String>,
}

fn one() -> usize {
    1
}

fn six() -> usize {
    6
}

/// A Java of version 21 or later: the `java` on PATH, or one of those that lie beside it.
pub(crate) fn java_21() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    installed.map(|entry| entry.path()).find_map(|home| {
        let release = fs::read_to_string(home.join("release")).ok()?;
        let version = release.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\""))?;
        let major: u32 = version.split(['.', '"']).next()?.parse().ok()?;
        (major >= 21).then(|| home.join("bin/java"))
    })
}

impl Table {
    pub(crate) fn of_cases() -> Self {
        toml::from_str(include_str!("cases.toml")).unwrap()
    }

    pub(crate) fn of_libraries() -> Self {
        let mut table: Self = toml::from_str(include_str!("libraries.toml")).unwrap();
        for case in &mut table.cases {
            case.long = !case.quick;
        }
        let fixed: Vec<Case> = table.cases.iter().filter(|case| case.fixed).map(Case::repaired).collect();
        table.cases.extend(fixed);
        table
    }

    /// The words that start a program: a key of `[start]`, then arguments.
    pub(crate) fn words(&self, start: &[String]) -> Vec<String> {
        let (key, arguments) = start.split_first().unwrap();
        let java = java_21().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let words = FIELD.words(&self.start[key]).into_iter().map(|word| word.replace("{java-21}", &java));
        words.chain(arguments.iter().cloned()).collect()
    }

    /// The command that starts a program, as a shell takes it.
    pub(crate) fn command(&self, start: &[String]) -> String {
        shlex::try_join(self.words(start).iter().map(String::as_str)).unwrap()
    }
}

impl Case {
    /// The same program, repaired.
    fn repaired(&self) -> Self {
        let mut start = self.start.clone();
        assert_eq!(start.pop().as_deref(), Some("leak"), "{}", self.name);
        start.push("fixed".to_owned());
        Self {
            name: format!("{}-fixed", self.name),
            is: Is::Healthy,
            start,
            at: Vec::new(),
            by: Vec::new(),
            unit: None,
            patterns: Vec::new(),
            least: None,
            exit: Vec::new(),
            says: Vec::new(),
            never: Vec::new(),
            ..self.clone()
        }
    }

    /// Whether a function is one of those of its leaked tasks or of their creators.
    pub(crate) fn is_place(&self, function: &str) -> bool {
        self.at.iter().chain(&self.by).any(|place| match place.strip_suffix('*') {
            Some(beginning) => function.starts_with(beginning),
            None => function == place,
        })
    }

    /// The command that makes its requests to the address in LEAKPROBE_READY, as a shell takes it.
    pub(crate) fn load(&self) -> String {
        let load = FIELD.built().join("load");
        let load = shlex::try_quote(load.to_str().unwrap()).unwrap().into_owned();
        let time_out = self.time_out.as_deref().unwrap_or_default();
        format!("exec {load} \"$LEAKPROBE_READY\" {} {} {time_out}", self.requests, self.at_a_time)
    }

    /// Why it is left out here, if it is.
    pub(crate) fn left_out(&self) -> Option<&'static str> {
        if self.long && env::var_os("LEAKPROBE_FIELD_ALL").is_none() {
            return Some("it is long: LEAKPROBE_FIELD_ALL=1 runs it");
        }
        match self.needs.as_deref() {
            Some("java-21") if java_21().is_none() => Some("there is no Java 21"),
            _ => None,
        }
    }
}
