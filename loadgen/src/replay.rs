//! Sends a capture again.
//!
//! Between `capture` and the wire: one socket, the order and the bytes of the capture.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;

use crate::clock::Stopwatch;
use crate::compose::{BATCH_DATAGRAMS_MAX, Batch};
use crate::pacer::due;
use crate::refused::Refused;
use crate::socket::DatagramSocket;
use crate::stop::{ASK_EVERY, Stop};

/// Batches per second of a paced replay at most: one per millisecond.
const BATCHES_PER_SECOND: u64 = 1_000;

/// What became of a replay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replayed {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) refused: Refused,
}

/// Sends `payloads` in their order, byte for byte; `rate` is in datagrams per second here.
pub(crate) fn replay(
    target: SocketAddr,
    payloads: &[&[u8]],
    rate: Option<u64>,
    progress: &ProgressBar,
    stop: &Stop,
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
        if stop.is_asked() {
            break;
        }
        batch.clear();
        for payload in chunk {
            batch.push(payload);
        }
        if let Some(failure) = socket.send(&batch, 0..batch.datagrams(), stop).failure {
            return Err(failure)
                .with_context(|| format!("replay stopped after {datagrams} datagrams"));
        }
        datagrams += chunk.len() as u64;
        bytes += chunk.iter().map(|payload| payload.len() as u64).sum::<u64>();
        progress.inc(chunk.len() as u64);
        if let Some(rate) = rate {
            let due = due(datagrams, rate);
            while !stop.is_asked() && stopwatch.elapsed() < due {
                stopwatch.wait_until(due.min(stopwatch.elapsed() + ASK_EVERY));
            }
        }
    }
    Ok(Replayed { datagrams, bytes, elapsed: stopwatch.elapsed(), refused: socket.into_refused() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_replay_keeps_order_and_bytes() {
        let payloads: Vec<Vec<u8>> =
            (0..200u8).map(|number| vec![b'x', number | 0x80, b'\r']).collect();
        let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let target = socket.local_addr().unwrap();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 100];
            let mut next = || {
                let length = socket.recv(&mut buffer).unwrap();
                buffer[..length].to_vec()
            };
            (0..200).map(|_| next()).collect::<Vec<_>>()
        });
        let stop = Stop::default();
        let done = replay(target, &slices, None, &ProgressBar::hidden(), &stop).unwrap();
        assert_eq!(reader.join().unwrap(), payloads);
        assert_eq!((done.datagrams, done.bytes), (200, 600));
    }
}
