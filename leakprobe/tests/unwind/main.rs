//! The unwinder, without root and on any machine: recorded threads of real programs, damage done to them, and call frame
//! information made to do harm.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be read fails the test")]

mod damage;
mod fixture;
mod hostile;
mod parsers;
mod partial;
mod recorded;
mod section;

use std::path::Path;

use fixture::Fixture;

/// All recorded threads, by name.
fn fixtures() -> Vec<(String, Fixture)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<_> = directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let json = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    };
    json.map(read).collect()
}
