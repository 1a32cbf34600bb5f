//! Profiles, read by the real `go tool pprof`.

use std::{path::Path, process::Command};

use crate::support::{Program, Variant, leakprobe, need_root, settle};

/// The newest toolchain, which `cargo xtask programs` has fetched.
fn go() -> Command {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/go");
    let goroot = home.join("1.27.3/go");
    assert!(goroot.exists(), "{} is not there: run `cargo xtask programs`", goroot.display());
    let mut go = Command::new(goroot.join("bin/go"));
    // The tool is built from its source when it is first asked for.
    go.envs([("GOPATH", "path"), ("GOCACHE", "cache")].map(|(name, folder)| (name, home.join(folder))));
    go.env("GOROOT", goroot).env("GOENV", "off").env("GOWORK", "off");
    go.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOFLAGS", "-mod=mod");
    go
}

/// What `go tool pprof` with these arguments says of a profile.
fn pprof(profile: &Path, args: &[&str]) -> String {
    let output = go().args(["tool", "pprof"]).args(args).arg(profile).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("error") && !stderr.contains("malformed"), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn go_s_own_pprof_reads_our_profiles() {
    need_root();
    let program = Program::ready("many", Variant::Pie);
    settle(program.pid());
    let ended = leakprobe(["snapshot", "-q", "-p", &program.pid().to_string(), "-m", "0s", "-o", "a.pb.gz"]);
    ended.succeeded();
    let profile = ended.directory.path().join("a.pb.gz");

    let raw = pprof(&profile, &["-raw"]);
    for wanted in ["tasks/count[dflt] parked/milliseconds", "wait:[futex]", "task:[thread]", "state:[parked]", "age:["]
    {
        assert!(raw.contains(wanted), "no {wanted} in {raw}");
    }
    // Functions, and the module with address that a location has.
    let locations = raw.split("Locations").nth(1).unwrap();
    assert!(locations.lines().any(|line| line.contains(" park ") && line.contains("0x")), "{locations}");
    assert!(raw.split("Mappings").nth(1).unwrap().contains("/many"), "{raw}");

    let top = pprof(&profile, &["-top", "-cum", "-tagfocus=wait=futex"]);
    let park = top.lines().find(|line| line.ends_with(" park")).unwrap_or_else(|| panic!("no park in {top}"));
    assert!(park.split_whitespace().any(|word| word == "100"), "{park}");
    assert!(top.contains("Type: tasks"), "{top}");
    // By time, and grouped by a label.
    let time = pprof(&profile, &["-top", "-sample_index=parked", "-unit=milliseconds"]);
    assert!(time.contains("Type: parked") && time.contains("ms"), "{time}");
    let by_wait = pprof(&profile, &["-top", "-cum", "-tagroot=wait"]);
    assert!(by_wait.lines().any(|line| line.trim_end().ends_with(" futex")), "{by_wait}");
    assert!(pprof(&profile, &["-comments"]).contains("many (pid "));
}
