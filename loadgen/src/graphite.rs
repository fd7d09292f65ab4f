//! Reads the points back from graphite-web's render API.
//!
//! The other witness beside `sink`: what was stored, not what was sent on. One request per kind and derived
//! value with a glob over the run's key prefix, one for the daemon's own counters; tagged series are asked for
//! by tag. A glob finds what lies on disk or in carbon's cache when it is asked, so it is asked again
//! until the books balance.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::ledger::{OWN_COUNTERS, Terms};
use crate::received::{Point, Received};
use crate::workload::Kind;

/// Largest answer taken.
const ANSWER_BYTES_MAX: u64 = 2 << 30;

/// Longest wait for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Values the ledger wants of a timer.
const TIMER_VALUES: [&str; 4] = ["count", "sum", "lower", "upper"];

/// A graphite-web to ask.
#[derive(Debug)]
pub(crate) struct Graphite {
    base: String,
    agent: ureq::Agent,
}

impl Graphite {
    /// `base` is the address without a path: `http://127.0.0.1:8080`.
    pub(crate) fn new(base: &str) -> Graphite {
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_TIME_MAX)).build();
        let agent = ureq::Agent::new_with_config(config);
        Graphite { base: base.trim_end_matches('/').to_owned(), agent }
    }

    /// All points of the run in `from..=until`, seconds since 1970.
    pub(crate) fn read(&self, terms: &Terms, from: i64, until: i64) -> Result<Received> {
        let mut received = Received::default();
        for target in targets(terms) {
            let answer = self
                .agent
                .get(format!("{}/render", self.base))
                .query("target", &target)
                .query("format", "json")
                .query("noNullPoints", "true")
                .query("from", from.to_string())
                .query("until", until.to_string())
                .call()
                .with_context(|| format!("{} does not answer for {target:?}", self.base))?
                .body_mut()
                .with_config()
                .limit(ANSWER_BYTES_MAX)
                .read_to_string()
                .with_context(|| format!("{} broke off its answer", self.base))?;
            take(&answer, &mut received)
                .with_context(|| format!("{} answered {target:?} oddly", self.base))?;
        }
        Ok(received)
    }
}

/// What to ask for.
fn targets(terms: &Terms) -> Vec<String> {
    let naming = &terms.naming;
    let mut targets: Vec<String> =
        OWN_COUNTERS.iter().map(|counter| naming.own_counter(counter)).collect();
    for kind in Kind::ALL {
        if terms.keys.count(kind) == 0 {
            continue;
        }
        let base = format!("{}.{}.*", terms.keys.prefix(), kind.letters());
        let values: &[&str] = if kind == Kind::Timer { &TIMER_VALUES } else { &[""] };
        for derived in values {
            let glob = naming.name(kind, &base, derived, None);
            if terms.keys.any_tagged() {
                let pattern = glob.replace('.', "\\.").replace('*', "[^.]*");
                targets.push(format!("seriesByTag('name=~^{pattern}$', 'env=prod')"));
            }
            targets.push(glob);
        }
    }
    targets
}

/// Reads a JSON rendering: `[{"target": NAME, "datapoints": [[VALUE, TIME], ...]}, ...]`.
fn take(answer: &str, received: &mut Received) -> Result<()> {
    let answer: Value = serde_json::from_str(answer).context("no JSON")?;
    let Some(series) = answer.as_array() else { bail!("no list of series") };
    for one in series {
        let (Some(name), Some(points)) = (one["target"].as_str(), one["datapoints"].as_array())
        else {
            bail!("a series without target or datapoints")
        };
        for pair in points {
            let Some(timestamp) = pair[1].as_i64() else { bail!("a point without a time") };
            // Null: nothing was stored there.
            if let Some(value) = pair[0].as_f64() {
                received.record(name, Point { timestamp, value });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::tests::legacy;
    use crate::workload::{Keys, Shape, tests::shape};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    fn terms(tagged_percent: u32) -> Terms {
        let shape = Shape { tagged_percent, mix: "c=1,ms=1".parse().unwrap(), ..shape() };
        Terms { keys: Keys::new(&shape), naming: legacy(), is_shared: false, is_stream: false }
    }

    #[test]
    fn every_value_of_the_ledger_is_asked_for() {
        let expected = [
            "stats_counts.statsd.metrics_received",
            "stats_counts.statsd.packets_received",
            "stats_counts.statsd.bad_lines_seen",
            "stats_counts.loadgen.c.*",
            "stats.timers.loadgen.ms.*.count",
            "stats.timers.loadgen.ms.*.sum",
            "stats.timers.loadgen.ms.*.lower",
            "stats.timers.loadgen.ms.*.upper",
        ];
        assert_eq!(targets(&terms(0)), expected);
    }

    #[test]
    fn tagged_series_are_asked_for_by_tag() {
        let targets = targets(&terms(10));
        let expected = "seriesByTag('name=~^stats_counts\\.loadgen\\.c\\.[^.]*$', 'env=prod')";
        assert!(targets.iter().any(|target| target == expected), "{targets:?}");
    }

    #[test]
    fn points_are_taken_and_nulls_left_out() {
        let mut received = Received::default();
        let answer = r#"[{"target": "a;x=y", "datapoints": [[1.5, 10], [null, 20], [2, 30]]}]"#;
        take(answer, &mut received).unwrap();
        let expected = [Point { timestamp: 10, value: 1.5 }, Point { timestamp: 30, value: 2.0 }];
        assert_eq!(received.points("a;x=y"), expected);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error() {
        for answer in ["", "{}", "[1]", r#"[{"target":"a","datapoints":[[1,"x"]]}]"#] {
            assert!(take(answer, &mut Received::default()).is_err(), "{answer:?}");
        }
    }

    /// Answers `requests` requests with `status` and `body`.
    fn web(requests: usize, status: &'static str, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(requests) {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let size = body.len();
                let head = "Connection: close\r\nContent-Length";
                write!(stream, "HTTP/1.1 {status}\r\n{head}: {size}\r\n\r\n{body}").unwrap();
            }
        });
        format!("http://{address}/")
    }

    #[test]
    fn all_answers_go_into_one_book() {
        let body = r#"[{"target": "a", "datapoints": [[4, 10]]}]"#;
        let graphite = Graphite::new(&web(8, "200 OK", body));
        let received = graphite.read(&terms(0), 0, 100).unwrap();
        assert_eq!(received.points("a"), [Point { timestamp: 10, value: 4.0 }]);
        assert_eq!(received.points, 8);
    }

    #[test]
    fn a_web_that_fails_is_an_error() {
        let graphite = Graphite::new(&web(1, "500 Oops", ""));
        assert!(graphite.read(&terms(0), 0, 100).is_err());
    }
}
