//! Situations recorded from the reference daemon: consoles, streams, repeaters, reloads, bad
//! configurations. floe is put into each of them on both ingest paths, with the configuration
//! written in both styles, and what is seen is what was recorded, but for the situations that
//! `golden/deviations.json` names with a reason.
//!
//! The recorder is this file too: `tests/recorder/record` runs it with `FLOE_RECORD` set and the
//! reference in floe's place (`FLOE_TEST_COMMAND`). It plays every situation of
//! `golden/situations.json` until two runs in a row agree, and writes down what was seen.
//! `FLOE_TEST_CASES` selects situations by a part of their name; `FLOE_RECORD=new` records those alone
//! that never were.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::config_js::Style;
use support::daemon::Ingest;
use support::difference::differences;
use support::player::play;
use support::situation::{self, Situation};

mod support;

/// Situations at once: they spend their time waiting for the next flush.
const JOBS: usize = 12;
const TRIES: usize = 3;

/// What went wrong in each situation.
type Failures = BTreeMap<String, Vec<String>>;

#[test]
fn recorded_situations_hold_on_io_uring() {
    check_all(Ingest::IoUring);
}

#[test]
fn recorded_situations_hold_on_recvmmsg() {
    check_all(Ingest::Recvmmsg);
}

#[test]
fn there_are_at_least_thirty_situations_and_each_was_recorded() {
    let file = situation::recorded();
    assert!(30 <= file.situations.len(), "{}", file.situations.len());
    assert_eq!((file.format, file.kind.as_str()), (1, "situation"));
    let names: BTreeSet<&str> =
        file.situations.iter().map(|situation| situation.name.as_str()).collect();
    assert_eq!(names.len(), file.situations.len(), "each name once");
    for situation in &file.situations {
        assert!(is_recorded(situation), "{} was not recorded", situation.name);
    }
}

fn is_recorded(situation: &Situation) -> bool {
    let text = serde_json::to_string(situation).expect("a situation prints");
    text.contains("\"seen\"")
}

fn check_all(ingest: Ingest) {
    if std::env::var_os("FLOE_RECORD").is_some() {
        if ingest == Ingest::IoUring {
            record();
        }
        return;
    }
    let mut all = situation::converted();
    all.extend(situation::recorded().situations);
    let selected = selected(all);
    let failures = for_each(&selected, |index, situation| {
        let style =
            if (index + ingest as usize).is_multiple_of(2) { Style::Json } else { Style::Example };
        let mut found = Vec::new();
        for _ in 0..TRIES {
            let (played, mut problems) = play(situation, ingest, style);
            problems.extend(differences(situation, &played));
            if problems.is_empty() {
                return problems;
            }
            found = problems;
        }
        found
    });
    judge(&failures, &selected);
}

fn selected(all: Vec<Situation>) -> Vec<Situation> {
    let part = std::env::var("FLOE_TEST_CASES").ok();
    let is_selected =
        |situation: &Situation| part.as_ref().is_none_or(|part| situation.name.contains(part));
    all.into_iter().filter(is_selected).collect()
}

/// Runs `check` on every situation, several at a time.
fn for_each(
    situations: &[Situation],
    check: impl Fn(usize, &Situation) -> Vec<String> + Sync,
) -> Failures {
    let next = AtomicUsize::new(0);
    let failures: Mutex<Failures> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..JOBS.min(situations.len()) {
            scope.spawn(|| {
                while let Some((index, situation)) =
                    situations.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                {
                    let checked = std::panic::AssertUnwindSafe(|| check(index, situation));
                    let found = std::panic::catch_unwind(checked).unwrap_or_else(|panic| {
                        let text = panic.downcast::<String>();
                        vec![text.map_or_else(|_| "panicked".to_owned(), |text| *text)]
                    });
                    if !found.is_empty() {
                        let mut failures = failures.lock().expect("no job panics with the lock");
                        failures.insert(situation.name.clone(), found);
                    }
                }
            });
        }
    });
    failures.into_inner().expect("no job panics with the lock")
}

/// Fails with every difference at once: a situation that failed unannounced, and one announced to
/// fail that passed.
fn judge(failures: &Failures, checked: &[Situation]) {
    let announced = announced();
    let mut report = String::new();
    for (name, found) in failures.iter().filter(|(name, _)| !announced.contains(*name)) {
        report.push_str(&format!("\nFAIL {name}\n     {}", found.join("\n     ")));
    }
    for situation in checked.iter().filter(|situation| announced.contains(&situation.name)) {
        if !failures.contains_key(&situation.name) {
            report.push_str(&format!("\nPASSED {}, announced to fail", situation.name));
        }
    }
    assert!(report.is_empty(), "of {} situations:{report}", checked.len());
}

/// Names in `golden/deviations.json`.
fn announced() -> BTreeSet<String> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/deviations.json"));
    let text = std::fs::read_to_string(path).expect("the deviations are in the repository");
    let list: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list");
    list.iter().map(|entry| entry["name"].as_str().expect("a name").to_owned()).collect()
}

/// Plays every situation on the reference and writes down what was seen.
fn record() {
    let mut file = situation::recorded();
    let is_new_alone = std::env::var("FLOE_RECORD").is_ok_and(|which| which == "new");
    let is_wanted = |situation: &Situation| !is_new_alone || !is_recorded(situation);
    let situations =
        selected(file.situations.iter().filter(|one| is_wanted(one)).cloned().collect());
    let recorded: Mutex<BTreeMap<String, Situation>> = Mutex::default();
    let failures = for_each(&situations, |_, situation| {
        let (mut last, mut problems) = play(situation, Ingest::IoUring, Style::Json);
        for _ in 0..4 {
            let (played, found) = play(situation, Ingest::IoUring, Style::Json);
            if problems.is_empty() && found.is_empty() && differences(&last, &played).is_empty() {
                let mut recorded = recorded.lock().expect("no job panics with the lock");
                recorded.insert(situation.name.clone(), played);
                return Vec::new();
            }
            (last, problems) = (played, found);
        }
        problems.push("no two runs in a row agree".to_owned());
        problems
    });
    let recorded = recorded.into_inner().expect("no job panics with the lock");
    for situation in &mut file.situations {
        if let Some(played) = recorded.get(&situation.name) {
            situation.clone_from(played);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/situations.json");
    let text = serde_json::to_string_pretty(&file).expect("situations print");
    std::fs::write(path, text + "\n").expect("the repository is writable");
    assert!(failures.is_empty(), "not recorded: {failures:#?}");
}
