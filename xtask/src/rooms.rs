//! `leakprobe/src` is a row of rooms, each of which may use those before it: `cargo xtask ci` fails on an arrow to a later one, and so
//! on every circle.
//!
//! An arrow is a path `crate::ROOM`, or as many `super` as lead out of the room. Code that is only for tests may use every room.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::repo;

const SOURCES: &str = "leakprobe/src";

/// The rooms, those that everything stands on first. ARCHITECTURE.md lists them in this order.
const ROOMS: [&str; 18] = [
    "shared",
    "aside",
    "privilege",
    "pool",
    "model",
    "target",
    "probes",
    "snapshot",
    "jvm",
    "go",
    "symbols",
    "analysis",
    "watch",
    "report",
    "config",
    "cli",
    "commands",
    "fuzzing",
];

/// A wrong arrow that is known: the file, the room that it uses, and why that is so.
type Exception = (&'static str, &'static str, &'static str);

const EXCEPTIONS: [Exception; 0] = [];

/// One file: its path below the sources, and its text.
struct Source {
    path: String,
    text: String,
}

/// Checks every arrow.
pub(crate) fn check() -> Result<()> {
    let root = repo::root().join(SOURCES);
    let wrong = wrong_arrows(&sources(&root)?, &EXCEPTIONS);
    if wrong.is_empty() {
        return Ok(());
    }
    let mut message = String::new();
    for arrow in &wrong {
        let _ = write!(message, "\n  {SOURCES}/{arrow}");
    }
    bail!(
        "rooms may only use those before them ({}):{message}\nmove what both need to the earlier room, or what only the later one \
         needs to that",
        ROOMS.join(", ")
    )
}

/// Every file of the sources, by path.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let (mut folders, mut sources) = (vec![PathBuf::new()], Vec::new());
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
            let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
            let name = folder.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(name);
            } else if name.extension().is_some_and(|extension| extension == "rs") {
                let path = root.join(&name);
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                sources.push(Source { path: name.display().to_string(), text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// What is wrong, one sentence each.
fn wrong_arrows(sources: &[Source], exceptions: &[Exception]) -> Vec<String> {
    let mut codes: Vec<Code> = sources.iter().map(|source| Code::of(&source.path, &source.text)).collect();
    let for_tests: Vec<String> = codes.iter().flat_map(|code| code.for_tests.clone()).collect();
    codes.retain(|code| {
        let is_below = |module: &String| code.module == *module || code.module.starts_with(&format!("{module}/"));
        !for_tests.iter().any(is_below)
    });
    let (mut wrong, mut used) = (Vec::new(), vec![false; exceptions.len()]);
    for code in codes.iter().filter(|code| !code.room().is_empty()) {
        let Some(own) = ROOMS.iter().position(|room| *room == code.room()) else {
            wrong.push(format!(
                "{}: `{}` is in no list of rooms: add it to xtask/src/rooms.rs",
                code.path,
                code.room()
            ));
            continue;
        };
        for room in code.uses() {
            // What is no room is an item of the crate's root, or a name that a macro makes.
            if ROOMS.iter().position(|it| *it == room).is_none_or(|other| other <= own) {
                continue;
            }
            match exceptions.iter().position(|(path, used, _)| *path == code.path && *used == room) {
                Some(known) => used[known] = true,
                None => wrong.push(format!("{}: `{}` uses `{room}`, which is after it", code.path, ROOMS[own])),
            }
        }
    }
    let stale = exceptions.iter().zip(used).filter(|(_, used)| !used);
    wrong.extend(stale.map(|((path, room, _), _)| {
        format!("{path}: does not use `{room}` any more: remove the exception from xtask/src/rooms.rs")
    }));
    wrong
}

/// The code of one file that is not for tests alone.
struct Code {
    path: String,
    /// Its module as a path: `target/modules` for `target/modules.rs`, `target` for `target/mod.rs`; empty for the crate's root.
    module: String,
    text: String,
    /// The modules, likewise, that it declares for tests alone.
    for_tests: Vec<String>,
}

impl Code {
    fn of(path: &str, text: &str) -> Self {
        let module = path.strip_suffix(".rs").unwrap_or(path);
        let module = module.strip_suffix("/mod").unwrap_or(module);
        let module = if ["lib", "main"].contains(&module) { "" } else { module };
        let (text, for_tests) = without_tests(&plain(text));
        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
        let declared = for_tests.iter().map(|name| match name.strip_suffix(".rs") {
            Some(file) => folder.join(file).display().to_string(),
            None => Path::new(module).join(name).display().to_string(),
        });
        Self { path: path.to_owned(), module: module.to_owned(), for_tests: declared.collect(), text }
    }

    fn room(&self) -> &str {
        self.module.split('/').next().unwrap_or_default()
    }

    /// The names right below the crate's root that it uses, each once.
    fn uses(&self) -> Vec<&str> {
        let depth = self.module.split('/').count();
        let mut names = Vec::new();
        for root in ["crate::".to_owned(), "super::".repeat(depth)] {
            for (at, _) in self.text.match_indices(&root) {
                let before = self.text[..at].chars().next_back();
                if before.is_none_or(|c| !is_word(c) && c != '$' && c != ':') {
                    first_names(&self.text[at + root.len()..], &mut names);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The first name of a path, or of each of those in braces.
fn first_names<'a>(text: &'a str, names: &mut Vec<&'a str>) {
    let text = text.trim_start();
    let Some(list) = text.strip_prefix('{') else {
        names.push(word(text));
        return;
    };
    let (mut depth, mut is_first) = (0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            c if is_word(c) && is_first => {
                names.push(word(&list[at..]));
                is_first = false;
            }
            _ => {}
        }
    }
}

fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Code without what `#[cfg(test)]` and `#[cfg(any(test, …))]` stand before, and the modules among that which are files: their names,
/// or the files that `#[path]` gives.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut kept, mut files, mut rest) = (String::new(), Vec::new(), code);
    while let Some(at) = ["#[cfg(test)]", "#[cfg(any(test"].iter().filter_map(|start| rest.find(start)).min() {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = item.find([';', '{']).unwrap_or(item.len());
        let head = &item[..end];
        if item[end..].starts_with('{') {
            rest = &item[end + block(&item[end..])..];
            continue;
        }
        let path = head.split_once("#[path = \"").and_then(|(_, path)| path.split_once('"')).map(|(path, _)| path);
        let name = head.split_once("mod ").map(|(_, name)| name.trim());
        files.extend(path.or(name).map(str::to_owned));
        rest = item.get(end + 1..).unwrap_or_default();
    }
    kept.push_str(rest);
    (kept, files)
}

/// The length of the block that a text begins with, in bytes.
fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Code without comments, and without what is in literals but for the path of an attribute `#[path]`.
fn plain(code: &str) -> String {
    let mut plain = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if is_raw(rest) && !plain.ends_with(is_word) {
            raw_literal(rest)
        } else if c == '"' {
            literal(rest)
        } else {
            char_literal(rest).unwrap_or(0)
        };
        if skipped == 0 {
            plain.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if plain.ends_with("#[path = ") {
            plain.push_str(&rest[..skipped]);
        }
        rest = &rest[skipped..];
    }
    plain
}

fn is_raw(text: &str) -> bool {
    let text = text.strip_prefix('b').unwrap_or(text);
    text.strip_prefix('r').is_some_and(|text| text.trim_start_matches('#').starts_with('"'))
}

fn raw_literal(text: &str) -> usize {
    let quote = text.find('"').unwrap_or(text.len());
    let end = format!("\"{}", "#".repeat(text[..quote].matches('#').count()));
    text.get(quote + 1..).and_then(|inside| inside.find(&end)).map_or(text.len(), |at| quote + 1 + at + end.len())
}

fn literal(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return at + 1,
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    text.len()
}

/// The length of a literal of one character; `None` for a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        return inside.get(2..)?.find('\'').map(|at| at + 4);
    }
    let c = inside.chars().next()?;
    inside[c.len_utf8()..].starts_with('\'').then_some(c.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(sources: &[(&str, &str)], exceptions: &[Exception]) -> Vec<String> {
        let sources: Vec<Source> =
            sources.iter().map(|&(path, text)| Source { path: path.to_owned(), text: text.to_owned() }).collect();
        wrong_arrows(&sources, exceptions)
    }

    #[test]
    fn an_arrow_to_a_later_room_is_caught() {
        let arrow = ["model/x.rs: `model` uses `report`, which is after it"];
        for text in [
            "use crate::report::Error;",
            "use crate::{\n    aside::Aside,\n    report::{Error, words},\n};",
            "fn f() -> crate::report::Error { todo!() }",
            "use super::super::report;",
            "use super::super::{aside, report::Error};",
            "fn f(c: char) { g('\"', '{', b'\\'', \"\\\"//\") }\nuse crate::report;",
            "#[cfg(test)]\nmod tests { fn f() { g(\"}\") } }\nuse crate::report;",
        ] {
            assert_eq!(wrong(&[("model/x.rs", text)], &[]), arrow, "{text}");
        }
        assert_eq!(wrong(&[("model.rs", "use super::report;")], &[]).len(), 1);
        assert_eq!(wrong(&[("attic.rs", "")], &[]).len(), 1, "a room that is in no list");
    }

    #[test]
    fn arrows_to_earlier_rooms_and_of_tests_are_none() {
        for text in [
            "use crate::{model::{report, Recording}, aside};",
            "// crate::commands\n/// [`crate::commands`]\nconst X: &str = \"crate::commands\"; const Y: &str = r#\"\"crate::cli\"#;",
            "use super::commands; use other_crate::commands; use $crate::commands;",
            "#[cfg(test)]\nmod tests { use crate::commands; mod more { use crate::cli; } }",
            "#[cfg(any(test, feature = \"fuzzing\"))]\npub(crate) use crate::commands::Fuzz;",
        ] {
            assert_eq!(wrong(&[("analysis/x.rs", text)], &[]), [""; 0], "{text}");
        }
        let declared = [
            ("go/mod.rs", "#[cfg(test)]\nmod made;\n#[cfg(test)]\n#[path = \"g_tests.rs\"]\nmod tests;"),
            ("go/made.rs", "use crate::commands;"),
            ("go/made/more.rs", "use crate::commands;"),
            ("go/g_tests.rs", "use crate::commands;"),
        ];
        assert_eq!(wrong(&declared, &[]), [""; 0]);
        assert_eq!(wrong(&declared[1..], &[]).len(), 3);
    }

    #[test]
    fn exceptions_are_known_arrows_and_no_others() {
        let known: Exception = ("model/x.rs", "report", "to be moved");
        assert_eq!(wrong(&[("model/x.rs", "use crate::report;")], &[known]), [""; 0]);
        assert_eq!(wrong(&[("model/x.rs", "use crate::{report, cli};")], &[known]).len(), 1);
        assert_eq!(wrong(&[("model/x.rs", "")], &[known]).len(), 1, "an exception that is no longer needed");
    }

    #[test]
    fn the_rooms_have_no_wrong_arrow() {
        check().unwrap();
    }

    #[test]
    fn rooms_are_listed_in_the_architecture_in_their_order() {
        let text = fs::read_to_string(repo::root().join("ARCHITECTURE.md")).unwrap();
        let (_, listed) = text.split_once("\nleakprobe/src/\n").unwrap();
        let (listed, _) = listed.split_once("\nxtask/").unwrap();
        let rooms = listed.lines().filter_map(|line| line.strip_prefix("  ").map(word)).filter(|room| !room.is_empty());
        assert_eq!(rooms.collect::<Vec<_>>(), ROOMS);
    }
}
