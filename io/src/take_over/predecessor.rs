//! The daemon before us, as its successor sees it.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use floe_core::interval::handed::HANDED_FORMAT;
use floe_core::name::Secret;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::wire::Wire;
use super::{Answer, Kept, Offer, PROTOCOL, State, Step, Stopped, TakeOverError, halves_word};
use crate::admin::control;
use crate::coordinator::hand_over::Handed;
use crate::daemon::Halves;
use crate::given::{GivenSockets, STORE_NAME};
use crate::ingest::stream::connections::HandedConnection;

/// How long we wait for each of its steps: it may be at a flush.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon that has made its offer. Dropped before the interval is taken, it goes on.
#[derive(Debug)]
pub struct Predecessor {
    wire: Wire,
    offer: Offer,
    /// The listener of its admin port.
    pub(crate) admin: Option<TcpListener>,
}

/// What was under way, as an error says it.
fn during(at: &'static str) -> impl FnOnce(io::Error) -> TakeOverError {
    move |source| TakeOverError::Connection { at, source }
}

impl Predecessor {
    /// Asks the daemon that runs on the spool at `spool`; gives it and its sockets, or `None` if none
    /// runs there.
    ///
    /// # Errors
    /// [`TakeOverError`]; the daemon goes on as before.
    pub fn ask(
        spool: &Path,
        halves: Halves,
    ) -> Result<Option<(Self, GivenSockets)>, TakeOverError> {
        let mut stream = match control::connect(spool) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(during("asking the control socket of the spool")(error)),
        };
        let peer = socket_peercred(&stream).map_err(io::Error::from);
        let peer = peer.map_err(during("looking who answers"))?;
        let (theirs, ours) = (peer.uid.as_raw(), geteuid().as_raw());
        if theirs != ours {
            let pid = peer.pid.as_raw_nonzero().get();
            return Err(TakeOverError::OtherUser { pid, theirs, ours });
        }
        let halves = halves_word(halves);
        let pid = std::process::id();
        let asking = during("asking");
        let question = format!("take-over {PROTOCOL} {HANDED_FORMAT} {halves} {pid}\n");
        stream.write_all(question.as_bytes()).map_err(asking)?;
        let wire = Wire::new(stream, PATIENCE).map_err(during("asking"))?;
        let offer: Answer<Offer> = wire.receive().map_err(|error| match error.kind() {
            // Text where a length should be.
            io::ErrorKind::InvalidData => TakeOverError::Unknown,
            _ => during("waiting for its offer")(error),
        })?;
        let offer = match offer {
            Answer::Yes(offer) => offer,
            Answer::No(why) => {
                let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
                return Err(TakeOverError::Refused { pid, why });
            }
        };
        let count = offer.sockets + usize::from(offer.has_admin);
        let mut fds = wire.receive_fds(count).map_err(during("receiving its sockets"))?;
        let admin = if offer.has_admin { fds.pop().map(TcpListener::from) } else { None };
        // Those that we do not go on with are its to close.
        let given = GivenSockets::new(fds.into_iter().map(|fd| (fd, STORE_NAME.to_owned())));
        Ok(Some((Self { wire, offer, admin }, given)))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.offer.pid
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.offer.version
    }

    /// Whether the service manager holds its sockets too, and goes on holding them.
    pub(crate) fn is_managed(&self) -> bool {
        self.offer.is_managed
    }

    pub(crate) fn secret(&self) -> Secret {
        Secret::of_words(self.offer.secret)
    }

    /// Makes it commit and deliver nothing more: the lock of the spool is ours too. `kept`: places of
    /// the sockets that we go on with.
    pub(crate) fn hold(&self, kept: &[usize]) -> Result<OwnedFd, TakeOverError> {
        let at = "waiting until it holds";
        self.wire.send(&Kept { sockets: kept.to_vec() }).map_err(during(at))?;
        match self.wire.receive::<Answer<()>>().map_err(during(at))? {
            Answer::No(why) => Err(TakeOverError::Refused { pid: self.offer.pid, why }),
            Answer::Yes(()) => {
                let lock = self.wire.receive_fds(1).map_err(during(at))?;
                let none = || during(at)(io::ErrorKind::UnexpectedEof.into());
                lock.into_iter().next().ok_or_else(none)
            }
        }
    }

    /// Makes it stop reading, and gives its connections. From here on there is no way back.
    pub(crate) fn stop(&self) -> Result<Vec<HandedConnection>, TakeOverError> {
        let at = "waiting until it has stopped reading";
        self.wire.send(&Step::Ready).map_err(during(at))?;
        let stopped: Stopped = self.wire.receive().map_err(during(at))?;
        let fds = self.wire.receive_fds(stopped.connections.len()).map_err(during(at))?;
        let rests = self.wire.receive_bytes().map_err(during(at))?;
        let mut rests = rests.as_slice();
        let mut connections = Vec::with_capacity(fds.len());
        for (fd, state) in fds.into_iter().zip(stopped.connections) {
            let (rest, behind) = rests.split_at(state.rest_bytes.min(rests.len()));
            rests = behind;
            let is_skipping = state.is_skipping;
            connections.push(HandedConnection { fd, rest: rest.to_vec(), is_skipping });
        }
        Ok(connections)
    }

    /// Its open interval and its books.
    pub(crate) fn state(&self) -> Result<Handed, TakeOverError> {
        let at = "receiving the open interval";
        let State { has_interval, books } = self.wire.receive().map_err(during(at))?;
        let interval = match has_interval {
            true => Some(self.wire.receive_bytes().map_err(during(at))?),
            false => None,
        };
        Ok(Handed { interval, books })
    }

    /// Lets it end: its interval is ours.
    pub(crate) fn let_go(self) -> Result<(), TakeOverError> {
        let at = "telling that the open interval is taken";
        self.wire.send(&Step::Taken).map_err(during(at))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What is said about a daemon that answers the question with `answer` and closes.
    fn said_of(answer: &'static [u8]) -> String {
        let spool = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(spool.path().join(control::CONTROL_SOCKET)).unwrap();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(answer).unwrap();
        });
        let asked = Predecessor::ask(spool.path(), Halves::Both);
        daemon.join().unwrap();
        asked.unwrap_err().to_string()
    }

    #[test]
    fn r5_a_daemon_that_ends_is_told_from_one_that_cannot_hand_over() {
        let said = said_of(b"unknown\nend\n");
        assert!(said.contains("does not know how to hand over"), "{said}");
        assert_eq!(said_of(b""), "cannot take over, waiting for its offer: it has gone away");
    }
}
