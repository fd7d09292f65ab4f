//! `feed` counts lines, and by order times intervals: the built binary.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn feed(arguments: &[&str], orders: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_floe-bench"))
        .args(["feed", "packed", "--names", "10"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    let mut stdin = child.stdin.take().expect("piped");
    // What does not read ends first.
    stdin.write_all(orders.as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().expect("it was started here")
}

#[test]
fn lines_of_all_intervals_are_counted() {
    let output = feed(&["--lines-per-name", "3", "--intervals", "4"], "");
    assert!(output.status.success());
    assert_eq!(output.stdout, b"120\n");
}

#[test]
fn each_order_is_answered_until_they_end() {
    let output = feed(&["--by-order"], "0\n1\n");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("numbers");
    let answers: Vec<Vec<u64>> = text
        .lines()
        .map(|line| line.split(' ').map(|figure| figure.parse().expect("a number")).collect())
        .collect();
    let [first, second] = &answers[..] else { panic!("two answers: {text}") };
    assert!(first[0] <= first[1] && first[1] <= second[0] && second[0] <= second[1], "{text}");
    assert_eq!((first.len(), second.len()), (3, 3));
}

#[test]
fn order_that_is_no_time_and_cpu_that_is_not_there_are_refused() {
    for (arguments, orders, word) in
        [(vec!["--by-order"], "soon\n", "invalid digit"), (vec!["--cpu", "1023"], "", "CPU 1023")]
    {
        let output = feed(&arguments, orders);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{said}");
        assert!(output.stdout.is_empty());
    }
}
