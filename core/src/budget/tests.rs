//! Two workers and a coordinator under budgets, fed with lines.

use std::collections::BTreeMap;

use super::*;
use crate::config::settings::Settings;
use crate::config::without_file;
use crate::interval::{BookEntries, Interval};
use crate::limits::{DATAGRAM_SLACK_BYTES, SWEEP_EVERY_NS};
use crate::line::LineParser;
use crate::name::KeyHasher;
use crate::shard::{ShardReader, ShardWriter, shard_within};
use crate::sync::Arc;

/// Two workers and a coordinator under budgets.
struct World {
    writers: Vec<ShardWriter>,
    readers: Vec<ShardReader>,
    interval: Interval,
    parser: LineParser,
    timestamp_s: u64,
    now_ns: u64,
    dropped: u64,
    folded: u64,
    series_dropped: u64,
}

impl World {
    fn new(budgets: &Budgets, change: impl FnOnce(&mut Settings)) -> Self {
        let hasher = KeyHasher::default();
        let ledger = Arc::new(Ledger::new(budgets, 2));
        let shards = (0..2).map(|index| shard_within(index, hasher.clone(), Arc::clone(&ledger)));
        let (writers, readers): (Vec<_>, Vec<_>) = shards.unzip();
        let mut settings = without_file().settings;
        settings.books = false;
        change(&mut settings);
        let interval = Interval::new(settings, &hasher, &readers);
        let parser = LineParser::new(true);
        Self {
            writers,
            readers,
            interval,
            parser,
            timestamp_s: 10,
            now_ns: 0,
            dropped: 0,
            folded: 0,
            series_dropped: 0,
        }
    }

    fn send(&mut self, worker: usize, line: &str) {
        let mut buffer = line.as_bytes().to_vec();
        buffer.resize(line.len() + DATAGRAM_SLACK_BYTES, 0);
        let mut batch = self.writers[worker].batch();
        let tally = self.parser.datagram(&buffer, line.len(), &mut batch);
        batch.finish(line.len(), tally);
    }

    fn flip(&mut self) {
        for (writer, reader) in self.writers.iter_mut().zip(&mut self.readers) {
            reader.request();
            // Enough for a look at every sub-table.
            for batch in 0..300 {
                writer.begin_batch(self.now_ns + batch * SWEEP_EVERY_NS);
                writer.end_batch();
            }
        }
        self.now_ns += 300 * SWEEP_EVERY_NS;
        self.interval.collect(&mut self.readers);
        assert_eq!(self.interval.pages_unbalanced(), 0);
    }

    /// Names and values of an interval: sums of counters, numbers of values of timers and members.
    fn close(&mut self) -> BTreeMap<String, f64> {
        self.flip();
        let page = self.interval.page();
        self.dropped += page.values_dropped.iter().sum::<u64>();
        self.folded += page.values_folded + page.series_folded;
        self.series_dropped += page.series_dropped;
        self.timestamp_s += 10;
        let parts = self.interval.close(self.timestamp_s, &BookEntries::default());
        let mut rows = BTreeMap::new();
        for part in &parts {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let values = (part.counters.iter().copied())
                .chain(part.timers.counts.iter().copied())
                .chain(part.gauges.iter().copied())
                .chain(part.sets.iter().map(|count| *count as f64));
            let mut start = 0;
            for (end, value) in part.names.ends.iter().zip(values) {
                let name = &part.names.bytes[start..*end as usize];
                start = *end as usize;
                let name = String::from_utf8_lossy(name).into_owned();
                if !name.starts_with("statsd.") {
                    *rows.entry(name).or_default() += value;
                }
            }
        }
        rows
    }
}

fn of_series(series_max: usize) -> Budgets {
    Budgets { series_max: Some(series_max), ..Budgets::default() }
}

