//! One TCP connection for one segment, and the only acknowledgement Carbon's protocols allow.
//!
//! Write everything, close our half, wait for the peer to close its own. A program that has read to
//! the end closes cleanly; one that was killed, or closes with bytes unread, resets. That the
//! peer's *kernel* has acknowledged all bytes says nothing about its program
//! (docs/references.md C4).
//!
//! A close counts as clean only if the peer's acknowledgement covers our own close: a peer that
//! closes first, before it knew that there is no more, may have left bytes unread.
//!
//! Waits are ended by lack of progress, not by time passed: Carbon's flow control stops reading for
//! as long as it likes, and each byte its kernel takes counts as progress.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use floe_core::config::settings::BackendSettings;
use floe_storage::CrashPoint;
use rustix::event::PollFlags;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::error::ExportError;
use super::stop::{Stop, Waited};
use crate::clock::{duration_ns, monotonic_ns};

/// How long an exporter waits for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection to one address, and for name resolution.
    pub(crate) connect: Duration,
    /// For the peer's kernel to take a byte, or for the peer to close.
    pub(crate) stall: Duration,
    /// For the close of a peer that is known never to close.
    pub(crate) weak_close: Duration,
    /// First delay after a failure.
    pub(crate) backoff_first: Duration,
    /// Longest delay after a failure.
    pub(crate) backoff_last: Duration,
    /// Between two looks at the directory, should a notification be missed.
    pub(crate) scan: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            weak_close: Duration::from_secs(1),
            backoff_first: Duration::from_millis(200),
            // 30 s with what is added at random.
            backoff_last: Duration::from_secs(20),
            scan: Duration::from_secs(1),
        }
    }
}

impl Patience {
    /// As `settings` ask for.
    pub(crate) fn of(settings: &BackendSettings) -> Self {
        Self { stall: Duration::from_millis(settings.stall_ms), ..Self::default() }
    }
}

/// Between two looks at the bytes not yet acknowledged, at the most.
const LOOK: Duration = Duration::from_millis(250);

/// How a delivery ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The peer has read everything and closed.
    Closed,
    /// The peer's kernel has everything, which is all that was asked for.
    Written,
}

/// What has to happen for a delivery to have ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The peer's close, for as long as [`Patience::stall`].
    Close,
    /// The peer's close, for [`Patience::weak_close`] once its kernel has everything.
    BriefClose,
    /// The acknowledgement of the peer's kernel.
    Kernel,
}

/// A connection that is being written to.
#[derive(Debug)]
pub(crate) struct Connection<'s> {
    socket: Socket,
    peer: SocketAddr,
    stop: &'s Stop,
    patience: Patience,
    sent_bytes: u64,
    progress: Progress,
}

/// The last time the peer's kernel took something.
#[derive(Debug)]
struct Progress {
    unacknowledged_bytes: u64,
    at_ns: u64,
}

