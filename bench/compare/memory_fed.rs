//! Targets that need no socket: 2 and 3 from memory, the pause of 4 with a core to spare, 6 and 7. The code is that of the benches.

use floe_bench::cpu_time::{cpu_ns, passes};
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::delivery::{Discard, pickle, text};
use floe_bench::feeding::warm;
use floe_bench::flushing::{Disk, Extends, interval};
use floe_bench::lines::Shape;
use floe_bench::pausing::{Felt, Longest};
use floe_bench::pipeline::{Pipeline, settings};
use floe_bench::{NAMES_LARGE, NAMES_SMALL};
use floe_core::namespace::Namespace;
use floe_core::point::for_each_point;
use floe_io::clock::NS_PER_S;
use floe_storage::{Reader, Writer};

use super::feeds::Pool;
use super::spread::Spread;
use super::table::figure;
use super::target::{Bound, Target};

/// Timers and values of target 6.
const TIMERS: u32 = 10_000;
const TIMER_VALUES: u32 = 1_000;

/// Times that a round of target 7 sends everything.
const SENDINGS: u32 = 10;

/// Flushes of target 4 beside a worker, a core to spare.
const FLUSHES: u32 = 10;

/// Longest pause of a worker with a core to spare, ms.
const PAUSE_MS_MAX: f64 = 1.0;

/// Targets 2 and 3: parse, hash and aggregate, per line.
pub(crate) fn lines(number: u32, rounds: u32) -> Target {
    let (pool, names, limit_ns, words) = if number == 2 {
        (Pool::Packed, NAMES_SMALL, 30.0, "10,000 names")
    } else {
        (Pool::PackedMillionNames, NAMES_LARGE, 65.0, "1,000,000 names")
    };
    let datagrams = pool.make();
    let mut pipeline = warm(names, &datagrams);
    let costs = (0..rounds.max(3)).map(|_| one_second(&mut pipeline, &datagrams));
    Target::new(
        number,
        &format!("packed, {words}: parse + hash + aggregate per line, from memory"),
        (Bound::AtMost(limit_ns), "ns"),
        Spread::of(costs),
    )
    .note(format!("intervals of 1 s; bench shard/intake_packed/{names} has shorter ones"))
}

/// An interval of one second of CPU time; returns the cost of a line, ns. Its flush is left out.
fn one_second(pipeline: &mut Pipeline, datagrams: &Datagrams) -> f64 {
    let start_ns = cpu_ns();
    let (mut spent_ns, mut lines) = (0, 0);
    while spent_ns < NS_PER_S {
        pipeline.feed(datagrams);
        lines += datagrams.line_count();
        spent_ns = cpu_ns() - start_ns;
    }
    pipeline.flush();
    count(spent_ns) / count(lines)
}

/// Target 4, with a core to spare: what a worker with a CPU of its own feels of flushes on another.
///
/// The longest batch in all: one is a datagram of 46 lines.
pub(crate) fn pause() -> Target {
    let bound = (Bound::AtMost(PAUSE_MS_MAX), "ms");
    let what = "longest batch of a worker beside flushes of 1,000,000 counters, a core to spare";
    let once = Extent { names: NAMES_LARGE, lines: NAMES_LARGE };
    let datagrams = Datagrams::new(Shape::Counter, Packing::Packed, once);
    let Some(mut felt) = Felt::new(datagrams, NAMES_LARGE) else {
        return Target::new(4, what, bound, None).note("needs two CPUs");
    };
    let felt: Vec<Longest> = (0..FLUSHES).map(|_| felt.flush()).collect();
    let most_ms = |of: fn(&Longest) -> u64| count(felt.iter().map(of).max().unwrap_or(0)) / 1e6;
    Target::new(4, what, bound, Spread::of([most_ms(|longest| longest.cpu_ns)])).note(format!(
        "CPU time, {FLUSHES} flushes, from memory: the sender has no CPU there; by the clock, with what \
         the host took and what was waited for, {} ms; as bench flush/pause",
        figure(most_ms(|longest| longest.wall_ns))
    ))
}

