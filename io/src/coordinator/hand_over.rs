//! The open interval goes to a successor.
//!
//! First the coordinator *holds*: it commits nothing, so that the successor can open the spool, while
//! the workers go on receiving. A successor that gives up costs a late tick. Then it *hands over*: the
//! workers end, what they had goes into the interval, and the interval with its books leaves as bytes
//! for the successor, which reads the sockets from that moment on. Only when the successor says that
//! it has them does the coordinator end; else it closes the interval here and spools it, as a drain
//! would: nothing that was received is lost either way.
//!
//! A successor of another form (`HANDED_FORMAT`(floe_core::interval::handed::HANDED_FORMAT)) gets the
//! interval as a segment, and the books as each start gets them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use floe_core::interval::handed::HandedBytes;
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::Coordinator;
use super::answers::Then;
use crate::clock::monotonic_ns;

/// Between two signs of life while it holds.
const HOLD_LOOK: Duration = Duration::from_millis(100);

/// A hold and what ends it.
#[derive(Debug)]
pub struct Hold {
    /// Told once nothing is committed any more: a duplicate of the spool's lock, or why not.
    pub held: Sender<Result<OwnedFd, String>>,
    /// What comes then; dropped, it goes on as before.
    pub next: Receiver<HandOver>,
}

/// What the coordinator needs to hand over, and whom it tells.
#[derive(Debug)]
pub struct HandOver {
    /// Whether the successor reads the interval in our form.
    pub is_form_known: bool,
    /// Cookies of the sockets that the successor goes on with.
    pub kept: Vec<u64>,
    /// Told when no worker reads any more.
    pub stopped: Sender<()>,
    /// What the successor needs.
    pub handed: Sender<Handed>,
    /// Told when the successor has it; dropped without, it has not.
    pub taken: Receiver<()>,
}

/// All that goes to the successor.
#[derive(Debug, Default)]
pub struct Handed {
    /// The open interval; `None` = it was spooled.
    pub interval: Option<HandedBytes>,
    /// The books beside it.
    pub books: HandedBooks,
}

/// The books that go to the successor.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct HandedBooks {
    /// Everything counted but for the open interval's page; `None` = the spool has it.
    pub base: Option<BTreeMap<String, u64>>,
    /// What the next tick has to tell beside its own.
    pub untold: Vec<(String, u64)>,
    /// How far each socket's kernel counter was counted, by the socket's cookie.
    pub readings: Vec<(u64, u32)>,
    /// When the open interval ends, wall clock, ms; 0 = it has ended.
    pub next_tick_ms: u64,
    /// Length of the open interval on its grid, ms.
    pub interval_ms: u64,
    /// When the newest input came, wall clock, ms.
    pub newest_input_ms: Option<u64>,
}

impl Coordinator {
    /// Commits nothing until a successor has taken over or given up.
    pub(super) fn hold(&mut self, hold: &Hold) -> Then {
        self.spool_waiting(false);
        let waiting = self.parts.backlog.len();
        let lock = if waiting == 0 {
            self.parts.spool.share_lock().map_err(|error| error.to_string())
        } else {
            Err(format!("{waiting} intervals wait in memory for the disk"))
        };
        let is_refused = lock.is_err();
        // Whoever has gone away meanwhile drops what comes next as well.
        hold.held.send(lock).ok();
        if is_refused {
            return Then::GoOn;
        }
        loop {
            self.watchdog.tell_alive(monotonic_ns());
            match hold.next.recv_timeout(HOLD_LOOK.min(self.watchdog_wait())) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.parts.spool.tell_holder();
                    return Then::GoOn;
                }
                Ok(hand_over) => {
                    self.hand_over(&hand_over);
                    return Then::End;
                }
            }
        }
    }

    fn watchdog_wait(&self) -> Duration {
        Duration::from_millis(self.watchdog.wait_ms())
    }

    /// Ends the workers and gives the open interval away.
    fn hand_over(&mut self, to: &HandOver) {
        for worker in &self.workers {
            worker.signals.hand_over();
        }
        self.join_workers();
        // The successor reads on at once; all else can wait, above all what was received last: with many
        // series it takes longer than anything before.
        to.stopped.send(()).ok();
        for socket in &mut self.parts.sockets {
            if to.kept.contains(&socket.cookie()) {
                socket.keep();
            }
        }
        self.close_sockets();
        self.collect_last();
        let handed = self.handed(to.is_form_known);
        let is_interval_there = handed.interval.is_some();
        to.handed.send(handed).ok();
        let is_taken = to.taken.recv().is_ok();
        if is_interval_there && !is_taken {
            warn!("successor lost before it had the open interval: spooled here");
            self.spool_open_interval();
        }
    }

    fn handed(&mut self, is_form_known: bool) -> Handed {
        let interval = is_form_known.then(|| self.parts.interval.to_handed());
        let interval = match interval {
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(error)) => {
                warn!(%error, "open interval not handed over as it is: spooled");
                None
            }
            None => {
                info!("open interval spooled: the successor has another form of it");
                None
            }
        };
        if interval.is_none() {
            self.spool_open_interval();
        }
        let kept = self.parts.sockets.iter_mut().filter(|socket| socket.is_kept());
        let books = HandedBooks {
            readings: kept.map(|socket| (socket.cookie(), socket.reading())).collect(),
            interval_ms: self.parts.settings.flush_interval_ms,
            newest_input_ms: self.newest_input_ms,
            ..HandedBooks::default()
        };
        let books = if interval.is_some() {
            let untold = self.untold();
            let base = Some(self.settled_totals());
            HandedBooks { base, untold, next_tick_ms: self.grid.next_ms(), ..books }
        } else {
            books
        };
        debug!(bytes = interval.as_ref().map(HandedBytes::len), "open interval laid out");
        Handed { interval, books }
    }

    /// Goes on where the daemon before us has stopped.
    pub(super) fn go_on_after(&mut self, handed: &HandedBooks) {
        self.handed_entries.clone_from(&handed.untold);
        self.newest_input_ms = handed.newest_input_ms;
        if handed.interval_ms == self.parts.settings.flush_interval_ms && handed.next_tick_ms != 0 {
            self.grid.go_on_at(handed.next_tick_ms);
        }
    }
}
