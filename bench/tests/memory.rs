//! `memory` gives the built daemon a small part of what it is made to give, judges and records it.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn memory(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-bench"));
    command.arg("memory").args(arguments).output().expect("the binary was built for this test")
}

#[test]
fn a_small_part_of_each_trial_holds_and_is_recorded() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let place = folder.path().to_str().expect("temporary folders have plain names");
    let output = memory(&["--scale", "0.0005", "--record", place]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let kept = fs::read_to_string(folder.path().join("record.json")).expect("a record was written");
    let kept: Value = serde_json::from_str(&kept).expect("the record is JSON");
    let checks = kept["checks"].as_array().expect("a list of lines");
    for trial in ["names", "times", "members"] {
        let judged = checks.iter().filter(|check| check["trial"] == trial);
        assert!(10 <= judged.count(), "{text}");
        assert!(text.contains(trial), "{text}");
    }
    let page = fs::read_to_string(folder.path().join("lines.md")).expect("a page was written");
    assert!(
        page.contains("| names | known series that are exact at carbon | 10000 | 10000 | holds |")
    );
}

#[test]
fn a_trial_that_nobody_knows_is_refused() {
    let output = memory(&["--only", "dragons", "--record", "none"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("dragons"), "{text}");
}