impl<'s> Connection<'s> {
    /// Connects to the first of `addresses` that answers.
    ///
    /// # Errors
    /// That of the last address; [`ExportError::Stopped`] at the stop's deadline.
    pub(crate) fn open(
        addresses: &[SocketAddr],
        patience: Patience,
        stop: &'s Stop,
    ) -> Result<Self, ExportError> {
        let mut last_error = ExportError::Stopped;
        for peer in addresses {
            match connect(*peer, patience, stop) {
                Ok(socket) => {
                    let progress = Progress { unacknowledged_bytes: 0, at_ns: monotonic_ns() };
                    return Ok(Self {
                        socket,
                        peer: *peer,
                        stop,
                        patience,
                        sent_bytes: 0,
                        progress,
                    });
                }
                Err(ExportError::Stopped) => return Err(ExportError::Stopped),
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Bytes the kernel has taken so far.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// When the connection breaks or stalls; the segment is to be sent again as a whole.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), ExportError> {
        while !bytes.is_empty() {
            match self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    self.sent_bytes += sent as u64;
                    self.progress.at_ns = monotonic_ns();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT)?;
                    self.look(self.patience.stall)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(())
    }

    /// Closes our half and waits for what `awaited` says.
    ///
    /// # Errors
    /// [`ExportError::NotClosed`] if the peer's kernel has everything but its program stays silent;
    /// everything else means that nothing is known.
    pub(crate) fn finish(mut self, awaited: Awaited) -> Result<Delivery, ExportError> {
        // A close that is here already came before the peer could know that this was all.
        if self.read_close()? {
            return Err(self.closed_early());
        }
        self.socket.shutdown(std::net::Shutdown::Write).map_err(|error| self.broken(error))?;
        CrashPoint::SentAll.reach();
        self.progress.at_ns = monotonic_ns();
        loop {
            if self.read_close()? {
                CrashPoint::FinReceived.reach();
                return if self.unacknowledged_bytes()? == 0 && self.take_error()?.is_none() {
                    Ok(Delivery::Closed)
                } else {
                    Err(self.closed_early())
                };
            }
            // Our close counts as one byte and is the last one.
            let is_received = self.unacknowledged_bytes()? <= 1;
            match awaited {
                Awaited::Kernel if is_received => return Ok(Delivery::Written),
                Awaited::BriefClose if is_received => self.look(self.patience.weak_close)?,
                _ => self.look(self.patience.stall)?,
            }
            self.wait(PollFlags::IN)?;
        }
    }

    /// Whether the peer has closed; bytes it sent are of no interest.
    fn read_close(&self) -> Result<bool, ExportError> {
        // Bounded: a peer that talks without end is looked at again after the next wait.
        for _ in 0..16 {
            match self.socket.recv(&mut [MaybeUninit::uninit(); 1_024]) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(false)
    }

    /// Waits for readiness or until it is time to look at the progress.
    fn wait(&self, flags: PollFlags) -> Result<(), ExportError> {
        let look = LOOK.min(self.patience.stall).min(self.patience.weak_close);
        let until_ns = monotonic_ns().saturating_add(duration_ns(look));
        match self.stop.wait(Some(self.socket.as_fd()), flags, until_ns) {
            Ok(Waited::StopOver) => Err(ExportError::Stopped),
            Ok(_) => Ok(()),
            Err(source) => Err(ExportError::Socket { operation: "wait for a socket", source }),
        }
    }

    /// Takes note of progress, and ends the attempt after `limit` without any.
    fn look(&mut self, limit: Duration) -> Result<(), ExportError> {
        let now_ns = monotonic_ns();
        let unacknowledged_bytes = self.unacknowledged_bytes()?;
        if unacknowledged_bytes != self.progress.unacknowledged_bytes {
            self.progress = Progress { unacknowledged_bytes, at_ns: now_ns };
        }
        let waited_ns = now_ns.saturating_sub(self.progress.at_ns);
        if waited_ns < duration_ns(limit) {
            return Ok(());
        }
        let (peer, sent_bytes, waited_ms) = (self.peer, self.sent_bytes, waited_ns / 1_000_000);
        if unacknowledged_bytes <= 1 {
            Err(ExportError::NotClosed { peer, sent_bytes, waited_ms })
        } else {
            Err(ExportError::Stalled { peer, sent_bytes, waited_ms })
        }
    }

    /// Bytes written that the peer's kernel has not acknowledged; our close counts as one.
    fn unacknowledged_bytes(&self) -> Result<u64, ExportError> {
        let mut bytes: libc::c_int = 0;
        #[expect(unsafe_code, reason = "no safe crate offers SIOCOUTQ")]
        // SAFETY:
        // - the descriptor is open: `self.socket` owns it;
        // - SIOCOUTQ (which is TIOCOUTQ) writes one c_int, and the pointer is to the local one.
        let result =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if result != 0 {
            let source = io::Error::last_os_error();
            return Err(ExportError::Socket { operation: "read SIOCOUTQ", source });
        }
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    fn take_error(&self) -> Result<Option<io::Error>, ExportError> {
        self.socket
            .take_error()
            .map_err(|source| ExportError::Socket { operation: "read SO_ERROR", source })
    }

    fn broken(&self, source: io::Error) -> ExportError {
        ExportError::Broken { peer: self.peer, sent_bytes: self.sent_bytes, source }
    }

    fn closed_early(&self) -> ExportError {
        ExportError::ClosedEarly { peer: self.peer, sent_bytes: self.sent_bytes }
    }
}

/// A non-blocking socket connected to `peer`.
fn connect(peer: SocketAddr, patience: Patience, stop: &Stop) -> Result<Socket, ExportError> {
    let socket_error = |source| ExportError::Socket { operation: "make a socket", source };
    let socket = Socket::new(
        Domain::for_address(peer),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )
    .map_err(socket_error)?;
    socket.set_tcp_nodelay(true).map_err(socket_error)?;
    // A safety net behind our own look at the progress: twice as long, so that ours decides.
    socket.set_tcp_user_timeout(Some(patience.stall * 2)).map_err(socket_error)?;
    let refused = |source| ExportError::Connect { peer, source };
    match socket.connect(&SockAddr::from(peer)) {
        Ok(()) => return Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(refused(error)),
    }
    let until_ns = monotonic_ns().saturating_add(duration_ns(patience.connect));
    loop {
        match stop.wait(Some(socket.as_fd()), PollFlags::OUT, until_ns) {
            Ok(Waited::Ready) => break,
            Ok(Waited::StopRequested) => {}
            Ok(Waited::StopOver) => return Err(ExportError::Stopped),
            Ok(Waited::TimeOver) => return Err(refused(io::ErrorKind::TimedOut.into())),
            Err(source) => {
                return Err(ExportError::Socket { operation: "wait for a socket", source });
            }
        }
    }
    match socket.take_error().map_err(socket_error)? {
        None => Ok(socket),
        Some(error) => Err(refused(error)),
    }
}

#[cfg(test)]
mod tests;
