//! Sends a workload, or a capture, at a given rate.
//!
//! Between `compose` and the wire. One thread, socket and stream of lines per sender; each keeps its own
//! books, which are added up at the end. Pacing is by lines: after each batch a sender waits until the
//! moment at which that many lines are due, so a delay is made up for and the mean rate holds.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;

use crate::clock::{self, Stopwatch};
use crate::compose::{BATCH_DATAGRAMS_MAX, Batch, BatchRoom, Composer, Packing};
use crate::ledger::Sent;
use crate::socket::DatagramSocket;
use crate::workload::{Keys, Shape, Workload};

/// Batches per second of a paced sender at most: one per millisecond.
const BATCHES_PER_SECOND: u64 = 1_000;

/// What to send, and how fast.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: SocketAddr,
    pub(crate) packing: Packing,
    pub(crate) lines_max: u64,
    pub(crate) duration_max: Option<Duration>,
    /// Lines per second over all senders; none sends as fast as it can.
    pub(crate) rate: Option<u64>,
    /// When nothing is sent.
    pub(crate) quiet: Option<Quiet>,
}

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

/// What became of a plan.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: Sent,
    pub(crate) elapsed: Duration,
    /// Sends that met a closed port.
    pub(crate) refused: u64,
}

/// Sends the workload of `shape` by `plan`; `progress` counts lines.
pub(crate) fn run(plan: &Plan, shape: &Shape, progress: &ProgressBar) -> Result<Outcome> {
    let senders = u64::from(shape.senders);
    let mut prepared = Vec::new();
    for index in 0..shape.senders {
        let place = u64::from(index);
        // The remainder goes to the first senders, line by line.
        let share = |total: u64| total / senders + u64::from(place < total % senders);
        let segment_bytes = plan.packing.is_padded.then_some(plan.packing.datagram_bytes_max);
        prepared.push(Sender {
            socket: DatagramSocket::connect(plan.target, segment_bytes)?,
            composer: Composer::new(plan.packing, Workload::new(shape, index)?),
            sent: Sent::new(&Keys::new(shape)),
            lines_max: share(plan.lines_max),
            duration_max: plan.duration_max,
            rate: plan.rate.map(|rate| share(rate).max(1)),
            quiet: plan.quiet,
        });
    }
    let stopwatch = Stopwatch::start();
    let finished: Vec<Result<Sender>> = thread::scope(|scope| {
        let spawn = |sender: Sender| scope.spawn(move || sender.run(stopwatch, progress));
        let running: Vec<_> = prepared.into_iter().map(spawn).collect();
        running.into_iter().map(|thread| thread.join().expect("a sender never panics")).collect()
    });
    let elapsed = stopwatch.elapsed();
    let mut sent = Sent::new(&Keys::new(shape));
    let mut refused = 0;
    for sender in finished {
        let sender = sender?;
        sent.merge(&sender.sent);
        refused += sender.socket.refused;
    }
    Ok(Outcome { sent, elapsed, refused })
}

struct Sender {
    socket: DatagramSocket,
    composer: Composer,
    sent: Sent,
    lines_max: u64,
    duration_max: Option<Duration>,
    rate: Option<u64>,
    quiet: Option<Quiet>,
}

impl Sender {
    fn run(mut self, stopwatch: Stopwatch, progress: &ProgressBar) -> Result<Sender> {
        let lines_enough = self.rate.map_or(u64::MAX, |rate| (rate / BATCHES_PER_SECOND).max(1));
        let mut batch = Batch::default();
        let mut rested = Duration::ZERO;
        while self.sent.lines < self.lines_max {
            rested += self.rest();
            if self.duration_max.is_some_and(|duration| duration <= stopwatch.elapsed()) {
                break;
            }
            let lines_max = self.lines_max - self.sent.lines;
            let room = BatchRoom { lines_max, lines_enough };
            self.composer.fill(&mut batch, room, &mut self.sent);
            self.socket.send(&batch)?;
            progress.inc(batch.lines());
            if let Some(rate) = self.rate {
                stopwatch.wait_until(due(self.sent.lines, rate) + rested);
            }
        }
        Ok(self)
    }

    /// Rests where it has to, and gives the time that went by: it is not made up for.
    fn rest(&self) -> Duration {
        let left = self.quiet.map_or(Duration::ZERO, |quiet| quiet.left(clock::unix_time()));
        if left.is_zero() {
            return left;
        }
        let stopwatch = Stopwatch::start();
        clock::pause(left);
        stopwatch.elapsed()
    }
}

/// When `count` things are due at `rate` things per second.
fn due(count: u64, rate: u64) -> Duration {
    let nanos = u128::from(count) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What became of a replay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replayed {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) refused: u64,
}

