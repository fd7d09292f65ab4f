//! floe: a drop-in statsd. Arguments come in here, and exit codes leave.

use std::io::Write as _;
use std::process::ExitCode;

mod command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command::run(command::arguments::Arguments::read()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A standard error that is closed changes nothing about the exit code.
            writeln!(std::io::stderr(), "floe: {failure}").ok();
            ExitCode::from(failure.code)
        }
    }
}
