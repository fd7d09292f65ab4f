//! `overload`: floe offered three times what it can take.
//!
//! First its capacity: the highest rate at which less than one datagram in a thousand is lost. Then
//! three times that, for a while, across many flushes. What was sent is the sender's figure, what was
//! dropped the kernel's, read from /proc; floe's books have to say the same to the datagram. Datagrams
//! are as large as frames of 9,000 bytes take, about 300 lines: of smaller ones a sender cannot send
//! three times what floe takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use floe_io::admin::control;

use super::feeds::Pool;
use super::limits::{LOSS_MAX, STEP_TIME_MIN, bisect};
use super::measurement::{Measurement, feed, warm_up};
use super::probe::{await_quiet, socket_state, wait_for};
use super::say;
use super::sender::{Order, Rate};
use super::table::figure;
use crate::arguments::OverloadArguments;
use crate::contestants::discard::Discard;
use crate::contestants::floe::{Ingest, Launch};
use crate::contestants::{Running, Site};
use crate::flushes::Flushes;

/// How much more than the capacity is offered.
const FACTOR: f64 = 3.0;

/// Part of the capacity that has to be taken in all the same.
const ACCEPTED_MIN: f64 = 0.9;

/// What was found.
struct Outcome {
    /// Datagrams per second without loss.
    capacity_per_s: f64,
    overload: Measurement,
    /// What floe's books gained meanwhile.
    received: u64,
    dropped: u64,
    merged: u64,
    flushes: Flushes,
}

/// Measures, tells, and fails where a promise is not kept.
///
/// # Errors
/// When it cannot be measured here, or does not hold.
pub(crate) fn run(arguments: &OverloadArguments) -> anyhow::Result<()> {
    let graphite = Discard::start(super::sender_cpu()?)?;
    let mut site = super::site(arguments.floe.as_deref(), graphite.port)?;
    site.flush_interval_ms = 1_000 * arguments.interval;
    let time = Duration::from_secs_f64(arguments.seconds.clamp(1.0, 3_600.0));
    let pool =
        if arguments.names == Pool::Jumbo.names() { Pool::Jumbo } else { Pool::JumboMillionNames };
    await_quiet();
    let outcome = measure(&site, pool, time, arguments.rate)?;
    let is_kept = tell(&outcome);
    ensure!(is_kept, "overload does not go as promised");
    Ok(())
}

fn measure(
    site: &Site,
    pool: Pool,
    time: Duration,
    rate_max: Option<u32>,
) -> anyhow::Result<Outcome> {
    let datagrams = &pool.make();
    let running = Running::floe(site, Launch { ingest: Ingest::IoUring, workers: Some(1) })?;
    let spool = running.folder().context("floe has a folder")?.join("spool");
    warm_up(&running, site, datagrams, pool.names())?;
    // Each step has a flush in it, as the overload has.
    let flush = Duration::from_millis(u64::from(site.flush_interval_ms) + 100);
    let step = |rate| {
        let time = STEP_TIME_MIN.max(flush);
        let order = Order { datagrams, rate, is_segmented: false, time };
        feed(&running, site, order, || {})
    };
    let offered = step(rate_max.map_or(Rate::Flood, Rate::Paced))?.offered_per_s();
    let found = bisect(offered, |per_s| {
        let measurement = step(Rate::Paced(per_s))?;
        Ok((measurement.loss() < LOSS_MAX).then(|| measurement.offered_per_s()))
    })?;
    let capacity_per_s = found.context("floe loses datagrams at the lowest rate")?;
    let (before, drops) = (books(&spool)?, socket_state(running.port)?.drops);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sender's rate")]
    let rate = rate_max.unwrap_or((FACTOR * capacity_per_s) as u32);
    let order = Order { datagrams, rate: Rate::Paced(rate), is_segmented: false, time };
    let overload = feed(&running, site, order, || {})?;
    let kernel = socket_state(running.port)?.drops - drops;
    ensure!(kernel == overload.datagrams_lost, "nobody else feeds the socket");
    let gained = |after: &BTreeMap<String, u64>, name: &str| {
        let of = |books: &BTreeMap<String, u64>| books.get(name).copied().unwrap_or(0);
        of(after) - of(&before)
    };
    let all = ["datagrams_received", "datagrams_dropped.kernel"];
    let after = wait_for("floe's books of it", || {
        let after = books(&spool).ok()?;
        let accounted: u64 = all.iter().map(|name| gained(&after, name)).sum();
        (overload.datagrams_sent <= accounted).then_some(after)
    })?;
    let interval_s = u64::from(site.flush_interval_ms / 1_000);
    let flushes = Flushes::of(&spool, interval_s, 0)?;
    Ok(Outcome {
        capacity_per_s,
        overload,
        received: gained(&after, all[0]),
        dropped: gained(&after, all[1]),
        merged: gained(&after, "ticks_merged"),
        flushes,
    })
}

fn books(spool: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    control::ask_books(spool)?.context("floe runs")
}

/// Prints what was found; whether all of it is as promised.
#[expect(clippy::cast_precision_loss, reason = "figures far below 2^53")]
fn tell(outcome: &Outcome) -> bool {
    let overload = &outcome.overload;
    let seconds = overload.sending_ns.max(overload.reading_ns) as f64 / 1e9;
    let accepted_per_s = overload.received() / seconds;
    let lines = overload.lines_sent as f64 / overload.datagrams_sent.max(1) as f64;
    let part = accepted_per_s / outcome.capacity_per_s;
    let is_exact = outcome.received + outcome.dropped == overload.datagrams_sent
        && outcome.dropped == overload.datagrams_lost;
    let is_on_grid = outcome.merged == 0 && outcome.flushes.missing == 0;
    let holds = |is_kept: bool| if is_kept { "holds" } else { "does not hold" };
    let millions = |datagrams_per_s: f64| figure(datagrams_per_s * lines / 1e6);
    say(&format!("capacity  {} M lines/s without loss", millions(outcome.capacity_per_s)));
    say(&format!(
        "offered   {} M lines/s for {} s: {} times the capacity",
        millions(overload.offered_per_s()),
        figure(overload.sending_ns as f64 / 1e9),
        figure(overload.offered_per_s() / outcome.capacity_per_s)
    ));
    say(&format!(
        "accepted  {} M lines/s, {} % of the capacity, at least {} %: {}",
        millions(accepted_per_s),
        figure(part * 100.0),
        ACCEPTED_MIN * 100.0,
        holds(ACCEPTED_MIN <= part)
    ));
    say(&format!(
        "books     {} sent = {} received + {} dropped; the kernel dropped {}: {}",
        overload.datagrams_sent,
        outcome.received,
        outcome.dropped,
        overload.datagrams_lost,
        holds(is_exact)
    ));
    say(&format!(
        "flushes   {} on the grid, {} missing, {} merged, the latest on the disk after {} ms: {}",
        outcome.flushes.count,
        outcome.flushes.missing,
        outcome.merged,
        figure(outcome.flushes.late_ms),
        holds(is_on_grid)
    ));
    ACCEPTED_MIN <= part && is_exact && is_on_grid
}
