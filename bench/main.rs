//! `floe-bench`: floe beside the alternatives, on this machine.

/// The command line.
mod arguments;
/// floe and the others in turn, and the targets.
mod compare;
/// Who takes part.
mod contestants;
/// floe under every fault that can be caused.
mod faults;
/// floe given more than anybody may keep.
mod memory;
/// Flushes, by the files they leave.
mod flushes;
/// The data plane from memory, to be watched.
mod feed;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Tables => compare::write_tables(),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Memory(arguments) => memory::run(&arguments),
        Command::Overload(arguments) => compare::overload::run(&arguments),
        Command::Feed(arguments) => feed::run(&arguments).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even that cannot be written there is nobody to tell.
            writeln!(std::io::stderr(), "floe-bench: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}
