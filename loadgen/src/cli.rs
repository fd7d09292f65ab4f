//! The command line, parsed once into checked settings.
//!
//! Nothing behind this module checks an option again. Wrong usage ends with status 2.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::compose::{End, Packing};
use crate::fleet::Plan;
use crate::naming::Naming;
use crate::pacer::Pacing;
use crate::search::Settings;
use crate::sender::{Manner, Quiet, Share};
use crate::settle::Patience;
use crate::sink::Protocol;
use crate::target::Target;
use crate::workload::{LINE_TAIL_BYTES_MAX, Mix, Shape};
use crate::workload_file::WorkloadFile;

use values::{count, duration, graphite, key_prefix, lines, names, packing, percent, rate, sink};

mod values;

/// Lines sent where neither --lines nor --duration says otherwise.
const LINES_DEFAULT: u64 = 100_000;

/// Lines per second where --rate does not say otherwise.
const RATE_DEFAULT: u64 = 50_000;

/// Longest wait for the books to balance, and for the lines of a round of a search beyond an interval.
const SETTLE_DEFAULT: Duration = Duration::from_secs(30);
const SETTLE_SEARCH_DEFAULT: Duration = Duration::from_secs(5);

/// From this rate on lines are composed ahead: composing them one by one would be the limit.
const ROTATION_RATE_MIN: u64 = 1_000_000;

/// Fewest lines composed ahead by default; with many names it is four of each.
const ROTATION_LINES_MIN: u64 = 65_536;

/// Sends a seeded statsd workload and accounts for every value.
///
/// With a witness (--sink or --graphite) the exit status is 0 only if every counter total, gauge, set
/// and timer count is explained; 1 if not, or if something failed; 2 for wrong usage.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
#[command(args_override_self = true, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: LoadArguments,
    #[command(subcommand)]
    command: Option<Command>,
    /// Those options of a workload file that stand.
    #[arg(skip)]
    file: Option<WorkloadFile>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finds the highest rate without loss: doubles the rate until a round fails, then halves the gap.
    ///
    /// Loss is what the daemon's UDP sockets dropped (--pid), or the lines that its own counter did not
    /// deliver to the sink (--sink), whichever is more. With a sink it first proves the way there, and learns
    /// the daemon's interval, from two flushes. The exit status is 0 if a rate held.
    Search(Box<SearchArguments>),
}

#[derive(Debug, Args)]
#[command(args_override_self = true)]
struct SearchArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// First rate, lines per second
    #[arg(long, default_value = "10000", value_parser = count)]
    from: u64,
    /// Highest rate that is tried
    #[arg(long, default_value = "1000000000", value_parser = count)]
    to: u64,
    /// Length of a round; the last one is three times as long
    #[arg(long, default_value = "2s", value_parser = duration)]
    round: Duration,
    /// Percent of the lines or datagrams that may be lost
    #[arg(long, default_value = "0.1", value_parser = percent)]
    loss: f64,
    /// How far apart the highest rate that held and the lowest that did not may be at the end, percent
    #[arg(long, default_value = "5", value_parser = percent)]
    resolution: f64,
}

