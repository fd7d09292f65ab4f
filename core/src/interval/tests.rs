//! The open interval as the console sees it: views and deletes between two flushes.

use super::*;
use crate::config;
use crate::limits::DATAGRAM_SLACK_BYTES;
use crate::line::LineParser;
use crate::shard::{ShardWriter, shard};

struct Daemon {
    writers: Vec<ShardWriter>,
    readers: Vec<ShardReader>,
    interval: Interval,
    now_ns: u64,
}

impl Daemon {
    fn new(workers: u16) -> Self {
        let hasher = KeyHasher::default();
        let (writers, readers): (Vec<_>, Vec<_>) =
            (0..workers).map(|index| shard(index, hasher.clone())).unzip();
        let settings = config::without_file().settings;
        let interval = Interval::new(settings, &hasher, &readers);
        Self { writers, readers, interval, now_ns: 0 }
    }

    fn receive(&mut self, worker: usize, text: &str) {
        let mut buffer = text.as_bytes().to_vec();
        buffer.resize(text.len() + DATAGRAM_SLACK_BYTES, b'#');
        let writer = &mut self.writers[worker];
        self.now_ns += 1;
        writer.begin_batch(self.now_ns);
        let mut batch = writer.batch();
        let tally = LineParser::new(true).datagram(&buffer, text.len(), &mut batch);
        batch.finish(text.len(), tally);
        writer.end_batch();
    }

    fn flip(&mut self) {
        for (reader, writer) in self.readers.iter_mut().zip(&mut self.writers) {
            reader.request();
            writer.begin_batch(self.now_ns);
        }
        self.interval.collect(&mut self.readers);
    }

    fn close(&mut self, timestamp_s: u64) -> Vec<Rows> {
        self.flip();
        self.interval.close(timestamp_s, &BookEntries::default())
    }

    fn counters(&mut self) -> Vec<(String, f64)> {
        self.flip();
        listed(&self.interval.counters())
    }

    fn gauges(&mut self) -> Vec<(String, f64)> {
        self.flip();
        listed(&self.interval.gauges())
    }

    fn timers(&mut self) -> Vec<(String, TimerSoFar)> {
        self.flip();
        listed(&self.interval.timers())
    }

    fn delete(&mut self, kind: Deletable, arguments: &[&str]) -> Vec<usize> {
        self.flip();
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|each| each.as_bytes().into()).collect();
        self.interval.delete(kind, &arguments).iter().map(Vec::len).collect()
    }
}

fn listed<V: Clone>(view: &View<V>) -> Vec<(String, V)> {
    let entries = view.iter();
    assert_eq!(entries.len(), view.len());
    entries.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.clone())).collect()
}

fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

#[test]
fn own_counters_come_first_and_count_at_any_moment() {
    let mut daemon = Daemon::new(1);
    let own = |bad, packets, metrics| {
        pairs(&[
            ("statsd.bad_lines_seen", bad),
            ("statsd.packets_received", packets),
            ("statsd.metrics_received", metrics),
        ])
    };
    assert_eq!(daemon.counters(), own(0.0, 0.0, 0.0));
    daemon.receive(0, "a:2|c\nbad\n");
    let mut expected = own(1.0, 1.0, 2.0);
    expected.push(("a".to_owned(), 2.0));
    assert_eq!(daemon.counters(), expected);
    daemon.receive(0, "a:3|c\n7:1|c\n");
    let with_index = pairs(&[("7", 1.0)]).into_iter();
    let rest = pairs(&[("a", 5.0)]);
    assert_eq!(
        daemon.counters(),
        with_index.chain(own(1.0, 2.0, 4.0)).chain(rest).collect::<Vec<_>>(),
        "array indexes are listed first"
    );
    daemon.close(10);
    assert!(daemon.counters().iter().all(|(_, value)| *value == 0.0));
}

#[test]
fn an_own_counter_that_is_deleted_counts_from_zero() {
    let mut daemon = Daemon::new(1);
    daemon.receive(0, "a:1|c\nb:1|c\n");
    assert_eq!(daemon.delete(Deletable::Counters, &["statsd.*", "a"]), [3, 1]);
    assert_eq!(daemon.counters(), pairs(&[("b", 1.0)]));
    daemon.receive(0, "b:1|c\nb:1|c\n");
    let after =
        pairs(&[("b", 3.0), ("statsd.metrics_received", 2.0), ("statsd.packets_received", 1.0)]);
    assert_eq!(daemon.counters(), after);
    let rows = daemon.close(10);
    assert_eq!(rows[0].counters, [3.0, 2.0, 1.0, 0.0], "b and the own ones, in order of return");
    daemon.receive(0, "b:1|c\n");
    assert!(daemon.counters().contains(&("statsd.packets_received".to_owned(), 1.0)));
}

