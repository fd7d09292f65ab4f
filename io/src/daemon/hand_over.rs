//! The daemon gives everything to its successor and ends.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};
use floe_core::name::Secret;
use tracing::{info, warn};

use super::opening::OpenedIngest;
use super::{Daemon, EXPORT_RETIRE, Halves};
use crate::coordinator::hand_over::{HandOver, Handed, Hold};
use crate::coordinator::request::Request;
use crate::ingest::stream::acceptor::StreamWorker;
use crate::ingest::stream::connections::StreamInbox;
use crate::ingest::stream::listener::OpenStream;
use crate::sys::cookie_of;
use crate::take_over::successor::HandOverEnd;
use crate::take_over::{Successor, TakeOverError};

/// What a running daemon can offer to a successor. It holds nothing open.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) secret: Secret,
    /// Whether the service manager holds sockets of them too.
    pub(super) is_managed: bool,
    pub(super) sockets: Vec<Weak<UdpSocket>>,
    pub(super) streams: Vec<Weak<OpenStream>>,
    /// Of each worker, where there are stream servers.
    pub(super) inboxes: Vec<Arc<StreamInbox>>,
}

impl Offered {
    /// All but the stream listeners, which move to the acceptor.
    pub(super) fn of(opened: &OpenedIngest, workers: &[StreamWorker]) -> Self {
        let sockets = opened.listeners.iter().flat_map(|listener| &listener.sockets);
        Self {
            secret: opened.secret,
            is_managed: is_managed(opened),
            sockets: sockets.map(Arc::downgrade).collect(),
            streams: Vec::new(),
            inboxes: workers.iter().map(|worker| Arc::clone(&worker.inbox)).collect(),
        }
    }
}

/// Whether the service manager holds a socket of ours.
fn is_managed(opened: &OpenedIngest) -> bool {
    let of_udp = opened.listeners.iter().any(|it| opened.keeping.is_of(0 < it.given));
    of_udp || opened.streams.iter().any(|it| opened.keeping.is_of(it.is_given))
}

/// A coordinator that holds, until this is dropped.
struct Holding {
    next: Sender<HandOver>,
    lock: OwnedFd,
}

/// What comes of a hand-over behind the point of no return.
struct Stopping {
    stopped: Receiver<()>,
    handed: Receiver<Handed>,
    taken: Sender<()>,
}

impl Daemon {
    /// Hands everything over to `successor`, as long as `is_wanted`: a stop goes before. After
    /// [`HandOverEnd::GoesOn`] the daemon is as it was; else it has ended.
    pub fn hand_over(
        &mut self,
        mut successor: Successor,
        is_wanted: &dyn Fn() -> bool,
    ) -> HandOverEnd {
        match self.prepare(&mut successor, is_wanted) {
            Err(why) => HandOverEnd::GoesOn { why },
            Ok((kept, stopping)) => {
                let result = self.finish(&successor, &kept, stopping);
                let pid = successor.pid();
                match result {
                    Ok(()) => HandOverEnd::Over { pid },
                    Err(source) => {
                        let at = "handing over: the successor was lost";
                        HandOverEnd::Lost(TakeOverError::Connection { at, source })
                    }
                }
            }
        }
    }

