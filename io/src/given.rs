//! Sockets that somebody gave us: the service manager, or the daemon before us.
//!
//! A given socket is matched to what the configuration asks for by what it *is*: its family, its type
//! and the address it is bound to; its name only serves messages. A listener without a given socket
//! is bound as ever. What was given and nobody asks for is refused where the service manager's
//! configuration gave it (somebody expects us to read it), and closed where it comes from its store
//! or from the daemon before us.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::fstat;
use rustix::net::{SocketType, sockopt};
use socket2::SockRef;

/// Name under which our own sockets lie in the service manager's store.
pub const STORE_NAME: &str = "floe";

/// What a given descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenAddress {
    /// A UDP socket, bound.
    Udp(SocketAddr),
    /// A TCP socket that listens.
    Tcp(SocketAddr),
    /// A Unix stream socket that listens.
    Unix(PathBuf),
    /// Nothing that we could read: what it is, in words.
    Other(&'static str),
}

impl fmt::Display for GivenAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(out, "udp {address}"),
            Self::Tcp(address) => write!(out, "tcp {address}"),
            Self::Unix(path) => write!(out, "unix {}", path.display()),
            Self::Other(what) => out.write_str(what),
        }
    }
}

impl GivenAddress {
    /// What `fd` is.
    #[must_use]
    pub fn of(fd: impl AsFd) -> Self {
        let fd = fd.as_fd();
        let Ok(kind) = sockopt::socket_type(fd) else { return Self::Other("no socket") };
        let local = SockRef::from(&fd).local_addr();
        let Ok(local) = local else { return Self::Other("a socket without an address") };
        let is_listening = sockopt::socket_acceptconn(fd).unwrap_or(false);
        match (local.as_socket(), kind) {
            (Some(address), SocketType::DGRAM) => Self::Udp(address),
            (Some(address), SocketType::STREAM) if is_listening => Self::Tcp(address),
            (Some(_), SocketType::STREAM) => Self::Other("a TCP socket that does not listen"),
            (None, SocketType::STREAM) if is_listening => match local.as_pathname() {
                Some(path) => Self::Unix(path.to_owned()),
                None => Self::Other("a Unix socket without a path"),
            },
            (None, SocketType::DGRAM) => Self::Other("a Unix datagram socket"),
            _ => Self::Other("a socket of another kind"),
        }
    }
}

/// One given socket.
#[derive(Debug)]
struct Given {
    /// Its place among all that were given.
    index: usize,
    fd: OwnedFd,
    address: GivenAddress,
    name: String,
}

/// Given sockets that nobody asks for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the service manager gave {address} (name \"{name}\", descriptor number {index}), which the \
     configuration does not listen at; take it out of the socket unit, or add a listener"
)]
pub struct GivenError {
    /// What it is.
    address: GivenAddress,
    name: String,
    /// Its place, from 0: descriptor 3 is number 0.
    index: usize,
}

/// All that were given, until somebody asks for them.
#[derive(Debug, Default)]
pub struct GivenSockets {
    given: Vec<Given>,
    taken: Vec<usize>,
}

impl GivenSockets {
    /// Sockets with their names, in the order in which they were given. One that is there twice counts
    /// once: systemd gives what a socket unit opened, and again what we have stored of that.
    #[must_use]
    pub fn new(sockets: impl IntoIterator<Item = (OwnedFd, String)>) -> Self {
        let mut seen = BTreeSet::new();
        let is_new = |(_, (fd, _)): &(usize, (OwnedFd, String))| {
            fstat(fd).map_or(true, |stat| seen.insert((stat.st_dev, stat.st_ino)))
        };
        let given = sockets.into_iter().enumerate().filter(is_new).map(|(index, (fd, name))| {
            let address = GivenAddress::of(&fd);
            Given { index, fd, address, name }
        });
        Self { given: given.collect(), taken: Vec::new() }
    }

    /// Whether nothing was given, or all of it is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Places of those that were taken so far.
    #[must_use]
    pub fn taken(&self) -> &[usize] {
        &self.taken
    }

    /// Every UDP socket bound to `asked`, of one address if any port is asked for.
    pub(crate) fn take_udp(&mut self, asked: SocketAddr) -> Vec<OwnedFd> {
        let first = self.given.iter().find_map(|given| match given.address {
            GivenAddress::Udp(address) if is_asked(address, asked) => Some(address),
            _ => None,
        });
        let mut found = Vec::new();
        while let Some(address) = first
            && let Some(fd) = self.take(&GivenAddress::Udp(address))
        {
            found.push(fd);
        }
        found
    }

