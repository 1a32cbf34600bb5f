//! A program of the tables that runs, its load, and what leakprobe shows of it.

use std::{fs, path::Path, process::Command};

use leakprobe::{
    model::{Recording, Site},
    report::json,
};

use crate::{
    support::{Ended, Program, Running, functions, leakprobe, need_root},
    table::{FIELD, Table},
};

/// A running program.
pub(crate) struct Started {
    program: Program,
    /// Where it listens; empty if it does not.
    address: String,
    /// Its process: another one than was started, if that is a wrapper.
    pid: u32,
}

impl Started {
    /// One that listens, by a key of the tables and arguments.
    pub(crate) fn server(start: &[&str]) -> Self {
        Self::server_of(&words(start))
    }

    /// One that listens, by its command.
    pub(crate) fn server_of(words: &[String]) -> Self {
        let mut started = Self::of(words);
        started.address = started.program.expect("listening on ");
        started
    }

    /// One that says when it is ready.
    pub(crate) fn ready(start: &[&str]) -> Self {
        Self::ready_of(&words(start))
    }

    /// One that says when it is ready, by its command.
    pub(crate) fn ready_of(words: &[String]) -> Self {
        let mut started = Self::of(words);
        started.program.expect("ready");
        started
    }

    fn of(words: &[String]) -> Self {
        need_root();
        let program = Program::start(Command::new(&words[0]).args(&words[1..]));
        let pid = program.pid();
        Self { program, address: String::new(), pid }
    }

    /// The one process that the started one has created takes its place.
    pub(crate) fn its_child(mut self) -> Self {
        let path = format!("/proc/{pid}/task/{pid}/children", pid = self.pid);
        let children = fs::read_to_string(path).unwrap();
        self.pid = children.trim().parse().unwrap_or_else(|_| panic!("not one child: '{children}'"));
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn signal(&self, signal: i32) {
        self.program.kill(signal);
    }

    pub(crate) fn load(&self, requests: u32) {
        let output =
            Command::new(FIELD.built().join("load")).args([&self.address, &requests.to_string()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// What `leakprobe snapshot` prints and records.
    pub(crate) fn snapshot(&self) -> (String, Recording) {
        shown(leakprobe(["snapshot", "-p", &self.pid.to_string(), "-m", "0s", "--all", "-o", "recording.json"]))
    }

    /// Watches it from now on.
    pub(crate) fn attach(&self, options: &[&str]) -> Running {
        let pid = self.pid.to_string();
        let mut args = vec!["attach", "-p", &pid];
        args.extend(options);
        if !options.contains(&"-i") {
            args.extend(["-i", "200ms"]);
        }
        let mut leakprobe = Running::record(&args);
        leakprobe.attached();
        leakprobe
    }
}

/// Ends a run, for what it prints and records.
pub(crate) fn stop(leakprobe: Running) -> (String, Recording) {
    leakprobe.kill(libc::SIGINT);
    shown(leakprobe.end())
}

fn shown(ended: Ended) -> (String, Recording) {
    ended.succeeded();
    let recording = json::read(&ended.directory.path().join("recording.json")).unwrap();
    (ended.stdout, recording)
}

/// The command of a program, by a key of the tables and arguments.
pub(crate) fn words(start: &[&str]) -> Vec<String> {
    Table::of_cases().words(&start.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
}

/// A copy of a built program, after `change`.
pub(crate) fn copy(name: &str, folder: &Path, change: impl FnOnce(&Path)) -> String {
    let path = folder.join(format!("{name}-changed"));
    fs::copy(FIELD.built().join(name), &path).unwrap();
    change(&path);
    path.to_str().unwrap().to_owned()
}

/// The sites that a function is at, where their tasks are or where they were created.
pub(crate) fn sites_at<'a>(recording: &'a Recording, function: &str) -> Vec<&'a Site> {
    let is_at = |site: &&Site| {
        let mut names = functions(recording, &site.stack);
        names.extend(functions(recording, &site.creation));
        names.iter().any(|name| name == function)
    };
    recording.sites.iter().filter(|site| site.role.is_own()).filter(is_at).collect()
}

/// The rows of the report's table: what is above the first site's details.
pub(crate) fn table(report: &str) -> &str {
    report.split("\nSite ").next().unwrap()
}