/// Target 6: the flush of many counters, written, and of many timers.
pub(crate) fn flushes(rounds: u32) -> Vec<Target> {
    let once = Extent { names: NAMES_LARGE, lines: NAMES_LARGE };
    let many = Extent { names: TIMERS, lines: TIMERS * TIMER_VALUES };
    let counters = flush(Shape::Counter, once, Extends::Written, rounds);
    let timers = flush(Shape::Timing, many, Extends::Closed, rounds);
    vec![
        Target::new(
            6,
            "flush of 1,000,000 counters, written and synchronised",
            (Bound::AtMost(0.5), "s"),
            counters,
        )
        .note("wall clock; as bench flush/counters_written"),
        Target::new(
            6,
            "flush of 10,000 timers with 1,000 values, three percentiles",
            (Bound::AtMost(0.35), "s"),
            timers,
        )
        .note("CPU time; as bench flush/timers"),
    ]
}

fn flush(shape: Shape, extent: Extent, extends: Extends, rounds: u32) -> Option<Spread> {
    let datagrams = Datagrams::new(shape, Packing::Packed, extent);
    let (mut pipeline, mut disk) = (Pipeline::new(), Disk::new());
    pipeline.feed(&datagrams);
    pipeline.flush();
    let spent = (0..rounds.max(3))
        .map(|_| count(interval(&mut pipeline, &datagrams, extends, &mut disk)) / 1e9);
    Spread::of(spent)
}

/// Target 7: text and pickle, formatted and sent.
pub(crate) fn exports(rounds: u32) -> Vec<Target> {
    let bound = (Bound::AtLeast(3.0), "M/s");
    let what = ["Graphite text, formatted and sent by one core", "pickle, formatted and sent"];
    match export_rates(rounds) {
        Ok([as_text, as_pickle]) => vec![
            Target::new(7, what[0], bound, as_text)
                .note("CPU time, over loopback; as bench export/text_sent"),
            Target::new(7, what[1], bound, as_pickle)
                .note("CPU time, over loopback; as bench export/pickle_sent"),
        ],
        Err(error) => {
            what.map(|what| Target::new(7, what, bound, None).note(format!("{error:#}"))).into()
        }
    }
}

/// Formats all points, hands over chunk by chunk, and returns their bytes.
type Format<'f> = dyn Fn(&mut dyn FnMut(&[u8])) -> u64 + 'f;

/// Million points per second, of text and of pickle.
fn export_rates(rounds: u32) -> anyhow::Result<[Option<Spread>; 2]> {
    let mut pipeline = Pipeline::new();
    let extent = Extent { names: NAMES_SMALL, lines: 10 * NAMES_SMALL };
    pipeline.feed(&Datagrams::new(Shape::Mix, Packing::Packed, extent));
    let parts = pipeline.flush();
    let file = tempfile::NamedTempFile::new()?;
    let mut writer = Writer::new();
    std::fs::write(file.path(), writer.encode(&parts[0], 1)?)?;
    let mut reader = Reader::new();
    let rows = reader.read(file.path())?.rows;
    let namespace = Namespace::new(&settings().namespace);
    let mut points = 0_u64;
    for_each_point(rows, &namespace, |_, _| points += 1);
    let rate = |format: &Format<'_>| {
        let (mut discard, mut bytes) = (Discard::new(), 0);
        let rates: Vec<f64> = (0..rounds * SENDINGS)
            .map(|_| {
                let spent = passes(1, || bytes += format(&mut |chunk| discard.write(chunk)));
                count(points) / spent.as_secs_f64() / 1e6
            })
            .collect();
        anyhow::ensure!(discard.finish() == bytes, "not every byte came through");
        Ok(Spread::of(rates))
    };
    Ok([
        rate(&|write| text(rows, &namespace, write))?,
        rate(&|write| pickle(rows, &namespace, write))?,
    ])
}

#[expect(clippy::cast_precision_loss, reason = "figures far below 2^53")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}
