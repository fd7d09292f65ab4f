//! Records are read as they were written, and laid over one another.

use super::*;
use crate::compare::feeds::Feed;
use crate::compare::spread::Spread;
use crate::compare::target::Bound;

fn run(started: &str) -> Run {
    Run {
        started: started.to_owned(),
        seconds: 60,
        command: "floe-bench compare".to_owned(),
        commit: "abc1234".to_owned(),
        rounds: 3,
        load: [0.1, 1.0],
    }
}

fn target(number: u32, median: f64) -> Target {
    Target::new(number, "cost", (Bound::AtMost(1.1), "×"), Spread::of([median]))
}

fn measurement(contestant: &str, feed: Feed, cpu_ns: u64) -> Measurement {
    table::tests::measured(contestant, feed, 0, cpu_ns)
}

fn record(started: &str, targets: Vec<Target>, measurements: Vec<Measurement>) -> Record {
    let entrant = |name: &str, version: Option<&str>| Entrant {
        name: name.to_owned(),
        version: version.map(str::to_owned),
        absent: version.is_none().then(|| "not on the PATH".to_owned()),
    };
    let entrants = vec![entrant("floe", Some("0.1.0")), entrant("statsite", None)];
    Record::new(Machine::read(), run(started), entrants, targets, measurements)
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let targets = vec![target(1, 1.0), Target::new(4, "lost", (Bound::AtMost(0.0), ""), None)];
    let written =
        record("2026-11-26T14:00:00Z", targets, vec![measurement("floe", Feed::Light, 7)]);
    written.write(folder.path()).unwrap();
    let read = Record::read(folder.path()).unwrap().unwrap();
    assert_eq!(read, written);
    assert_eq!(read.targets[1].figure.verdict, Verdict::NotShown);
    let tables = fs::read_to_string(folder.path().join("tables.md")).unwrap();
    assert!(tables.contains("| 1 | cost | ≤ 1.10 × |"), "{tables}");
    assert!(tables.contains("Did not: statsite (not on the PATH)."), "{tables}");
    let chart = fs::read_to_string(folder.path().join("chart.svg")).unwrap();
    assert!(chart.contains("2026-11-26, commit abc1234"), "{chart}");
}

#[test]
fn folder_without_a_record_has_none_and_a_broken_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Record::read(folder.path()).unwrap(), None);
    fs::write(folder.path().join("record.json"), "{}").unwrap();
    assert!(Record::read(folder.path()).is_err());
}

#[test]
fn newer_run_replaces_what_it_measured_again_and_leaves_the_rest() {
    let older = record(
        "2026-11-26T14:00:00Z",
        vec![target(1, 1.0), target(9, 1.1)],
        vec![measurement("floe", Feed::Light, 7), measurement("floe", Feed::SingleFlood, 8)],
    );
    let newer = record(
        "2026-11-26T15:00:00Z",
        vec![target(9, 1.5)],
        vec![measurement("floe", Feed::Light, 9)],
    );
    let both = older.overlaid_by(newer);
    let numbers: Vec<(u32, usize)> =
        both.targets.iter().map(|each| (each.figure.number, each.run)).collect();
    assert_eq!(numbers, [(1, 0), (9, 1)]);
    assert_eq!(both.targets[1].figure.verdict, Verdict::Missed);
    let costs: Vec<(u64, usize)> =
        both.measurements.iter().map(|each| (each.figure.all_cpu_ns, each.run)).collect();
    assert_eq!(costs, [(8, 0), (9, 1)]);
    assert_eq!(both.contestants.len(), 2);
}

#[test]
fn fewer_contestants_of_a_newer_run_leave_those_of_a_feed_side_by_side() {
    let all = |costs: [u64; 2]| {
        vec![
            measurement("floe", Feed::SingleFlood, costs[0]),
            measurement("bare-sleep", Feed::SingleFlood, costs[1]),
        ]
    };
    let older = record("2026-11-26T14:00:00Z", vec![target(1, 1.0)], all([500_000, 1_000_000]));
    let floe = |cost| vec![measurement("floe", Feed::SingleFlood, cost)];
    let newer = record("2026-11-26T15:00:00Z", vec![target(1, 1.05)], floe(250_000));
    let both = older.overlaid_by(newer);
    assert_eq!((both.runs.len(), both.targets[0].run), (2, 1));
    assert_eq!(both.measurements.len(), 3, "what the newer target is made of stays, too");
    assert!(both.summary().contains("| 2 / – / – |"), "{}", both.summary());
    // A third run with as few replaces the second.
    let third = record("2026-11-26T16:00:00Z", vec![target(1, 1.07)], floe(300_000));
    let three = both.overlaid_by(third);
    assert_eq!((three.runs.len(), three.measurements.len()), (2, 3));
    assert_eq!(three.runs[1].started, "2026-11-26T16:00:00Z");
    assert!(three.markdown().contains("| one line a datagram, flood, run 1 |"));
    // One with all of them replaces both.
    let last = record("2026-11-26T17:00:00Z", vec![target(1, 1.1)], all([500_000, 1_500_000]));
    let last = three.overlaid_by(last);
    assert_eq!((last.runs.len(), last.measurements.len()), (1, 2));
    assert!(last.summary().contains("| 3 / – / – |"), "{}", last.summary());
}

#[test]
fn every_record_has_the_tables_that_its_numbers_make() {
    for folder in with_tables().unwrap() {
        let record = Record::read(&folder).unwrap().expect("tables are of a record");
        let tables = fs::read_to_string(folder.join("tables.md")).unwrap();
        let name = folder.display();
        assert!(tables == record.markdown(), "{name}: floe-bench tables writes them anew");
    }
}

#[test]
fn runs_that_no_figure_is_from_are_left_out() {
    let older = record("2026-11-26T14:00:00Z", vec![target(1, 1.0)], Vec::new());
    let newer = record("2026-11-26T15:00:00Z", vec![target(1, 1.2)], Vec::new());
    let both = older.overlaid_by(newer);
    assert_eq!(both.runs.len(), 1);
    assert_eq!((both.runs[0].started.as_str(), both.targets[0].run), ("2026-11-26T15:00:00Z", 0));
}

#[test]
fn record_of_another_machine_stays_where_it_is() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("record");
    let first = record("2026-11-26T14:00:00Z", vec![target(1, 1.0)], Vec::new());
    let mut machine = first.machine.clone();
    assert_eq!(place(&folder, &machine).unwrap(), (folder.clone(), None));
    first.write(&folder).unwrap();
    assert_eq!(place(&folder, &machine).unwrap(), (folder.clone(), Some(first.clone())));
    machine.cpu = "another".to_owned();
    let second = parent.path().join("record-2");
    assert_eq!(place(&folder, &machine).unwrap(), (second.clone(), None));
    let other = Record { machine: machine.clone(), ..first.clone() };
    other.write(&second).unwrap();
    assert_eq!(place(&folder, &machine).unwrap(), (second, Some(other)));
    assert_eq!(Record::read(&folder).unwrap(), Some(first));
}

#[test]
fn times_are_utc_and_folders_are_named_by_date_and_host() {
    assert_eq!(utc(1_795_701_909_123), "2026-11-26T14:05:09Z");
    assert_eq!(folder_name("2026-11-26T14:05:09Z", "vm.lan"), "2026-11-26-vm-lan");
    let of = |asked| folder(asked, "2026-11-26T14:05:09Z", "vm", "-faults");
    assert_eq!(of(None), Some(records().join("2026-11-26-vm-faults")));
    assert_eq!(of(Some(Path::new("none"))), None);
    assert_eq!(of(Some(Path::new("there"))), Some("there".into()));
}
