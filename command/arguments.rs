//! What may be said on the command line. Flags win over the environment, that over the file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A drop-in statsd: UDP in, Graphite out, nothing lost on the way.
///
/// Without CONFIG: listens on UDP 8125, keeps an archive in its spool, needs nothing else.
#[derive(Debug, Parser)]
#[command(name = "floe", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// The daemon itself.
    #[command(flatten)]
    pub daemon: DaemonArguments,
    /// Anything else.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How the daemon is started.
#[derive(Debug, Args)]
pub struct DaemonArguments {
    /// A statsd config.js, or floe's own TOML
    pub config: Option<PathBuf>,
    /// Directory of segments: archive and queues of the backends
    #[arg(long, value_name = "DIR", env = "FLOE_SPOOL")]
    pub spool: Option<PathBuf>,
    /// Receive path: auto, `io_uring` or recvmmsg
    #[arg(long, value_name = "PATH", env = "FLOE_INGEST")]
    pub ingest: Option<String>,
    /// Number of workers [default: one per CPU, at most 8]
    #[arg(long, value_name = "N", env = "FLOE_WORKERS")]
    pub workers: Option<usize>,
    /// CPUs to pin workers to: 0-3,5
    #[arg(long, value_name = "LIST", env = "FLOE_CPUS")]
    pub cpus: Option<String>,
    /// File to write the real addresses to, as JSON, once everything listens
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// The other commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print points of the archive: name, value, time
    Query(QueryArguments),
    /// Say what a configuration means; exit 0 or 2
    Check(CheckArguments),
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
pub struct QueryArguments {
    /// Names: `*` within a component, `**` across, as in 'stats.**'
    pub glob: String,
    /// Only points of this long ago and younger: 30s, 5m, 6h
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Configuration that names the spool and the namespace
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of segments
    #[arg(long, value_name = "DIR", env = "FLOE_SPOOL")]
    pub spool: Option<PathBuf>,
}

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// A statsd config.js, or floe's own TOML
    pub config: PathBuf,
}

/// What to do with segment files.
#[derive(Debug, Subcommand)]
pub enum SegmentCommand {
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