/// Sends `payloads` in their order, byte for byte; `rate` is in datagrams per second here.
pub(crate) fn replay(
    target: SocketAddr,
    payloads: &[&[u8]],
    rate: Option<u64>,
    progress: &ProgressBar,
) -> Result<Replayed> {
    let mut socket = DatagramSocket::connect(target, None)?;
    let per_batch = rate.map_or(BATCH_DATAGRAMS_MAX, |rate| {
        let datagrams = (rate / BATCHES_PER_SECOND).clamp(1, BATCH_DATAGRAMS_MAX as u64);
        usize::try_from(datagrams).expect("at most BATCH_DATAGRAMS_MAX")
    });
    let stopwatch = Stopwatch::start();
    let mut batch = Batch::default();
    let (mut datagrams, mut bytes) = (0u64, 0u64);
    for chunk in payloads.chunks(per_batch) {
        batch.clear();
        for payload in chunk {
            batch.push(payload);
        }
        socket.send(&batch).context("replay stopped")?;
        datagrams += chunk.len() as u64;
        bytes += batch.size_bytes() as u64;
        progress.inc(chunk.len() as u64);
        if let Some(rate) = rate {
            stopwatch.wait_until(due(datagrams, rate));
        }
    }
    Ok(Replayed { datagrams, bytes, elapsed: stopwatch.elapsed(), refused: socket.refused })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::workload::tests::shape;
    use std::net::UdpSocket;

    /// A receiver that reads until `lines` lines have come, and gives the datagrams.
    pub(crate) fn receiver(lines: usize) -> (SocketAddr, thread::JoinHandle<Vec<Vec<u8>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let read = move || {
            let mut datagrams = Vec::new();
            let mut buffer = vec![0; 65_536];
            let mut seen = 0;
            while seen < lines {
                let length = socket.recv(&mut buffer).unwrap();
                let datagram = buffer[..length].to_vec();
                let parts = datagram.split(|&byte| byte == b'\n');
                seen += parts.filter(|part| !part.is_empty()).count();
                datagrams.push(datagram);
            }
            datagrams
        };
        (address, thread::spawn(read))
    }

    pub(crate) fn plan(target: SocketAddr, lines_max: u64) -> Plan {
        let packing = Packing { datagram_bytes_max: 1_400, is_single: false, is_padded: false };
        Plan { target, packing, lines_max, duration_max: None, rate: Some(50_000), quiet: None }
    }

    #[test]
    fn every_sender_sends_its_share_and_the_books_add_up() {
        let shape = Shape { senders: 3, ..shape() };
        let (target, datagrams) = receiver(1_000);
        let outcome = run(&plan(target, 1_000), &shape, &ProgressBar::hidden()).unwrap();
        let datagrams = datagrams.join().unwrap();
        let bytes: usize = datagrams.iter().map(Vec::len).sum();
        assert_eq!(outcome.sent.lines, 1_000);
        assert_eq!(outcome.sent.datagrams, datagrams.len() as u64);
        assert_eq!(outcome.sent.bytes, bytes as u64);
        assert_eq!(outcome.refused, 0);
    }

    #[test]
    fn a_paced_run_is_never_faster_than_its_rate() {
        let (target, datagrams) = receiver(500);
        let plan = Plan { rate: Some(10_000), ..plan(target, 500) };
        let outcome = run(&plan, &shape(), &ProgressBar::hidden()).unwrap();
        drop(datagrams.join().unwrap());
        assert!(Duration::from_millis(50) <= outcome.elapsed);
    }

    #[test]
    fn a_run_ends_with_its_duration() {
        let (target, datagrams) = receiver(1);
        let duration_max = Some(Duration::from_millis(30));
        let plan = Plan { duration_max, ..plan(target, u64::MAX) };
        let outcome = run(&plan, &shape(), &ProgressBar::hidden()).unwrap();
        drop(datagrams.join().unwrap());
        assert!(0 < outcome.sent.lines);
        assert!(outcome.sent.lines <= 50_000 * 10);
    }

    #[test]
    fn a_replay_keeps_order_and_bytes() {
        let payloads: Vec<Vec<u8>> =
            (0..200u8).map(|number| vec![b'x', number | 0x80, b'\r']).collect();
        let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let (target, datagrams) = receiver(200);
        let done = replay(target, &slices, None, &ProgressBar::hidden()).unwrap();
        assert_eq!(datagrams.join().unwrap(), payloads);
        assert_eq!((done.datagrams, done.bytes), (200, 600));
    }

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
    fn a_run_with_rests_sends_all_its_lines() {
        let (target, datagrams) = receiver(500);
        let quiet = Quiet::new(Duration::from_millis(20), Duration::from_millis(8)).unwrap();
        let plan = Plan { quiet: Some(quiet), ..plan(target, 500) };
        let outcome = run(&plan, &shape(), &ProgressBar::hidden()).unwrap();
        drop(datagrams.join().unwrap());
        // 10 ms of sending take at least two spells of 4 ms with a rest of 16 ms between them.
        assert!(Duration::from_millis(26) <= outcome.elapsed);
    }

    #[test]
    fn lines_are_due_by_their_number() {
        assert_eq!(due(500, 1_000), Duration::from_millis(500));
        assert_eq!(due(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }
}
