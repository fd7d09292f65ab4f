//! A network and mounts of a test's own: the test runs itself again inside them, by `unshare`.
//!
//! In there the test is root, whoever it is outside, and nothing that it does to addresses, routes or
//! `/etc` touches the machine. Where the kernel grants none that is said.

use std::path::Path;
use std::process::Command;

use super::mount::{run, say, text};
use super::process;

/// Set inside.
const INSIDE: &str = "FLOE_TEST_NETWORK";

/// Words of `unshare`, for root and for others.
const WORDS: [&[&str]; 2] = [&["--net", "--mount"], &["--map-root-user", "--net", "--mount"]];

/// What is done first: loopback is down in a new network.
const FIRST: &str = "ip link set lo up && exec \"$@\"";

/// Runs the test called `test` of this file within, once; true if this is it. Outside all is done then.
pub(crate) fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let enter = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(words).args(["--", "sh", "-c", FIRST, "test"]);
        command
    };
    let is_granted = |words: &&&[&str]| {
        let mut command = enter(words);
        command.args(["ip", "route", "add", "10.77.0.0/16", "dev", "lo"]);
        command.output().is_ok_and(|output| output.status.success())
    };
    let Some(words) = WORDS.iter().find(is_granted) else {
        say(&format!(
            "NOT TRIED: no network of our own is granted here, by unshare and ip: {test}"
        ));
        return false;
    };
    let itself = std::env::current_exe().expect("a running program has a file");
    let mut command = enter(words);
    command.arg(itself).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = process::run(test, &mut command);
    assert!(output.contains("1 passed"), "{test} is no test of this file: {output}");
    false
}

/// Lays `file` over `place`, for this network alone.
pub(crate) fn lay_over(file: &Path, place: &str) {
    run("mount", &["--bind", text(file), place]).expect("we are root in here");
}