    /// A TCP socket that listens at `asked`.
    pub(crate) fn take_tcp(&mut self, asked: SocketAddr) -> Option<OwnedFd> {
        let found = self.given.iter().find_map(|given| match given.address {
            GivenAddress::Tcp(address) if is_asked(address, asked) => Some(given.address.clone()),
            _ => None,
        });
        self.take(&found?)
    }

    /// A Unix socket that listens at `path`.
    pub(crate) fn take_unix(&mut self, path: &Path) -> Option<OwnedFd> {
        let bound = path.canonicalize().ok();
        let found = self.given.iter().find_map(|given| match &given.address {
            GivenAddress::Unix(at)
                if at == path || (bound.is_some() && at.canonicalize().ok() == bound) =>
            {
                Some(given.address.clone())
            }
            _ => None,
        });
        self.take(&found?)
    }

    fn take(&mut self, address: &GivenAddress) -> Option<OwnedFd> {
        let at = self.given.iter().position(|given| given.address == *address)?;
        let Given { index, fd, .. } = self.given.remove(at);
        self.taken.push(index);
        Some(fd)
    }

    /// Refuses what nobody has asked for, unless it was ours before.
    ///
    /// # Errors
    /// [`GivenError`] of the first one.
    pub(crate) fn refuse_left(&self) -> Result<(), GivenError> {
        match self.given.iter().find(|given| given.name != STORE_NAME) {
            None => Ok(()),
            Some(Given { index, address, name, .. }) => {
                let (address, name) = (address.clone(), name.clone());
                Err(GivenError { address, name, index: *index })
            }
        }
    }
}

/// Whether a socket at `address` is what `asked` asks for.
fn is_asked(address: SocketAddr, asked: SocketAddr) -> bool {
    let is_host = |ip: IpAddr| ip == asked.ip();
    is_host(address.ip()) && (asked.port() == 0 || address.port() == asked.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[test]
    fn a_socket_is_what_it_is_bound_to_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let unix = UnixListener::bind(&path).unwrap();
        let mut given = GivenSockets::new(
            [OwnedFd::from(udp), tcp.into(), unix.into()].map(|fd| (fd, "x".to_owned())),
        );
        let other = SocketAddr::new("127.0.0.2".parse().unwrap(), udp_at.port());
        assert!(given.take_udp(other).is_empty());
        let error = given.refuse_left().unwrap_err().to_string();
        assert!(error.starts_with(&format!("the service manager gave udp {udp_at} (name \"x\"")));
        assert_eq!(given.take_udp(SocketAddr::new(udp_at.ip(), 0)).len(), 1, "any port");
        assert!(given.take_tcp(tcp_at).is_some() && given.take_tcp(tcp_at).is_none());
        assert!(given.take_unix(&path).is_some());
        assert_eq!((given.taken(), given.is_empty()), (&[0, 1, 2][..], true));
        assert_eq!(given.refuse_left(), Ok(()));
    }

    #[test]
    fn a_socket_that_is_given_twice_is_one() {
        let one = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (other, at) = (UdpSocket::bind("127.0.0.1:0").unwrap(), one.local_addr().unwrap());
        let again = one.try_clone().unwrap();
        let named = [(one, "unit"), (other, "unit"), (again, STORE_NAME)];
        let mut given =
            GivenSockets::new(named.map(|(socket, name)| (socket.into(), name.to_owned())));
        assert_eq!(given.take_udp(at).len(), 1);
        assert_eq!((given.taken(), given.given.len()), (&[0][..], 1));
    }

    #[test]
    fn what_is_not_ours_to_read_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        for (fd, what) in [
            (OwnedFd::from(stream), "a TCP socket that does not listen"),
            (UnixDatagram::unbound().unwrap().into(), "a Unix datagram socket"),
            (file.into(), "no socket"),
        ] {
            assert_eq!(GivenAddress::of(&fd), GivenAddress::Other(what));
            let stored = GivenSockets::new([(fd, STORE_NAME.to_owned())]);
            assert_eq!(stored.refuse_left(), Ok(()), "it was ours");
        }
    }
}
