//! The daemon after us, as its predecessor sees it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use floe_core::interval::handed::HANDED_FORMAT;
use floe_core::name::Secret;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::wire::Wire;
use super::{
    Answer, ConnectionState, Kept, Offer, PROTOCOL, State, Step, Stopped, TakeOverError,
    halves_word,
};
use crate::coordinator::hand_over::Handed;
use crate::daemon::Halves;
use crate::ingest::stream::connections::HandedConnection;

/// How long we wait for it to bind what it needs, and for each later step but the next one.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long we hold while it opens the spool, which looks at every file: 10,000 take about a second.
const HOLD_PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that has asked to take over.
#[derive(Debug)]
pub struct Successor {
    wire: Wire,
    /// Its process, as it says.
    pid: u32,
    form: u32,
    halves: String,
}

impl Successor {
    /// Whoever asks over `stream` by `line`; `None` if it does not ask that.
    ///
    /// # Errors
    /// Somebody who may not ask, has been told so, and goes.
    pub fn of(stream: UnixStream, line: &str) -> io::Result<Option<Self>> {
        let mut words = line.split_whitespace();
        if words.next() != Some("take-over") {
            return Ok(None);
        }
        let peer = socket_peercred(&stream)?;
        let wire = Wire::new(stream, PATIENCE)?;
        let mut next = || words.next().unwrap_or_default();
        let protocol = next().parse().unwrap_or(0);
        let (form, halves) = (next().parse().unwrap_or(0), next().to_owned());
        let pid = next().parse().unwrap_or(0);
        let (theirs, ours) = (peer.uid.as_raw(), geteuid().as_raw());
        let mut successor = Self { wire, pid, form, halves };
        let why = if theirs != ours {
            format!("it runs as user {ours}, whoever asks as user {theirs}")
        } else if protocol != PROTOCOL {
            format!("it speaks take-over protocol {PROTOCOL}, not {protocol}: stop it instead")
        } else {
            return Ok(Some(successor));
        };
        successor.refuse(&why);
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    }

    /// Its process, as it says.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it reads the open interval in our form.
    pub(crate) fn is_form_known(&self) -> bool {
        self.form == HANDED_FORMAT
    }

    /// Whether it is what we are.
    pub(crate) fn is_of(&self, halves: Halves) -> bool {
        self.halves == halves_word(halves)
    }

    /// Says why not.
    pub fn refuse(&mut self, why: &str) {
        // One that has gone needs no answer.
        self.wire.send(&Answer::<()>::No(why.to_owned())).ok();
    }

    /// Offers `sockets`, which the service manager may hold too; gives the places of those that it goes on with.
    pub(crate) fn offer(
        &self,
        secret: Secret,
        sockets: &[BorrowedFd<'_>],
        admin: Option<BorrowedFd<'_>>,
        is_managed: bool,
        is_wanted: &dyn Fn() -> bool,
    ) -> io::Result<Vec<usize>> {
        let offer = Offer {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            secret: secret.words(),
            sockets: sockets.len(),
            has_admin: admin.is_some(),
            is_managed,
        };
        self.wire.send(&Answer::Yes(offer))?;
        let fds: Vec<BorrowedFd<'_>> = sockets.iter().copied().chain(admin).collect();
        self.wire.send_fds(&fds)?;
        self.wire.wait(PATIENCE, is_wanted)?;
        Ok(self.wire.receive::<Kept>()?.sockets)
    }

    /// Lends it the lock of the spool and waits until it is ready.
    pub(crate) fn hold(&self, lock: &OwnedFd, is_wanted: &dyn Fn() -> bool) -> io::Result<()> {
        self.wire.send(&Answer::Yes(()))?;
        self.wire.send_fds(&[lock.as_fd()])?;
        self.wire.wait(HOLD_PATIENCE, is_wanted)?;
        self.expect(Step::Ready)
    }

    /// Tells that nobody reads any more. There is no way back.
    pub(crate) fn stopped(&self, connections: &[HandedConnection]) -> io::Result<()> {
        let states = connections.iter().map(|connection| ConnectionState {
            rest_bytes: connection.rest.len(),
            is_skipping: connection.is_skipping,
        });
        self.wire.send(&Stopped { connections: states.collect() })?;
        let fds: Vec<BorrowedFd<'_>> = connections.iter().map(|it| it.fd.as_fd()).collect();
        self.wire.send_fds(&fds)?;
        let rests: Vec<&[u8]> = connections.iter().map(|it| it.rest.as_slice()).collect();
        self.wire.send_bytes(&rests.concat())
    }

    /// Gives it the open interval and waits until it has taken it.
    pub(crate) fn give(&self, handed: &Handed) -> io::Result<()> {
        let has_interval = handed.interval.is_some();
        self.wire.send(&State { has_interval, books: handed.books.clone() })?;
        if let Some(interval) = &handed.interval {
            self.wire.send_bytes(interval)?;
        }
        self.expect(Step::Taken)
    }

    fn expect(&self, step: Step) -> io::Result<()> {
        if self.wire.receive::<Step>()? == step {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "another step than the next one"))
    }
}

/// How a hand-over ended.
#[derive(Debug)]
pub enum HandOverEnd {
    /// The successor has everything; the daemon has ended.
    Over {
        /// Its process.
        pid: u32,
    },
    /// It was given up before the point of no return: the daemon goes on.
    GoesOn {
        /// Why.
        why: String,
    },
    /// The successor was lost behind it: the interval is spooled and the daemon has ended.
    Lost(TakeOverError),
}
