//! The command line as users see it. Needs no privileges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn leakprobe(args: &[&str]) -> Output {
    // A fixed width: the same text on every terminal and on none.
    Command::new(env!("CARGO_BIN_EXE_leakprobe"))
        .args(args)
        .env("COLUMNS", "100")
        .env_remove("NO_COLOR")
        .output()
        .unwrap()
}

/// What `args` prints to stdout; it succeeds and has nothing to say on stderr.
fn stdout(args: &[&str]) -> String {
    let output = leakprobe(args);
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

macro_rules! help {
    ($($test:ident: $($command:literal)?),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                insta::assert_snapshot!(stdout(&[$($command,)? "--help"]));
            }
        )+
    };
}

help! {
    help_says_what_there_is_and_how_to_begin:,
    help_of_attach: "attach",
    help_of_run: "run",
    help_of_snapshot: "snapshot",
    help_of_report: "report",
    help_of_diff: "diff",
    help_of_ci: "ci",
    help_of_doctor: "doctor",
    help_of_demo: "demo",
    help_of_completions: "completions",
}

#[test]
fn short_help_fits_on_a_screen() {
    let help = stdout(&["-h"]);
    assert!(help.lines().count() <= 40, "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn hidden_commands_are_not_shown() {
    let help = stdout(&["--help"]);
    assert!(!help.contains("demo-target") && !help.contains("exec-when-told"), "{help}");
}

#[test]
fn version_is_that_of_the_package() {
    assert_eq!(stdout(&["--version"]), format!("leakprobe {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        for command in ["attach", "run", "snapshot", "report", "doctor", "demo"] {
            assert!(script.contains(command), "no {command} for {shell}");
        }
    }
}

#[test]
fn wrong_usage_says_what_was_wrong_and_ends_with_2() {
    for (args, word) in [
        (&["attach"][..], "--pid"),
        (&["attach", "-p", "x"], "'x'"),
        (&["attach", "-p", "1", "-d", "5"], "500ms"),
        (&["attach", "-p", "1", "-i", "1ms"], "10ms"),
        (&["attach", "-p", "1", "--ring-size", "1"], "power of two"),
        (&["attack", "-p", "1"], "attach"),
        (&["snapshot", "-p", "1", "--nonsense"], "--nonsense"),
        (&["run", "ls"], "ls"),
        (&["ci", "--", "true"], "--pid <PID>|--exec <CMD>"),
        (&["ci", "-p", "1", "--exec", "ls", "--", "true"], "cannot be used with"),
        (&["report"], "FILE.json"),
        (&["completions", "cmd"], "bash"),
        (&["report", "no-such-file.json"], "no-such-file.json"),
        (&["report", "x.json", "--group-by", "colour"], "label=KEY"),
        (&["report", "x.json", "--kind", "fibres"], "goroutines"),
        (&["report", "x.json", "-I", "main.(", "-q"], "--include"),
        (&["report", "x.json", "-X", "(a{1000}){1000}"], "too large"),
    ] {
        let output = leakprobe(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn the_inner_command_of_run_is_of_no_use_alone() {
    let output = leakprobe(&["exec-when-told", "--", "/bin/true"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("leakprobe run"), "{output:?}");
}
