//! The open interval as the console sees it: views and deletes between two flushes.

use super::*;
use crate::config;
use crate::limits::DATAGRAM_SLACK_BYTES;
use crate::line::LineParser;
use crate::name::Secret;
use crate::shard::{ShardWriter, shard};

struct Daemon {
    writers: Vec<ShardWriter>,
    readers: Vec<ShardReader>,
    interval: Interval,
    now_ns: u64,
}

impl Daemon {
    fn new(workers: u16) -> Self {
        Self::with_hasher(workers, &KeyHasher::default())
    }

    fn with_hasher(workers: u16, hasher: &KeyHasher) -> Self {
        let (writers, readers): (Vec<_>, Vec<_>) =
            (0..workers).map(|index| shard(index, hasher.clone())).unzip();
        let settings = config::without_file().settings;
        let interval = Interval::new(settings, hasher, &readers);
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

/// What two intervals of traffic leave in segments, if the daemon is replaced after each of
/// `datagrams` of which `is_replaced` says so.
fn rows_of(
    secret: Secret,
    datagrams: &[(usize, &str)],
    is_replaced: impl Fn(usize) -> bool,
) -> Vec<Vec<Rows>> {
    let mut daemon = Daemon::with_hasher(2, &KeyHasher::of(secret));
    let mut closed = Vec::new();
    for timestamp_s in [10, 20, 30] {
        for (number, (worker, text)) in datagrams.iter().enumerate() {
            if timestamp_s < 30 {
                daemon.receive(*worker, text);
            }
            // Also where nobody is replaced: chains end at a flip.
            daemon.flip();
            if is_replaced(number) {
                let bytes = daemon.interval.to_handed().unwrap();
                let now_ns = daemon.now_ns;
                daemon = Daemon::with_hasher(2, &KeyHasher::of(secret));
                daemon.now_ns = now_ns;
                daemon.interval.adopt(&bytes).unwrap();
            }
        }
        closed.push(daemon.close(timestamp_s));
    }
    closed
}

#[test]
fn an_interval_over_several_daemons_is_that_of_one() {
    let many_timers: String = (0..4_000).map(|at| format!("long:{at}.25|ms\n")).collect();
    let members: Vec<String> = (0..35)
        .map(|at| (0..2_000).map(|of| format!("users:{}|s\n", at * 2_000 + of)).collect())
        .collect();
    let mut datagrams = vec![
        (0, "hits:1|c\nhits:0.1|c|@0.3\nbad line\nload:5|g\nfew:a|s\nt:3|ms\nt:1.5|ms|@0.3"),
        (1, "hits:7|c\nload:+2|g\nother:-3|g\nfew:b|s\nfew:a|s\nt:2|ms\nt:9|ms|@0.7"),
        (0, "load:-1|g\nnew:1|c\nfew:c|s\nt:0.1|ms\nt:5|ms|@0.1"),
    ];
    datagrams.extend(members.iter().map(|text| (1, text.as_str())));
    datagrams.extend((0..3).map(|_| (0, many_timers.as_str())));
    let secret = Secret::draw();
    let one = rows_of(secret, &datagrams, |_| false);
    let few = rows_of(secret, &datagrams, |number| number == 1 || number + 1 == datagrams.len());
    assert_eq!(few, one);
    let many = rows_of(secret, &datagrams, |number| number % 2 == 0);
    assert_eq!(many, one);
    let books: Vec<_> = one[0][0].books.names.iter().zip(&one[0][0].books.values).collect();
    assert!(books.contains(&(&b"values_rejected.syntax"[..], &1.0)), "{books:?}");
}

#[test]
fn what_goes_beyond_a_budget_is_handed_over_too() {
    let secret = Secret::draw();
    let mut before = Daemon::with_hasher(1, &KeyHasher::of(secret));
    let text: String = (1..=6_000).map(|at| format!("t:{at}|ms\n")).collect();
    for _ in 0..180 {
        before.receive(0, &text);
    }
    for at in 0..35 {
        let members: String = (0..2_000).map(|of| format!("s:{at}.{of}|s\n")).collect();
        before.receive(0, &members);
    }
    before.flip();
    let bytes = before.interval.to_handed().unwrap();
    let mut after = Daemon::with_hasher(1, &KeyHasher::of(secret));
    after.interval.adopt(&bytes).unwrap();
    let (expected, found) = (before.close(10), after.close(10));
    assert_eq!(found, expected);
    let books: Vec<_> = expected[0].books.names.iter().zip(&expected[0].books.values).collect();
    assert!(books.contains(&(&b"timers_sketched"[..], &1.0)), "{books:?}");
    assert!(books.contains(&(&b"sets_estimated"[..], &1.0)), "{books:?}");
}

#[test]
fn an_interval_that_does_not_hold_together_is_refused() {
    let mut daemon = Daemon::new(1);
    let mut bytes = daemon.interval.to_handed().unwrap();
    bytes.shrink_to_fit();
    bytes.resize(bytes.len() / 2, 0);
    let error = daemon.interval.adopt(&bytes).unwrap_err();
    assert!(matches!(error, handed::HandedError::Layout(_)), "{error}");
}

/// Whoever changes what is handed over changes its number, and then this.
#[test]
fn the_form_of_what_is_handed_over_has_a_number() {
    let mut daemon = Daemon::with_hasher(1, &KeyHasher::of(Secret::of_words([1, 2, 3, 4])));
    daemon.receive(0, "a:1|c\nb:2|g\nc:3|ms\nd:e|s\nno");
    daemon.flip();
    let bytes = daemon.interval.to_handed().unwrap();
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    assert_eq!((handed::HANDED_FORMAT, bytes.len(), sum), (3, 664, 11_819_983_719_526_057_512));
}