    /// Everything until the point of no return: the offer, the hold, and the order to stop.
    fn prepare(
        &mut self,
        successor: &mut Successor,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(Vec<u64>, Stopping), String> {
        if !successor.is_of(self.halves) || self.halves == Halves::Export {
            let why = "it is started by another command (floe, floe ingest)";
            successor.refuse(why);
            return Err(why.to_owned());
        }
        let lost = |error: io::Error| format!("the successor gave up: {error}");
        let Some(ingest) = &self.ingest else { return Err("nothing to hand over".to_owned()) };
        let sockets: Vec<_> = ingest.offered.sockets.iter().filter_map(Weak::upgrade).collect();
        let streams: Vec<_> = ingest.offered.streams.iter().filter_map(Weak::upgrade).collect();
        let udp = sockets.iter().map(|socket| socket.as_fd());
        let fds: Vec<BorrowedFd<'_>> = udp.chain(streams.iter().map(|it| it.as_fd())).collect();
        let admin = self.console.as_ref().map(|console| console.listener().as_fd());
        let Offered { secret, is_managed, .. } = ingest.offered;
        let kept = successor.offer(secret, &fds, admin, is_managed, is_wanted).map_err(lost)?;
        let is_kept = |index: usize| kept.contains(&index);
        let cookies: Vec<u64> = (0..)
            .zip(&sockets)
            .filter(|(index, _)| is_kept(*index))
            .map(|(_, socket)| cookie_of(&**socket))
            .collect();
        // From here on nothing is delivered, and a moment later nothing committed.
        if let Some(exporter) = self.exporter.take() {
            exporter.stop(EXPORT_RETIRE);
        }
        let result = self.hold(successor, cookies.clone(), is_wanted);
        if let Err(why) = &result {
            warn!(%why, "hand-over given up");
            if let Err(error) = self.start_exporters() {
                warn!(%error, "exporters not started again");
            }
        }
        let stopping = result?;
        for (index, stream) in (sockets.len()..).zip(&streams) {
            if is_kept(index) {
                stream.keep_file();
            }
        }
        Ok((cookies, stopping))
    }

    /// Holds until the successor is ready, then lets the coordinator stop.
    fn hold(
        &mut self,
        successor: &mut Successor,
        kept: Vec<u64>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Stopping, String> {
        let ended = "it ends already";
        let holding = self.ask_hold().ok_or(ended)?.inspect_err(|why| successor.refuse(why))?;
        successor
            .hold(&holding.lock, is_wanted)
            .map_err(|error| format!("the successor gave up: {error}"))?;
        if let Some(ingest) = &mut self.ingest {
            // The workers still take what it has accepted; the successor accepts the rest.
            ingest.stop_accepting();
        }
        let ((say_stopped, stopped), (say_handed, handed)) = (bounded(1), bounded(1));
        let (taken, is_taken) = bounded(1);
        let hand_over = HandOver {
            is_form_known: successor.is_form_known(),
            kept,
            stopped: say_stopped,
            handed: say_handed,
            taken: is_taken,
        };
        holding.next.send(hand_over).map_err(|_| ended)?;
        Ok(Stopping { stopped, handed, taken })
    }

    /// `None` where nobody is left to hold.
    fn ask_hold(&self) -> Option<Result<Holding, String>> {
        let ((say_held, held), (next, wait)) = (bounded(1), bounded(1));
        let requests = self.ingest.as_ref()?.requests();
        requests.send(Request::Hold(Hold { held: say_held, next: wait })).ok()?;
        let lock = held.recv().ok()?;
        Some(lock.map(|lock| Holding { next, lock }))
    }

    /// Everything behind the point of no return.
    fn finish(
        &mut self,
        successor: &Successor,
        kept: &[u64],
        stopping: Stopping,
    ) -> io::Result<()> {
        let Stopping { stopped, handed, taken } = stopping;
        // A coordinator that ends without a word has panicked, which aborts.
        stopped.recv().ok();
        let inboxes = self.ingest.as_ref().map(|ingest| ingest.offered.inboxes.as_slice());
        let inboxes = inboxes.unwrap_or_default().iter();
        let connections: Vec<_> = inboxes.flat_map(|inbox| inbox.take_left()).collect();
        let told = successor.stopped(&connections);
        let connections_kept = connections.len();
        drop(connections);
        self.console = None;
        self.control = None;
        let given = match (told, handed.recv()) {
            (Ok(()), Ok(handed)) => successor.give(&handed),
            (told, _) => told,
        };
        if given.is_ok() {
            taken.send(()).ok();
        }
        drop(taken);
        if let Some(mut ingest) = self.ingest.take() {
            ingest.end();
        }
        info!(sockets = kept.len(), connections = connections_kept, "sockets handed over");
        given
    }
}