#[derive(Debug, Args)]
struct LoadArguments {
    /// The options on what is sent, as a TOML file: names, mix, packing, ...; options beside it win
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Where to send: HOST:PORT over UDP (an IPv6 address in brackets), tcp:HOST:PORT, unix:PATH for a
    /// stream, unixgram:PATH for datagrams
    #[arg(long, default_value = "127.0.0.1:8125", value_parser = Target::read)]
    target: Target,
    /// Lines to send [default: 100000 without --duration]
    #[arg(long, value_parser = lines)]
    lines: Option<u64>,
    /// Time to send at most: 10s, 500ms, 2m, 1h
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Lines per second over all senders (datagrams with --replay), or max [default: 50000]
    #[arg(long, value_parser = rate)]
    rate: Option<Rate>,
    /// One line per datagram, as many as fit, or as many as fit into BYTES: single, packed, packed=BYTES
    #[arg(long, default_value = "packed", value_parser = packing)]
    packing: PackingChoice,
    /// Distinct names over all kinds
    #[arg(long, default_value_t = 1_000, value_parser = names)]
    names: u32,
    /// Weights of counters, timers, gauges and sets
    #[arg(long, default_value = "c=60,ms=30,g=8,s=2")]
    mix: Mix,
    /// Seed of the workload: the same seed, names, mix and senders give the same lines
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Percent of the counter and timer lines that carry a sample rate
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    sampled: u32,
    /// Percent of the names that carry tags
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    tagged: u32,
    /// Percent of the lines that are bad and must be counted so
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    bad: u32,
    /// First part of every key
    #[arg(long, default_value = "loadgen", value_parser = key_prefix)]
    key_prefix: String,
    /// Sending threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    senders: u32,
    /// Sockets of each sending thread, used in turn: as many source ports
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    sockets: u32,
    /// Wait for the moment a datagram is due by spinning, which costs a core, or by sleeping, which
    /// bunches what falls into a millisecond
    #[arg(long, value_enum, default_value = "spin")]
    pacing: Pacing,
    /// Datagrams that leave together, by one sendmmsg
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    burst: u32,
    /// Lines composed ahead and sent in rotation; 0 composes every line when it goes [default: 0 below
    /// 1000000 lines/s, else four of each name and at least 65536]
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=100_000_000))]
    pool: Option<u64>,
    /// Process number of the daemon under test: report its CPU time by thread, and what its UDP sockets
    /// dropped
    #[arg(long)]
    pid: Option<u32>,
    /// With --margin: the interval of the daemons under test, whose flushes fall on its wall-clock multiples
    #[arg(long, value_parser = duration, requires = "margin")]
    interval: Option<Duration>,
    /// Send nothing this close to a wall-clock multiple of --interval, so that two daemons put every
    /// line into the same interval
    #[arg(long, value_parser = duration, requires = "interval")]
    margin: Option<Duration>,
    /// UDP segmentation offload; every datagram is filled up to one size with line feeds
    #[arg(long)]
    gso: bool,
    /// Act as carbon: text=ADDRESS:PORT or pickle=ADDRESS:PORT, once each; port 0 takes a free one
    #[arg(long, value_parser = sink)]
    sink: Vec<(Protocol, SocketAddr)>,
    /// Write the sinks' real addresses here once they listen: one line `text=ADDRESS:PORT` each
    #[arg(long)]
    sink_ready_file: Option<PathBuf>,
    /// Begin to send once this file exists (such as the daemon's ready file), at most 60 s later
    #[arg(long)]
    start_file: Option<PathBuf>,
    /// Read back from a graphite-web: http://HOST:PORT
    #[arg(long, value_parser = graphite)]
    graphite: Option<String>,
    /// Finest step of the Graphite schema: points are asked for since this long before the start
    #[arg(long, default_value = "10s", value_parser = duration, requires = "graphite")]
    graphite_step: Duration,
    /// Namespace of the daemon under test (`graphite.legacyNamespace`)
    #[arg(long, value_enum, default_value = "legacy")]
    namespace: Namespace,
    /// `prefixStats` of the daemon under test
    #[arg(long, default_value = "statsd")]
    prefix_stats: String,
    /// `graphite.globalPrefix`, new namespace only
    #[arg(long, default_value = "stats")]
    global_prefix: String,
    /// `graphite.globalSuffix`
    #[arg(long)]
    global_suffix: Option<String>,
    /// Other clients send to the same daemon: its own counters may be higher than what was sent
    #[arg(long)]
    shared: bool,
    /// Longest wait for the books to balance, or in a search for the lines of a round beyond the interval
    /// of the daemon, which the search learns itself [default: 30s, 5s in a search]
    #[arg(long, value_parser = duration)]
    settle: Option<Duration>,
    /// Go on watching this long after they balance
    #[arg(long, default_value = "0s", value_parser = duration)]
    confirm: Duration,
    /// Measure the time from a datagram to the first sink by probes: gauges that carry a number; it
    /// contains the wait for the flush
    #[arg(long, requires = "sink")]
    latency: bool,
    /// Time between two probes; 1024 of them must last longer than an interval
    #[arg(long, default_value = "10ms", value_parser = duration, requires = "latency")]
    probe_every: Duration,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report as an HTML page with plots, too
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    html: Option<PathBuf>,
    /// Send the UDP payloads of a pcap instead of a workload
    #[arg(long, conflicts_with_all = ["sink", "graphite", "lines", "duration", "gso", "pid", "workload"])]
    replay: Option<PathBuf>,
    /// Only the datagrams captured on their way to this port
    #[arg(long, requires = "replay")]
    replay_port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate(Option<u64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PackingChoice {
    Single,
    Packed(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Namespace {
    Legacy,
    New,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Task {
    Load(Box<Load>),
    Search(Box<Load>, Settings),
    Replay(Replay),
}

/// A workload with its witnesses.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) plan: Plan,
    pub(crate) share: Share,
    pub(crate) shape: Shape,
    pub(crate) pid: Option<u32>,
    pub(crate) sinks: Vec<(Protocol, SocketAddr)>,
    pub(crate) sink_ready_file: Option<PathBuf>,
    pub(crate) start_file: Option<PathBuf>,
    pub(crate) graphite: Option<String>,
    pub(crate) graphite_step: Duration,
    pub(crate) naming: Naming,
    pub(crate) is_shared: bool,
    pub(crate) patience: Patience,
    /// Time between two probes, where latency is to be measured.
    pub(crate) probe_every: Option<Duration>,
    pub(crate) is_json: bool,
    /// Where the page with plots goes.
    pub(crate) html: Option<PathBuf>,
}

/// A capture to send.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) file: PathBuf,
    pub(crate) port: Option<u16>,
    pub(crate) target: SocketAddr,
    pub(crate) rate: Option<u64>,
    pub(crate) is_json: bool,
}

impl Arguments {
    /// Reads the command line; the options of a workload file stand before its own.
    ///
    /// # Errors
    /// Those of clap for the options, one sentence for the file.
    pub(crate) fn read(line: &[OsString]) -> Result<Arguments, clap::Error> {
        let matches = Arguments::command().try_get_matches_from(line)?;
        let arguments = Arguments::from_arg_matches(&matches)?;
        let is_search = arguments.command.is_some();
        let load = match &arguments.command {
            Some(Command::Search(search)) => &search.load,
            None => &arguments.load,
        };
        let Some(file) = &load.workload else { return Ok(arguments) };
        let wrong = |error| clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n"));
        let mut file = WorkloadFile::read(file, is_search).map_err(wrong)?;
        for entry in &file.entries {
            // On its own, so that what is wrong with it is told as a fault of the file.
            let alone = [OsString::from("loadgen"), entry.option().into()];
            if let Err(error) = Arguments::try_parse_from(alone) {
                return Err(wrong(file.complain(entry, reason(&error))));
            }
        }
        let own = matches.subcommand().map_or(&matches, |(_, own)| own);
        file.entries.retain(|entry| {
            own.value_source(&entry.name.replace('-', "_")) != Some(ValueSource::CommandLine)
        });
        let options = file.entries.iter().map(|entry| OsString::from(entry.option()));
        // Behind the name of the program, and of the subcommand.
        let (head, rest) = line.split_at((1 + usize::from(is_search)).min(line.len()));
        let whole: Vec<OsString> =
            head.iter().cloned().chain(options).chain(rest.iter().cloned()).collect();
        let arguments =
            Arguments::from_arg_matches(&Arguments::command().try_get_matches_from(whole)?)?;
        Ok(Arguments { file: Some(file), ..arguments })
    }

    /// Checks what options say together.
    ///
    /// # Errors
    /// One sentence on what is wrong.
    pub(crate) fn into_task(self) -> Result<Task, String> {
        let task = match self.command {
            Some(Command::Search(search)) => search.into_task(),
            None => self.load.into_task(),
        };
        task.map_err(|error| match &self.file {
            Some(file) => file.located(error),
            None => error,
        })
    }
}

/// What clap finds wrong with a value, without the option's name.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("give one of {}", values.join(", ")),
        _ => error.kind().to_string(),
    }
}

