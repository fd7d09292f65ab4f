//! floe: a drop-in statsd. Arguments come in here, and exit codes leave.

use std::process::ExitCode;

use clap::Parser;

mod command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stderr, reason = "the one line an error ends with")]
fn main() -> ExitCode {
    match command::run(command::arguments::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("floe: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
