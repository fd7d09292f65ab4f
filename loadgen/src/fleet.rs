//! All senders of a run: prepared once, sent out for one round or many.
//!
//! Between `sender` and `run` or `search`. The lines and the rate are shared out; while the threads
//! send, the caller is told every 50 ms how far they are. Each sender keeps its own books, which are
//! added up at the end.

use std::thread;
use std::time::Duration;

use anyhow::{Error, Result};
use hdrhistogram::Histogram;

use crate::clock::Stopwatch;
use crate::compose::{End, Packing};
use crate::ledger::Sent;
use crate::pacer::{REACHED_MIN, due, lag_histogram};
use crate::refused::Refused;
use crate::sender::{Done, Flow, Manner, Meter, Sender, Share};
use crate::socket::Socket;
use crate::stock::Stock;
use crate::stop::Stop;
use crate::target::Target;
use crate::workload::{Bases, Keys, Shape, Workload};

/// Between two looks at the senders.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What to send with.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) packing: Packing,
    /// Sending threads.
    pub(crate) senders: u32,
    /// Sockets of each.
    pub(crate) sockets: u32,
    /// Lines composed ahead over all sockets and sent in rotation; none composes each line as it goes.
    pub(crate) rotation_lines: Option<u64>,
    pub(crate) manner: Manner,
}

/// How the senders are doing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) at: Duration,
    pub(crate) lines: u64,
    /// Longest lag since the look before.
    pub(crate) lag: Duration,
}

/// What became of a round.
#[derive(Debug)]
pub(crate) struct Round {
    /// Lines per second asked for; none where it was as fast as possible.
    pub(crate) offered: Option<u64>,
    /// Lines asked for; `u64::MAX` where the time alone is the end.
    pub(crate) lines_max: u64,
    pub(crate) lines: u64,
    /// Datagrams, or writes to a stream.
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    /// Lines that were due until the end, or would have been were there so many.
    pub(crate) due: u64,
    /// Of every send, in nanoseconds.
    pub(crate) lag: Histogram<u64>,
    /// One sentence for each sender that did not get through.
    pub(crate) failures: Vec<String>,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown rounded")]
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds <= 0.0 { 0.0 } else { count as f64 / seconds }
    }

    /// How far it kept the rate that was asked for.
    pub(crate) fn kept(&self) -> Option<Kept> {
        let behind = due(self.due.saturating_sub(self.lines), self.offered?);
        // Nobody owes more than was asked for, however late it left.
        let behind_lines = self.due.min(self.lines_max).saturating_sub(self.lines);
        // Never rounded up to the whole.
        let parts = u128::from(self.lines) * 10_000 / u128::from(self.due.max(1));
        let parts = if self.due <= self.lines { 10_000 } else { parts };
        let percent = f64::from(u32::try_from(parts).expect("at most the whole")) / 100.0;
        Some(Kept { percent, behind, behind_lines })
    }
}

/// How far a rate was kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Kept {
    /// What left, of what was due.
    pub(crate) percent: f64,
    /// How late the end was, as time at the rate asked for.
    pub(crate) behind: Duration,
    /// What had not left by then.
    pub(crate) behind_lines: u64,
}

impl Kept {
    pub(crate) fn is_reached(&self) -> bool {
        100.0 * REACHED_MIN <= self.percent
    }
}

/// Senders that are ready.
#[derive(Debug)]
pub(crate) struct Fleet {
    senders: Vec<Sender>,
    keys: Keys,
}

impl Fleet {
    /// Connects and composes. `shape.streams` is the number of sockets over all senders.
    pub(crate) fn prepare(plan: &Plan, shape: &Shape) -> Result<Fleet> {
        let keys = Keys::new(shape);
        let bases = Bases::new(&keys);
        let segment_bytes =
            (plan.packing.end == End::Padded).then_some(plan.packing.datagram_bytes_max);
        let streams = u64::from(shape.streams.max(1));
        let rotation_lines = plan.rotation_lines.map(|lines| lines.div_ceil(streams));
        let flow = |stream| -> Result<Flow> {
            let socket = Socket::connect(&plan.target, segment_bytes)?;
            let workload = Workload::with_bases(shape, stream, bases.clone())?;
            let stock = match rotation_lines {
                Some(lines) => Stock::rotation(plan.packing, workload, lines),
                None => Stock::fresh(plan.packing, workload),
            };
            Ok(Flow { socket, stock })
        };
        let mut senders = Vec::new();
        for index in 0..plan.senders {
            let first = index * plan.sockets;
            let flows = (first..first + plan.sockets).map(flow).collect::<Result<_>>()?;
            senders.push(Sender { flows, sent: Sent::new(&keys), manner: plan.manner, turn: 0 });
        }
        Ok(Fleet { senders, keys })
    }

