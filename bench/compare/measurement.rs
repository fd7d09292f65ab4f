//! One feed of one contestant: what was sent, what was lost, what it cost.

use std::time::Duration;

use floe_bench::datagrams::Datagrams;
use floe_io::clock::monotonic_ns;
use serde::{Deserialize, Serialize};

use super::probe::{Waiting, pause, socket_state};
use super::sender::{Order, Rate, send, send_watched};
use crate::contestants::discard;
use crate::contestants::{CpuTime, Running, Site};

/// Datagrams per second of the warm-up: every name is sent once before time counts.
const WARM_UP_PER_S: u32 = 100_000;

/// Longest wait until a contestant has read all.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);

/// A contestant rests when it uses less than a quarter of the CPU for so long.
const REST: Duration = Duration::from_millis(20);

/// The figures of one feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Name of the contestant.
    pub(crate) contestant: String,
    /// Name of the feed.
    pub(crate) feed: String,
    /// Round, from 0.
    pub(crate) round: u32,
    /// Whether a `UDP_SEGMENT` sender sent them.
    #[serde(default)]
    pub(crate) is_segmented: bool,
    /// Datagrams sent.
    pub(crate) datagrams_sent: u64,
    /// Lines in them.
    pub(crate) lines_sent: u64,
    /// Datagrams the kernel dropped at the socket.
    pub(crate) datagrams_lost: u64,
    /// From the first datagram to the last, ns.
    pub(crate) sending_ns: u64,
    /// Time of that in which the sender was ready and others than our Graphite had its CPU, ns.
    pub(crate) sender_delay_ns: u64,
    /// From the first datagram until the socket was read empty, ns.
    pub(crate) reading_ns: u64,
    /// CPU time of the receiving threads, ns.
    pub(crate) worker_cpu_ns: u64,
    /// CPU time of all threads of the contestant, ns.
    pub(crate) all_cpu_ns: u64,
}

#[expect(clippy::cast_precision_loss, reason = "figures far below 2^53")]
impl Measurement {
    /// Datagrams that came through.
    pub(crate) fn received(&self) -> f64 {
        self.datagrams_sent.saturating_sub(self.datagrams_lost) as f64
    }

    /// Lines that came through.
    pub(crate) fn lines(&self) -> f64 {
        self.received() * self.lines_per_datagram()
    }

    /// Whether others were busy on the sender's CPU for more than a twentieth of the time.
    pub(crate) const fn is_disturbed(&self) -> bool {
        self.sending_ns / 20 < self.sender_delay_ns
    }

    fn lines_per_datagram(&self) -> f64 {
        self.lines_sent as f64 / (self.datagrams_sent.max(1)) as f64
    }

    /// CPU time of the receiving threads per datagram received, ns.
    pub(crate) fn datagram_ns(&self) -> f64 {
        self.worker_cpu_ns as f64 / self.received()
    }

    /// CPU time of the receiving threads per line received, ns.
    pub(crate) fn line_ns(&self) -> f64 {
        self.worker_cpu_ns as f64 / self.lines()
    }

    /// CPU time of all threads per line received, ns.
    pub(crate) fn line_ns_of_all(&self) -> f64 {
        self.all_cpu_ns as f64 / self.lines()
    }

    /// Lines received per second, until the socket was empty.
    pub(crate) fn lines_per_s(&self) -> f64 {
        self.lines() * 1e9 / (self.sending_ns.max(self.reading_ns)) as f64
    }

    /// Lines the sender offered per second.
    pub(crate) fn offered_lines_per_s(&self) -> f64 {
        self.lines_sent as f64 * 1e9 / self.sending_ns.max(1) as f64
    }

    /// Datagrams the sender offered per second.
    pub(crate) fn offered_per_s(&self) -> f64 {
        self.datagrams_sent as f64 * 1e9 / self.sending_ns.max(1) as f64
    }

    /// Both feeds of a contestant as one.
    pub(crate) fn and(self, other: &Self) -> Self {
        Self {
            datagrams_sent: self.datagrams_sent + other.datagrams_sent,
            lines_sent: self.lines_sent + other.lines_sent,
            datagrams_lost: self.datagrams_lost + other.datagrams_lost,
            sending_ns: self.sending_ns + other.sending_ns,
            sender_delay_ns: self.sender_delay_ns + other.sender_delay_ns,
            reading_ns: self.reading_ns + other.reading_ns,
            worker_cpu_ns: self.worker_cpu_ns + other.worker_cpu_ns,
            all_cpu_ns: self.all_cpu_ns + other.all_cpu_ns,
            ..self
        }
    }

    /// Part of the datagrams that was lost.
    pub(crate) fn loss(&self) -> f64 {
        self.datagrams_lost as f64 / self.datagrams_sent.max(1) as f64
    }
}

