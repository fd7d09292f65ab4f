//! `compare` measures, tells and records: the built binary, run small, with the loops and floe.
//!
//! Nothing here asks how fast anything is: shapes, names and books alone.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn compare(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-bench"));
    command.arg("compare").args(arguments).output().expect("the binary was built for this test")
}

fn text_of(output: &Output) -> String {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn quick(only: &str, targets: &str, record: &Path) -> (String, Value) {
    let record_text = record.to_str().expect("temporary folders have plain names");
    let output = compare(&[
        "--quick",
        "--only",
        only,
        "--targets",
        targets,
        "--rate",
        "5000",
        "--seconds",
        "0.2",
        "--rounds",
        "1",
        "--record",
        record_text,
    ]);
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    let json = fs::read_to_string(record.join("record.json")).expect("a record was written");
    (text, serde_json::from_str(&json).expect("the record is JSON"))
}

/// The value of `key` in each of the objects.
fn column<'v>(objects: &'v Value, key: &str) -> Vec<&'v Value> {
    objects.as_array().expect("a list").iter().map(|object| &object[key]).collect()
}

#[test]
fn quick_comparison_tells_and_records_what_it_measured() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let record = folder.path().join("record");
    let only = "bare-io_uring,bare-recvmmsg,bare-sleep,floe,floe-recvmmsg";
    let (text, json) = quick(only, "1,9,11", &record);
    assert_eq!(json["failures"], Value::Array(Vec::new()), "{text}");
    assert_eq!(column(&json["targets"], "number"), [1, 1, 9, 11], "{text}");
    assert!(column(&json["targets"], "measured").iter().all(|each| each["median"].is_f64()));
    // Five contestants in three feeds, once.
    let measurements = &json["measurements"];
    assert_eq!(measurements.as_array().expect("a list").len(), 15, "{text}");
    for measurement in measurements.as_array().expect("a list") {
        let sent = measurement["datagrams_sent"].as_u64().expect("a number");
        // 0.2 s of 5,000 a second; fewer on a machine busy with other tests.
        assert!(0 < sent && sent <= 1_001, "{measurement}");
        assert!(0 < measurement["worker_cpu_ns"].as_u64().expect("a number"), "{measurement}");
    }
    assert!(text.contains("bare-io_uring") && text.contains("rmem_max"), "{text}");
    assert!(json["machine"]["settings"]["net.core.rmem_max"].is_string());
    let tables = fs::read_to_string(record.join("tables.md")).expect("tables were written");
    assert!(tables.contains("| floe-recvmmsg |"), "{tables}");
}

#[test]
fn second_run_replaces_its_targets_in_the_record() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    quick("bare-sleep,floe", "9", folder.path());
    let (text, json) = quick("bare-sleep,floe", "9,11", folder.path());
    assert_eq!(column(&json["targets"], "number"), [9, 11], "{text}");
    // floe has nobody to be compared with in target 11.
    assert_eq!(json["targets"][1]["verdict"], "not_shown");
    assert_eq!(
        json["runs"].as_array().expect("a list").len(),
        1,
        "the first run has no figure left"
    );
}

#[test]
fn contestant_and_target_that_do_not_exist_are_refused() {
    let output = compare(&["--only", "etsy"]);
    let text = text_of(&output);
    assert!(output.status.code() == Some(1) && text.contains("bare-recvmmsg"), "{text}");
    let output = compare(&["--targets", "12"]);
    let text = text_of(&output);
    assert!(output.status.code() == Some(2) && text.contains("targets are 1 to 11"), "{text}");
}

/// At a rate that nothing is lost at; what an overload comes to is a matter of measurement.
#[test]
fn overload_holds_the_books_against_the_kernel() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_floe-bench"));
    command.args(["overload", "--seconds", "1", "--rate", "2000"]);
    let text = text_of(&command.output().expect("the binary was built for this test"));
    let books = text.lines().find(|line| line.starts_with("books ")).expect(&text);
    assert!(books.ends_with(": holds"), "{text}");
}
