//! Target 4: a minute just under the sender's limit, with default settings, across every flush.
//!
//! The contestant has one CPU: on two cores the other one sends. What the worker's pauses were is
//! asked of the kernel every 2 ms by the sender itself, between two batches: how long the worker was
//! ready and had no CPU (`schedstat`), and behind a pause how much waits in its socket. The receive buffer
//! is that of an ordinary daemon, within `net.core.rmem_max`; its size is what floe's log says of it.

use std::time::Duration;

use anyhow::Context;
use floe_bench::datagrams::Datagrams;
use floe_io::clock::monotonic_ns;

use super::feeds::Pool;
use super::measurement::{Measurement, feed, warm_up};
use super::probe::{await_quiet, schedstat, socket_state};
use super::say;
use super::sender::{Order, Rate};
use super::spread::Spread;
use super::table::figure;
use super::target::{Bound, Target};
use crate::contestants::daemon;
use crate::contestants::floe::{Ingest, Launch};
use crate::contestants::{Contestant, Running, Site, ordinary};

/// Part of the sender's limit that is offered.
const SHARE: f64 = 0.97;

/// Part of it that the sender must have sent for the load to be just under its limit.
const SHARE_MIN: f64 = 0.95;

/// Length of the flood that finds the sender's limit.
const LIMIT_TIME: Duration = Duration::from_secs(1);

/// Between two looks, ns.
const LOOK_NS: u64 = 2_000_000;

/// Looks between two at the socket, which cost five times as much; a pause of `PAUSE_NS` is followed by
/// one at once.
const LOOKS_PER_QUEUE: u32 = 16;

/// A pause that fills the socket, ns.
const PAUSE_NS: u64 = 500_000;

/// Accounting of one small datagram, bytes (docs/references.md K2).
const DATAGRAM_TRUESIZE: f64 = 832.0;

/// Interval of a daemon with default settings, ms.
const DEFAULT_INTERVAL_MS: u32 = 10_000;

/// Longest pauses of the worker and deepest queue that the looks saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Depths {
    delay_ns: u64,
    queue_bytes: u64,
}

/// The receive buffer of floe's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Buffer {
    /// As the kernel accounts it: twice what it granted.
    bytes: u64,
    /// Whether floe could have had no more.
    is_ordinary: bool,
}

impl Buffer {
    fn of(running: &Running) -> anyhow::Result<Self> {
        let folder = running.folder().context("floe has a folder")?;
        let log = std::fs::read_to_string(folder.join(daemon::LOG))?;
        let bytes = granted_bytes(&log).context("floe logs its receive buffer")?;
        Ok(Self { bytes, is_ordinary: ordinary::is_ordinary(running.pid).unwrap_or(false) })
    }
}

/// The least of the receive buffers in floe's log.
fn granted_bytes(log: &str) -> Option<u64> {
    let lines = log.lines().filter(|line| line.contains("receive buffer granted"));
    lines.filter_map(|line| line.split("bytes=").nth(1)?.split(' ').next()?.parse().ok()).min()
}

/// Looks at a worker every 2 ms.
struct Watch {
    pid: u32,
    thread: u32,
    port: u16,
    last_ns: u64,
    delay_before_ns: u64,
    looks: u32,
    depths: Depths,
}

impl Watch {
    fn new(running: &Running) -> Self {
        let thread = running.workers().first().copied().unwrap_or(running.pid);
        let (_, delay_ns) = schedstat(running.pid, thread).unwrap_or_default();
        Self {
            pid: running.pid,
            thread,
            port: running.port,
            last_ns: monotonic_ns(),
            delay_before_ns: delay_ns,
            looks: 0,
            depths: Depths::default(),
        }
    }

    fn look(&mut self) {
        let now_ns = monotonic_ns();
        if now_ns < self.last_ns + LOOK_NS {
            return;
        }
        self.last_ns = now_ns;
        self.looks += 1;
        let mut is_queue_due = self.looks.is_multiple_of(LOOKS_PER_QUEUE);
        // A look that fails says nothing; the feed itself fails when the daemon is gone.
        if let Ok((_, delay_ns)) = schedstat(self.pid, self.thread) {
            let new_ns = delay_ns.saturating_sub(self.delay_before_ns);
            self.depths.delay_ns = self.depths.delay_ns.max(new_ns);
            self.delay_before_ns = delay_ns;
            is_queue_due |= PAUSE_NS <= new_ns;
        }
        if !is_queue_due {
            return;
        }
        if let Ok(state) = socket_state(self.port) {
            self.depths.queue_bytes = self.depths.queue_bytes.max(state.queue_bytes);
        }
    }
}