/// Sends the head of the pool, which has each of its `names` once, at a moderate rate, and waits until
/// all is read.
///
/// # Errors
/// When the contestant is gone, or does not come to an end.
pub(crate) fn warm_up(
    running: &Running,
    site: &Site,
    datagrams: &Datagrams,
    names: u32,
) -> anyhow::Result<()> {
    let head = datagrams.len() as u64 * u64::from(names) / datagrams.line_count();
    let time = Duration::from_millis(100 + head * 1_000 / u64::from(WARM_UP_PER_S));
    let rate = Rate::Paced(WARM_UP_PER_S);
    let order = Order { datagrams, rate, is_segmented: false, time };
    send(running.port, site.sender_cpu, order)?;
    drained(running)?;
    Ok(())
}

/// Feeds a contestant by `order`; the names are the caller's.
///
/// # Errors
/// When the contestant is gone, or does not come to an end.
pub(crate) fn feed(
    running: &Running,
    site: &Site,
    order: Order<'_>,
    watch: impl FnMut() + Send,
) -> anyhow::Result<Measurement> {
    let drops_before = socket_state(running.port)?.drops;
    let received_before = running.received();
    let before = running.cpu_ns()?;
    let start_ns = monotonic_ns();
    let graphite_ns = discard::cpu_ns();
    let sent = send_watched(running.port, site.sender_cpu, order, watch)?;
    let graphite_ns = discard::cpu_ns().saturating_sub(graphite_ns);
    let end_ns = drained(running)?;
    let after = running.cpu_ns()?;
    let lost = socket_state(running.port)?.drops.saturating_sub(drops_before);
    if let (Some((before, _)), Some((after, _))) = (received_before, running.received()) {
        let missing = sent.datagrams - lost.min(sent.datagrams);
        anyhow::ensure!(after - before == missing, "{} came of {missing}", after - before);
    }
    let lines = sent.datagrams * order.datagrams.line_count() / order.datagrams.len() as u64;
    let spent = |of: fn(CpuTime) -> u64| of(after).saturating_sub(of(before));
    Ok(Measurement {
        contestant: String::new(),
        feed: String::new(),
        round: 0,
        is_segmented: order.is_segmented,
        datagrams_sent: sent.datagrams,
        lines_sent: lines,
        datagrams_lost: lost,
        sending_ns: sent.ns,
        sender_delay_ns: sent.delay_ns.saturating_sub(graphite_ns),
        reading_ns: end_ns.saturating_sub(start_ns),
        worker_cpu_ns: spent(|time| time.worker_ns),
        all_cpu_ns: spent(|time| time.all_ns),
    })
}

/// Waits until the socket is empty and the contestant rests; returns when the socket was empty.
fn drained(running: &Running) -> anyhow::Result<u64> {
    let waiting = Waiting::up_to(DRAIN_LIMIT);
    // Looked at once at once: a receiver that keeps up must not be charged with our pauses.
    let mut empty_ns = monotonic_ns();
    while socket_state(running.port)?.queue_bytes != 0 {
        anyhow::ensure!(waiting.goes_on(), "the socket is not read empty within {DRAIN_LIMIT:?}");
        empty_ns = monotonic_ns();
    }
    loop {
        let before = running.cpu_ns()?.all_ns;
        pause(REST);
        let spent_ns = running.cpu_ns()?.all_ns.saturating_sub(before);
        if u128::from(spent_ns) < REST.as_nanos() / 4 {
            return Ok(empty_ns);
        }
        anyhow::ensure!(waiting.goes_on(), "does not come to rest within {DRAIN_LIMIT:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_datagram_and_line_that_came_through() {
        let measurement = Measurement {
            contestant: "floe".to_owned(),
            feed: "packed_flood".to_owned(),
            round: 0,
            is_segmented: false,
            datagrams_sent: 1_000,
            lines_sent: 46_000,
            datagrams_lost: 500,
            sending_ns: 1_000_000,
            sender_delay_ns: 60_000,
            reading_ns: 2_000_000,
            worker_cpu_ns: 230_000,
            all_cpu_ns: 460_000,
        };
        assert!((measurement.datagram_ns() - 460.0).abs() < 1e-9);
        assert!((measurement.line_ns() - 10.0).abs() < 1e-9);
        assert!((measurement.line_ns_of_all() - 20.0).abs() < 1e-9);
        assert!((measurement.lines_per_s() - 11.5e6).abs() < 1.0);
        assert!((measurement.offered_lines_per_s() - 46e6).abs() < 1.0);
        assert!((measurement.loss() - 0.5).abs() < 1e-12);
        let both = measurement.clone().and(&measurement);
        assert_eq!((both.datagrams_sent, both.worker_cpu_ns), (2_000, 460_000));
        assert!((both.datagram_ns() - 460.0).abs() < 1e-9);
        assert!((both.lines_per_s() - 11.5e6).abs() < 1.0);
        assert!(measurement.is_disturbed());
        assert!(!Measurement { sender_delay_ns: 50_000, ..measurement }.is_disturbed());
    }
}
