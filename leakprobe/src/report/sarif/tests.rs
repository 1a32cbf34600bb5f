use std::{path::Path, process::Command, sync::OnceLock};

use super::*;
use crate::report::{Format, fixture};

fn written(recording: &Recording, options: &Options) -> Value {
    let mut out = Vec::new();
    Format::Sarif.report().write(recording, options, &mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

/// The official schema, as the crate `serde-sarif` brings it. That crate is never built: it is a dependency for this file alone, so
/// that cargo fetches it and checks that it is the one of the lock file.
fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        cargo.args(["metadata", "--locked", "--format-version", "1", "--manifest-path"]);
        let ended = cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let metadata: Value = serde_json::from_slice(&ended.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == "serde-sarif").unwrap();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let text = std::fs::read_to_string(manifest.with_file_name("src").join("schema.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    })
}

/// Checks files against the schema, and what that cannot say: that what they point to is there.
pub(in crate::report) fn check(files: &[&Value]) -> Result<(), String> {
    let mut compiler = boon::Compiler::new();
    compiler.enable_format_assertions();
    let mut schemas = boon::Schemas::new();
    compiler.add_resource("sarif.json", schema().clone()).unwrap();
    let compiled = compiler.compile("sarif.json", &mut schemas).unwrap();
    for file in files {
        schemas.validate(file, compiled).map_err(|error| format!("{error:#}"))?;
        let run = &file["runs"][0];
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        for result in run["results"].as_array().unwrap() {
            let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
            assert_eq!(rule["id"], result["ruleId"]);
            assert!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].is_string());
        }
        let bases = file.to_string().matches("uriBaseId").count();
        assert!(bases == 0 || run["originalUriBaseIds"][ROOT]["uri"].is_string());
    }
    Ok(())
}

#[test]
fn checks_as_results() {
    let options = Options { source_root: Some("/src".into()), ..Options::default() };
    let mut files = Vec::new();
    for (name, recording) in [
        ("sarif", fixture::check::failed()),
        ("sarif_incomplete", fixture::check::incomplete()),
        ("sarif_no_check", fixture::checkout()),
    ] {
        let file = written(&recording, &options);
        insta::assert_snapshot!(name, serde_json::to_string_pretty(&file).unwrap());
        files.push(file);
    }
    check(&files.iter().collect::<Vec<_>>()).unwrap();
}

#[test]
fn the_schema_finds_what_is_wrong() {
    let text = written(&fixture::check::failed(), &Options::default()).to_string();
    for (good, bad) in [
        ("\"level\":\"error\"", "\"level\":\"bad\""),
        ("\"external\"", "\"extern\""),
        ("\"startLine\":71", "\"startLine\":0"),
        ("\"ruleIndex\":", "\"rule\":"),
        ("file:///src/orders/queue.go", "::"),
        ("\"message\"", "\"msg\""),
    ] {
        let broken = text.replace(good, bad);
        assert_ne!(broken, text, "{good}");
        let broken: Value = serde_json::from_str(&broken).unwrap();
        assert!(std::panic::catch_unwind(|| check(&[&broken])).is_ok_and(|checked| checked.is_err()), "{bad}");
    }
}

#[test]
fn the_same_site_has_the_same_fingerprint_and_the_level_that_fails_the_check() {
    let mut recording = fixture::check::failed();
    let result = |recording: &Recording| {
        let file = written(recording, &Options::default());
        let results = file["runs"][0]["results"].as_array().unwrap();
        let likely = results.iter().find(|result| result["ruleId"] == "leak-likely").unwrap();
        (likely["partialFingerprints"]["leakprobeSite/v1"].clone(), likely["level"].clone())
    };
    assert_eq!(result(&recording), (json!("78dde6c4"), json!("error")));
    recording.check.as_mut().unwrap().fail_on = Verdict::Proven;
    recording.target.pid += 1;
    assert_eq!(result(&recording), (json!("78dde6c4"), json!("warning")));
}

#[test]
fn paths_are_uris() {
    assert_eq!(uri("/a b/ä%.go"), "file:///a%20b/%C3%A4%25.go");
    assert_eq!(uri("src/c:d.cc"), "src/c%3Ad.cc");
    assert_eq!(uri(""), "");
}