/// Measures the target over `time` a variant.
pub(crate) fn measure(site: &Site, time: Duration, rate_max: Option<u32>) -> Vec<Target> {
    let site = Site { flush_interval_ms: DEFAULT_INTERVAL_MS, ..site.clone() };
    let variants = [(Pool::Single, "10,000 names"), (Pool::SingleMillionNames, "1,000,000 names")];
    variants.iter().flat_map(|(pool, names)| variant(&site, time, rate_max, *pool, names)).collect()
}

fn variant(
    site: &Site,
    time: Duration,
    rate_max: Option<u32>,
    pool: Pool,
    names: &str,
) -> Vec<Target> {
    let seconds = time.as_secs();
    let lost = format!("lost of a load just under the sender's limit, {names}, {seconds} s");
    let pause = format!("longest pause of the worker meanwhile, {names}, no core to spare");
    let (zero, longest) = ((Bound::AtMost(0.0), "datagrams"), (Bound::AtMost(8.0), "ms"));
    match run(site, time, rate_max, pool) {
        Ok((measurement, depths, limits, buffer)) => {
            let rows = told(&measurement, depths, (&lost, zero), (&pause, longest));
            let per_s = measurement.offered_per_s();
            rows.into_iter().map(|row| within(buffer, under(limits, per_s, row))).collect()
        }
        Err(error) => {
            say(&format!("target 4, {names}: {error:#}"));
            let row = |what: &str, bound| Target::new(4, what, bound, None);
            vec![row(&lost, zero).note(format!("{error:#}")), row(&pause, longest)]
        }
    }
}

