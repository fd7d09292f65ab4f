//! The commands of the `floe` binary, one file each.
//!
//! Everything here is wiring: arguments and files in, calls into the crates, text out.

/// Text from outside, as it may be shown.
pub(crate) mod escaped;
/// What may be said on the command line.
pub(crate) mod arguments;
mod books;
mod check;
mod config;
mod configuration;
mod daemon;
mod log;
mod privileges;
mod query;
mod segment;
mod reload;
mod spool_place;
mod title;
mod top;
mod watch;

use std::io::{self, Write};

use floe_io::daemon::Halves;

use self::arguments::{Arguments, Command, SegmentCommand};
use self::escaped::Escaped;

/// How the library shows `EMFILE`.
const OUT_OF_FILES: &str = "(os error 24)";

/// An error and the exit code it ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is said, in one line.
    pub(crate) error: anyhow::Error,
    /// 1 failed, 2 wrong usage or settings.
    pub(crate) code: u8,
}

impl std::fmt::Display for Failure {
    /// The error and its causes in one line, each said once: many errors quote their cause.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut line = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            if !line.contains(&cause) {
                line.push_str(": ");
                line.push_str(&cause);
            }
        }
        if line.contains(OUT_OF_FILES) {
            line.push_str("; raise the limit of open files: ulimit -n, LimitNOFILE=");
        }
        write!(formatter, "{}", Escaped(line))
    }
}

impl Failure {
    /// Something failed that was asked for rightly.
    fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), code: 1 }
    }

    /// What was asked for cannot be done: usage or settings.
    fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), code: 2 }
    }
}

/// Runs what the arguments ask for.
///
/// # Errors
/// [`Failure`] with the exit code.
pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Some(command) = arguments.command else {
        return daemon::run(&arguments.daemon, Halves::Both);
    };
    match command {
        Command::Ingest(daemon) => daemon::run(&daemon, Halves::Ingest),
        Command::Export(daemon) => daemon::run(&daemon, Halves::Export),
        Command::Query(query) => to_stdout(|out| query::run(&query, out)),
        Command::Books(books) => to_stdout(|out| books::run(&books, out)),
        Command::Top(top) => to_stdout(|out| top::run(&top, out)),
        Command::Check(check) => to_stdout(|out| check::run(&check, out)),
        Command::Config(config) => to_stdout(|out| config::run(&config, out)),
        Command::Segment { command: SegmentCommand::Show { files } } => {
            to_stdout(|out| segment::show(&files, out))
        }
        Command::Segment { command: SegmentCommand::Verify { files } } => {
            to_stdout(|out| segment::verify(&files, out))
        }
    }
}

/// Runs a command that prints. A reader that has seen enough (`| head`) is no failure.
fn to_stdout(print: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = print(&mut out).and_then(|()| out.flush().map_err(Failure::failed));
    let is_closed = |failure: &Failure| {
        let cause = failure.error.downcast_ref::<io::Error>();
        cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    match result {
        Err(failure) if is_closed(&failure) => Ok(()),
        result => result,
    }
}
