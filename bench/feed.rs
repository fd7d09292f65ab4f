//! `feed`: the data plane behind the socket, from memory, for programs that watch programs.
//!
//! A profiler, or the count of instructions in `.ci/70-instructions.sh`, wants nothing but the work of
//! a worker: parse, hash and record. It happens in [`watched`] alone.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use floe_bench::NAMES_SMALL;
use floe_bench::datagrams::{Datagrams, Extent, Packing};
use floe_bench::feeding::warm;
use floe_bench::lines::Shape;
use floe_bench::pipeline::Pipeline;

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
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PackingName {
    /// 46 lines
    Packed,
    /// One line
    Single,
}

/// Feeds, and tells how many lines [`watched`] took.
///
/// # Errors
/// If that cannot be written.
pub(crate) fn run(arguments: &FeedArguments) -> io::Result<()> {
    let FeedArguments { packing, names, lines_per_name, intervals } = *arguments;
    let packing = match packing {
        PackingName::Packed => Packing::Packed,
        PackingName::Single => Packing::Single,
    };
    let extent = Extent { names, lines: names * lines_per_name };
    let datagrams = Datagrams::new(Shape::Mix, packing, extent);
    let mut pipeline = warm(names, &datagrams);
    for _ in 0..intervals {
        watched(&mut pipeline, &datagrams);
        let parts = pipeline.flush();
        pipeline.reuse(parts);
    }
    writeln!(io::stdout(), "{}", datagrams.line_count() * u64::from(intervals))
}

/// What is to be watched: never part of another function, so that it can be named.
#[inline(never)]
fn watched(pipeline: &mut Pipeline, datagrams: &Datagrams) {
    pipeline.feed(datagrams);
}
