//! What rate was asked for and what became of it, in words and numbers.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::{milliseconds, show_ns};
use crate::fleet::Round;
use crate::target::Target;

pub(super) fn write_text(out: &mut impl Write, round: &Round, target: &Target) -> io::Result<()> {
    let (Some(offered), Some(kept)) = (round.offered, round.kept()) else {
        return writeln!(out, "pace       as fast as the sender can");
    };
    let percent = kept.percent;
    if round.due == 0 {
        return writeln!(out, "pace       nothing was due yet at the {offered} lines/s asked for");
    }
    if kept.is_reached() {
        writeln!(out, "pace       {percent:.2} % of the {offered} lines/s asked for")?;
    } else {
        // Where a sender waits for its reader, either may be slow.
        let limit = match target {
            Target::Udp(_) => "the sender is too slow",
            _ => "the sender, or the daemon it waits for, is too slow",
        };
        writeln!(
            out,
            "pace       NOT KEPT: {percent:.2} % of the {offered} lines/s asked for; {limit}"
        )?;
    }
    // Where all that was asked for has left, it is only late.
    let lines = match (kept.behind_lines, kept.behind) {
        (0, Duration::ZERO) => " (0 lines)".to_owned(),
        (0, _) => String::new(),
        (lines, _) => format!(" ({lines} lines)"),
    };
    writeln!(
        out,
        "lag        {}{lines} behind at the end; p50 {}, p99 {}, worst {}",
        show_ns(u64::try_from(kept.behind.as_nanos()).unwrap_or(u64::MAX)),
        show_ns(round.lag.value_at_quantile(0.5)),
        show_ns(round.lag.value_at_quantile(0.99)),
        show_ns(round.lag.max())
    )
}

/// Adds it to `value`; what has no meaning without a rate is null.
pub(super) fn add_json(value: &mut Value, round: &Round) {
    let kept = round.kept().filter(|_| 0 < round.due);
    let lag = |quantile| kept.map(|_| milliseconds(round.lag.value_at_quantile(quantile)));
    let figures = json!({
        "offered_lines_per_s": round.offered,
        "offered_percent": kept.map(|kept| kept.percent),
        "offered_kept": kept.map(|kept| kept.is_reached()),
        "behind_lines": kept.map(|kept| kept.behind_lines),
        "behind_ms": kept.map(|kept| kept.behind.as_secs_f64() * 1e3),
        "lag_ms_p50": lag(0.5),
        "lag_ms_p99": lag(0.99),
        "lag_ms_max": kept.map(|_| milliseconds(round.lag.max())),
    });
    for (name, figure) in figures.as_object().into_iter().flatten() {
        value[name] = figure.clone();
    }
}