#[test]
fn a_timer_shows_its_first_values_in_order_of_arrival_and_keeps_them_all() {
    let mut daemon = Daemon::new(2);
    let number = |value: f64| TimerSoFar { first: [value].into(), total: 1 };
    daemon.receive(0, "t:5|ms\nu:7|ms\n");
    daemon.receive(1, "t:4|ms\n");
    let both = TimerSoFar { first: [5.0, 4.0].into(), total: 2 };
    assert_eq!(daemon.timers(), [("t".to_owned(), both), ("u".to_owned(), number(7.0))]);
    for value in 0..250 {
        daemon.receive(0, &format!("t:{value}|ms\n"));
        if value == 30 {
            daemon.flip();
        }
    }
    let (_, shown) = daemon.timers().swap_remove(0);
    let expected: Vec<f64> = [5.0, 4.0].into_iter().chain((0..98).map(f64::from)).collect();
    assert_eq!((&*shown.first, shown.total), (&expected[..], 252));
    let rows = daemon.close(10);
    assert_eq!(rows[0].timers.value_counts, [252, 1], "looking takes nothing away");
    let empty = TimerSoFar::default();
    assert_eq!(daemon.timers(), [("t".to_owned(), empty.clone()), ("u".to_owned(), empty)]);
}

#[test]
fn what_is_deleted_is_gone_from_the_next_flush_and_made_anew_by_a_value() {
    let mut daemon = Daemon::new(1);
    daemon.receive(0, "a:1|c\ng:4|g\ng.x:5|g\nt:1|ms\nt:2|ms\nkeep:1|ms\n");
    assert_eq!(daemon.delete(Deletable::Counters, &["a", "g"]), [1, 0]);
    assert_eq!(daemon.delete(Deletable::Timers, &["t"]), [1]);
    assert_eq!(daemon.delete(Deletable::Gauges, &["g.*", "g"]), [1, 1]);
    assert!(daemon.gauges().is_empty());
    daemon.receive(0, "g:+3|g\nt:9|ms\n");
    assert_eq!(daemon.gauges(), pairs(&[("g", 3.0)]), "nothing is left to add to");
    let rows = daemon.close(10);
    assert_eq!(rows[0].timers.sums, [1.0, 9.0]);
    assert_eq!((rows[0].counters.len(), &rows[0].gauges[..]), (3, &[3.0][..]));
}

#[test]
fn the_newest_datagram_is_that_of_all_workers() {
    let mut daemon = Daemon::new(2);
    daemon.receive(1, "a:1|c\n");
    daemon.receive(0, "a:1|c\n");
    daemon.receive(1, "a:1|c\n");
    daemon.flip();
    assert_eq!(daemon.interval.page().newest_input_ns, 3);
    daemon.flip();
    assert_eq!(daemon.interval.page().newest_input_ns, 3, "a quiet flip changes nothing");
}

#[test]
fn another_prefix_counts_from_zero_and_the_old_one_stays() {
    let mut daemon = Daemon::new(1);
    daemon.receive(0, "a:1|c\nbad\n");
    daemon.flip();
    let mut settings = config::without_file().settings;
    settings.prefix_stats = "other".to_owned();
    daemon.interval.apply(settings);
    daemon.receive(0, "a:1|c\n");
    let expected = pairs(&[
        ("statsd.bad_lines_seen", 1.0),
        ("statsd.packets_received", 1.0),
        ("statsd.metrics_received", 2.0),
        ("a", 2.0),
        ("other.bad_lines_seen", 0.0),
        ("other.packets_received", 1.0),
        ("other.metrics_received", 1.0),
    ]);
    assert_eq!(daemon.counters(), expected);
    let rows = daemon.close(10);
    assert_eq!(rows[0].counters, [1.0, 1.0, 2.0, 2.0, 0.0, 1.0, 1.0]);
}
