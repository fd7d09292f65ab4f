//! The end of a run, as text for people and as JSON for programs.
//!
//! Built from the round of `fleet`, the figures of `process` and the statements of `settle`; writes to
//! whatever it is given.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::{Plan, Round};
use crate::ledger::{Comparison, Sent};
use crate::probe::Latency;
use crate::process::Figures;
use crate::replay::Replayed;
use crate::settle::{Statement, is_explained};
use crate::watch::Moment;
use crate::workload::Kind;

mod latency;
pub(crate) mod page;
mod plot;
pub(crate) mod rounds;

/// Differences shown in the text report.
const DIFFERENCES_SHOWN_MAX: usize = 10;

/// Threads shown in the text report: those that used most.
const THREADS_SHOWN_MAX: usize = 12;

/// What the kernel said about the daemon over a round.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    pub(crate) pid: u32,
    /// From just before the first datagram until the queues were empty.
    pub(crate) window: Duration,
    /// What came on top in the window.
    pub(crate) figures: Figures,
    /// Whether the queues were empty at its end.
    pub(crate) is_drained: bool,
}

/// Everything that is known at the end of a run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) plan: &'a Plan,
    pub(crate) round: &'a Round,
    pub(crate) sent: &'a Sent,
    /// Sends that met a closed port.
    pub(crate) refused: u64,
    pub(crate) usage: Option<&'a Usage>,
    pub(crate) moments: &'a [Moment],
    pub(crate) latency: Option<&'a Latency>,
    pub(crate) statements: &'a [Statement],
}

