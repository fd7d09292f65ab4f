//! What may be said on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

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
    /// Feed the data plane from memory, for a profiler or a count of instructions
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
    fn targets_are_numbers_all_or_none() {
        let numbers = |text: &str| text.parse::<Numbers>().map(|Numbers(numbers)| numbers);
        assert_eq!(numbers("1, 2,11"), Ok(vec![1, 2, 11]));
        assert_eq!(numbers("none"), Ok(vec![]));
        assert_eq!(numbers("all").map(|all| all.len()), Ok(11));
        assert!(numbers("12").is_err() && numbers("0").is_err() && numbers("one").is_err());
    }
}
