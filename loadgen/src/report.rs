//! The end of a run, as text for people and as JSON for programs.
//!
//! Built from the round of `fleet`, the figures of `process` and the statements of `settle`; writes to
//! whatever it is given.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::fleet::{Plan, Round};
use crate::ledger::{Comparison, Sent};
use crate::probe::Latency;
use crate::refused::Refused;
use crate::run::Outcome;
use crate::settle::{Statement, is_explained};
use crate::stop::Signal;
use crate::target::Target;
use crate::watch::Moment;
use crate::workload::Kind;

use origin::Origin;
use usage::Usage;

mod latency;
pub(crate) mod origin;
mod pace;
pub(crate) mod page;
mod plot;
pub(crate) mod replayed;
pub(crate) mod rounds;
pub(crate) mod usage;

/// Differences shown in the text report.
const DIFFERENCES_SHOWN_MAX: usize = 10;

/// Everything that is known at the end of a run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) seed: u64,
    pub(crate) plan: &'a Plan,
    pub(crate) round: &'a Round,
    pub(crate) sent: &'a Sent,
    pub(crate) refused: Refused,
    /// The error is one sentence.
    pub(crate) usage: Option<&'a Result<Usage, String>>,
    pub(crate) moments: &'a [Moment],
    pub(crate) latency: Option<&'a Latency>,
    pub(crate) statements: &'a [Statement],
    pub(crate) interrupted: Option<Signal>,
}

impl Report<'_> {
    fn verdict(&self) -> &'static str {
        if self.interrupted.is_some() {
            "interrupted"
        } else if self.statements.is_empty() {
            "not checked"
        } else if is_explained(self.statements) {
            "explained"
        } else {
            "not explained"
        }
    }

    /// How the run ended.
    pub(crate) fn outcome(&self) -> Outcome {
        if let Some(signal) = self.interrupted {
            return Outcome::Interrupted(signal);
        }
        if let Some(failure) = self.round.failures.first() {
            return Outcome::Failed(failure.clone());
        }
        if let Some(Err(gone)) = self.usage {
            return Outcome::Failed(gone.clone());
        }
        match outcome_of_refused(self.refused, &self.plan.target) {
            Some(outcome) => outcome,
            None if is_explained(self.statements) => Outcome::Good,
            None => Outcome::Unexplained,
        }
    }

    /// Writes the report for people.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let (round, unit) = (self.round, self.plan.target.unit());
        write_interrupted(out, self.interrupted)?;
        writeln!(
            out,
            "sent       {} lines ({} bad) in {} {unit}, {} bytes, in {:.3} s, seed {}",
            round.lines,
            self.sent.bad,
            round.datagrams,
            round.bytes,
            round.elapsed.as_secs_f64(),
            self.seed
        )?;
        writeln!(
            out,
            "rate       {:.0} lines/s, {:.0} {unit}/s, {:.0} bytes/s",
            round.per_second(round.lines),
            round.per_second(round.datagrams),
            round.per_second(round.bytes)
        )?;
        pace::write_text(out, round, &self.plan.target)?;
        for failure in &round.failures {
            writeln!(out, "failed     {failure}")?;
        }
        if 0 < self.refused.total() {
            writeln!(out, "refused    {} sends: {}", self.refused.total(), self.refused)?;
        }
        match self.usage {
            Some(Ok(usage)) => usage.write_text(out, round, unit.trim_end_matches('s'))?,
            Some(Err(gone)) => writeln!(out, "daemon     not known: {gone}")?,
            None => {}
        }
        if let Some(latency) = self.latency {
            latency::write_text(out, latency)?;
        }
        for (witness, comparison) in self.statements {
            match comparison {
                Ok(comparison) => write_comparison(out, witness, comparison)?,
                Err(error) => writeln!(out, "{witness}: {error}")?,
            }
        }
        write!(out, "verdict    {}", self.verdict())?;
        if self.interrupted.is_some() && !self.statements.is_empty() {
            write!(out, ": what is missing above may still be on its way")?;
        }
        writeln!(out)
    }

    /// The report for programs.
    pub(crate) fn to_json(&self) -> Value {
        let round = self.round;
        let witnesses: Vec<Value> = self
            .statements
            .iter()
            .map(|(witness, comparison)| match comparison {
                Ok(comparison) => comparison_json(witness, comparison),
                Err(error) => json!({"witness": witness, "explained": false, "error": error}),
            })
            .collect();
        let mut value = json!({
            "verdict": self.verdict(),
            "interrupted_by": interrupted_json(self.interrupted),
            "failures": round.failures,
            "seed": self.seed,
            "target": self.plan.target.to_string(),
            "senders": self.plan.senders,
            "sockets": self.plan.senders * self.plan.sockets,
            "lines": round.lines,
            "bad_lines": self.sent.bad,
            "datagrams": round.datagrams,
            "bytes": round.bytes,
            "refused_sends": self.refused.total(),
            "refused_by_cause": self.refused.to_json(),
            "elapsed_s": round.elapsed.as_secs_f64(),
            "lines_per_s": round.per_second(round.lines),
            "datagrams_per_s": round.per_second(round.datagrams),
            "bytes_per_s": round.per_second(round.bytes),
        });
        self.origin.add_json(&mut value);
        pace::add_json(&mut value, round);
        match self.usage {
            Some(Ok(usage)) => value["daemon"] = usage.to_json(round),
            Some(Err(gone)) => value["daemon"] = json!({"not_known": gone}),
            None => {}
        }
        if let Some(latency) = self.latency {
            value["latency"] = latency::to_json(latency);
        }
        value["witnesses"] = witnesses.into();
        value["moments"] = self.moments.iter().map(moment_json).collect();
        value
    }
}

