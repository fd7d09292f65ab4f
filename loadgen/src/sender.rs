//! One sending thread: takes datagrams out of its stocks when they are due, and sends them.
//!
//! Between `stock` and the wire; several make a `fleet`. A thread has one stream of lines and one stock
//! per socket and goes from socket to socket with each send: every socket is a source port of its own,
//! and a receiver that spreads flows over its sockets needs many of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::clock::{self, Stopwatch};
use crate::ledger::Sent;
use crate::pacer::{Pacer, Pacing};
use crate::socket::Socket;
use crate::stock::Stock;

/// A rest around each wall-clock multiple of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quiet {
    interval: Duration,
    margin: Duration,
}

impl Quiet {
    /// # Errors
    /// One sentence if a margin on both sides leaves nothing of the interval.
    pub(crate) fn new(interval: Duration, margin: Duration) -> Result<Quiet, String> {
        if interval <= margin.saturating_mul(2) {
            return Err("--margin: give less than half of --interval".to_owned());
        }
        Ok(Quiet { interval, margin })
    }

    /// How long the rest goes on at `since_epoch`; zero where sending is allowed.
    fn left(&self, since_epoch: Duration) -> Duration {
        let into_ns = since_epoch.as_nanos() % self.interval.as_nanos();
        let into = Duration::from_nanos(u64::try_from(into_ns).unwrap_or(u64::MAX));
        if into < self.margin {
            self.margin - into
        } else if self.interval - self.margin <= into {
            self.interval - into + self.margin
        } else {
            Duration::ZERO
        }
    }
}

/// How a sender goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manner {
    pub(crate) pacing: Pacing,
    /// Datagrams that leave together.
    pub(crate) burst: usize,
    /// When nothing is sent.
    pub(crate) quiet: Option<Quiet>,
    /// Whether a cut datagram ends with its line feed.
    pub(crate) is_stream: bool,
}

/// What one sender is to do in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) lines_max: u64,
    pub(crate) duration_max: Option<Duration>,
    /// Lines per second; none sends as fast as it can.
    pub(crate) rate: Option<u64>,
}

/// What a sender tells while it runs.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    lines: AtomicU64,
    /// Longest lag since somebody looked.
    lag_ns: AtomicU64,
}

impl Meter {
    // Relaxed: numbers for the eye, no other memory depends on them.
    fn set(&self, lines: u64, lag: Duration) {
        self.lines.store(lines, Ordering::Relaxed);
        let lag_ns = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX);
        self.lag_ns.fetch_max(lag_ns, Ordering::Relaxed);
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    pub(crate) fn take_lag(&self) -> Duration {
        Duration::from_nanos(self.lag_ns.swap(0, Ordering::Relaxed))
    }
}

/// What became of a share.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) lines: u64,
    /// Datagrams, or writes to a stream.
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    /// Of every send, in nanoseconds.
    pub(crate) lag: Histogram<u64>,
}

/// A socket with its datagrams.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) socket: Socket,
    pub(crate) stock: Stock,
}

/// One sending thread.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) flows: Vec<Flow>,
    pub(crate) sent: Sent,
    pub(crate) manner: Manner,
    /// The flow whose turn it is.
    pub(crate) turn: usize,
}

impl Sender {
    pub(crate) fn run(
        &mut self,
        stopwatch: Stopwatch,
        share: Share,
        meter: &Meter,
    ) -> Result<Done> {
        let mut pacer = Pacer::new(stopwatch, share.rate, self.manner.pacing);
        let (mut lines, mut datagrams, mut bytes) = (0, 0, 0);
        let mut now = pacer.now();
        while lines < share.lines_max {
            if let Some(quiet) = self.manner.quiet {
                pacer.rest(rest(quiet));
                now = pacer.now();
            }
            if share.duration_max.is_some_and(|duration| duration <= now) {
                break;
            }
            let left = share.lines_max - lines;
            let stock = &mut self.flows[self.turn].stock;
            stock.prepare(left);
            let step = pacer.step(stock.lines_of(self.manner.burst)).min(left);
            let allowed = pacer.allowed(now).saturating_sub(lines).min(left);
            if allowed < step {
                let due = pacer.due(lines + step);
                now = pacer.wait(share.duration_max.map_or(due, |duration| due.min(duration)));
                continue;
            }
            let first_lines = stock.lines_of(1).min(left);
            let gone = self.send(allowed)?;
            self.turn = (self.turn + 1) % self.flows.len();
            now = pacer.now();
            let lag = pacer.sent(now, lines + first_lines);
            lines += gone.lines;
            datagrams += gone.datagrams;
            bytes += gone.bytes;
            meter.set(lines, lag);
        }
        self.sent.datagrams += datagrams;
        self.sent.bytes += bytes;
        Ok(Done { lines, datagrams, bytes, elapsed: now, lag: pacer.into_lag() })
    }

    /// Sends what `lines` lines allow of the flow whose turn it is.
    fn send(&mut self, lines: u64) -> Result<Gone> {
        let Flow { socket, stock } = &mut self.flows[self.turn];
        let count = stock.within(lines);
        if count == 0 {
            // The last lines of a run are fewer than the next datagram has.
            let part = stock.cut(lines, self.manner.is_stream);
            let bytes = part.len() as u64;
            let datagrams = socket.send_one(part)?;
            stock.advance_cut(lines, &mut self.sent);
            return Ok(Gone { lines, datagrams, bytes });
        }
        let (batch, first) = stock.next();
        let range = first..first + count;
        let bytes = batch.slice(range.clone()).len() as u64;
        let datagrams = socket.send(batch, range)?;
        let lines = stock.lines_of(count);
        stock.advance(count, &mut self.sent);
        Ok(Gone { lines, datagrams, bytes })
    }

    /// Closes the books.
    pub(crate) fn close(mut self) -> (Sent, u64) {
        for flow in &self.flows {
            flow.stock.close(&mut self.sent);
        }
        let refused = self.flows.iter().map(|flow| flow.socket.refused()).sum();
        (self.sent, refused)
    }
}

/// What one send took.
struct Gone {
    lines: u64,
    datagrams: u64,
    bytes: u64,
}

/// Rests where it has to, and gives the time that went by.
fn rest(quiet: Quiet) -> Duration {
    let left = quiet.left(clock::unix_time());
    if left.is_zero() {
        return left;
    }
    let stopwatch = Stopwatch::start();
    clock::pause(left);
    stopwatch.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_lasts_from_before_a_multiple_until_after_it() {
        let ms = Duration::from_millis;
        let quiet = Quiet::new(ms(1_000), ms(100)).unwrap();
        for (at, left) in [(5_000, 100), (5_099, 1), (5_100, 0), (5_899, 0), (5_900, 200)] {
            assert_eq!(quiet.left(ms(at)), ms(left), "{at} ms");
        }
        assert!(Quiet::new(ms(1_000), ms(500)).is_err());
    }

    #[test]
    fn a_meter_forgets_the_lag_that_was_looked_at() {
        let meter = Meter::default();
        meter.set(5, Duration::from_millis(3));
        meter.set(9, Duration::from_millis(1));
        assert_eq!((meter.lines(), meter.take_lag()), (9, Duration::from_millis(3)));
        assert_eq!(meter.take_lag(), Duration::ZERO);
    }
}
