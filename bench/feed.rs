//! `feed`: the data plane behind the socket, from memory, for programs that watch programs.
//!
//! A profiler, or the count of instructions in `.ci/70-instructions.sh`, wants nothing but the work of
//! a worker: parse, hash and record. It happens in [`watched`] alone. `compare` has two such processes
//! feed by order, for what the machine leaves to two.

use std::io::{self, BufRead, Write};

use clap::{Args, ValueEnum};
use floe_bench::NAMES_SMALL;
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::feeding::{feed, warm};
use floe_bench::lines::Shape;
use floe_bench::pipeline::Pipeline;
use floe_io::clock::monotonic_ns;
use floe_io::cpu;

/// What to feed.
#[derive(Debug, Args)]
pub(crate) struct FeedArguments {
    /// How lines lie in datagrams
    #[arg(value_enum)]
    packing: PackingName,
    /// Distinct names
    #[arg(long, default_value_t = NAMES_SMALL)]
    names: u32,
    /// Lines of each name in an interval
    #[arg(long, default_value_t = 20)]
    lines_per_name: u32,
    /// Intervals, after one that makes the series
    #[arg(long, default_value_t = 1)]
    intervals: u32,
    /// Feed an interval for each line on standard input instead, at the monotonic time in ns that it
    /// holds, and answer with its start, its end and its CPU time, ns: for processes that are compared
    #[arg(long, conflicts_with = "intervals")]
    by_order: bool,
    /// CPU to run on [default: where the kernel has it]
    #[arg(long)]
    cpu: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PackingName {
    /// 46 lines
    Packed,
    /// One line
    Single,
}

/// Feeds, and tells how many lines [`watched`] took; by order, how long each interval took.
///
/// # Errors
/// If that cannot be written, an order is no time, or the CPU is not ours.
pub(crate) fn run(arguments: &FeedArguments) -> io::Result<()> {
    let FeedArguments { packing, names, lines_per_name, intervals, by_order, cpu } = *arguments;
    if let Some(cpu) = cpu {
        cpu::pin(cpu)
            .map_err(|error| io::Error::new(error.kind(), format!("CPU {cpu}: {error}")))?;
    }
    let packing = match packing {
        PackingName::Packed => Packing::Packed,
        PackingName::Single => Packing::Single,
    };
    let extent = Extent { names, lines: names * lines_per_name };
    let datagrams = Datagrams::new(Shape::Mix, packing, extent);
    let mut pipeline = warm(names, &datagrams);
    if by_order {
        return obey(&mut pipeline, &datagrams);
    }
    for _ in 0..intervals {
        watched(&mut pipeline, &datagrams);
        let parts = pipeline.flush();
        pipeline.reuse(parts);
    }
    writeln!(io::stdout(), "{}", datagrams.line_count() * u64::from(intervals))
}

/// An interval at each time that is ordered, until the orders end.
fn obey(pipeline: &mut Pipeline, datagrams: &Datagrams) -> io::Result<()> {
    for order in io::stdin().lock().lines() {
        let start_ns: u64 = order?.parse().map_err(io::Error::other)?;
        while monotonic_ns() < start_ns {
            std::hint::spin_loop();
        }
        let fed = feed(pipeline, datagrams);
        writeln!(io::stdout(), "{} {} {}", fed.start_ns, fed.end_ns, fed.cpu_ns)?;
    }
    Ok(())
}

/// What is to be watched: never part of another function, so that it can be named.
#[inline(never)]
fn watched(pipeline: &mut Pipeline, datagrams: &Datagrams) {
    pipeline.feed(datagrams);
}
