//! The shard, fed from memory: samples become values of series, with and without the parser.
//!
//! Ids: `shard/<case>/<size>`; throughput in lines.
//!
//! - `apply_mix/<names>`: parsed samples are hashed and recorded; the parser is left out.
//! - `intake_packed/<names>`, `intake_single/<names>`: parse, hash and record, the whole data plane
//!   behind the socket. What targets 2 and 3 call parse + hash + aggregate.
//! - `insert/<names>`: the same for names never seen before: slots are made, sub-tables grow.
//! - `threads/<threads>`: that many threads, from one to as many as there are CPUs, each with a parser
//!   and a shard of its own, read the same datagrams; wall time from the first start to the last end.
//!   Throughput in lines of all threads. Means something only where the machine has as many idle cores.
//! - `threads_cpu/<threads>`: the same, CPU time of the thread that used most: what threads cost
//!   each other by sharing memory and caches, also on a machine that others use.
//!
//! All but `threads` are CPU time of the thread.
//!
//! A pass is one interval: between two passes, outside the time, the shard is flipped, collected and
//! its interval closed, so that chunks and sets go home as they do in the daemon.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use floe_bench::cpu_time::cpu_ns;
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::feeding::{Fed, feed, feed_together, longest_cpu_ns, wall_ns, warm};
use floe_bench::lines::Shape;
use floe_bench::pipeline::{Pipeline, settings};
use floe_bench::{NAMES_LARGE, NAMES_SMALL, is_smoke};
use floe_core::interval::{BookEntries, Interval};
use floe_core::limits::SAMPLE_BATCH_MAX;
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use floe_core::row::Rows;
use floe_core::sample::{Reason, Sample, SampleSink, Tally};
use floe_core::shard::{ShardReader, ShardWriter, shard};
use floe_io::cpu;

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// Lines per name and interval of the small workload: at 20 million lines a second it would be
/// 20,000 for 10 s; the cost of a series' first value in an interval is spread over 20 here.
const SMALL_LINES_PER_NAME: u32 = 20;

/// Lines per name and interval of the large workload.
const LARGE_LINES_PER_NAME: u32 = 2;

fn small(packing: Packing) -> Datagrams {
    let lines = SMALL_LINES_PER_NAME * NAMES_SMALL;
    Datagrams::new(Shape::Mix, packing, Extent { names: NAMES_SMALL, lines })
}

fn large() -> Datagrams {
    let lines = LARGE_LINES_PER_NAME * NAMES_LARGE;
    Datagrams::new(Shape::Mix, Packing::Packed, Extent { names: NAMES_LARGE, lines })
}

/// Keeps the samples of a workload, borrowed from it.
#[derive(Debug, Default)]
struct Kept<'d>(Vec<Sample<'d>>);

impl<'d> SampleSink<'d> for Kept<'d> {
    fn sample(&mut self, sample: Sample<'d>) {
        self.0.push(sample);
    }

    fn sample_cleaned(&mut self, _sample: Sample<'_>) {
        unreachable!("no key of the mix needs cleaning")
    }

    fn reject(&mut self, _reason: Reason, _line: &[u8]) {
        unreachable!("no line of the mix is refused")
    }
}

fn samples(datagrams: &Datagrams) -> Vec<Sample<'_>> {
    let mut parser = LineParser::new(true);
    let mut kept = Kept::default();
    for (buffer, len) in datagrams.iter() {
        parser.datagram(buffer, len, &mut kept);
    }
    kept.0
}