type What<'w> = (&'w str, (Bound, &'w str));

#[expect(clippy::cast_precision_loss, reason = "figures far below 2^53")]
fn told(measurement: &Measurement, depths: Depths, lost: What<'_>, pause: What<'_>) -> Vec<Target> {
    let per_s = measurement.offered_per_s();
    let flushes = measurement.sending_ns / 1_000_000 / u64::from(DEFAULT_INTERVAL_MS);
    let waiting = depths.queue_bytes as f64 / DATAGRAM_TRUESIZE;
    vec![
        Target::new(4, lost.0, lost.1, Spread::of([measurement.datagrams_lost as f64])).note(
            format!(
                "{} M datagrams/s offered, {} sent, {flushes} flushes; worker {} ns, all threads {} ns a datagram",
                figure(per_s / 1e6),
                measurement.datagrams_sent,
                figure(measurement.datagram_ns()),
                figure(measurement.line_ns_of_all()),
            ),
        ),
        Target::new(4, pause.0, pause.1, Spread::of([depths.delay_ns as f64 / 1e6])).note(format!(
            "ready without a CPU, by schedstat every 2 ms; {} ms of load in the socket at the most",
            figure(waiting / per_s * 1e3)
        )),
    ]
}

/// The row, shown only if the load was just under the sender's limit as it was before and after: a
/// machine that slows down in the meantime carries less.
fn under(limits: [f64; 2], per_s: f64, row: Target) -> Target {
    let limit = limits[0].min(limits[1]);
    let [before, after] = limits.map(|limit| figure(limit / 1e6));
    let share = per_s / limit;
    let said = format!(
        "{}; {share:.2} of the sender's limit, {before} M/s before and {after} after",
        row.note
    );
    row.note(said).shown_if(SHARE_MIN <= share)
}

/// The row with the buffer; shown only if floe could have no larger one than an ordinary daemon.
fn within(buffer: Buffer, row: Target) -> Target {
    let bytes = buffer.bytes;
    let whose = if buffer.is_ordinary { "without" } else { "with" };
    let said = format!("{}; receive buffer of {bytes} bytes {whose} CAP_NET_ADMIN", row.note);
    row.note(said).shown_if(buffer.is_ordinary)
}

/// Datagrams per second that the sender reaches with a receiver that does nothing else.
fn sender_limit(site: &Site, datagrams: &Datagrams, rate_max: Option<u32>) -> anyhow::Result<f64> {
    let bare = Contestant::BareRing.start(site)?;
    let rate = rate_max.map_or(Rate::Flood, Rate::Paced);
    let order = Order { datagrams, rate, is_segmented: false, time: LIMIT_TIME };
    Ok(feed(&bare, site, order, || {})?.offered_per_s())
}

fn run(
    site: &Site,
    time: Duration,
    rate_max: Option<u32>,
    pool: Pool,
) -> anyhow::Result<(Measurement, Depths, [f64; 2], Buffer)> {
    let datagrams = &pool.make();
    await_quiet();
    let limit = sender_limit(site, datagrams, rate_max)?;
    let running = Running::floe(site, Launch { ingest: Ingest::IoUring, workers: None })?;
    warm_up(&running, site, datagrams, pool.names())?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of a sender"
    )]
    let rate = Rate::Paced((limit * SHARE) as u32);
    let order = Order { datagrams, rate, is_segmented: false, time };
    let buffer = Buffer::of(&running)?;
    let mut watch = Watch::new(&running);
    let measurement = feed(&running, site, order, || watch.look())?;
    say(&format!(
        "target 4: {} of {} lost, longest delay {} µs",
        measurement.datagrams_lost,
        measurement.datagrams_sent,
        watch.depths.delay_ns / 1_000
    ));
    drop(running);
    Ok((measurement, watch.depths, [limit, sender_limit(site, datagrams, rate_max)?], buffer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::target::Verdict;

    #[test]
    fn a_load_far_below_the_lower_limit_shows_nothing() {
        let row = || Target::new(4, "", (Bound::AtMost(0.0), "datagrams"), Spread::of([0.0]));
        assert_eq!(under([1e6, 8e5], 7.7e5, row()).verdict, Verdict::Holds);
        let far = under([1e6, 8e5], 7.5e5, row());
        assert_eq!(far.verdict, Verdict::NotShown);
        assert!(
            far.note.contains("0.94 of the sender's limit, 1 M/s before and 0.800 after"),
            "{}",
            far.note
        );
    }

    #[test]
    fn larger_buffer_than_an_ordinary_daemon_has_shows_nothing() {
        let row = || Target::new(4, "", (Bound::AtMost(0.0), "datagrams"), Spread::of([0.0]));
        let of = |is_ordinary| within(Buffer { bytes: 8_388_608, is_ordinary }, row());
        assert_eq!((of(true).verdict, of(false).verdict), (Verdict::Holds, Verdict::NotShown));
        let note = of(true).note;
        assert!(note.ends_with("receive buffer of 8388608 bytes without CAP_NET_ADMIN"), "{note}");
    }

    #[test]
    fn buffer_is_the_least_that_floe_logs() {
        let line = |bytes| {
            format!("INFO receive buffer granted address=[::]:1 bytes={bytes} small_datagrams=9\n")
        };
        let log = format!("bytes=1\n{}{}", line(8_388_608), line(425_984));
        assert_eq!((granted_bytes(&log), granted_bytes("")), (Some(425_984), None));
    }

    #[test]
    fn one_datagram_lost_misses_the_target_and_a_pause_of_8_ms_holds() {
        let measurement = |lost| Measurement {
            contestant: String::new(),
            feed: String::new(),
            round: 0,
            is_segmented: false,
            datagrams_sent: 600_000,
            lines_sent: 600_000,
            datagrams_lost: lost,
            sending_ns: 60_000_000_000,
            sender_delay_ns: 0,
            reading_ns: 60_000_000_000,
            worker_cpu_ns: 1,
            all_cpu_ns: 1,
        };
        let depths = Depths { delay_ns: 8_000_000, queue_bytes: 832_000 };
        let bound = |limit| ("", (Bound::AtMost(limit), ""));
        let verdicts = |lost| {
            let rows = told(&measurement(lost), depths, bound(0.0), bound(8.0));
            assert!(rows[0].note.contains("6 flushes"), "{}", rows[0].note);
            assert!(rows[1].note.contains("100 ms of load"), "{}", rows[1].note);
            [rows[0].verdict, rows[1].verdict]
        };
        assert_eq!(verdicts(0), [Verdict::Holds, Verdict::Holds]);
        assert_eq!(verdicts(1), [Verdict::Missed, Verdict::Holds]);
    }
}
