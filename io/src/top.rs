//! `floe top`: which prefixes, names and senders bring most lines, most new names, most bad lines.
//!
//! A worker hands over copies of what it receives in short windows, one batch in 64 and twenty a second
//! at the most, with the address of the sender where `top.senders` allows: a tap as the repeater has (`ingest/tap.rs`). A thread of its
//! own reads them again and counts into sketches of a fixed size (`floe_core::heavy`); whoever asks
//! gets what the last one to two minutes brought, without waiting for anybody. Nothing is done for a
//! line outside a window, and a thread that is behind loses samples, which are counted.
//!
//! What is told is *of the samples*: shares are what they are worth; with `senders = "all"` everything
//! is a sample. A name is new while the catalogue does not have it, so until the flush after its first
//! line, or, beyond a budget, for ever; each is counted once a minute.

/// What was counted.
mod board;
/// What is told.
pub mod report;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use floe_core::budget::Ledger;
use floe_core::config::settings::{Senders, Settings};
use floe_core::line::LineParser;
use floe_core::name::KeyHasher;
use rustix::event::{PollFd, PollFlags, poll};

use self::board::{Board, Reader};
use self::report::Report;
use crate::clock::{NS_PER_S, monotonic_ns};
use crate::ingest::tap::{Tap, TapReader, tap_of};
use crate::side_thread::SideThread;
use crate::sys::{WakeUp, timespec};

/// After so long what was counted is the minute before.
const MINUTE_NS: u64 = 60 * NS_PER_S;

/// Longest sleep of the thread: the minutes go on without samples.
const LOOK: Duration = Duration::from_secs(1);

/// How long the end waits for the thread.
const END_LIMIT: Duration = Duration::from_millis(300);

/// Bytes in front of a sample: the family of the sender's address, 0 for none, and the address.
const HEAD_BYTES: usize = 17;

/// The two minutes that are told of.
#[derive(Debug)]
struct Minutes {
    current: Board,
    previous: Board,
    /// When the current one and the previous one began.
    began_ns: [u64; 2],
}

impl Minutes {
    fn new(now_ns: u64) -> Self {
        Self { current: Board::default(), previous: Board::default(), began_ns: [now_ns; 2] }
    }

    fn turn(&mut self, now_ns: u64) {
        if self.began_ns[0] + MINUTE_NS <= now_ns {
            self.previous = std::mem::take(&mut self.current);
            self.began_ns = [now_ns, self.began_ns[0]];
        }
    }
}

/// What whoever asks is told from.
#[derive(Debug)]
pub struct TopView {
    minutes: Mutex<Minutes>,
    senders: Senders,
    tap: TapReader,
}

impl TopView {
    /// What the last one to two minutes brought.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut minutes = self.lock();
        let now_ns = monotonic_ns();
        minutes.turn(now_ns);
        let mut board = minutes.previous.clone();
        board.merge(&minutes.current);
        let seconds = now_ns.saturating_sub(minutes.began_ns[1]) / NS_PER_S;
        drop(minutes);
        board.report(seconds, self.tap.left_out(), self.senders)
    }

    fn lock(&self) -> MutexGuard<'_, Minutes> {
        self.minutes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that counts. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Top {
    view: Arc<TopView>,
    stop: Arc<WakeUp>,
    thread: SideThread,
}

impl Top {
    /// Starts the thread for so many workers; names are new while `ledger` does not know them, whose
    /// hashes are those of `hasher`.
    pub(crate) fn start(
        settings: &Settings,
        workers: usize,
        hasher: KeyHasher,
        ledger: Arc<Ledger>,
    ) -> io::Result<Self> {
        // One that a worker fills and one that is read, for each.
        let tap = tap_of(2 * workers)?;
        let stop = Arc::new(WakeUp::new()?);
        let view = Arc::new(TopView {
            minutes: Mutex::new(Minutes::new(monotonic_ns())),
            senders: settings.top.senders,
            tap: tap.share(),
        });
        let parser = LineParser::new(settings.key_name_sanitize);
        let mut reader = Reader::new(parser, hasher, ledger, settings.top.has_examples);
        let (seen, told) = (Arc::clone(&stop), Arc::clone(&view));
        let thread = SideThread::start("top", move || serve(&tap, &seen, &told, &mut reader))?;
        Ok(Self { view, stop, thread })
    }

    /// For whoever answers.
    pub(crate) fn view(&self) -> Arc<TopView> {
        Arc::clone(&self.view)
    }

    /// For a worker.
    pub(crate) fn sampler(&self) -> Sampler {
        Sampler { tap: self.view.tap.writer(), has_senders: self.view.senders != Senders::Off }
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        self.stop.wake();
        self.thread.join_within(END_LIMIT);
    }
}

/// A worker's end: takes copies of samples.
#[derive(Debug)]
pub struct Sampler {
    tap: Tap,
    has_senders: bool,
}

impl Sampler {
    /// Copies one datagram, with its sender if that may be told.
    pub(crate) fn push(&mut self, sender: Option<IpAddr>, datagram: &[u8]) {
        let mut head = [0; HEAD_BYTES];
        match sender.filter(|_| self.has_senders).map(|sender| sender.to_canonical()) {
            Some(IpAddr::V4(address)) => {
                head[0] = 4;
                head[1..5].copy_from_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                head[0] = 6;
                head[1..].copy_from_slice(&address.octets());
            }
            None => {}
        }
        self.tap.push_parts(&head, datagram);
    }

    /// Hands over what was copied.
    pub(crate) fn hand_over(&mut self) {
        self.tap.hand_over();
    }
}

/// The sender and the datagram of a sample.
fn parts(sample: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let (head, datagram) = sample.split_at_checked(HEAD_BYTES)?;
    let sender = match head {
        [4, a, b, c, d, ..] => Some(IpAddr::from([*a, *b, *c, *d])),
        [6, address @ ..] => Some(IpAddr::from(<[u8; 16]>::try_from(address).ok()?)),
        _ => None,
    };
    Some((sender, datagram))
}

fn serve(tap: &TapReader, stop: &WakeUp, view: &TopView, reader: &mut Reader) {
    loop {
        let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::new(tap.filled(), PollFlags::IN)];
        // An interrupted wait is looked at like any other.
        poll(&mut fds, Some(&timespec(LOOK))).ok();
        if !fds[0].revents().is_empty() {
            return;
        }
        tap.filled().clear();
        while let Some(batch) = tap.take() {
            let mut minutes = view.lock();
            minutes.turn(monotonic_ns());
            for (sender, datagram) in batch.datagrams().filter_map(parts) {
                reader.read(sender, datagram, &mut minutes.current);
            }
            drop(minutes);
            tap.give_back(batch);
        }
    }
}