impl Report<'_> {
    fn verdict(&self) -> &'static str {
        if self.statements.is_empty() {
            "not checked"
        } else if is_explained(self.statements) {
            "explained"
        } else {
            "not explained"
        }
    }

    /// Writes the report for people.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let (round, unit) = (self.round, self.plan.target.unit());
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
        match round.offered {
            Some(offered) => writeln!(
                out,
                "pace       {offered} lines/s asked for; lag p50 {}, p99 {}, worst {}",
                show_ns(round.lag.value_at_quantile(0.5)),
                show_ns(round.lag.value_at_quantile(0.99)),
                show_ns(round.lag.max())
            )?,
            None => writeln!(out, "pace       as fast as the sender can")?,
        }
        if 0 < self.refused {
            writeln!(out, "refused    {} sends met a closed port", self.refused)?;
        }
        if let Some(usage) = self.usage {
            self.write_usage(out, usage)?;
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
        writeln!(out, "verdict    {}", self.verdict())
    }

    fn write_usage(&self, out: &mut impl Write, usage: &Usage) -> io::Result<()> {
        let figures = &usage.figures;
        let (lines, datagrams) = self.taken(usage);
        let window = usage.window.as_secs_f64();
        writeln!(
            out,
            "daemon     pid {}: {:.3} s of CPU in {window:.3} s, {:.0} MiB resident, {} datagrams dropped",
            usage.pid,
            Duration::from_nanos(figures.cpu_ns()).as_secs_f64(),
            float(figures.resident_bytes) / 1_048_576.0,
            figures.drops()
        )?;
        let mut threads: Vec<_> =
            figures.threads.iter().filter(|thread| 0 < thread.cpu_ns).collect();
        threads.sort_by_key(|thread| std::cmp::Reverse(thread.cpu_ns));
        for thread in threads.iter().take(THREADS_SHOWN_MAX) {
            writeln!(
                out,
                "  {:<16} {:>5.1} % of a core, {:>8.1} ns per line, {:>8.1} ns per {}",
                thread.name,
                100.0 * float(thread.cpu_ns) / 1e9 / window,
                per(thread.cpu_ns, lines),
                per(thread.cpu_ns, datagrams),
                self.plan.target.unit().trim_end_matches('s')
            )?;
        }
        for socket in figures.sockets.iter().filter(|socket| 0 < socket.drops) {
            let part = 100.0 * per(socket.drops, float(self.round.datagrams));
            writeln!(out, "  {} dropped {} ({part:.3} %)", socket.address, socket.drops)?;
        }
        if !usage.is_drained {
            writeln!(out, "  its queue was not empty {window:.3} s after the start")?;
        }
        Ok(())
    }

    /// Lines and datagrams that the daemon took: what was sent less what its sockets dropped. That a
    /// dropped datagram had as many lines as the mean is an assumption.
    fn taken(&self, usage: &Usage) -> (f64, f64) {
        let sent = float(self.round.datagrams);
        let taken = (sent - float(usage.figures.drops())).max(0.0);
        let lines = float(self.round.lines) * if 0.0 < sent { taken / sent } else { 0.0 };
        (lines, taken)
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
            "seed": self.seed,
            "target": self.plan.target.to_string(),
            "senders": self.plan.senders,
            "sockets": self.plan.senders * self.plan.sockets,
            "lines": round.lines,
            "bad_lines": self.sent.bad,
            "datagrams": round.datagrams,
            "bytes": round.bytes,
            "refused_sends": self.refused,
            "elapsed_s": round.elapsed.as_secs_f64(),
            "offered_lines_per_s": round.offered,
            "lines_per_s": round.per_second(round.lines),
            "datagrams_per_s": round.per_second(round.datagrams),
            "bytes_per_s": round.per_second(round.bytes),
            "lag_ms_p50": milliseconds(round.lag.value_at_quantile(0.5)),
            "lag_ms_p99": milliseconds(round.lag.value_at_quantile(0.99)),
            "lag_ms_max": milliseconds(round.lag.max()),
        });
        if let Some(usage) = self.usage {
            value["daemon"] = self.usage_json(usage);
        }
        if let Some(latency) = self.latency {
            value["latency"] = latency::to_json(latency);
        }
        value["witnesses"] = witnesses.into();
        value["moments"] = self.moments.iter().map(moment_json).collect();
        value
    }

    fn usage_json(&self, usage: &Usage) -> Value {
        let figures = &usage.figures;
        let (lines, datagrams) = self.taken(usage);
        let threads: Vec<Value> = figures
            .threads
            .iter()
            .map(|thread| {
                json!({
                    "tid": thread.id,
                    "name": thread.name,
                    "cpu_ns": thread.cpu_ns,
                    "cpu_ns_per_line": per(thread.cpu_ns, lines),
                    "cpu_ns_per_datagram": per(thread.cpu_ns, datagrams),
                    "voluntary_switches": thread.switches[0],
                    "involuntary_switches": thread.switches[1],
                })
            })
            .collect();
        let sockets: Vec<Value> = figures
            .sockets
            .iter()
            .map(|socket| {
                json!({
                    "address": socket.address.to_string(),
                    "inode": socket.inode,
                    "drops": socket.drops,
                    "queue_bytes": socket.queue_bytes,
                })
            })
            .collect();
        json!({
            "pid": usage.pid,
            "window_s": usage.window.as_secs_f64(),
            "drained": usage.is_drained,
            "cpu_ns": figures.cpu_ns(),
            "cpu_ns_per_line": per(figures.cpu_ns(), lines),
            "cpu_ns_per_datagram": per(figures.cpu_ns(), datagrams),
            "drops": figures.drops(),
            "resident_bytes": figures.resident_bytes,
            "threads": threads,
            "sockets": sockets,
        })
    }
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

fn write_comparison(
    out: &mut impl Write,
    witness: &str,
    comparison: &Comparison,
) -> io::Result<()> {
    writeln!(
        out,
        "{witness}: {} points, {} repeated, {} refused; lost {} lines, {} datagrams",
        comparison.points,
        comparison.repeats,
        comparison.refused,
        comparison.lines_lost,
        comparison.datagrams_lost
    )?;
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

/// Writes the report of a replay.
pub(crate) fn write_replayed(
    out: &mut impl Write,
    replayed: &Replayed,
    skipped: u64,
    is_json: bool,
) -> io::Result<()> {
    let Replayed { datagrams, bytes, elapsed, refused } = replayed;
    let seconds = elapsed.as_secs_f64();
    if is_json {
        let value = json!({
            "verdict": "not checked",
            "datagrams": datagrams,
            "bytes": bytes,
            "skipped_packets": skipped,
            "refused_sends": refused,
            "elapsed_s": seconds,
            "datagrams_per_s": if 0.0 < seconds { float(*datagrams) / seconds } else { 0.0 },
        });
        return writeln!(out, "{value}");
    }
    writeln!(out, "replayed   {datagrams} datagrams, {bytes} bytes, in {seconds:.3} s")?;
    if 0 < *refused {
        writeln!(out, "refused    {refused} sends met a closed port")?;
    }
    writeln!(out, "left out   {skipped} packets of other kinds or ports")
}

#[cfg(test)]
mod tests;
