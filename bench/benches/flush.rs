//! The flush: the flip as the worker sees it, and the coordinator's merge and statistics.
//!
//! Ids: `flush/<case>/<size>`; throughput in series or values.
//!
//! - `swap/0`: request and acknowledgement of one flip of an empty shard, both sides on one thread:
//!   what a flip costs besides the wake-up. The collection behind it is outside the time.
//! - `collect_counters/<names>`: a sealed generation goes into the open interval.
//! - `counters/<names>`: collect and close: rows are built.
//! - `counters_written/<names>`: collect, close, and commit to a spool with one backend: target 6.
//! - `counters_two_workers/<names>`: collect, close and commit, where two workers have seen all names.
//! - `pause/<names>`: the longest batch, one datagram of 46 lines, of a worker with a CPU of its own
//!   while its coordinator flushes: target 4. Where there are two CPUs.
//! - `timers/<timers>x<values>`: collect and close of timers with three percentiles: target 6.
//! - `statistics/<values>`: sort, sums and percentiles of one timer.
//!
//! What the first flush yields is compared with a plain computation from the lines
//! (`bench/workloads/expected.rs`): every row, timers to the last digit.
//!
//! All but `swap`, `counters_written` and `counters_two_workers` are CPU time; that of `pause` is the
//! worker's, that of the others the coordinator's.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use floe_bench::cpu_time::passes;
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::expected::{TimerRow, assert_flushed};
use floe_bench::flushing::{Disk, Extends, interval};
use floe_bench::lines::Shape;
use floe_bench::pausing::Felt;
use floe_bench::pipeline::{PERCENTS, Pipeline, settings};
use floe_bench::random::Random;
use floe_bench::{NAMES_LARGE, NAMES_SMALL, is_smoke};
use floe_core::name::KeyHasher;
use floe_core::row::{ThresholdColumns, TimerColumns};
use floe_core::shard::shard;
use floe_core::statistics::Statistics;
use floe_io::clock::monotonic_ns;

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// Values of one timer in one interval.
const TIMER_VALUES: u32 = 1_000;

fn swap(group: &mut Group<'_>) {
    group.throughput(Throughput::Elements(1));
    let (mut writer, mut reader) = shard(0, KeyHasher::default());
    group.bench_function(BenchmarkId::new("swap", 0), |bencher| {
        bencher.iter_custom(|flips| {
            let mut spent_ns = 0;
            for now_ns in 0..flips {
                let start_ns = monotonic_ns();
                reader.request();
                let has_flipped = writer.begin_batch(now_ns);
                let is_acknowledged = reader.is_acknowledged();
                spent_ns += monotonic_ns() - start_ns;
                assert!(has_flipped && is_acknowledged, "one flip per request");
                assert!(reader.collect(|_, _| ()).is_some(), "a sealed generation is collected");
            }
            Duration::from_nanos(spent_ns)
        });
    });
}

fn flush(
    group: &mut Group<'_>,
    id: BenchmarkId,
    (datagrams, workers): (&Datagrams, u16),
    extends: Extends,
) {
    let mut state = None;
    group.bench_function(id, |bencher| {
        let (pipeline, disk) = state.get_or_insert_with(|| {
            let mut pipeline = Pipeline::of_workers(workers);
            pipeline.feed(datagrams);
            let parts = pipeline.flush();
            assert_flushed(&parts, datagrams, workers.into());
            (pipeline, Disk::new())
        });
        bencher.iter_custom(|intervals| {
            let spent = (0..intervals).map(|_| interval(pipeline, datagrams, extends, disk));
            Duration::from_nanos(spent.sum())
        });
    });
}

fn counters(group: &mut Group<'_>, names: u32) {
    let extent = Extent { names, lines: names };
    let datagrams = Datagrams::new(Shape::Counter, Packing::Packed, extent);
    group.throughput(Throughput::Elements(u64::from(names)));
    let cases = [
        ("collect_counters", 1, Extends::Collected),
        ("counters", 1, Extends::Closed),
        ("counters_written", 1, Extends::Written),
        ("counters_two_workers", 2, Extends::Written),
    ];
    for (case, workers, extends) in cases {
        flush(group, BenchmarkId::new(case, names), (&datagrams, workers), extends);
    }
}

fn pause(group: &mut Group<'_>, names: u32) {
    let extent = Extent { names, lines: names };
    let mut felt = Felt::new(Datagrams::new(Shape::Counter, Packing::Packed, extent), names);
    let Some(felt) = &mut felt else { return };
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("pause", names), |bencher| {
        bencher.iter_custom(|flushes| {
            let longest = (0..flushes).map(|_| felt.flush().cpu_ns);
            Duration::from_nanos(longest.sum())
        });
    });
}

fn timers(group: &mut Group<'_>, timers: u32) {
    let extent = Extent { names: timers, lines: timers * TIMER_VALUES };
    let datagrams = Datagrams::new(Shape::Timing, Packing::Packed, extent);
    group.throughput(Throughput::Elements(datagrams.line_count()));
    let id = BenchmarkId::new("timers", format_args!("{timers}x{TIMER_VALUES}"));
    flush(group, id, (&datagrams, 1), Extends::Closed);
}

fn statistics(group: &mut Group<'_>, count: u32) {
    let settings = settings();
    let mut statistics = Statistics::new(&settings.thresholds, &settings.histograms);
    let mut random = Random::new(1);
    let values: Vec<f64> =
        (0..count).map(|_| f64::from(100_000 + random.below(900_000)) / 1_000.0).collect();
    let threshold = ThresholdColumns { is_upper: true, ..ThresholdColumns::default() };
    let empty = TimerColumns { thresholds: vec![threshold; 3], ..TimerColumns::default() };
    let mut row = |columns: &mut TimerColumns| {
        statistics.load_values(&values, f64::from(count));
        statistics.push_row(b"timer", columns)
    };
    let mut columns = empty.clone();
    row(&mut columns);
    let expected = TimerRow::computed(values.clone(), &PERCENTS);
    assert_eq!(TimerRow::of(&columns, 0), expected, "as computed plainly, to the last digit");
    group.throughput(Throughput::Elements(u64::from(count)));
    group.bench_function(BenchmarkId::new("statistics", count), |bencher| {
        let mut columns = empty.clone();
        bencher.iter_custom(|count| passes(count, || row(&mut columns)));
    });
}

fn benchmarks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush");
    group.sample_size(20).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1_500));
    swap(&mut group);
    statistics(&mut group, TIMER_VALUES);
    counters(&mut group, NAMES_SMALL);
    group.sample_size(10);
    counters(&mut group, NAMES_LARGE / 10);
    timers(&mut group, 1_000);
    pause(&mut group, NAMES_SMALL);
    if !is_smoke() {
        counters(&mut group, NAMES_LARGE);
        pause(&mut group, NAMES_LARGE);
        timers(&mut group, 10_000);
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    benchmarks(&mut criterion);
    criterion.final_summary();
}