/// Records samples, in batches like those of packed datagrams.
fn apply(writer: &mut ShardWriter, samples: &[Sample<'_>]) {
    for chunk in samples.chunks(SAMPLE_BATCH_MAX) {
        let mut batch = writer.batch();
        for sample in chunk {
            batch.sample(*sample);
        }
        let count = chunk.len() as u64;
        batch.finish(0, Tally { lines: count, accepted: count, rejected: 0 });
    }
}

/// A shard without a parser, and its coordinator.
struct Bare {
    writer: ShardWriter,
    readers: Vec<ShardReader>,
    interval: Interval,
}

impl Bare {
    fn new() -> Self {
        let hasher = KeyHasher::default();
        let (writer, reader) = shard(0, hasher.clone());
        let readers = vec![reader];
        let interval = Interval::new(settings(), &hasher, &readers);
        Self { writer, readers, interval }
    }

    /// Flips and closes the interval; returns how many values it had.
    fn flush(&mut self) -> u64 {
        self.readers[0].request();
        assert!(self.writer.begin_batch(1), "the flip was asked for");
        self.interval.collect(&mut self.readers);
        let values = self.interval.page().values_recorded;
        self.interval.close(0, &BookEntries::default());
        values
    }
}

fn apply_mix(group: &mut Group<'_>, names: u32, datagrams: &Datagrams) {
    group.throughput(Throughput::Elements(datagrams.line_count()));
    let mut warm = None;
    group.bench_function(BenchmarkId::new("apply_mix", names), |bencher| {
        let (bare, samples) = warm.get_or_insert_with(|| {
            let samples = samples(datagrams);
            let mut bare = Bare::new();
            apply(&mut bare.writer, &samples);
            assert_eq!(bare.writer.series_count(), names as usize, "a series per name");
            assert_eq!(bare.flush(), datagrams.line_count(), "a value per line");
            (bare, samples)
        });
        bencher.iter_custom(|passes| {
            let mut spent_ns = 0;
            for _ in 0..passes {
                let start_ns = cpu_ns();
                apply(&mut bare.writer, samples);
                spent_ns += cpu_ns() - start_ns;
                bare.flush();
            }
            Duration::from_nanos(spent_ns)
        });
    });
}

fn intake(group: &mut Group<'_>, case: &str, names: u32, datagrams: &Datagrams) {
    group.throughput(Throughput::Elements(datagrams.line_count()));
    let mut pipeline = None;
    group.bench_function(BenchmarkId::new(case, names), |bencher| {
        let pipeline = pipeline.get_or_insert_with(|| warm(names, datagrams));
        bencher.iter_custom(|passes| {
            let spent = (0..passes).map(|_| feed(pipeline, datagrams).cpu_ns);
            Duration::from_nanos(spent.sum())
        });
    });
}

fn insert(group: &mut Group<'_>, names: u32) {
    let extent = Extent { names, lines: names };
    let datagrams = Datagrams::new(Shape::Mix, Packing::Packed, extent);
    group.throughput(Throughput::Elements(datagrams.line_count()));
    group.bench_function(BenchmarkId::new("insert", names), |bencher| {
        bencher.iter_custom(|passes| {
            let mut spent_ns = 0;
            for _ in 0..passes {
                let mut pipeline = Pipeline::new();
                let start_ns = cpu_ns();
                pipeline.feed(&datagrams);
                spent_ns += cpu_ns() - start_ns;
                let rows: usize = pipeline.flush().iter().map(Rows::row_count).sum();
                assert_eq!(rows, names as usize + 3, "a row per name, and the daemon's own");
            }
            Duration::from_nanos(spent_ns)
        });
    });
}

/// The time of one pass, of all its threads, ns.
type TimeOf = fn(&[Fed]) -> u64;

fn threads(group: &mut Group<'_>, datagrams: &Datagrams) {
    let cpus = cpu::inherited().expect("the kernel tells the mask");
    let cases = [("threads", wall_ns as TimeOf), ("threads_cpu", longest_cpu_ns)];
    for count in 1..=cpus.len() {
        group.throughput(Throughput::Elements(datagrams.line_count() * count as u64));
        let mut pipelines = None;
        for (case, time_ns) in cases {
            group.bench_function(BenchmarkId::new(case, count), |bencher| {
                let pipelines = pipelines.get_or_insert_with(|| {
                    let warm = (0..count).map(|_| warm(NAMES_SMALL, datagrams));
                    warm.collect::<Vec<_>>()
                });
                bencher.iter_custom(|passes| {
                    let spent =
                        (0..passes).map(|_| time_ns(&feed_together(pipelines, datagrams, &cpus)));
                    Duration::from_nanos(spent.sum())
                });
            });
        }
    }
}

fn benchmarks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    group.sample_size(20).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1_500));
    let packed = small(Packing::Packed);
    apply_mix(&mut group, NAMES_SMALL, &packed);
    intake(&mut group, "intake_packed", NAMES_SMALL, &packed);
    intake(&mut group, "intake_single", NAMES_SMALL, &small(Packing::Single));
    insert(&mut group, NAMES_SMALL);
    threads(&mut group, &packed);
    drop(packed);
    let large = large();
    group.sample_size(10).warm_up_time(Duration::from_millis(1));
    intake(&mut group, "intake_packed", NAMES_LARGE, &large);
    if !is_smoke() {
        apply_mix(&mut group, NAMES_LARGE, &large);
        insert(&mut group, NAMES_LARGE);
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    benchmarks(&mut criterion);
    criterion.final_summary();
}
