//! The latency of the probes, in words and numbers.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{milliseconds, show_ns};
use crate::probe::Latency;

/// Quantiles of the JSON report, with their names.
const QUANTILES: [(&str, f64); 5] =
    [("ms_p50", 0.5), ("ms_p90", 0.9), ("ms_p99", 0.99), ("ms_p99_9", 0.999), ("ms_max", 1.0)];

pub(super) fn write_text(out: &mut impl Write, latency: &Latency) -> io::Result<()> {
    let (all, youngest) = (&latency.all, &latency.youngest);
    writeln!(
        out,
        "latency    {} probes, {} seen; with the wait for the flush: p50 {}, p90 {}, p99 {}, worst {}",
        latency.probes,
        all.len(),
        show_ns(all.value_at_quantile(0.5)),
        show_ns(all.value_at_quantile(0.9)),
        show_ns(all.value_at_quantile(0.99)),
        show_ns(all.max())
    )?;
    writeln!(
        out,
        "  youngest of each of {} flushes, to within {} ms: p50 {}, worst {}",
        youngest.len(),
        latency.every.as_millis(),
        show_ns(youngest.value_at_quantile(0.5)),
        show_ns(youngest.max())
    )
}

pub(super) fn to_json(latency: &Latency) -> Value {
    let mut value = json!({
        "contains": "the wait for the flush",
        "probes": latency.probes,
        "seen": latency.all.len(),
        "probe_every_ms": latency.every.as_secs_f64() * 1e3,
        "ms_min": milliseconds(latency.all.min()),
    });
    for (name, quantile) in QUANTILES {
        value[name] = milliseconds(latency.all.value_at_quantile(quantile)).into();
    }
    value["youngest"] = json!({
        "flushes": latency.youngest.len(),
        "ms_p50": milliseconds(latency.youngest.value_at_quantile(0.5)),
        "ms_max": milliseconds(latency.youngest.max()),
    });
    value
}
