//! What may be said on the command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use floe_bench::{NAMES_LARGE, NAMES_SMALL};

use crate::feed::FeedArguments;

/// floe beside the alternatives, on this machine.
#[derive(Debug, Parser)]
#[command(name = "floe-bench", version)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run floe and the others in turn, and say which targets hold
    Compare(CompareArguments),
    /// Write the tables of all records and pages anew, from the numbers that were recorded
    Tables,
    /// Do faults to floe, in a random order, and say of each what was lost and what may be
    Faults(FaultsArguments),
    /// Give floe more names, times and members than it may keep, under a limit of the kernel's
    Memory(MemoryArguments),
    /// Offer floe three times what it can take, and say what it takes then
    Overload(OverloadArguments),
    /// Feed the data plane from memory, for a profiler, a count of instructions or a comparison
    Feed(FeedArguments),
}

/// How to compare.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Contestants to take, by name, with commas between them [default: all that are found]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Targets to measure: numbers with commas, `all`, or `none` for the contestants alone
    #[arg(long, value_name = "NUMBERS", default_value = "all")]
    pub(crate) targets: Numbers,
    /// Leave the contestants side by side out: what the targets need is measured
    #[arg(long)]
    pub(crate) without_table: bool,
    /// Search, for every contestant, for the highest rate with less than 0.1 % loss, too
    #[arg(long)]
    pub(crate) limits: bool,
    /// Rounds, of which medians are taken [default: 5, with --quick 1]
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<u32>,
    /// Length of one feed [default: 2, with --quick 0.5]
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<f64>,
    /// Short feeds, one round, 10 s instead of 60 for the target of no loss: to see that all works
    #[arg(long)]
    pub(crate) quick: bool,
    /// Length of the steady load of target 8; it asks for 3600 [default: 60, with --quick 10]
    #[arg(long, value_name = "S")]
    pub(crate) steady: Option<u64>,
    /// Datagrams per second at the most, instead of a flood
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,
    /// Folder of the record, or `none` [default: bench/record/<date>-<host>]
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// Write the tables of the record into docs/benchmarks.md and README.md
    #[arg(long)]
    pub(crate) write_docs: bool,
    /// floe's binary [default: the one beside this program, built first]
    #[arg(long, value_name = "FILE")]
    pub(crate) floe: Option<PathBuf>,
}

/// Which faults, and for how long.
#[derive(Debug, Args)]
pub(crate) struct FaultsArguments {
    /// Begin of all chance: the same one, the same faults in the same order [default: the time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// No fault begins later: 60s, 30m. Longer rounds have longer faults
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) duration: Length,
    /// Faults to do, by name, with commas between them [default: all that this machine can]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Print the faults and end
    #[arg(long)]
    pub(crate) list: bool,
    /// Daemons that are maltreated at the same time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) lanes: u32,
    /// Print the record as JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Folder of the record, or `none` [default: bench/record/<date>-<host>-faults]
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// floe's binary [default: the one beside this program, built first]
    #[arg(long, value_name = "FILE")]
    pub(crate) floe: Option<PathBuf>,
    /// Be this lane of a round
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) lane: Option<u32>,
    /// The network is this lane's own
    #[arg(long, hide = true)]
    pub(crate) isolated: bool,
}

/// How much to give.
#[derive(Debug, Args)]
pub(crate) struct MemoryArguments {
    /// Part of the full size, four minutes long: to see that all works
    #[arg(long, value_name = "PART", default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// Trials, with commas between them: names, times, members [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Folder of the record, or `none` [default: bench/record/<date>-<host>-memory]
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// floe's binary [default: the one beside this program, built first]
    #[arg(long, value_name = "FILE")]
    pub(crate) floe: Option<PathBuf>,
}

/// How to overload.
#[derive(Debug, Args)]
pub(crate) struct OverloadArguments {
    /// Names, of which a line's is drawn: 10000 or 1000000
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = names)]
    pub(crate) names: u32,
    /// Interval of flushes: of a million names one CPU makes no flush a second beside such a load
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) interval: u32,
    /// Length of the overload
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub(crate) seconds: f64,
    /// Datagrams per second at the most: to see that all works
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<u32>,
    /// floe's binary [default: the one beside this program, built first]
    #[arg(long, value_name = "FILE")]
    pub(crate) floe: Option<PathBuf>,
}

/// As many names as there is a pool of.
fn names(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(names @ (NAMES_SMALL | NAMES_LARGE)) => Ok(names),
        _ => Err(format!("there are {NAMES_SMALL} names or {NAMES_LARGE}, found {text}")),
    }
}

/// A length of time: a whole number of seconds or minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length(pub(crate) Duration);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = match text.strip_suffix('m') {
            Some(number) => (number, 60),
            None => (text.strip_suffix('s').unwrap_or(text), 1),
        };
        let number: u32 = number.parse().map_err(|_| format!("no time: {text}; 60s or 30m is"))?;
        Ok(Self(Duration::from_secs(u64::from(number) * unit)))
    }
}

/// Numbers of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers(pub(crate) Vec<u32>);

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self((1..=11).collect())),
            "none" => return Ok(Self(Vec::new())),
            _ => {}
        }
        let number = |word: &str| match word.trim().parse() {
            Ok(number @ 1..=11) => Ok(number),
            _ => Err(format!("targets are 1 to 11, found {word}")),
        };
        text.split(',').map(number).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lengths_are_seconds_or_minutes() {
        let seconds = |text: &str| text.parse::<Length>().map(|Length(time)| time.as_secs());
        assert_eq!([seconds("60s"), seconds("30m"), seconds("5")], [Ok(60), Ok(1_800), Ok(5)]);
        assert!(seconds("1h").is_err() && seconds("m").is_err());
    }

    #[test]
    fn targets_are_numbers_all_or_none() {
        let numbers = |text: &str| text.parse::<Numbers>().map(|Numbers(numbers)| numbers);
        assert_eq!(numbers("1, 2,11"), Ok(vec![1, 2, 11]));
        assert_eq!(numbers("none"), Ok(vec![]));
        assert_eq!(numbers("all").map(|all| all.len()), Ok(11));
        assert!(numbers("12").is_err() && numbers("0").is_err() && numbers("one").is_err());
    }
}
