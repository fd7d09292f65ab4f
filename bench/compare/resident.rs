//! Target 8: resident memory at the start, per idle counter, per worker, and over time.

use std::time::Duration;

use floe_bench::NAMES_LARGE;
use floe_bench::datagrams::Datagrams;
use floe_io::cpu;

use super::feeds::Pool;
use super::measurement::{feed, warm_up};
use super::probe::{pause, resident_bytes};
use super::say;
use super::sender::{Order, Rate};
use super::spread::Spread;
use super::table::figure;
use super::target::{Bound, Target, Verdict};
use crate::contestants::floe::{Ingest, Launch};
use crate::contestants::{Running, Site};

/// Interval while names are counted, ms.
const INTERVAL_MS: u32 = 2_000;

/// Three flushes of names that nobody updates any more.
const IDLE: Duration = Duration::from_millis(7_000);

/// Bytes of a name of the pool of counters: `fleet.app00.n0000000000`.
const NAME_BYTES: f64 = 23.0;

/// Passes of the pool with two workers; each comes from a port of its own, and the kernel's hash of
/// it decides between them.
const PASSES: u32 = 12;

/// Datagrams per second of a pass, 46 names each: memory is measured, not speed. At 50,000, which is
/// 2.3 million new names a second, a worker with half of a shared core cannot be relied on to take all
/// of them: the coordinator's first look at them runs on its CPU, and with two workers the sender, too.
/// What it can take is a figure of its own, by [`NEW_NAMES_PER_S`].
const PASS_PER_S: u32 = 20_000;

/// Rates at which a million new names are sent to a fresh daemon until one loses nothing, datagrams
/// per second.
const NEW_NAMES_PER_S: [u32; 8] =
    [150_000, 125_000, 100_000, 75_000, 50_000, 35_000, 25_000, PASS_PER_S];

/// Single-line datagrams per second of the steady load.
const STEADY_PER_S: u32 = 200_000;

/// Growth that counts as none, MiB.
const GROWTH_MIB: f64 = 1.0;

/// An hour of steady load is what the target asks for.
const HOUR: Duration = Duration::from_secs(3_600);

/// Measures all parts; `steady` is the length of the steady load.
pub(crate) fn measure(site: &Site, steady: Duration) -> Vec<Target> {
    let mut rows = counters(site).unwrap_or_else(|error| failed("memory of counters", &error));
    rows.extend(growth(site, steady).unwrap_or_else(|error| failed("growth", &error)));
    rows
}

fn failed(what: &str, error: &anyhow::Error) -> Vec<Target> {
    say(&format!("target 8, {what}: {error:#}"));
    vec![Target::new(8, what, (Bound::AtMost(0.0), ""), None).note(format!("{error:#}"))]
}

/// Resident memory before and after a million counters, bytes.
#[derive(Clone, Copy, Debug)]
struct Resident {
    start: f64,
    end: f64,
}

