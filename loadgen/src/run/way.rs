//! The way of a search's lines: to the target, through the daemon, to the sink.
//!
//! Used by `hunt` where a sink judges. Before the first round the way is proven: a gauge with a number of
//! its own goes out again and again until the sink has it, and goes on until the daemon's counter came
//! with two flushes, whose timestamps tell the interval. After a round its lines are waited for: what is
//! under way comes with the next flush, so the round is over once they are all there, or once none came
//! for an interval and `--settle` on top. Only then the next one begins, so that what it counts is its own.

use std::time::Duration;

use anyhow::anyhow;

use crate::cli::Load;
use crate::clock::{self, Stopwatch};
use crate::received::Received;
use crate::refused::Refused;
use crate::report::refusal;
use crate::search::Cut;
use crate::sink::Sink;
use crate::socket::Socket;
use crate::stop::Stop;
use crate::workload::Kind;

/// Between two looks at the sink.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Between two lines of the proof.
const PROVE_EVERY: Duration = Duration::from_millis(200);

/// Longest wait for a flush of the proof, less `--settle`: daemons flush once a minute or more often.
pub(super) const FLUSH_TIME_MAX: Duration = Duration::from_secs(65);

/// Shortest wait beyond an interval, which is known in whole seconds, and whose flush takes a moment.
const SETTLE_MIN: Duration = Duration::from_secs(1);

/// After as many times an interval and `--settle` lines may not still be coming.
const WAITS_MAX: u32 = 5;

/// A way that is proven.
#[derive(Debug)]
pub(super) struct Way<'a> {
    sink: &'a Sink,
    names: Names,
    /// Timestamp of the first flush of this search; what the daemon kept from before is older.
    since: i64,
    /// Between two flushes, in whole seconds as the timestamps are.
    pub(super) interval: Duration,
    settle: Duration,
}

/// The points that matter, as Graphite names them.
#[derive(Debug, Clone)]
struct Names {
    /// The daemon's own counter of lines.
    counter: String,
    /// What the proof sends.
    gauge: String,
}

/// How far the proof is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The gauge has not come.
    Sent,
    /// It came with the flush of this timestamp; the counter did not come twice since.
    Through(i64),
    Proven {
        since: i64,
        interval_s: u64,
    },
}

impl<'a> Way<'a> {
    /// Proves the way from the target of `load` to `sink`; `refused` takes the sends that were refused. A
    /// flush may take `flush_time_max` and `--settle`.
    ///
    /// # Errors
    /// [`Cut::Failed`] says how far it came.
    pub(super) fn prove(
        sink: &'a Sink,
        load: &Load,
        flush_time_max: Duration,
        refused: &mut Refused,
        stop: &Stop,
    ) -> Result<Way<'a>, Cut> {
        let (target, settle) = (&load.plan.target, load.patience.settle);
        let key = format!("{}.search", load.shape.key_prefix);
        let names = Names {
            counter: load.naming.own_counter("metrics_received"),
            gauge: load.naming.name(Kind::Gauge, &key, "", None),
        };
        let number = clock::unix_seconds();
        let feed = if target.is_stream() { "\n" } else { "" };
        let line = format!("{key}:{number}|g{feed}");
        let mut socket = Socket::connect(target, None)?;
        let stopwatch = Stopwatch::start();
        let (mut lines, mut last, mut progress_at) = (0, Stage::Sent, Duration::ZERO);
        let (since, interval_s) = loop {
            let taken = socket.send_one(line.as_bytes(), stop);
            if let Some(failure) = taken.failure {
                return Err(Cut::Failed(failure.context(format!("cannot send to {target}"))));
            }
            lines += 1;
            *refused = socket.refused();
            if 0 < refused.total() {
                return Err(Cut::Failed(anyhow!("{}", refusal(*refused, target))));
            }
            if stop.is_asked() {
                return Err(Cut::Interrupted);
            }
            let stage = names.stage(number, &sink.received());
            if let Stage::Proven { since, interval_s } = stage {
                break (since, interval_s);
            }
            if stage != last {
                (last, progress_at) = (stage, stopwatch.elapsed());
            }
            let waited = stopwatch.elapsed().saturating_sub(progress_at);
            if flush_time_max + settle <= waited {
                let (sink_words, seconds) = (sink_words(sink), waited.as_secs());
                let why = names.why_not(stage, &sink.received());
                return Err(Cut::Failed(anyhow!(
                    "cannot judge by {sink_words}: within {seconds} s of lines to {target}, {why}"
                )));
            }
            clock::pause(PROVE_EVERY);
        };
        let way = Way { sink, names, since, interval: Duration::from_secs(interval_s), settle };
        way.missing(0.0, lines, stop)?;
        Ok(way)
    }

    /// Without a line for this long, none comes any more.
    fn patience(&self) -> Duration {
        self.interval + self.settle.max(SETTLE_MIN)
    }

    /// Lines that the daemon says it received, by what came to the sink.
    pub(super) fn received(&self) -> f64 {
        let received = self.sink.received();
        let points = received.points(&self.names.counter).iter();
        points.filter(|point| self.since <= point.timestamp).map(|point| point.value).sum()
    }

    /// Waits until `lines` lines came on top of `before`, or no more of them come; gives how many did not.
    ///
    /// # Errors
    /// Where lines go on coming, so that the next round would begin among them.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(super) fn missing(&self, before: f64, lines: u64, stop: &Stop) -> Result<f64, Cut> {
        let mut tide = Tide::new(lines as f64, self.patience());
        let stopwatch = Stopwatch::start();
        loop {
            match tide.look(stopwatch.elapsed(), self.received() - before) {
                Standing::Over { missing } => return Ok(missing),
                Standing::Coming if stop.is_asked() => return Err(Cut::Interrupted),
                Standing::Coming => clock::pause(LOOK_EVERY),
                Standing::Endless => {
                    return Err(Cut::Failed(anyhow!(
                        "lines of a round still come to {} {} s after it, so the next one cannot be told \
                         from it: give a lower --to, or a longer --settle",
                        sink_words(self.sink),
                        stopwatch.elapsed().as_secs()
                    )));
                }
            }
        }
    }
}

