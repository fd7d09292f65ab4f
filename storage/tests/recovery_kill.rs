//! Claim: what a commit has returned for is there after SIGKILL, whole, in every queue; what it had
//! not returned for is there whole or not at all, and nothing else is.
//! Method: this program starts itself as a process that commits without end and says what it has
//! committed; it is killed after so many commits, wherever it then is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use floe_storage::{Queue, Reader};
use support::{entries, open, parts};

const CHILD: &str = "FLOE_TEST_KILLED_SPOOL";
const PART_COUNT: u32 = 3;

fn commit_without_end(path: &Path) {
    let (mut half, _) = open(path, &["a", "b"]);
    let mut stdout = std::io::stdout();
    for timestamp_s in 1.. {
        half.commit(&parts(timestamp_s, PART_COUNT)).unwrap();
        // The parent is gone or has seen enough: either way this process ends.
        if writeln!(stdout, "\ncommitted {timestamp_s}").is_err() {
            return;
        }
    }
}

/// Kills the child when it has said `commit_count` commits; returns the last one it said.
fn kill_after(path: &Path, commit_count: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "committed_intervals_survive_a_kill", "--nocapture"])
        .env(CHILD, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut committed = 0;
    let mut is_killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        if let Some(timestamp_s) = line.strip_prefix("committed ") {
            committed = timestamp_s.parse().unwrap();
        }
        if committed >= commit_count && !is_killed {
            child.kill().unwrap();
            is_killed = true;
        }
    }
    child.wait().unwrap();
    committed
}

#[test]
fn committed_intervals_survive_a_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return commit_without_end(Path::new(&path));
    }
    for commit_count in [1, 2, 3, 5, 8, 13, 21, 34] {
        let spool = tempfile::tempdir().unwrap();
        let committed = kill_after(spool.path(), commit_count);
        assert!(committed >= commit_count);
        let (half, report) = open(spool.path(), &["a", "b"]);
        assert_eq!((report.quarantined.len(), report.failed), (0, 0), "{report:?}");
        assert_eq!(entries(&spool.path().join("tmp")), [""; 0]);
        assert!(half.newest_timestamp_s().unwrap() >= committed);
        for backend in ["a", "b"] {
            let queue = Queue::open(spool.path(), backend).unwrap();
            let mut names = Vec::new();
            queue.list(&mut names).unwrap();
            let mut expected = Vec::new();
            for timestamp_s in 1..=committed {
                expected.extend((0..PART_COUNT).map(|part| (timestamp_s, part)));
            }
            let mut found = Vec::new();
            let mut reader = Reader::new();
            for name in &names {
                let segment = reader.read(&queue.path(name)).unwrap();
                assert_eq!(segment.rows.row_count(), 5);
                found.push((segment.header.timestamp_s, segment.header.part_index));
            }
            assert_eq!(found[..expected.len()], expected[..]);
            // Beyond: parts of the one interval that was being committed.
            let rest = &found[expected.len()..];
            assert!(rest.len() <= PART_COUNT as usize, "{rest:?}");
            assert!(rest.iter().all(|(timestamp_s, _)| *timestamp_s == committed + 1), "{rest:?}");
        }
    }
}
