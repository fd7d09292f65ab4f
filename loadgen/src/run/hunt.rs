//! A search that really sends: its rounds, and who judges their loss.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::ProgressBar;

use super::way::{FLUSH_TIME_MAX, Way};
use super::{DRAIN_TIME_MAX, Outcome, set_up, waiting, write_page};
use crate::cli::Load;
use crate::fleet::{Fleet, Round};
use crate::process::{Figures, Process};
use crate::refused::Refused;
use crate::report::origin::Origin;
use crate::report::{page, rounds::SearchReport};
use crate::search::{self, Cut, Found, Settings, Trial};
use crate::sender::Share;
use crate::sink::Sink;
use crate::stop::Stop;

/// Senders and judges of a search.
struct Range<'a> {
    fleet: Fleet,
    process: Option<Process>,
    sink: Option<&'a Sink>,
    /// Proven before the first round where there is a sink.
    way: Option<Way<'a>>,
    /// Of the proof.
    refused: Refused,
    progress: ProgressBar,
    stop: Stop,
}

/// Searches; good where a rate held.
pub(super) fn run_search(load: &Load, settings: Settings) -> Result<Outcome> {
    let sinks = set_up(load)?;
    let process = load.pid.map(|pid| Process::open(pid, &load.plan.target)).transpose()?;
    let mut range = Range {
        fleet: Fleet::prepare(&load.plan, &load.shape)?,
        process,
        sink: sinks.first(),
        way: None,
        refused: Refused::default(),
        progress: waiting(true),
        stop: Stop::on_signals()?,
    };
    let origin = Origin::of_search(load);
    let judges = range.judges()?;
    let found = match range.prove(load) {
        Ok(()) => search::find(settings, &mut |rate, time| range.attempt(rate, time))?,
        Err(cut) => Found::cut_at_once(cut),
    };
    range.progress.finish_and_clear();
    let interrupted = range.stop.signal().filter(|_| matches!(found.cut, Some(Cut::Interrupted)));
    let interval = range.way.as_ref().map(|way| way.interval);
    let mut refused = range.refused;
    refused.add(range.fleet.into_refused());
    let report = SearchReport {
        origin: &origin,
        target: load.plan.target.to_string(),
        judges,
        interval,
        settings,
        found: &found,
        refused,
        interrupted,
    };
    let mut out = io::stdout().lock();
    if load.is_json {
        writeln!(out, "{:#}", report.to_json()).context("cannot write the report")?;
    } else {
        report.write_text(&mut out).context("cannot write the report")?;
    }
    write_page(load, || page::of_search(&report))?;
    Ok(report.outcome(&load.plan.target))
}

impl Range<'_> {
    /// Who says what was lost.
    fn judges(&self) -> Result<&'static str> {
        let Some(process) = &self.process else { return Ok("the sink") };
        let why_unknown = process.why_unknown(&process.figures()?);
        match (why_unknown, self.sink) {
            (None, None) => Ok("kernel drops"),
            (None, Some(_)) => Ok("kernel drops and the sink"),
            (Some(_), Some(_)) => Ok("the sink"),
            (Some(why), None) => bail!("what --pid drops is not known, {why}: judge by --sink"),
        }
    }

    /// Makes sure that what is sent can come to the sink.
    fn prove(&mut self, load: &Load) -> Result<(), Cut> {
        let Some(sink) = self.sink else { return Ok(()) };
        self.progress.set_message("two flushes of the daemon, to prove the way to the sink");
        let proof = Way::prove(sink, load, FLUSH_TIME_MAX, &mut self.refused, &self.stop);
        self.way = Some(proof?);
        Ok(())
    }

    fn attempt(&mut self, rate: u64, time: Duration) -> Result<Trial, Cut> {
        self.progress.set_message(format!("{rate} lines/s"));
        let received = self.way.as_ref().map_or(0.0, Way::received);
        let before = self.process.as_ref().map(Process::figures).transpose()?;
        let share = Share { lines_max: u64::MAX, duration_max: Some(time), rate: Some(rate) };
        let round = self.fleet.run(share, &self.stop, &mut |_| {});
        if let Some(failure) = round.failures.first() {
            return Err(Cut::Failed(anyhow!("{failure}")));
        }
        let mut lost_percent = self.lost_percent(received, &round)?;
        let mut cpu_ns_per_line = None;
        if let (Some(process), Some(before)) = (&self.process, before) {
            process.drain(DRAIN_TIME_MAX)?;
            let used = process.figures()?.since(&before);
            match used.drops() {
                Some(drops) => {
                    lost_percent = lost_percent.max(search::percent(drops, round.datagrams));
                }
                None if self.sink.is_some() => {}
                None => return Err(Cut::Failed(anyhow!("the sockets of --pid changed"))),
            }
            cpu_ns_per_line = Some(cpu_per_line(&used, &round));
        }
        // A round that was cut says nothing.
        if self.stop.is_asked() {
            return Err(Cut::Interrupted);
        }
        Ok(Trial {
            rate,
            achieved: round.per_second(round.lines),
            lost_percent,
            lag_ns_max: round.lag.max(),
            cpu_ns_per_line,
        })
    }

    /// Percent of the lines of `round` that do not come to the sink on top of `before`.
    #[expect(clippy::cast_precision_loss, reason = "shown rounded")]
    fn lost_percent(&self, before: f64, round: &Round) -> Result<f64, Cut> {
        let Some(way) = self.way.as_ref().filter(|_| 0 < round.lines) else { return Ok(0.0) };
        Ok(100.0 * way.missing(before, round.lines, &self.stop)? / round.lines as f64)
    }
}

/// CPU time of all threads for each line that the sockets are not known to have dropped.
#[expect(clippy::cast_precision_loss, reason = "shown rounded")]
fn cpu_per_line(used: &Figures, round: &Round) -> f64 {
    let dropped = search::percent(used.drops().unwrap_or(0), round.datagrams) / 100.0;
    let lines = round.lines as f64 * (1.0 - dropped);
    if 0.0 < lines { used.cpu_ns() as f64 / lines } else { 0.0 }
}