fn sink_words(sink: &Sink) -> String {
    format!("the {} sink {}", sink.protocol().name(), sink.address())
}

impl Names {
    fn stage(&self, number: i64, received: &Received) -> Stage {
        #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
        let number = number as f64;
        let mut gauges = received.points(&self.gauge).iter();
        let Some(first) = gauges.find(|point| point.value.to_bits() == number.to_bits()) else {
            return Stage::Sent;
        };
        let since = first.timestamp;
        let mut flushes = received.points(&self.counter).iter().filter(|point| {
            // A flush without lines of ours is before or behind them.
            since <= point.timestamp && 0.0 < point.value
        });
        match (flushes.next(), flushes.next()) {
            (Some(one), Some(other)) => {
                Stage::Proven { since, interval_s: one.timestamp.abs_diff(other.timestamp) }
            }
            _ => Stage::Through(since),
        }
    }

    /// What is known where the proof goes no further.
    fn why_not(&self, stage: Stage, received: &Received) -> String {
        let Names { counter, gauge } = self;
        let has_counter = !received.points(counter).is_empty();
        match stage {
            Stage::Sent if received.connections == 0 => {
                "nobody connected to it: is it a backend of the daemon?".to_owned()
            }
            Stage::Sent if received.points == 0 => {
                "somebody connected to it, but no point came".to_owned()
            }
            Stage::Sent if has_counter => format!(
                "points came, but not what was sent ({gauge}): is it the same daemon that listens there?"
            ),
            Stage::Sent => format!(
                "points came, but neither {gauge} nor {counter}: are --namespace, --prefix-stats, \
                 --global-prefix and --global-suffix those of the daemon?"
            ),
            _ if has_counter => format!(
                "{counter} did not come with two flushes: give a longer --settle where they are that seldom"
            ),
            _ => format!(
                "{gauge} came, but {counter} did not: is --prefix-stats that of the daemon?"
            ),
        }
    }
}

/// The lines of one round coming in.
#[derive(Debug)]
struct Tide {
    lines: f64,
    /// Without a line for this long, no more come.
    patience: Duration,
    came: f64,
    grown_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Standing {
    Coming,
    Over { missing: f64 },
    Endless,
}

impl Tide {
    fn new(lines: f64, patience: Duration) -> Tide {
        Tide { lines, patience, came: 0.0, grown_at: Duration::ZERO }
    }

    /// How it stands `elapsed` after the last line left, where `came` lines are there.
    fn look(&mut self, elapsed: Duration, came: f64) -> Standing {
        if self.came < came {
            (self.came, self.grown_at) = (came, elapsed);
        }
        let missing = (self.lines - self.came).max(0.0);
        if missing == 0.0 || self.grown_at + self.patience <= elapsed {
            Standing::Over { missing }
        } else if self.patience * WAITS_MAX <= elapsed {
            Standing::Endless
        } else {
            Standing::Coming
        }
    }
}

#[cfg(test)]
mod tests;
