//! Claim: what once broke a reader, and what the reference daemon dies of, breaks nothing. Method: every
//! file of the corpus, and a short round of new inputs for each target, from a fixed seed.

use floe_fuzz::round::{replay, run};
use floe_fuzz::targets::{TARGETS, Target};

/// New inputs per target: a few seconds in all, in a build for debugging.
const INPUTS: u64 = 1_500;

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("the target exists")
}

fn holds(name: &str) {
    let target = target(name);
    let kept = replay(target).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    assert!(3 <= kept, "{name} has {kept} kept inputs");
    match run(target, 1, |count| count < INPUTS).expect("the corpus is readable") {
        Ok(count) => assert_eq!(count, INPUTS),
        Err(failure) => panic!(
            "{name}: {}\n\"{}\"",
            failure.problem,
            failure.input[..failure.input.len().min(2_000)].escape_ascii()
        ),
    }
}

#[test]
fn datagrams_hold() {
    holds("parse_datagram");
}

#[test]
fn tags_hold() {
    holds("tags");
}

#[test]
fn streams_hold() {
    holds("tcp_stream");
}

#[test]
fn configurations_hold() {
    holds("config");
}

#[test]
fn commands_hold() {
    holds("console_command");
}

#[test]
fn segments_hold() {
    holds("segment_open");
}

#[test]
fn encoders_hold() {
    holds("carbon_encode");
}
