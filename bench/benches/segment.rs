//! Segments: rows become bytes, bytes become a published file, a file becomes rows again.
//!
//! Ids: `segment/<case>/<names>`, with the rows of an interval of counters or of the mix; throughput
//! in bytes of the files. Wall time for `commit`, CPU time for the others.
//!
//! - `encode_<rows>`: serialised, checked, header and checksum: in memory.
//! - `commit_<rows>`: encoded and published in a spool with one backend: written, fdatasync, links,
//!   directories synchronised. In the temporary directory (`TMPDIR`): the disk is part of it.
//! - `read_<rows>`: read from the page cache, checksum and structure checked.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use floe_bench::cpu_time::passes;
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::lines::Shape;
use floe_bench::pipeline::Pipeline;
use floe_bench::{NAMES_LARGE, NAMES_SMALL, is_smoke};
use floe_core::row::Rows;
use floe_io::clock::monotonic_ns;
use floe_storage::{BackendLimits, Reader, Spool, SpoolOptions, Writer};

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// The parts of one interval with one line per name.
fn parts(shape: Shape, names: u32) -> Vec<Rows> {
    let extent = Extent { names, lines: names };
    let mut pipeline = Pipeline::new();
    pipeline.feed(&Datagrams::new(shape, Packing::Packed, extent));
    pipeline.flush()
}

fn encode(writer: &mut Writer, parts: &[Rows]) -> u64 {
    let count = u32::try_from(parts.len()).expect("an interval has few parts");
    let lens = parts.iter().map(|part| {
        let file = writer.encode(part, count).expect("rows of an interval fit a segment");
        black_box(file).len() as u64
    });
    lens.sum()
}

/// A spool with one backend that keeps only what was committed last.
fn spool(path: PathBuf) -> Spool {
    let backends = vec![BackendLimits {
        name: "graphite".to_owned(),
        backlog_age_ms: u64::MAX,
        backlog_bytes: 1,
    }];
    let options = SpoolOptions {
        path,
        backends,
        archive_age_ms: u64::MAX,
        archive_bytes: 0,
        reserve_bytes: Some(0),
        run_id: 1,
    };
    Spool::open(options).expect("a fresh spool opens").0
}

fn commit(spool: &mut Spool, parts: &[Rows]) -> u64 {
    spool.commit(parts).expect("the temporary directory has room").bytes
}

fn read(reader: &mut Reader, files: &[PathBuf]) -> usize {
    let rows = files.iter().map(|file| {
        let segment = reader.read(file).expect("a segment just written is whole");
        segment.rows.row_count()
    });
    rows.sum()
}

fn segments(group: &mut Group<'_>, name: &str, shape: Shape, names: u32) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let parts = parts(shape, names);
    let mut writer = Writer::new();
    let bytes = encode(&mut writer, &parts);
    group.throughput(Throughput::Bytes(bytes));

    let id = BenchmarkId::new(format!("encode_{name}"), names);
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|count| passes(count, || encode(&mut writer, &parts)));
    });

    let mut spool = spool(directory.path().join("spool"));
    assert_eq!(commit(&mut spool, &parts), bytes, "files hold what is encoded");
    let id = BenchmarkId::new(format!("commit_{name}"), names);
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|commits| {
            let mut spent_ns = 0;
            for _ in 0..commits {
                let start_ns = monotonic_ns();
                commit(&mut spool, &parts);
                spent_ns += monotonic_ns() - start_ns;
                spool.retain(0);
            }
            Duration::from_nanos(spent_ns)
        });
    });

    let count = u32::try_from(parts.len()).expect("an interval has few parts");
    let mut files = Vec::new();
    for part in &parts {
        let file = directory.path().join(format!("{}.seg", part.part_index));
        let bytes = writer.encode(part, count).expect("rows of an interval fit a segment");
        fs::write(&file, bytes).expect("the temporary directory has room");
        files.push(file);
    }
    let mut reader = Reader::new();
    assert_eq!(read(&mut reader, &files), names as usize + 3, "every row, and the daemon's own");
    let id = BenchmarkId::new(format!("read_{name}"), names);
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|count| passes(count, || read(&mut reader, &files)));
    });
}

fn benchmarks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segment");
    group.sample_size(20).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1_500));
    segments(&mut group, "mix", Shape::Mix, NAMES_SMALL);
    segments(&mut group, "counters", Shape::Counter, NAMES_LARGE / 10);
    if !is_smoke() {
        group.sample_size(10);
        segments(&mut group, "counters", Shape::Counter, NAMES_LARGE);
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    benchmarks(&mut criterion);
    criterion.final_summary();
}
