//! The command line, parsed once into checked settings.
//!
//! Nothing behind this module checks an option again. Wrong usage ends with status 2.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::compose::Packing;
use crate::naming::Naming;
use crate::sender::{Plan, Quiet};
use crate::settle::Patience;
use crate::sink::Protocol;
use crate::workload::{LINE_TAIL_BYTES_MAX, Mix, Shape};

/// Lines sent where neither --lines nor --duration says otherwise.
const LINES_DEFAULT: u64 = 100_000;

/// Largest UDP payload over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Sends a seeded statsd workload over UDP and accounts for every value.
///
/// With a witness (--sink or --graphite) the exit status is 0 only if every counter total, gauge, set
/// and timer count is explained; 1 if not, or if something failed; 2 for wrong usage.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
pub(crate) struct Arguments {
    /// Where to send: HOST:PORT, an IPv6 address in brackets
    #[arg(long, default_value = "127.0.0.1:8125")]
    target: String,
    /// Lines to send [default: 100000 without --duration]
    #[arg(long)]
    lines: Option<u64>,
    /// Time to send at most: 10s, 500ms, 2m
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Lines per second over all senders (datagrams with --replay), or max
    #[arg(long, default_value = "50000", value_parser = rate)]
    rate: Rate,
    /// One line per datagram, as many as fit, or as many as fit into BYTES: single, packed, packed=BYTES
    #[arg(long, default_value = "packed", value_parser = packing)]
    packing: PackingChoice,
    /// Distinct names over all kinds
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
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
    /// Sending threads, each with a socket of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    senders: u32,
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
    #[arg(long, default_value = "10s", value_parser = duration)]
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
    /// Longest wait for the books to balance
    #[arg(long, default_value = "30s", value_parser = duration)]
    settle: Duration,
    /// Go on watching this long after they balance
    #[arg(long, default_value = "0s", value_parser = duration)]
    confirm: Duration,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    /// Send the UDP payloads of a pcap instead of a workload
    #[arg(long, conflicts_with_all = ["sink", "graphite", "lines", "duration", "gso"])]
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
    Replay(Replay),
}

/// A workload with its witnesses.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) plan: Plan,
    pub(crate) shape: Shape,
    pub(crate) sinks: Vec<(Protocol, SocketAddr)>,
    pub(crate) sink_ready_file: Option<PathBuf>,
    pub(crate) start_file: Option<PathBuf>,
    pub(crate) graphite: Option<String>,
    pub(crate) graphite_step: Duration,
    pub(crate) naming: Naming,
    pub(crate) is_shared: bool,
    pub(crate) patience: Patience,
    pub(crate) is_json: bool,
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
    /// Checks what options say together.
    ///
    /// # Errors
    /// One sentence on what is wrong.
    pub(crate) fn into_task(self) -> Result<Task, String> {
        let target = self
            .target
            .to_socket_addrs()
            .map_err(|error| format!("--target {:?}: {error}", self.target))?
            .next()
            .ok_or_else(|| format!("--target {:?} has no address", self.target))?;
        if let Some(file) = self.replay {
            let (port, rate) = (self.replay_port, self.rate.0);
            return Ok(Task::Replay(Replay { file, port, target, rate, is_json: self.json }));
        }
        let packing = self.packing.resolve(&self.key_prefix, self.gso)?;
        let has_twice = |protocol| 1 < self.sink.iter().filter(|sink| sink.0 == protocol).count();
        if has_twice(Protocol::Text) || has_twice(Protocol::Pickle) {
            return Err("--sink: give each protocol once".to_owned());
        }
        if self.sink_ready_file.is_some() && self.sink.is_empty() {
            return Err("--sink-ready-file needs --sink".to_owned());
        }
        let lines_max = match (self.lines, self.duration) {
            (Some(lines), _) => lines,
            (None, Some(_)) => u64::MAX,
            (None, None) => LINES_DEFAULT,
        };
        let (duration_max, rate) = (self.duration, self.rate.0);
        let quiet = match (self.interval, self.margin) {
            (Some(interval), Some(margin)) => Some(Quiet::new(interval, margin)?),
            _ => None,
        };
        let shape = Shape {
            seed: self.seed,
            names: self.names,
            mix: self.mix,
            sampled_percent: self.sampled,
            tagged_percent: self.tagged,
            bad_percent: self.bad,
            key_prefix: self.key_prefix,
            senders: self.senders,
        };
        // The last sender owns the fewest gauges.
        crate::workload::Workload::new(&shape, shape.senders - 1)
            .map_err(|error| error.to_string())?;
        Ok(Task::Load(Box::new(Load {
            plan: Plan { target, packing, lines_max, duration_max, rate, quiet },
            shape,
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
            patience: Patience { settle: self.settle, confirm: self.confirm },
            is_json: self.json,
        })))
    }
}

impl PackingChoice {
    fn resolve(self, key_prefix: &str, is_padded: bool) -> Result<Packing, String> {
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
        Ok(Packing { datagram_bytes_max, is_single, is_padded })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "give a number with ms, s or m".to_owned())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("give a number with ms, s or m".to_owned()),
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    match text.parse() {
        Ok(rate) if 0 < rate => Ok(Rate(Some(rate))),
        _ => Err("give a number above 0, or max".to_owned()),
    }
}