#[test]
fn beyond_the_budget_totals_stay_right_and_what_exists_goes_on() {
    let mut world = World::new(&of_series(103), |_| {});
    for number in 0..100 {
        world.send(number % 2, &format!("app.known{number}:1|c"));
    }
    assert_eq!(world.close().len(), 100);
    for round in 0..3 {
        for number in 0..1_000 {
            let kind = ["c", "ms", "s"][number % 3];
            world.send(number % 2, &format!("bomb.x{round}.{number}:1|{kind}"));
            world.send(number % 2, &format!("single{round}{number}:1|c"));
            world.send(number % 2, &format!("bomb.gauge{number}:1|g"));
        }
        for number in 0..100 {
            world.send((number + 1) % 2, &format!("app.known{number}:2|c"));
        }
        let rows = world.close();
        assert!((0..100).all(|number| rows[&format!("app.known{number}")] == 2.0), "{rows:?}");
        // Counters and timers by their weights, of the set one member.
        assert_eq!(rows["bomb.__overflow__"], 334.0 + 333.0 + 1.0);
        assert_eq!(rows["__overflow__"], 1_000.0);
        assert_eq!(rows.len(), 102, "{:?}", rows.keys());
    }
    assert_eq!((world.dropped, world.folded), (3 * 1_000, 3 * 2_000));
}

#[test]
fn each_prefix_has_a_budget_of_its_own() {
    let pattern = |prefix: &str, names_max| PrefixPattern { prefix: prefix.to_owned(), names_max };
    let prefixes = Prefixes {
        patterns: vec![pattern("app.*", 10), pattern("free", 1_000)],
        names_max: Some(20),
    };
    let budgets = Budgets { prefixes, ..of_series(10_000) };
    let mut world = World::new(&budgets, |_| {});
    for _ in 0..3 {
        for number in 0..100 {
            for prefix in ["app.web", "app.db", "free", "other"] {
                world.send(number % 2, &format!("{prefix}.name{number}:1|c"));
            }
            world.send(0, &format!("alone{number}:1|c"));
        }
        let rows = world.close();
        let below = |prefix: &str| rows.keys().filter(|name| name.starts_with(prefix)).count();
        assert_eq!(rows["app.web.__overflow__"], 90.0);
        assert_eq!(rows["app.db.__overflow__"], 90.0);
        assert_eq!(rows["other.__overflow__"], 80.0);
        assert_eq!((below("free."), below("alone"), below("app.")), (100, 100, 22));
    }
    assert_eq!((world.dropped, world.folded), (0, 3 * (90 + 90 + 80)));
}

#[test]
fn a_name_that_both_workers_let_in_and_has_no_room_is_folded_by_the_coordinator() {
    let mut world = World::new(&of_series(10), |_| {});
    // Seven beside the own counters, each let in twice: the workers' count is full at once.
    for number in 0..3 {
        world.send(0, &format!("a.{number}:1|c"));
        world.send(1, &format!("a.{number}:1|c"));
    }
    let rows = world.close();
    assert_eq!(rows.values().sum::<f64>(), 6.0);
    for number in 0..20 {
        world.send(number % 2, &format!("b.{number}:1|c"));
    }
    let rows = world.close();
    assert_eq!(rows.values().sum::<f64>(), 20.0, "nothing is lost: {rows:?}");
    assert_eq!(rows.len(), 8, "seven and the one that stands for the rest");
}

#[test]
fn a_gauge_that_a_worker_took_for_a_known_one_is_dropped_by_the_coordinator_and_counted() {
    let mut world = World::new(&of_series(4_099), |_| {});
    (0..4_096).for_each(|number| world.send(0, &format!("known.{number}:1|c")));
    world.close();
    // The filter, as full as it gets, takes one new name in some hundreds for one that exists.
    (0..10_000).for_each(|number| world.send(number % 2, &format!("new.{number}:1|g")));
    assert_eq!(world.close().len(), 4_096);
    assert_eq!((world.dropped + world.series_dropped, world.folded), (10_000, 0));
    assert!(0 < world.series_dropped);
}

