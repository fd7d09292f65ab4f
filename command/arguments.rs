//! What may be said on the command line. Flags win over the environment, that over the file.

use std::path::PathBuf;

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// A drop-in statsd: UDP in, Graphite out, nothing lost on the way.
///
/// Without CONFIG: listens on UDP 8125, keeps an archive in its spool, needs nothing else.
#[derive(Debug, Parser)]
#[command(name = "floe", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// The daemon itself.
    #[command(flatten)]
    pub(crate) daemon: DaemonArguments,
    /// Anything else.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

impl Arguments {
    /// Reads the command line and the environment; what cannot be read ends the process with code 2.
    ///
    /// A variable that is set and empty counts as not set: service files write `FLOE_SPOOL=` for it.
    pub(crate) fn read() -> Self {
        let matches = without_empty_variables(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &Arg| {
        argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty())
    };
    let unset = |argument: Arg| {
        if is_empty(&argument) { argument.env(None::<&'static str>) } else { argument }
    };
    command.mut_args(unset).mut_subcommands(without_empty_variables)
}

/// How the daemon is started.
#[derive(Debug, Args)]
pub(crate) struct DaemonArguments {
    /// A statsd config.js, or floe's own TOML
    pub(crate) config: Option<PathBuf>,
    /// Directory of segments: archive and queues of the backends
    #[arg(long, value_name = "DIR", env = "FLOE_SPOOL")]
    pub(crate) spool: Option<PathBuf>,
    /// Receive path: auto, `io_uring` or recvmmsg
    #[arg(long, value_name = "PATH", env = "FLOE_INGEST")]
    pub(crate) ingest: Option<String>,
    /// Number of workers [default: one per CPU, at most 8]
    #[arg(long, value_name = "N", env = "FLOE_WORKERS")]
    pub(crate) workers: Option<usize>,
    /// CPUs to pin workers to: 0-3,5
    #[arg(long, value_name = "LIST", env = "FLOE_CPUS")]
    pub(crate) cpus: Option<String>,
    /// User to go on as when started as root: a name, or UID:GID
    #[arg(long, value_name = "USER", env = "FLOE_USER")]
    pub(crate) user: Option<String>,
    /// File to write the real addresses to, as JSON, once everything listens; it stays when the daemon
    /// ends, and the pid in it says whose it is
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// Take over from the daemon of this user that runs on the spool: its sockets, its open interval
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// The other commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print points of the archive: name, value, time
    Query(QueryArguments),
    /// Print the books: what came in, where it went, whether it adds up; exit 1 if it does not
    Books(BooksArguments),
    /// Print who brings most: prefixes, names, senders by lines, new names and bad lines
    Top(BooksArguments),
    /// Say what a configuration means; exit 0 or 2
    Check(CheckArguments),
    /// Print a configuration as TOML
    Config(ConfigArguments),
    /// Look at segment files
    Segment {
        /// What to do with them.
        #[command(subcommand)]
        command: SegmentCommand,
    },
    /// Receive and spool only; `floe export` delivers
    Ingest(DaemonArguments),
    /// Deliver what `floe ingest` spools
    Export(DaemonArguments),
}

/// What to query.
#[derive(Debug, Args)]
pub(crate) struct QueryArguments {
    /// Names: `*` within a component, `**` across, as in 'stats.**'
    pub(crate) glob: String,
    /// Only points of this long ago and younger: 30s, 5m, 6h
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Configuration that names the spool and the namespace
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of segments
    #[arg(long, value_name = "DIR", env = "FLOE_SPOOL")]
    pub(crate) spool: Option<PathBuf>,
}

/// Whose books to print.
#[derive(Debug, Args)]
pub(crate) struct BooksArguments {
    /// One JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Configuration that names the spool
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of segments
    #[arg(long, value_name = "DIR", env = "FLOE_SPOOL")]
    pub(crate) spool: Option<PathBuf>,
}

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// A statsd config.js, or floe's own TOML
    pub(crate) config: PathBuf,
}

/// Which configuration to print; the defaults without a flag.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ConfigArguments {
    /// Every key with its default and what it does
    #[arg(long)]
    pub(crate) defaults: bool,
    /// The TOML that means the same as FILE, a statsd config.js for instance
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// The page docs/configuration.md
    #[arg(long, hide = true)]
    pub(crate) markdown: bool,
}

/// What to do with segment files.
#[derive(Debug, Subcommand)]
pub(crate) enum SegmentCommand {
    /// Print header and rows
    Show {
        /// Segment files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check lengths, checksums and structure; exit 1 if one is damaged
    Verify {
        /// Segment files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}
