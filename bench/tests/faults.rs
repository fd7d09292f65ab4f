//! `faults` maltreats the built daemon and says what was lost: two faults, once each, from a seed.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn faults(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-bench"));
    command.arg("faults").args(arguments).output().expect("the binary was built for this test")
}

#[test]
fn a_short_round_judges_each_fault_and_is_recorded() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let record = folder.path().join("record");
    let place = record.to_str().expect("temporary folders have plain names");
    let output = faults(&[
        "--seed",
        "7",
        "--duration",
        "1s",
        "--only",
        "sigterm,second_spool",
        "--json",
        "--record",
        place,
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let kept = fs::read_to_string(record.join("record.json")).expect("a record was written");
    assert_eq!(serde_json::from_str::<Value>(&kept).expect("the record is JSON"), told);
    let page = fs::read_to_string(record.join("lines.md")).expect("a page was written");
    assert_eq!(told["run"]["seed"], 7);
    for line in told["lines"].as_array().expect("a line per fault") {
        let (lost, allowed) = (line["lost"].as_u64(), line["allowed"].as_u64());
        assert_eq!((&line["verdict"], &line["injected"]), (&"holds".into(), &1.into()), "{line}");
        assert!(lost <= allowed, "{line}");
        assert!(page.contains(line["fault"].as_str().expect("it has a name")), "{page}");
    }
}

#[test]
fn a_fault_that_nobody_knows_is_refused() {
    let output = faults(&["--only", "earthquake", "--record", "none"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("earthquake"), "{text}");
}
