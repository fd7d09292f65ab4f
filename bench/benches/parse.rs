//! The parser alone: a datagram's bytes become samples, and nobody keeps them.
//!
//! Ids: `parse/<shape>_<packing>/<bytes>`, `bytes` = payload of a datagram at the most; `portable_`
//! in front where the code for every CPU runs instead of the fastest for this one. Throughput in
//! lines; CPU time. The sink adds one number per sample up, which keeps the parse from being optimised away.

use std::time::Duration;

use arrayvec::ArrayVec;
use criterion::{BenchmarkId, Criterion, Throughput};
use floe_bench::NAMES_SMALL;
use floe_bench::cpu_time::passes;
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::lines::Shape;
use floe_core::limits::DATAGRAMS_AT_ONCE;
use floe_core::line::{Datagram, LineParser};
use floe_core::sample::{Reason, Sample, SampleSink, Value};

/// Two passes over all names: 3 MB of the mix, so that the lines come from the second-level cache
/// and beyond, as they do from a ring.
const LINES: u32 = 2 * NAMES_SMALL;

/// Adds up what it is given.
#[derive(Debug, Default)]
struct Sum {
    key_bytes: usize,
    amounts: f64,
    rejects: u64,
}

impl Sum {
    #[inline]
    fn add(&mut self, sample: &Sample<'_>) {
        self.key_bytes += sample.key.len();
        self.amounts += match sample.value {
            Value::Counter(amount) => amount,
            Value::Timer { value, .. } | Value::Gauge { value, .. } => value,
            Value::Set(_) => 1.0,
        };
    }
}

impl<'d> SampleSink<'d> for Sum {
    #[inline]
    fn sample(&mut self, sample: Sample<'d>) {
        self.add(&sample);
    }

    fn sample_cleaned(&mut self, sample: Sample<'_>) {
        self.add(&sample);
    }

    fn reject(&mut self, _reason: Reason, _line: &[u8]) {
        self.rejects += 1;
    }
}

fn read(parser: &mut LineParser, datagrams: &Datagrams) -> (u64, Sum) {
    let mut sum = Sum::default();
    let mut accepted = 0;
    // As many together as a receiver hands over.
    let mut left = datagrams.iter().map(|(buffer, len)| Datagram { buffer, len });
    loop {
        let together: ArrayVec<Datagram<'_>, DATAGRAMS_AT_ONCE> =
            left.by_ref().take(DATAGRAMS_AT_ONCE).collect();
        if together.is_empty() {
            break;
        }
        accepted += parser.datagrams(&together, &mut sum).accepted;
    }
    (accepted, sum)
}

struct Case {
    name: &'static str,
    shape: Shape,
    packing: Packing,
}

const CASES: [Case; 7] = [
    Case { name: "counter_packed", shape: Shape::Counter, packing: Packing::Packed },
    Case { name: "counter_single", shape: Shape::Counter, packing: Packing::Single },
    Case { name: "mix_packed", shape: Shape::Mix, packing: Packing::Packed },
    Case { name: "mix_single", shape: Shape::Mix, packing: Packing::Single },
    Case { name: "rate_packed", shape: Shape::Rate, packing: Packing::Packed },
    Case { name: "tagged_packed", shape: Shape::Tagged, packing: Packing::Packed },
    Case { name: "long_packed", shape: Shape::Long, packing: Packing::Packed },
];

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.sample_size(30).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1_500));
    for Case { name, shape, packing } in CASES {
        let extent = Extent { names: NAMES_SMALL, lines: LINES };
        let datagrams = Datagrams::new(shape, packing, extent);
        let bytes = match packing {
            Packing::Single => datagrams.iter().next().map_or(0, |(_, len)| len),
            packing => packing.bytes_max(),
        };
        group.throughput(Throughput::Elements(datagrams.line_count()));
        let (_, expected) = read(&mut LineParser::portable(true), &datagrams);
        let parsers = [
            (name.to_owned(), LineParser::new(true)),
            (format!("portable_{name}"), LineParser::portable(true)),
        ];
        for (name, mut parser) in parsers {
            let (accepted, sum) = read(&mut parser, &datagrams);
            assert_eq!(accepted, datagrams.line_count(), "every line is a sample");
            assert_eq!(sum.rejects, 0, "no line is refused");
            assert_eq!(sum.key_bytes, expected.key_bytes, "both parsers read the same keys");
            assert_eq!(sum.amounts.to_bits(), expected.amounts.to_bits(), "and the same numbers");
            group.bench_with_input(BenchmarkId::new(name, bytes), &datagrams, |bencher, input| {
                bencher.iter_custom(|count| passes(count, || read(&mut parser, input)));
            });
        }
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    parse(&mut criterion);
    criterion.final_summary();
}
