//! `cargo xtask verdicts`: the corpus of leaking, repaired and healthy programs, and the programs of the field, checked by `leakprobe ci`
//! several times, and the tables of what was said of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::field::{self, Libraries};
use crate::{bench, corpus, field_verdicts, programs, repo, run};

/// Check every program of the corpus and of the field, several times, and print what was said of each. Needs root
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only the programs of the field whose names contain this; several are separated by commas
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Write the tables to docs/verdicts.md
    #[arg(long, conflicts_with = "only")]
    write: bool,
}

/// What was said of one variant of one program: in how many runs which verdict, and the pattern.
#[derive(Default)]
struct Said {
    verdicts: BTreeMap<String, u32>,
    pattern: String,
}

impl Said {
    fn words(&self, runs: u32) -> String {
        let all: Vec<String> = self
            .verdicts
            .iter()
            .map(|(verdict, &times)| if times == runs { verdict.clone() } else { format!("{verdict} ({times})") })
            .collect();
        all.join(", ")
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    run::run(repo::cargo().args(["build", "--release", "--locked"]))?;
    if args.only.is_none() {
        corpus::build()?;
    }
    field::build(Libraries::All)?;
    let [of_corpus, of_field] = ["verdicts.tsv", "field-verdicts.tsv"].map(|name| repo::target().join(name));
    for told in [&of_corpus, &of_field] {
        let _ = fs::remove_file(told);
    }
    let corpus = [("corpus", "called"), ("corpus", "every_leak"), ("peers", "called_healthy")];
    let field = [("field", "judged_right")];
    let mut failed = 0;
    for number in 1..=args.runs {
        run::say(&format!("run {number} of {}", args.runs));
        let mut is_right = true;
        if args.only.is_none() {
            for (target, tests) in corpus {
                is_right &= check(target, tests, &of_corpus, None)?;
            }
        }
        for (target, tests) in field {
            is_right &= check(target, tests, &of_field, args.only.as_deref())?;
        }
        failed += u32::from(!is_right);
    }
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let machine = bench::machine_and_day()?;
    let mut text =
        if args.only.is_none() { table(&read(&of_corpus)?, args.runs, &machine)? + "\n" } else { String::new() };
    text += &field_verdicts::table(&read(&of_field)?, args.runs)?;
    run::say(&text);
    if args.write {
        let path = repo::root().join("docs/verdicts.md");
        fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if failed > 0 {
        bail!("{failed} of {} runs were not as they should be", args.runs);
    }
    Ok(())
}

/// Runs tests, which write to `told` what was said of each program; whether all passed.
fn check(target: &str, tests: &str, told: &Path, only: Option<&str>) -> Result<bool> {
    let mut test = repo::cargo();
    test.args(["test", "--locked", "--package", "leakprobe", "--test", target, "--no-fail-fast", "--", tests]);
    test.env("LEAKPROBE_BIN", repo::leakprobe()).env("LEAKPROBE_TEST_PROGRAMS", programs::folder());
    test.env("LEAKPROBE_VERDICTS", told).env("LEAKPROBE_FIELD_ALL", "1");
    if let Some(only) = only {
        test.env("LEAKPROBE_FIELD", only);
    }
    Ok(run::status(&mut test)?.success())
}

/// From lines of language, name, variant, verdict and pattern.
fn table(text: &str, runs: u32, machine: &str) -> Result<String> {
    let mut said: BTreeMap<(String, String), BTreeMap<String, Said>> = BTreeMap::new();
    for line in text.lines() {
        let [language, name, variant, verdict, pattern] = line.split('\t').collect::<Vec<_>>()[..] else {
            bail!("'{line}' is no line of verdicts");
        };
        let variants = said.entry((language.to_owned(), name.to_owned())).or_default();
        let said = variants.entry(variant.to_owned()).or_default();
        *said.verdicts.entry(verdict.to_owned()).or_default() += 1;
        pattern.clone_into(&mut said.pattern);
    }
    let (leaking, healthy): (Vec<_>, Vec<_>) = said.iter().partition(|(_, variants)| variants.contains_key("leak"));
    let right = |variants: &BTreeMap<String, Said>, variant: &str, right: &[&str]| {
        let verdicts = variants.get(variant).map(|said| &said.verdicts);
        verdicts.map_or(0, |verdicts| right.iter().filter_map(|verdict| verdicts.get(*verdict)).sum::<u32>())
    };
    let found: u32 = leaking.iter().map(|(_, variants)| right(variants, "leak", &["likely", "proven"])).sum();
    let quiet: u32 = leaking.iter().map(|(_, variants)| right(variants, "fixed", &["idle", "suspect"])).sum::<u32>()
        + healthy.iter().map(|(_, variants)| right(variants, "healthy", &["idle", "suspect"])).sum::<u32>();
    let mut out = format!(
        "# Verdicts\n\n## On the corpus\n\nWhat `leakprobe ci` says of each program of `leakprobe/tests/corpus`: made by `cargo xtask verdicts --runs {runs} --write`, {machine}.\n\n\
         Leaks found at the lines that the source marks, as likely or proven: {found} of {}. Repaired and healthy programs of which nothing was called likely or proven: {quiet} of {}.\n\n\
         Where the runs differ, the number of runs is in parentheses.\n\n\
         | language | program | leaking | it looks like | repaired |\n|---|---|---|---|---|\n",
        leaking.len() * runs as usize,
        (leaking.len() + healthy.len()) * runs as usize,
    );
    let of = |variants: &BTreeMap<String, Said>, variant: &str| {
        variants.get(variant).map_or("not run".to_owned(), |said| said.words(runs))
    };
    for ((language, name), variants) in &leaking {
        let pattern = variants.get("leak").map_or("", |said| &said.pattern);
        out += &format!("| {language} | {name} | {} | {pattern} | {} |\n", of(variants, "leak"), of(variants, "fixed"));
    }
    out += "\n| language | healthy program | worst of its sites |\n|---|---|---|\n";
    for ((language, name), variants) in &healthy {
        out += &format!("| {language} | {name} | {} |\n", of(variants, "healthy"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_runs_is_told() {
        let text = "go\ta\tleak\tlikely\tp\ngo\ta\tleak\tsuspect\tp\ngo\ta\tfixed\tidle\t\ngo\ta\tfixed\tidle\t\nc\tb\thealthy\tidle\t\nc\tb\thealthy\tidle\t\n";
        let table = table(text, 2, "here").unwrap();
        assert!(table.contains("| go | a | likely (1), suspect (1) | p | idle |"), "{table}");
        assert!(
            table.contains("as likely or proven: 1 of 2.") && table.contains("likely or proven: 4 of 4."),
            "{table}"
        );
        assert!(table.contains("| c | b | idle |"), "{table}");
        assert!(super::table("x", 1, "here").is_err());
    }
}