impl SearchArguments {
    fn into_task(self) -> Result<Task, String> {
        let load = self.load;
        if load.rate.is_some() || load.lines.is_some() || load.duration.is_some() {
            return Err("search decides on --rate, --lines and --duration itself".to_owned());
        }
        if load.replay.is_some() || load.latency || load.graphite.is_some() {
            return Err("search goes with neither --replay nor --latency nor --graphite".to_owned());
        }
        if load.pid.is_none() && load.sink.is_empty() {
            return Err("search judges loss by --pid or --sink: give one of them".to_owned());
        }
        if load.sink.is_empty() && !matches!(load.target, Target::Udp(_)) {
            return Err(format!(
                "search to {} judges loss by --sink: only UDP sockets count what they drop",
                load.target
            ));
        }
        let settings = Settings {
            from: self.from,
            to: self.to,
            round: self.round,
            loss_percent: self.loss,
            resolution_percent: self.resolution,
        };
        if self.to < self.from {
            return Err(format!("--to {} is below --from {}", self.to, self.from));
        }
        // As fast as can be: lines are composed ahead.
        let load = LoadArguments {
            rate: Some(Rate(None)),
            lines: Some(u64::MAX),
            settle: Some(load.settle.unwrap_or(SETTLE_SEARCH_DEFAULT)),
            ..load
        };
        let mut load = load.into_load()?;
        load.share.duration_max = Some(settings.round);
        Ok(Task::Search(Box::new(load), settings))
    }
}

impl LoadArguments {
    fn rate(&self) -> Option<u64> {
        self.rate.map_or(Some(RATE_DEFAULT), |rate| rate.0)
    }

