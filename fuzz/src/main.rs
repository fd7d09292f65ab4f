//! Hostile input from a seed: `cargo run -p floe-fuzz -- <target> --seed N`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use floe_fuzz::round::{self, Failure};
use floe_fuzz::targets::{TARGETS, Target};
use floe_fuzz::{corpus, mutate};

/// Feeds a reader of floe with hostile input, made from a seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A target, or `all`; without one they are listed.
    target: Option<String>,
    /// The same seed makes the same inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many inputs; 20,000 if no time is given either.
    #[arg(long)]
    iterations: Option<u64>,
    /// For how long, seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// One input from a file instead, once.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Where an input that breaks a claim is written.
    #[arg(long, default_value = "target/fuzz-failures")]
    failures: PathBuf,
}

/// Bytes of a failing input that are shown; the file has all of them.
const SHOWN_BYTES: usize = 2_000;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(name) = &arguments.target else {
        for target in &TARGETS {
            println!("{:16} {}", target.name, target.about);
        }
        return ExitCode::SUCCESS;
    };
    let chosen: Vec<&Target> =
        TARGETS.iter().filter(|target| name == "all" || target.name == name).collect();
    if chosen.is_empty() {
        eprintln!("floe-fuzz: no target \"{name}\"; without one they are listed");
        return ExitCode::from(2);
    }
    // The claim that is broken is said once, by us.
    std::panic::set_hook(Box::new(|_| ()));
    for target in chosen {
        match fuzz(target, &arguments) {
            Ok(said) => println!("{said}"),
            Err(error) => {
                eprintln!("floe-fuzz: {}: {error:#}", target.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn fuzz(target: &Target, arguments: &Arguments) -> anyhow::Result<String> {
    if let Some(path) = &arguments.input {
        let input = std::fs::read(path)?;
        round::check(&mut *(target.reader)(), &input).map_err(anyhow::Error::msg)?;
        return Ok(format!("{}: {} holds", target.name, path.display()));
    }
    let kept = round::replay(target)?;
    let count = match (arguments.iterations, arguments.seconds) {
        (None, None) => 20_000,
        (iterations, _) => iterations.unwrap_or(u64::MAX),
    };
    let limit = Duration::from_secs(arguments.seconds.unwrap_or(u64::MAX));
    let begun_ns = floe_io::clock::monotonic_ns();
    let is_in_time = || u128::from(floe_io::clock::monotonic_ns() - begun_ns) < limit.as_nanos();
    // The clock is read once per hundred inputs.
    let go_on = |made: u64| made < count && (!made.is_multiple_of(100) || is_in_time());
    match round::run(target, arguments.seed, go_on)? {
        Ok(made) => Ok(format!(
            "{}: {kept} kept and {made} made inputs hold (seed {})",
            target.name, arguments.seed
        )),
        Err(Failure { input, problem, after }) => {
            let path =
                corpus::save_failure(&arguments.failures, target.name, arguments.seed, &input)?;
            let cut = input.len().min(SHOWN_BYTES);
            let rest = if cut < input.len() { "..." } else { "" };
            let shown = format!("{}{rest}", input[..cut].escape_ascii());
            anyhow::bail!(
                "{problem}\n  input of seed {} after {after} others: \"{shown}\"\n  written to {}; \
                 once mended it belongs into {} (inputs up to {} bytes)",
                arguments.seed,
                path.display(),
                corpus::folder(target.name).display(),
                mutate::INPUT_BYTES_MAX
            )
        }
    }
}
