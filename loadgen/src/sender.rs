//! One sending thread: takes datagrams out of its stocks when they are due, and sends them.
//!
//! Between `stock` and the wire; several make a `fleet`. A thread has one stream of lines and one stock
//! per socket and goes from socket to socket with each send: every socket is a source port of its own,
//! and a receiver that spreads flows over its sockets needs many of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Error;
use hdrhistogram::Histogram;

use crate::clock::{self, Stopwatch};
use crate::ledger::Sent;
use crate::pacer::{Pacer, Pacing};
use crate::refused::Refused;
use crate::socket::Socket;
use crate::stock::Stock;
use crate::stop::{ASK_EVERY, Stop};

/// A rest around each wall-clock multiple of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quiet {
    pub(crate) interval: Duration,
    pub(crate) margin: Duration,
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
    /// Lines that were due until then; of a user who cut it short, none of a datagram that was not yet due.
    pub(crate) due: u64,
    /// Of every send, in nanoseconds.
    pub(crate) lag: Histogram<u64>,
    /// What ended it early, other than the user.
    pub(crate) failure: Option<Error>,
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
        stop: &Stop,
    ) -> Done {
        let mut pacer = Pacer::new(stopwatch, share.rate, self.manner.pacing);
        let mut gone = Gone::default();
        // Of the next send, once there was one.
        let mut step = u64::MAX;
        let mut now = pacer.now();
        let mut is_waiting = true;
        while gone.lines < share.lines_max && gone.failure.is_none() && !stop.is_asked() {
            if share.duration_max.is_some_and(|duration| duration <= now) {
                break;
            }
            let rested = self.manner.quiet.map_or(Duration::ZERO, rest);
            if !rested.is_zero() {
                pacer.rest(rested);
                now = pacer.now();
                continue;
            }
            let left = share.lines_max - gone.lines;
            step = self.step(&pacer, left);
            let allowed = pacer.allowed(now).saturating_sub(gone.lines).min(left);
            is_waiting = allowed < step;
            if is_waiting {
                // A long wait is cut into pieces, so that the user is heard.
                let due = pacer.due(gone.lines + step).min(now + ASK_EVERY);
                now = pacer.wait(share.duration_max.map_or(due, |duration| due.min(duration)));
                continue;
            }
            now = self.send_paced(allowed, &mut pacer, &mut gone, meter, stop);
        }
        let end = share.duration_max.map_or(now, |duration| duration.min(now));
        let due = pacer.allowed(end);
        if share.rate.is_some() && gone.lines < share.lines_max {
            step = self.step(&pacer, share.lines_max - gone.lines);
            // Who did not keep up owes whole datagrams, and has no more time for them.
            if is_waiting || due < gone.lines.saturating_add(step) {
                let last = due.min(share.lines_max).min(gone.lines.saturating_add(step));
                self.send_rest(last, &mut pacer, &mut gone, meter, stop);
                now = pacer.now();
            }
        }
        self.sent.datagrams += gone.datagrams;
        self.sent.bytes += gone.bytes;
        let is_behind = share.rate.is_some() && gone.lines.saturating_add(step) <= due;
        let due = if is_behind { due } else { gone.lines };
        let Gone { lines, datagrams, bytes, failure } = gone;
        Done { lines, datagrams, bytes, elapsed: now, due, lag: pacer.into_lag(), failure }
    }

    /// Lines of the next send, where `left` are left.
    fn step(&mut self, pacer: &Pacer, left: u64) -> u64 {
        let stock = &mut self.flows[self.turn].stock;
        stock.prepare(left);
        pacer.step(stock.lines_of(self.manner.burst)).min(left)
    }

    /// Sends what is due at the end, up to line number `last`, if it does not fill a datagram either.
    fn send_rest(
        &mut self,
        last: u64,
        pacer: &mut Pacer,
        gone: &mut Gone,
        meter: &Meter,
        stop: &Stop,
    ) {
        while gone.lines < last && gone.failure.is_none() && !stop.is_asked() {
            if self.manner.quiet.is_some_and(|quiet| !quiet.left(clock::unix_time()).is_zero()) {
                return;
            }
            let left = last - gone.lines;
            self.flows[self.turn].stock.prepare(left);
            self.send_paced(left, pacer, gone, meter, stop);
        }
    }

    /// Sends what `allowed` lines allow, enters how late that was, and gives the time then.
    fn send_paced(
        &mut self,
        allowed: u64,
        pacer: &mut Pacer,
        gone: &mut Gone,
        meter: &Meter,
        stop: &Stop,
    ) -> Duration {
        let first_lines = self.flows[self.turn].stock.lines_of(1).min(allowed);
        let sent = self.send(allowed, stop);
        self.turn = (self.turn + 1) % self.flows.len();
        let now = pacer.now();
        let lag = pacer.sent(now, gone.lines + first_lines);
        gone.add(sent);
        meter.set(gone.lines, lag);
        now
    }

    /// Sends what `lines` lines allow of the flow whose turn it is.
    fn send(&mut self, lines: u64, stop: &Stop) -> Gone {
        let Flow { socket, stock } = &mut self.flows[self.turn];
        let count = stock.within(lines);
        let (offered, taken, whole) = if count == 0 {
            // The last lines of a run are fewer than the next datagram has.
            let part = stock.cut(lines, self.manner.is_stream);
            (part, socket.send_one(part, stop), lines)
        } else {
            let (batch, first) = stock.next();
            let range = first..first + count;
            let taken = socket.send(batch, range.clone(), stop);
            (batch.slice(range), taken, stock.lines_of(count))
        };
        let lines = if taken.bytes == offered.len() {
            whole
        } else if self.manner.is_stream {
            offered[..taken.bytes].iter().filter(|byte| **byte == b'\n').count() as u64
        } else {
            stock.lines_of(taken.sends)
        };
        let (datagrams, bytes) = (taken.sends as u64, taken.bytes as u64);
        stock.leave(lines, &mut self.sent);
        Gone { lines, datagrams, bytes, failure: taken.failure }
    }

    /// Closes the books.
    pub(crate) fn close(mut self) -> (Sent, Refused) {
        let mut refused = Refused::default();
        for flow in self.flows {
            flow.stock.close(&mut self.sent);
            refused.add(flow.socket.into_refused());
        }
        (self.sent, refused)
    }
}

/// What one send took, or several.
#[derive(Debug, Default)]
struct Gone {
    lines: u64,
    datagrams: u64,
    bytes: u64,
    failure: Option<Error>,
}

impl Gone {
    fn add(&mut self, other: Gone) {
        self.lines += other.lines;
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.failure = other.failure;
    }
}

/// Rests where it has to, for a while at the most, and gives the time that went by.
fn rest(quiet: Quiet) -> Duration {
    let left = quiet.left(clock::unix_time());
    if left.is_zero() {
        return left;
    }
    let stopwatch = Stopwatch::start();
    clock::pause(left.min(ASK_EVERY));
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
