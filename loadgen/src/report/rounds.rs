//! The report of a search: its rounds, and what came out.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::origin::Origin;
use super::{interrupted_json, outcome_of_refused, show_ns, write_interrupted};
use crate::refused::Refused;
use crate::run::Outcome;
use crate::search::{Cut, Found, Settings, Verdict};
use crate::stop::Signal;
use crate::target::Target;

/// Everything that is known at the end of a search.
#[derive(Debug)]
pub(crate) struct SearchReport<'a> {
    pub(crate) origin: &'a Origin,
    pub(crate) target: String,
    /// How loss was judged.
    pub(crate) judges: &'a str,
    /// Between two flushes of the daemon, where a sink saw them.
    pub(crate) interval: Option<Duration>,
    pub(crate) settings: Settings,
    pub(crate) found: &'a Found,
    pub(crate) refused: Refused,
    /// Where the user cut it.
    pub(crate) interrupted: Option<Signal>,
}

impl SearchReport<'_> {
    /// How the search ended.
    pub(crate) fn outcome(&self, target: &Target) -> Outcome {
        match (self.interrupted, &self.found.cut) {
            (Some(signal), _) => Outcome::Interrupted(signal),
            (None, Some(Cut::Failed(error))) => Outcome::Failed(format!("{error:#}")),
            _ => outcome_of_refused(self.refused, target).unwrap_or(match self.found.rate {
                Some(_) => Outcome::Good,
                None => Outcome::Unexplained,
            }),
        }
    }

    pub(crate) fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        write_interrupted(out, self.interrupted)?;
        write!(out, "search     {}, loss judged by {}", self.target, self.judges)?;
        if let Some(interval) = self.interval {
            write!(out, ", which gets a flush every {} s", interval.as_secs())?;
        }
        writeln!(out)?;
        let heads = ["asked for/s", "sent/s", "lost", "worst lag", "CPU per line"];
        let [asked, sent, lost, lag, cpu] = heads;
        writeln!(out, "  {asked:>12}  {sent:>12}  {lost:>9}  {lag:>10}  {cpu:>12}")?;
        for trial in &self.found.trials {
            let cpu = trial.cpu_ns_per_line.map_or("-".to_owned(), |ns| format!("{ns:.1} ns"));
            writeln!(
                out,
                "  {:>12}  {:>12.0}  {:>7.3} %  {:>10}  {cpu:>12}  {}",
                trial.rate,
                trial.achieved,
                trial.lost_percent,
                show_ns(trial.lag_ns_max),
                self.settings.verdict(trial).word()
            )?;
        }
        if 0 < self.refused.total() {
            writeln!(out, "refused    {} sends: {}", self.refused.total(), self.refused)?;
        }
        if let Some(Cut::Failed(error)) = &self.found.cut {
            writeln!(out, "failed     {error:#}")?;
        }
        writeln!(out, "found      {}", self.sentence())
    }

    /// What came out, with its resolution.
    pub(crate) fn sentence(&self) -> String {
        let Settings { loss_percent, resolution_percent, from, .. } = self.settings;
        let is_cut = self.found.cut.is_some();
        let Some(rate) = self.found.rate else {
            return if is_cut {
                "nothing: the search was cut before a rate held".to_owned()
            } else {
                format!("no rate held at {from} lines/s or below")
            };
        };
        let why = match self.found.above {
            Some((above, Verdict::NotReached)) => {
                format!("the sender did not reach {above}: the daemon's limit lies higher")
            }
            Some((above, _)) => format!("{above} did not hold"),
            None => "nothing higher was tried".to_owned(),
        };
        if is_cut {
            return format!(
                "no limit: the search was cut. {rate} lines/s held so far, not yet in the long round; {why}"
            );
        }
        format!(
            "{rate} lines/s with at most {loss_percent} % lost; {why} (resolution {resolution_percent} %)"
        )
    }

    pub(crate) fn to_json(&self) -> Value {
        let trials: Vec<Value> = self
            .found
            .trials
            .iter()
            .map(|trial| {
                json!({
                    "offered_lines_per_s": trial.rate,
                    "lines_per_s": trial.achieved,
                    "lost_percent": trial.lost_percent,
                    "lag_ms_max": super::milliseconds(trial.lag_ns_max),
                    "cpu_ns_per_line": trial.cpu_ns_per_line,
                    "verdict": self.settings.verdict(trial).word(),
                })
            })
            .collect();
        let above = self
            .found
            .above
            .map(|(rate, verdict)| json!({"lines_per_s": rate, "verdict": verdict.word()}));
        let mut value = json!({
            "target": self.target,
            "judged_by": self.judges,
            "interval_s": self.interval.map(|interval| interval.as_secs()),
            "loss_percent": self.settings.loss_percent,
            "resolution_percent": self.settings.resolution_percent,
            "from_lines_per_s": self.settings.from,
            "to_lines_per_s": self.settings.to,
            "round_s": self.settings.round.as_secs_f64(),
            "interrupted_by": interrupted_json(self.interrupted),
            "failure": match &self.found.cut {
                Some(Cut::Failed(error)) => Some(format!("{error:#}")),
                _ => None,
            },
            // What held until a search was cut is not what it looked for.
            "lines_per_s": self.found.rate.filter(|_| self.found.cut.is_none()),
            "held_lines_per_s": self.found.rate,
            "above": above,
            "refused_sends": self.refused.total(),
            "refused_by_cause": self.refused.to_json(),
            "rounds": trials,
        });
        self.origin.add_json(&mut value);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::origin::tests::origin;
    use crate::search::find;

    fn report(capacity: u64, reach: u64, read: impl Fn(&SearchReport<'_>)) {
        report_of(capacity, reach, usize::MAX, read);
    }

    /// The user cuts it after `rounds` rounds.
    fn report_of(capacity: u64, reach: u64, rounds: usize, read: impl Fn(&SearchReport<'_>)) {
        let settings = Settings { to: 1_000_000, ..Settings::default() };
        let mut count = 0;
        let found = find(settings, &mut |rate, _| {
            if count == rounds {
                return Err(Cut::Interrupted);
            }
            count += 1;
            let lost_percent = crate::search::percent(rate.saturating_sub(capacity), rate);
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let achieved = rate.min(reach) as f64;
            let (lag_ns_max, cpu_ns_per_line) = (1_500, Some(12.0));
            Ok(crate::search::Trial { rate, achieved, lost_percent, lag_ns_max, cpu_ns_per_line })
        });
        let (target, found) = ("udp:127.0.0.1:1".to_owned(), found.unwrap());
        let interrupted = found.cut.as_ref().map(|_| Signal::Interrupt);
        let (judges, refused) = ("drops", Refused::default());
        let (found, origin) = (&found, &origin(&[]));
        let interval = None;
        read(&SearchReport {
            origin,
            target,
            judges,
            interval,
            settings,
            found,
            refused,
            interrupted,
        });
    }

    #[test]
    fn r4_a_search_that_was_interrupted_says_so() {
        let words = |rounds, sentence: &str, held: Value| {
            report_of(u64::MAX, u64::MAX, rounds, |report| {
                let mut out = Vec::new();
                report.write_text(&mut out).unwrap();
                let text = String::from_utf8(out).unwrap();
                assert!(text.starts_with("interrupted by SIGINT"), "{text}");
                assert!(text.contains(sentence), "{text}");
                let json = report.to_json();
                assert_eq!(
                    (&json["interrupted_by"], &json["lines_per_s"]),
                    (&"SIGINT".into(), &Value::Null)
                );
                assert_eq!((&json["held_lines_per_s"], &json["failure"]), (&held, &Value::Null));
            });
        };
        words(0, "cut before a rate held", Value::Null);
        words(
            2,
            "20000 lines/s held so far, not yet in the long round; nothing higher",
            20_000.into(),
        );
    }

    #[test]
    fn the_text_has_every_round_and_the_resolution() {
        report(50_000, u64::MAX, |report| {
            let mut out = Vec::new();
            report.write_text(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.lines().count(), report.found.trials.len() + 3);
            assert!(
                text.contains("80000         80000   37.500 %      1.5 µs       12.0 ns  lost"),
                "{text}"
            );
            assert!(text.contains("did not hold (resolution 5 %)"), "{text}");
            let json = report.to_json();
            assert_eq!(json["rounds"].as_array().unwrap().len(), report.found.trials.len());
            assert_eq!(json["above"]["verdict"], "lost");
        });
    }

    #[test]
    fn the_sentence_says_whose_limit_it_is() {
        report(u64::MAX, 100_000, |report| {
            assert!(
                report.sentence().contains("the sender did not reach"),
                "{}",
                report.sentence()
            );
        });
        report(u64::MAX, u64::MAX, |report| {
            assert!(
                report.sentence().contains("nothing higher was tried"),
                "{}",
                report.sentence()
            );
        });
        report(0, u64::MAX, |report| {
            assert!(report.sentence().starts_with("no rate held"), "{}", report.sentence());
        });
    }
}
