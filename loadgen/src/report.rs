//! The end of a run, as text for people and as JSON for programs.
//!
//! Built from the outcome of `sender` and the statements of `settle`; writes to whatever it is given.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::ledger::Comparison;
use crate::sender::{Outcome, Replayed};
use crate::settle::{Statement, is_explained};
use crate::workload::Kind;

/// Differences shown in the text report.
const DIFFERENCES_SHOWN_MAX: usize = 10;

/// Everything that is known at the end of a run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) seed: u64,
    pub(crate) outcome: &'a Outcome,
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

    fn per_second(&self, count: u64) -> f64 {
        per_second(count, self.outcome.elapsed.as_secs_f64())
    }

    /// Writes the report for people.
    pub(crate) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let sent = &self.outcome.sent;
        let seconds = self.outcome.elapsed.as_secs_f64();
        writeln!(
            out,
            "sent       {} lines ({} bad) in {} datagrams, {} bytes, in {seconds:.3} s, seed {}",
            sent.lines, sent.bad, sent.datagrams, sent.bytes, self.seed
        )?;
        writeln!(
            out,
            "rate       {:.0} lines/s, {:.0} datagrams/s, {:.0} bytes/s",
            self.per_second(sent.lines),
            self.per_second(sent.datagrams),
            self.per_second(sent.bytes)
        )?;
        if 0 < self.outcome.refused {
            writeln!(out, "refused    {} sends met a closed port", self.outcome.refused)?;
        }
        for (witness, comparison) in self.statements {
            match comparison {
                Ok(comparison) => write_comparison(out, witness, comparison)?,
                Err(error) => writeln!(out, "{witness}: {error}")?,
            }
        }
        writeln!(out, "verdict    {}", self.verdict())
    }

    /// The report for programs.
    pub(crate) fn to_json(&self) -> Value {
        let sent = &self.outcome.sent;
        let witnesses: Vec<Value> = self
            .statements
            .iter()
            .map(|(witness, comparison)| match comparison {
                Ok(comparison) => comparison_json(witness, comparison),
                Err(error) => json!({"witness": witness, "explained": false, "error": error}),
            })
            .collect();
        json!({
            "verdict": self.verdict(),
            "seed": self.seed,
            "lines": sent.lines,
            "bad_lines": sent.bad,
            "datagrams": sent.datagrams,
            "bytes": sent.bytes,
            "refused_sends": self.outcome.refused,
            "elapsed_s": self.outcome.elapsed.as_secs_f64(),
            "lines_per_s": self.per_second(sent.lines),
            "datagrams_per_s": self.per_second(sent.datagrams),
            "bytes_per_s": self.per_second(sent.bytes),
            "witnesses": witnesses,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown rounded")]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds <= 0.0 { 0.0 } else { count as f64 / seconds }
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
            "datagrams_per_s": per_second(*datagrams, seconds),
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
mod tests {
    use super::*;
    use crate::ledger::{Difference, Sent, Tally};
    use crate::workload::{Keys, tests::shape};
    use std::time::Duration;

    fn outcome() -> Outcome {
        let mut sent = Sent::new(&Keys::new(&shape()));
        (sent.lines, sent.bad, sent.datagrams, sent.bytes) = (1_000, 10, 100, 20_000);
        Outcome { sent, elapsed: Duration::from_secs(2), refused: 0 }
    }

    fn short(count: usize) -> Comparison {
        let difference = |number: usize| Difference {
            name: format!("stats_counts.n{number}"),
            sent: "25".to_owned(),
            received: "24".to_owned(),
        };
        Comparison {
            tallies: [Tally { names: 20, explained: 20 - count as u64 }; 4],
            differences: (0..count).map(difference).collect(),
            difference_count: count as u64,
            lines_lost: 3,
            ..Comparison::default()
        }
    }

    fn text(statements: &[Statement]) -> String {
        let outcome = outcome();
        let mut out = Vec::new();
        Report { seed: 42, outcome: &outcome, statements }.write_text(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_text_tells_rates_and_verdict() {
        let text = text(&[("text sink".to_owned(), Ok(short(0)))]);
        assert!(text.contains("1000 lines (10 bad) in 100 datagrams, 20000 bytes"), "{text}");
        assert!(text.contains("500 lines/s, 50 datagrams/s, 10000 bytes/s"), "{text}");
        assert!(text.contains("counters 20 of 20 explained"), "{text}");
        assert!(text.ends_with("verdict    explained\n"), "{text}");
    }

    #[test]
    fn the_text_shows_the_first_differences_and_their_number() {
        let text = text(&[("text sink".to_owned(), Ok(short(12)))]);
        assert!(text.contains("stats_counts.n0                "), "{text}");
        assert!(text.contains("stats_counts.n9"), "{text}");
        assert!(!text.contains("stats_counts.n10"), "{text}");
        assert!(text.contains("10 of 12 differences shown"), "{text}");
        assert!(text.contains("lost 3 lines"), "{text}");
        assert!(text.ends_with("verdict    not explained\n"), "{text}");
    }

    #[test]
    fn a_run_without_a_witness_is_not_checked() {
        assert!(text(&[]).ends_with("verdict    not checked\n"));
    }

    #[test]
    fn the_json_has_every_witness() {
        let outcome = outcome();
        let statements = [
            ("text sink".to_owned(), Ok(short(1))),
            ("graphite".to_owned(), Err("does not answer".to_owned())),
        ];
        let json = Report { seed: 42, outcome: &outcome, statements: &statements }.to_json();
        assert_eq!(json["verdict"], "not explained");
        assert_eq!(json["lines_per_s"], 500.0);
        assert_eq!(json["witnesses"][0]["counters"]["explained"], 19);
        assert_eq!(json["witnesses"][0]["differences"][0]["received"], "24");
        assert_eq!(json["witnesses"][1]["error"], "does not answer");
    }
}