#[test]
fn a_series_that_left_its_shard_comes_back_beyond_the_budget() {
    let mut world = World::new(&of_series(53), |_| {});
    (0..50).for_each(|number| world.send(0, &format!("a.{number}:1|c")));
    world.close();
    // Idle slots leave, the series stay.
    (0..90).for_each(|_| drop(world.close()));
    assert_eq!(world.writers[0].series_count(), 0);
    (0..50).for_each(|number| world.send(1, &format!("a.{number}:1|c")));
    (0..50).for_each(|number| world.send(1, &format!("b.{number}:1|c")));
    let rows = world.close();
    assert!((0..50).all(|number| rows[&format!("a.{number}")] == 1.0), "{rows:?}");
    assert_eq!(rows["b.__overflow__"], 50.0);
}

#[test]
fn what_is_deleted_makes_room_again_however_often() {
    let mut world = World::new(&of_series(103), |settings| {
        settings.idle.delete_counters = true;
    });
    for round in 0..200 {
        (0..60).for_each(|number| world.send(0, &format!("churn.{round}.{number}:1|c")));
        (0..10).for_each(|number| world.send(1, &format!("steady.{number}:1|c")));
        let rows = world.close();
        assert!((0..10).all(|number| rows[&format!("steady.{number}")] == 1.0), "{round}");
        assert_eq!(rows.values().sum::<f64>(), 70.0);
        assert!(world.writers[0].series_count() <= shard_series_max(103), "bounded");
    }
    // Slots of what is gone count for a minute and more: they are memory.
    (0..70).for_each(|_| drop(world.close()));
    (0..60).for_each(|number| world.send(0, &format!("at.last.{number}:1|c")));
    assert_eq!(world.close().len(), 60, "there is room again");
}

#[test]
fn prefixes_that_are_invented_end_in_one_series() {
    let mut world = World::new(&of_series(1), |_| {});
    for number in 0..3 * OVERFLOW_SERIES_MAX {
        world.send(number % 2, &format!("p{number}.x:1|c"));
    }
    let rows = world.close();
    assert_eq!(rows.values().sum::<f64>(), 3.0 * OVERFLOW_SERIES_MAX as f64);
    assert!(rows.len() <= OVERFLOW_SERIES_MAX + 2, "{}", rows.len());
    assert!(1_000.0 < rows["__overflow__"]);
}

#[test]
fn long_names_count_by_their_bytes() {
    let mut world = World::new(&of_series(1_000), |_| {});
    let long = "n".repeat(4_000);
    for number in 0..1_000 {
        world.send(number % 2, &format!("long.{number}{long}:1|c"));
    }
    let rows = world.close();
    let bytes: usize = rows.keys().map(String::len).sum();
    assert!(bytes <= 1_000 * SERIES_KEY_BYTES_MEAN, "{bytes}");
    assert!(20 < rows.len() && rows.values().sum::<f64>() == 1_000.0, "{}", rows.len());
}

#[test]
fn r4_a_series_without_a_value_leaves_no_other_the_mark_of_a_third() {
    let budgets = Budgets { timer_bytes_max: Some(64 << 10), ..of_series(10_000) };
    let mut world = World::new(&budgets, |_| {});
    let chunks = world.readers[0].ledger().chunks_per_generation();
    let names = |kind: &'static str| (0..100).map(move |number| format!("{kind}.{number}"));
    names("first").for_each(|name| world.send(0, &format!("{name}:1|c")));
    for interval in 0..200 {
        // Timers that take all chunks there are.
        for number in 0..chunks - chunks / 8 {
            world.send(0, &format!("filler.{number}:1|ms"));
        }
        // By now the slots of the first are vacant. These get them, no value, and leave.
        if interval == 90 {
            names("refused").for_each(|name| world.send(0, &format!("{name}:1|ms")));
        }
        drop(world.close());
    }
    assert_eq!(world.dropped, 100);
    names("last").for_each(|name| world.send(0, &format!("{name}:3|c")));
    let rows = world.close();
    assert!(names("first").all(|name| rows[&name] == 0.0), "{rows:?}");
    assert!(names("last").all(|name| rows[&name] == 3.0), "{rows:?}");
}