    fn into_task(self) -> Result<Task, String> {
        let Some(file) = self.replay else {
            return self.into_load().map(|load| Task::Load(Box::new(load)));
        };
        let Target::Udp(target) = self.target else {
            return Err(format!("--replay sends datagrams over UDP, not to {}", self.target));
        };
        let (port, rate) = (self.replay_port, self.rate.map_or(Some(RATE_DEFAULT), |rate| rate.0));
        Ok(Task::Replay(Replay { file, port, target, rate, is_json: self.json }))
    }

    fn into_load(self) -> Result<Load, String> {
        let has_twice = |protocol| 1 < self.sink.iter().filter(|sink| sink.0 == protocol).count();
        if has_twice(Protocol::Text) || has_twice(Protocol::Pickle) {
            return Err("--sink: give each protocol once".to_owned());
        }
        if self.sink_ready_file.is_some() && self.sink.is_empty() {
            return Err("--sink-ready-file needs --sink".to_owned());
        }
        let (shape, share) = (self.shape()?, self.share());
        let plan = self.plan(share)?;
        Ok(Load {
            plan,
            share,
            shape,
            pid: self.pid,
            sinks: self.sink,
            sink_ready_file: self.sink_ready_file,
            start_file: self.start_file,
            graphite: self.graphite,
            graphite_step: self.graphite_step,
            naming: Naming {
                is_legacy: self.namespace == Namespace::Legacy,
                stats_prefix: self.prefix_stats,
                global_prefix: self.global_prefix,
                global_suffix: self.global_suffix,
            },
            is_shared: self.shared,
            patience: Patience {
                settle: self.settle.unwrap_or(SETTLE_DEFAULT),
                confirm: self.confirm,
            },
            probe_every: self.latency.then_some(self.probe_every),
            is_json: self.json,
            html: self.html,
        })
    }

    fn shape(&self) -> Result<Shape, String> {
        let shape = Shape {
            seed: self.seed,
            names: self.names,
            mix: self.mix,
            sampled_percent: self.sampled,
            tagged_percent: self.tagged,
            bad_percent: self.bad,
            key_prefix: self.key_prefix.clone(),
            streams: self.senders * self.sockets,
        };
        shape.check().map_err(|error| error.to_string())?;
        Ok(shape)
    }

    fn share(&self) -> Share {
        let lines_max = match (self.lines, self.duration) {
            (Some(lines), _) => lines,
            (None, Some(_)) => u64::MAX,
            (None, None) => LINES_DEFAULT,
        };
        Share { lines_max, duration_max: self.duration, rate: self.rate() }
    }

    fn plan(&self, share: Share) -> Result<Plan, String> {
        let end = match (&self.target, self.gso) {
            (Target::Udp(_), true) => End::Padded,
            (target, true) => return Err(format!("--gso is for UDP, not for {target}")),
            (target, false) if target.is_stream() => End::LineFeed,
            _ => End::Bare,
        };
        let quiet = match (self.interval, self.margin) {
            (Some(interval), Some(margin)) => Some(Quiet::new(interval, margin)?),
            _ => None,
        };
        let manner = Manner {
            pacing: self.pacing,
            burst: usize::try_from(self.burst).expect("at most 64"),
            quiet,
            is_stream: self.target.is_stream(),
        };
        Ok(Plan {
            target: self.target.clone(),
            packing: self.packing.resolve(&self.key_prefix, end)?,
            senders: self.senders,
            sockets: self.sockets,
            rotation_lines: rotation_lines(self.pool, share, self.names),
            manner,
        })
    }
}

impl PackingChoice {
    fn resolve(self, key_prefix: &str, end: End) -> Result<Packing, String> {
        // `.bad.n000000` is the longest base behind the prefix while numbers have up to seven digits.
        let line_bytes_max = key_prefix.len() + 16 + LINE_TAIL_BYTES_MAX;
        let (datagram_bytes_max, is_single) = match self {
            PackingChoice::Single => (line_bytes_max, true),
            PackingChoice::Packed(bytes) => (bytes, false),
        };
        if datagram_bytes_max < line_bytes_max {
            return Err(format!(
                "--packing packed={datagram_bytes_max}: lines may have {line_bytes_max} bytes, give at least that"
            ));
        }
        Ok(Packing { datagram_bytes_max, is_single, end })
    }
}

/// Lines to compose ahead; none where each is composed as it goes.
fn rotation_lines(asked: Option<u64>, share: Share, names: u32) -> Option<u64> {
    let is_fast = share.rate.is_none_or(|rate| ROTATION_RATE_MIN <= rate);
    let lines = match asked {
        Some(lines) => lines,
        None if is_fast => ROTATION_LINES_MIN.max(4 * u64::from(names)),
        None => 0,
    };
    (0 < lines).then_some(lines.min(share.lines_max))
}

#[cfg(test)]
mod tests;
