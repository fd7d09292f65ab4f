//! `loadgen`: sends a seeded statsd workload and accounts for every value.
//!
//! The independent witness: it shares no code with the daemon. On the way out a line goes
//! `random → workload → compose → stock → sender → socket`; on the way back a point goes
//! `sink` (or `graphite`) `→ received → ledger → settle → report`. `process` asks the kernel about the
//! daemon meanwhile, and `stop` whether the user wants to end.

mod clock;
mod stop;
mod random;
mod workload;
mod compose;
mod stock;
mod pacer;
mod sender;
mod fleet;
mod target;
mod refused;
mod socket;
mod process;
mod watch;
mod probe;
mod capture;
mod replay;
mod sink;
mod pickle;
mod graphite;
mod received;
mod naming;
mod ledger;
mod settle;
mod report;
mod search;
mod workload_file;
mod cli;
mod run;

use std::io::Write as _;
use std::process::ExitCode;

use run::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Wrong options end here with status 2, --help and --version with 0.
    let line: Vec<_> = std::env::args_os().collect();
    let arguments = cli::Arguments::read(&line).unwrap_or_else(|error| error.exit());
    let task = match arguments.into_task() {
        Ok(task) => task,
        Err(error) => return complain(&error, 2),
    };
    match run::run(task) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Unexplained) => ExitCode::from(1),
        Ok(Outcome::Failed(why)) => complain(&why, 1),
        Ok(Outcome::Interrupted(signal)) => {
            complain(&format!("interrupted by {}", signal.name()), signal.status())
        }
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

fn complain(message: &str, status: u8) -> ExitCode {
    // Where nobody reads stderr the status still tells.
    drop(writeln!(std::io::stderr(), "loadgen: {message}"));
    ExitCode::from(status)
}