fn write_interrupted(out: &mut impl Write, interrupted: Option<Signal>) -> io::Result<()> {
    let Some(signal) = interrupted else { return Ok(()) };
    writeln!(out, "interrupted by {}: this is what was done until then", signal.name())
}

fn interrupted_json(interrupted: Option<Signal>) -> Option<&'static str> {
    interrupted.map(Signal::name)
}

/// Refused sends are lost datagrams, whatever a witness says.
fn outcome_of_refused(refused: Refused, target: &Target) -> Option<Outcome> {
    (0 < refused.total()).then(|| Outcome::Failed(refusal(refused, target)))
}

pub(crate) fn refusal(refused: Refused, target: &Target) -> String {
    format!("{} sends to {target} were refused: {refused}", refused.total())
}

fn moment_json(moment: &Moment) -> Value {
    let mut value = json!({
        "at_s": moment.at.as_secs_f64(),
        "lines": moment.lines,
        "lag_ms": moment.lag.as_secs_f64() * 1e3,
    });
    if let Some(figures) = &moment.figures {
        value["cpu_ns"] = figures.cpu_ns().into();
        value["drops"] = figures.drops().into();
        value["queue_bytes"] = figures.queue_bytes().into();
    }
    value
}

#[expect(clippy::cast_precision_loss, reason = "shown rounded")]
fn float(count: u64) -> f64 {
    count as f64
}

/// `amount` for each of `count`; 0 where there is none.
fn per(amount: u64, count: f64) -> f64 {
    if 0.0 < count { float(amount) / count } else { 0.0 }
}

fn milliseconds(ns: u64) -> f64 {
    float(ns) / 1e6
}

/// A time with a unit in which it has few digits.
pub(crate) fn show_ns(ns: u64) -> String {
    let value = float(ns);
    if value < 1e3 {
        format!("{ns} ns")
    } else if value < 1e6 {
        format!("{:.1} µs", value / 1e3)
    } else if value < 1e9 {
        format!("{:.2} ms", value / 1e6)
    } else {
        format!("{:.2} s", value / 1e9)
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counters",
        Kind::Timer => "timers",
        Kind::Gauge => "gauges",
        Kind::Set => "sets",
    }
}

/// Sent minus received.
fn balance(lost: i64, what: &str) -> String {
    let count = lost.unsigned_abs();
    if lost < 0 { format!("{count} {what} too many") } else { format!("{count} {what} lost") }
}

fn write_comparison(
    out: &mut impl Write,
    witness: &str,
    comparison: &Comparison,
) -> io::Result<()> {
    let Comparison { points, repeats, refused, .. } = comparison;
    let lines = balance(comparison.lines_lost, "lines");
    let datagrams = comparison.datagrams_lost.map(|lost| balance(lost, "datagrams"));
    write!(out, "{witness}: {points} points, {repeats} repeated, {refused} refused; {lines}")?;
    writeln!(out, "{}", datagrams.map_or(String::new(), |datagrams| format!(", {datagrams}")))?;
    for (kind, tally) in Kind::ALL.into_iter().zip(comparison.tallies) {
        if 0 < tally.names {
            let kind = plural(kind);
            writeln!(out, "  {kind:<9}{} of {} explained", tally.explained, tally.names)?;
        }
    }
    if comparison.is_explained() {
        return Ok(());
    }
    let shown = &comparison.differences[..comparison.differences.len().min(DIFFERENCES_SHOWN_MAX)];
    let width = shown.iter().map(|one| one.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "  {:<width$}  {:>16}  {:>16}", "name", "sent", "received")?;
    for one in shown {
        writeln!(out, "  {:<width$}  {:>16}  {:>16}", one.name, one.sent, one.received)?;
    }
    writeln!(out, "  {} of {} differences shown", shown.len(), comparison.difference_count)
}

fn comparison_json(witness: &str, comparison: &Comparison) -> Value {
    let differences: Vec<Value> = comparison
        .differences
        .iter()
        .map(|one| json!({"name": one.name, "sent": one.sent, "received": one.received}))
        .collect();
    let mut value = json!({
        "witness": witness,
        "explained": comparison.is_explained(),
        "points": comparison.points,
        "repeated_points": comparison.repeats,
        "refused": comparison.refused,
        "lines_lost": comparison.lines_lost,
        "datagrams_lost": comparison.datagrams_lost,
        "difference_count": comparison.difference_count,
        "differences": differences,
    });
    for (kind, tally) in Kind::ALL.into_iter().zip(comparison.tallies) {
        value[plural(kind)] = json!({"names": tally.names, "explained": tally.explained});
    }
    value
}

#[cfg(test)]
mod tests;