fn counters(site: &Site) -> anyhow::Result<Vec<Target>> {
    let datagrams = Pool::CountersMillionNames.make();
    let site = Site { flush_interval_ms: INTERVAL_MS, ..site.clone() };
    let one = filled(&site, &datagrams, 1)?;
    let both = Site { receiver_cpus: cpu::inherited()?, ..site.clone() };
    let two = if 1 < both.receiver_cpus.len() { Some(filled(&both, &datagrams, 2)?) } else { None };
    let new_names = new_names_without_loss(&site, &datagrams)?;
    let names = f64::from(NAMES_LARGE);
    let mib = |bytes: f64| figure(bytes / f64::from(1 << 20));
    let per_counter = (one.end - one.start) / names - NAME_BYTES;
    // What a worker has anyway, rings and buffers, is in the difference of the starts.
    let further = two.map(|two| (two.end - two.start - (one.end - one.start)) / names);
    Ok(vec![
        Target::new(
            8,
            "resident at the start, one worker",
            (Bound::AtMost(40.0), "MiB"),
            Spread::of([one.start / f64::from(1 << 20)]),
        ),
        Target::new(
            8,
            "per idle counter beside its name, 1,000,000 names, one worker",
            (Bound::AtMost(320.0), "B"),
            Spread::of([per_counter]),
        )
        .note(format!("{} MiB resident after three idle flushes; {new_names}", mib(one.end))),
        Target::new(
            8,
            "more for a second worker that sees it",
            (Bound::AtMost(160.0), "B"),
            Spread::of(further),
        )
        .note(two.map_or_else(
            || "needs two CPUs".to_owned(),
            |two| {
                let (end, start) = (mib(two.end), mib(two.start));
                format!("{end} MiB resident with two, {start} at the start")
            },
        )),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "memory far below 2^53 bytes")]
fn filled(site: &Site, datagrams: &Datagrams, workers: usize) -> anyhow::Result<Resident> {
    let launch = Launch { ingest: Ingest::IoUring, workers: Some(workers) };
    let running = Running::floe(site, launch)?;
    let start = resident_bytes(running.pid)? as f64;
    let passes = if workers == 1 { 1 } else { PASSES };
    for number in 1..=passes {
        let lost = pass(&running, site, datagrams, PASS_PER_S)?;
        anyhow::ensure!(
            lost == 0,
            "pass {number} of {passes} lost {lost} of {} datagrams at {PASS_PER_S}/s, {workers} workers",
            datagrams.len()
        );
    }
    pause(IDLE);
    let end = resident_bytes(running.pid)? as f64;
    say(&format!("target 8: {workers} workers, {start} bytes at the start, {end} with the names"));
    Ok(Resident { start, end })
}

/// Sends all datagrams once, from a port of its own; returns how many were lost.
fn pass(running: &Running, site: &Site, datagrams: &Datagrams, per_s: u32) -> anyhow::Result<u64> {
    let time = Duration::from_millis(datagrams.len() as u64 * 1_000 / u64::from(per_s) + 50);
    let order = Order { datagrams, rate: Rate::Paced(per_s), is_segmented: false, time };
    let measurement = feed(running, site, order, || {})?;
    anyhow::ensure!(datagrams.len() as u64 <= measurement.datagrams_sent, "a pass fell behind");
    Ok(measurement.datagrams_lost)
}

/// At which rate a fresh worker takes in a million names that it has never seen.
fn new_names_without_loss(site: &Site, datagrams: &Datagrams) -> anyhow::Result<String> {
    let launch = Launch { ingest: Ingest::IoUring, workers: Some(1) };
    #[expect(clippy::cast_precision_loss, reason = "a million lines")]
    let per_datagram = datagrams.line_count() as f64 / datagrams.len() as f64;
    for per_s in NEW_NAMES_PER_S {
        let running = Running::floe(site, launch)?;
        let lost = pass(&running, site, datagrams, per_s)?;
        say(&format!("target 8: new names, {per_s} datagrams/s: {lost} lost"));
        if lost == 0 {
            let names_per_s = figure(f64::from(per_s) * per_datagram / 1e6);
            return Ok(format!("{names_per_s} M new names/s were taken in without loss"));
        }
    }
    Ok("new names were lost at every rate tried".to_owned())
}

fn growth(site: &Site, steady: Duration) -> anyhow::Result<Vec<Target>> {
    let datagrams = Pool::Single.make();
    let running = Running::floe(site, Launch { ingest: Ingest::IoUring, workers: Some(1) })?;
    warm_up(&running, site, &datagrams, Pool::Single.names())?;
    let rate = Rate::Paced(STEADY_PER_S);
    let order = |time| Order { datagrams: &datagrams, rate, is_segmented: false, time };
    // Buffers find their sizes in the first part.
    feed(&running, site, order(steady / 3), || {})?;
    let before = resident_bytes(running.pid)?;
    feed(&running, site, order(steady * 2 / 3), || {})?;
    let after = resident_bytes(running.pid)?;
    #[expect(clippy::cast_precision_loss, reason = "memory far below 2^53 bytes")]
    let grown = (after as f64 - before as f64) / f64::from(1 << 20);
    Ok(vec![judge(grown, steady)])
}

fn judge(grown_mib: f64, steady: Duration) -> Target {
    let what = format!("growth over {} s of steady load, the first third apart", steady.as_secs());
    let bound = (Bound::AtMost(GROWTH_MIB), "MiB");
    let mut row = Target::new(8, &what, bound, Spread::of([grown_mib]));
    if steady < HOUR {
        row.note = "the target asks for an hour: --steady 3600".to_owned();
        if row.verdict == Verdict::Holds {
            row.verdict = Verdict::NotShown;
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_shown_by_an_hour_alone_and_missed_by_any_time() {
        let verdict = |grown, seconds| judge(grown, Duration::from_secs(seconds)).verdict;
        assert_eq!(verdict(0.2, 60), Verdict::NotShown);
        assert_eq!(verdict(5.0, 60), Verdict::Missed);
        assert_eq!(verdict(0.2, 3_600), Verdict::Holds);
    }
}
