//! A search that really sends: its rounds, and who judges their loss.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use indicatif::ProgressBar;

use super::{DRAIN_TIME_MAX, set_up, waiting, write_page};
use crate::cli::Load;
use crate::clock::{self, Stopwatch};
use crate::fleet::{Fleet, Round};
use crate::process::{Figures, Process};
use crate::report::{page, rounds::SearchReport};
use crate::search::{self, Settings, Trial};
use crate::sender::Share;
use crate::sink::Sink;
use crate::target::Target;

/// Between two looks at the sink.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Senders and judges of a search.
struct Range<'a> {
    fleet: Fleet,
    process: Option<Process>,
    sink: Option<&'a Sink>,
    /// The daemon's own counter of lines, as Graphite names it.
    counter: String,
    /// Longest wait for the lines of a round to come to the sink.
    settle: Duration,
    progress: ProgressBar,
}

/// Searches; true where a rate held.
pub(super) fn run_search(load: &Load, settings: Settings) -> Result<bool> {
    let sinks = set_up(load)?;
    let process = load.pid.map(|pid| judge_of(pid, &load.plan.target)).transpose()?;
    let mut range = Range {
        fleet: Fleet::prepare(&load.plan, &load.shape)?,
        process,
        sink: sinks.first(),
        counter: load.naming.own_counter("metrics_received"),
        settle: load.patience.settle,
        progress: waiting(true),
    };
    let found = search::find(settings, &mut |rate, time| range.attempt(rate, time))?;
    range.progress.finish_and_clear();
    let judges = match (&range.process, range.sink) {
        (Some(_), Some(_)) => "kernel drops and the sink",
        (Some(_), None) => "kernel drops",
        _ => "the sink",
    };
    let report =
        SearchReport { target: load.plan.target.to_string(), judges, settings, found: &found };
    let mut out = io::stdout().lock();
    if load.is_json {
        writeln!(out, "{:#}", report.to_json()).context("cannot write the report")?;
    } else {
        report.write_text(&mut out).context("cannot write the report")?;
    }
    write_page(load, || page::of_search(&report))?;
    Ok(found.rate.is_some())
}

/// The process whose sockets say what was lost.
///
/// # Errors
/// Where none of them is at the port of `target`: another process loses nothing at any rate.
fn judge_of(pid: u32, target: &Target) -> Result<Process> {
    let process = Process::open(pid)?;
    if let Target::Udp(address) = target {
        let port = address.port();
        let is_receiver = process.sockets()?.iter().any(|socket| socket.address.port() == port);
        ensure!(
            is_receiver,
            "process {pid} (--pid) has no UDP socket at port {port}: give the pid of the daemon there"
        );
    }
    Ok(process)
}

impl Range<'_> {
    fn attempt(&mut self, rate: u64, time: Duration) -> Result<Trial> {
        self.progress.set_message(format!("{rate} lines/s"));
        let received = self.received();
        let before = self.process.as_ref().map(Process::figures).transpose()?;
        let share = Share { lines_max: u64::MAX, duration_max: Some(time), rate: Some(rate) };
        let round = self.fleet.run(share, &mut |_| {})?;
        let mut lost_percent = self.wait_for(received, &round);
        let mut cpu_ns_per_line = None;
        if let (Some(process), Some(before)) = (&self.process, before) {
            process.drain(DRAIN_TIME_MAX)?;
            let used = process.figures()?.since(&before);
            lost_percent = lost_percent.max(search::percent(used.drops(), round.datagrams));
            cpu_ns_per_line = Some(cpu_per_line(&used, &round));
        }
        Ok(Trial {
            rate,
            achieved: round.per_second(round.lines),
            lost_percent,
            lag_ns_max: round.lag.max(),
            cpu_ns_per_line,
        })
    }

    /// Lines that the daemon says it received, by what came to the sink.
    fn received(&self) -> f64 {
        self.sink.map_or(0.0, |sink| {
            let received = sink.received();
            received.points(&self.counter).iter().fold(0.0, |sum, point| sum + point.value)
        })
    }

    /// Waits until the lines of `round` came on top of `before`; gives the percent that did not.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn wait_for(&self, before: f64, round: &Round) -> f64 {
        if self.sink.is_none() {
            return 0.0;
        }
        let lines = round.lines as f64;
        let stopwatch = Stopwatch::start();
        loop {
            let missing = (lines - (self.received() - before)).max(0.0);
            if missing == 0.0 || self.settle <= stopwatch.elapsed() {
                return if lines == 0.0 { 0.0 } else { 100.0 * missing / lines };
            }
            clock::pause(LOOK_EVERY);
        }
    }
}

/// CPU time of all threads for each line that the sockets did not drop.
#[expect(clippy::cast_precision_loss, reason = "shown rounded")]
fn cpu_per_line(used: &Figures, round: &Round) -> f64 {
    let dropped = search::percent(used.drops(), round.datagrams) / 100.0;
    let lines = round.lines as f64 * (1.0 - dropped);
    if 0.0 < lines { used.cpu_ns() as f64 / lines } else { 0.0 }
}
