//! The export: rows of a segment become points, points become what Carbon is sent.
//!
//! Ids: `export/<case>_<rows>/<names>`; throughput in points; CPU time of the sending thread, which over
//! loopback holds the kernel's part of receiving too. The rows are those of one interval with
//! three percentiles, read from a segment file.
//!
//! - `points`: names and values, nobody keeps them.
//! - `text`, `pickle`: into the output buffer, emptied every 256 KiB as the exporter does.
//! - `text_sent`, `pickle_sent`: and written to a TCP connection over loopback whose other end
//!   discards, on a thread of its own: target 7.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use floe_bench::NAMES_SMALL;
use floe_bench::cpu_time::passes;
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::delivery::{Discard, pickle, text};
use floe_bench::lines::Shape;
use floe_bench::pipeline::{Pipeline, settings};
use floe_core::namespace::Namespace;
use floe_core::point::for_each_point;
use floe_storage::{Reader, Writer};

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// A benchmark of one format: into memory, and over a connection.
fn formatted(
    group: &mut Group<'_>,
    ids: [BenchmarkId; 2],
    expected_bytes: u64,
    format: impl Fn(&mut dyn FnMut(&[u8])) -> u64,
) {
    let [in_memory, sent] = ids;
    group.bench_function(in_memory, |bencher| {
        bencher.iter_custom(|count| {
            passes(count, || {
                format(&mut |chunk| {
                    black_box(chunk);
                })
            })
        });
    });
    let mut discard = Discard::new();
    let mut sent_bytes = 0;
    group.bench_function(sent, |bencher| {
        bencher.iter_custom(|count| {
            passes(count, || {
                sent_bytes += format(&mut |chunk| {
                    discard.write(chunk);
                });
            })
        });
    });
    assert_eq!(discard.finish(), sent_bytes, "every byte came through");
    assert_eq!(sent_bytes % expected_bytes.max(1), 0, "whole intervals were sent");
}

fn export(group: &mut Group<'_>, name: &str, shape: Shape) {
    let mut pipeline = Pipeline::new();
    // Ten values a name, so that the statistics of timers are numbers of full length.
    let extent = Extent { names: NAMES_SMALL, lines: 10 * NAMES_SMALL };
    pipeline.feed(&Datagrams::new(shape, Packing::Packed, extent));
    let parts = pipeline.flush();
    assert_eq!(parts.len(), 1, "10,000 names fit one part");
    let file = tempfile::NamedTempFile::new().expect("the temporary directory is writable");
    let mut writer = Writer::new();
    let bytes = writer.encode(&parts[0], 1).expect("rows of an interval fit a segment");
    std::fs::write(file.path(), bytes).expect("the temporary directory has room");
    let mut reader = Reader::new();
    let rows = reader.read(file.path()).expect("a segment just written is whole").rows;
    let namespace = Namespace::new(&settings().namespace);

    let mut points = 0_u64;
    for_each_point(rows, &namespace, |_, _| points += 1);
    let mut lines = 0;
    let text_bytes = text(rows, &namespace, |chunk| {
        lines += chunk.iter().filter(|&&byte| byte == b'\n').count() as u64;
    });
    assert_eq!(lines, points, "a line per point");
    let pickle_bytes = pickle(rows, &namespace, |chunk| {
        black_box(chunk);
    });
    assert!(points * 20 < pickle_bytes, "a point is more than its value");

    let id = |case: &str| BenchmarkId::new(format!("{case}_{name}"), NAMES_SMALL);
    group.throughput(Throughput::Elements(points));
    group.bench_function(id("points"), |bencher| {
        bencher.iter_custom(|count| {
            passes(count, || {
                let mut name_bytes = 0;
                for_each_point(rows, &namespace, |name, value| {
                    black_box(value);
                    name_bytes += name.len();
                });
                name_bytes
            })
        });
    });
    let ids = [id("text"), id("text_sent")];
    formatted(group, ids, text_bytes, |write| text(rows, &namespace, write));
    let ids = [id("pickle"), id("pickle_sent")];
    formatted(group, ids, pickle_bytes, |write| pickle(rows, &namespace, write));
}

fn benchmarks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("export");
    group.sample_size(20).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1_500));
    export(&mut group, "mix", Shape::Mix);
    export(&mut group, "counters", Shape::Counter);
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    benchmarks(&mut criterion);
    criterion.final_summary();
}