    /// Sends `share` over all senders until that is done or `stop` asked, and tells `watch` how they are
    /// doing. A sender that fails does not end the others.
    pub(crate) fn run(&mut self, share: Share, stop: &Stop, watch: &mut dyn FnMut(Look)) -> Round {
        let meters: Vec<Meter> = self.senders.iter().map(|_| Meter::default()).collect();
        let shares = share_out(share, self.senders.len() as u64);
        let stopwatch = Stopwatch::start();
        let finished: Vec<Done> = thread::scope(|scope| {
            let main = thread::current();
            let running: Vec<_> = (self.senders.iter_mut().zip(shares))
                .zip(&meters)
                .map(|((sender, share), meter)| {
                    let main = main.clone();
                    scope.spawn(move || {
                        let done = sender.run(stopwatch, share, meter, stop);
                        main.unpark();
                        done
                    })
                })
                .collect();
            while !running.iter().all(thread::ScopedJoinHandle::is_finished) {
                thread::park_timeout(LOOK_EVERY);
                watch(look(stopwatch, &meters));
            }
            // Between the last look and the end a sender may have sent more.
            watch(look(stopwatch, &meters));
            running
                .into_iter()
                .map(|thread| thread.join().expect("a sender never panics"))
                .collect()
        });
        let mut round = Round {
            offered: share.rate,
            lines_max: share.lines_max,
            lines: 0,
            datagrams: 0,
            bytes: 0,
            elapsed: Duration::ZERO,
            due: 0,
            lag: lag_histogram(),
            failures: Vec::new(),
        };
        for (number, done) in (1..).zip(finished) {
            round.due += done.due;
            round.failures.extend(done.failure.map(|failure: Error| {
                format!("sender {number} gave up after {} lines: {failure:#}", done.lines)
            }));
            round.lines += done.lines;
            round.datagrams += done.datagrams;
            round.bytes += done.bytes;
            round.elapsed = round.elapsed.max(done.elapsed);
            round.lag.add(&done.lag).expect("both have the same bounds");
        }
        round
    }

    /// Closes the sockets without the books; gives the refused sends.
    pub(crate) fn into_refused(self) -> Refused {
        let mut refused = Refused::default();
        for flow in self.senders.into_iter().flat_map(|sender| sender.flows) {
            refused.add(flow.socket.into_refused());
        }
        refused
    }

    /// Closes the sockets and the books; gives them with the refused sends.
    pub(crate) fn close(self) -> (Sent, Refused) {
        let mut total = Sent::new(&self.keys);
        let mut refused = Refused::default();
        for sender in self.senders {
            let (sent, sender_refused) = sender.close();
            total.merge(&sent);
            refused.add(sender_refused);
        }
        (total, refused)
    }
}

fn look(stopwatch: Stopwatch, meters: &[Meter]) -> Look {
    Look {
        at: stopwatch.elapsed(),
        lines: meters.iter().map(Meter::lines).sum(),
        lag: meters.iter().map(Meter::take_lag).max().unwrap_or_default(),
    }
}

/// One share per sender: the remainder goes to the first ones, line by line.
fn share_out(share: Share, senders: u64) -> impl Iterator<Item = Share> {
    (0..senders).map(move |place| {
        let part = |total: u64| total / senders + u64::from(place < total % senders);
        Share {
            lines_max: if share.lines_max == u64::MAX { u64::MAX } else { part(share.lines_max) },
            duration_max: share.duration_max,
            rate: share.rate.map(|rate| part(rate).max(1)),
        }
    })
}

#[cfg(test)]
pub(crate) mod tests;