fn packing(text: &str) -> Result<PackingChoice, String> {
    match text {
        "single" => Ok(PackingChoice::Single),
        "packed" => Ok(PackingChoice::Packed(1_400)),
        _ => {
            let bytes = text.strip_prefix("packed=").and_then(|bytes| bytes.parse().ok());
            match bytes {
                Some(bytes) if bytes <= DATAGRAM_BYTES_MAX => Ok(PackingChoice::Packed(bytes)),
                _ => Err("give single, packed, or packed=BYTES with at most 65507".to_owned()),
            }
        }
    }
}

fn key_prefix(text: &str) -> Result<String, String> {
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let is_well_formed = !text.starts_with('.') && !text.ends_with('.') && !text.contains("..");
    if text.is_empty() || 200 < text.len() || !text.chars().all(is_plain) || !is_well_formed {
        return Err("give up to 200 of A-Z a-z 0-9 _ - and inner dots".to_owned());
    }
    Ok(text.to_owned())
}

fn sink(text: &str) -> Result<(Protocol, SocketAddr), String> {
    let (protocol, address) =
        text.split_once('=').ok_or("give text=ADDRESS:PORT or pickle=ADDRESS:PORT")?;
    let protocol = match protocol {
        "text" => Protocol::Text,
        "pickle" => Protocol::Pickle,
        _ => return Err(format!("{protocol:?} is neither text nor pickle")),
    };
    let address = address.parse().map_err(|_| format!("{address:?} is no ADDRESS:PORT"))?;
    Ok((protocol, address))
}

fn graphite(text: &str) -> Result<String, String> {
    if text.starts_with("http://") && "http://".len() < text.len() {
        return Ok(text.to_owned());
    }
    Err("give http://HOST:PORT".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(arguments: &[&str]) -> Result<Task, String> {
        let arguments = ["loadgen"].iter().chain(arguments);
        Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?.into_task()
    }

    fn load(arguments: &[&str]) -> Load {
        match task(arguments).unwrap() {
            Task::Load(load) => *load,
            Task::Replay(_) => panic!("a replay"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_options_a_modest_load_goes_to_the_usual_port() {
        let load = load(&[]);
        assert_eq!(load.plan.target, "127.0.0.1:8125".parse().unwrap());
        assert_eq!(load.plan.lines_max, 100_000);
        assert_eq!(load.plan.rate, Some(50_000));
        assert_eq!(load.plan.packing.datagram_bytes_max, 1_400);
        assert!(load.naming.is_legacy);
    }

    #[test]
    fn a_duration_alone_sets_no_limit_on_lines() {
        assert_eq!(load(&["--duration", "2s"]).plan.lines_max, u64::MAX);
        let both = load(&["--duration", "2s", "--lines", "5"]);
        assert_eq!(
            (both.plan.lines_max, both.plan.duration_max),
            (5, Some(Duration::from_secs(2)))
        );
    }

    #[test]
    fn values_are_read_in_all_their_forms() {
        assert_eq!(load(&["--rate", "max"]).plan.rate, None);
        assert!(load(&["--packing", "single"]).plan.packing.is_single);
        assert_eq!(load(&["--packing", "packed=8932"]).plan.packing.datagram_bytes_max, 8_932);
        assert!(load(&["--gso"]).plan.packing.is_padded);
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        let load = load(&["--sink", "text=127.0.0.1:0", "--sink", "pickle=[::1]:2104"]);
        assert_eq!(load.sinks[1], (Protocol::Pickle, "[::1]:2104".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            &["--rate", "0"][..],
            &["--margin", "1s"],
            &["--interval", "0s", "--margin", "0s"],
            &["--interval", "2s", "--margin", "1s"],
            &["--rate", "fast"],
            &["--packing", "packed=65508"],
            &["--packing", "packed=50"],
            &["--packing", "loose"],
            &["--names", "0"],
            &["--mix", "c=0"],
            &["--bad", "101"],
            &["--duration", "10"],
            &["--duration", "s"],
            &["--key-prefix", "a b"],
            &["--key-prefix", "a."],
            &["--sink", "text"],
            &["--sink", "xml=127.0.0.1:1"],
            &["--sink", "text=nowhere"],
            &["--sink", "text=127.0.0.1:0", "--sink", "text=127.0.0.1:0"],
            &["--sink-ready-file", "x"],
            &["--graphite", "ftp://x"],
            &["--target", "127.0.0.1"],
            &["--replay-port", "1"],
            &["--replay", "x", "--lines", "1"],
            &["--mix", "g=1", "--names", "1", "--senders", "2"],
            &["--unknown"],
            &["stray"],
        ] {
            assert!(task(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_replay_takes_target_rate_and_port() {
        let arguments = ["--replay", "a.pcap", "--replay-port", "8125", "--rate", "max"];
        let Ok(Task::Replay(replay)) = task(&arguments) else { panic!("no replay") };
        assert_eq!((replay.port, replay.rate), (Some(8_125), None));
    }
}
