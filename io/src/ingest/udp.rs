//! The sockets of a listener, one per worker, sharing a port by `SO_REUSEPORT`.
//!
//! The kernel spreads flows over the sockets by a hash of their addresses, so one sender stays at
//! one worker, unless `steering` says otherwise. The first socket is bound *without* `SO_REUSEPORT` and joins the group only then:
//! the port must be free at that moment, so a second daemon on it is an error and not a silent half
//! of the traffic; and a port chosen by the kernel (port 0) is nobody else's. All sockets of all
//! listeners are bound before a worker starts; what arrives meanwhile waits in them.
//!
//! Limits: `LISTENERS_MAX` listeners. Nothing is received here, and no address is resolved again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use floe_core::config::settings::{Listener, Steering};
use floe_core::limits::{LISTENERS_MAX, RECEIVE_BUFFER_BYTES_DEFAULT, RECEIVE_BUFFER_BYTES_WARN};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::warn;

use self::holder::{PortKind, in_use};
use super::pace::SMALL_DATAGRAM_BYTES;
use crate::given::GivenSockets;
use crate::sys::{self, UdpOffload, is_without_ipv6};

/// How often a port that no process has is tried again, and how long after: half a second in all.
const ORPHAN_WAITS_MAX: u32 = 50;
const ORPHAN_WAIT: Duration = Duration::from_millis(10);

/// Who has what a bind was refused.
pub mod holder;
mod steering;

pub use self::holder::Holder;

/// Why the sockets of a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the port.
    #[error(
        "cannot bind {address}: {}",
        in_use(holder.as_ref(), "another statsd is running here, or set \"port\"")
    )]
    AddressInUse {
        /// The address and port asked for.
        address: SocketAddr,
        /// Who has it, where we may know.
        holder: Option<Holder>,
    },
    /// The kernel refuses the address: not of this host, or a port below 1,024 without the right.
    #[error("cannot bind {address}: {source}; set \"address\" and \"port\" to what this host has")]
    Refused {
        /// The address and port asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The text is neither an IP address nor the name of one.
    #[error("cannot bind \"{text}\": {source}; set \"address\" to an IP address of this host")]
    Address {
        /// The address as configured.
        text: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The kernel refuses the filter that shares datagrams out.
    #[error("cannot steer datagrams of {address}: {source}; set ingest.steering to \"hash\"")]
    Steering {
        /// What the listener is bound to.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not hand over trains.
    #[error("cannot receive trains at {address}: {source}; set ingest.udp_gro to false")]
    Trains {
        /// What the listener is bound to.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// More listeners than a worker can serve.
    #[error("at most {LISTENERS_MAX} UDP listeners are possible, found {found}")]
    TooManyListeners {
        /// Listeners configured.
        found: usize,
    },
}

/// The open sockets of one listener.
#[derive(Debug)]
pub struct OpenListener {
    /// One per worker, index = worker index, in blocking mode. Where they were given there may be
    /// more, which the workers share out by turns, or fewer.
    pub sockets: Vec<Arc<UdpSocket>>,
    /// How many of them, the first ones, are bound; the others are by [`OpenListener::bind_rest`].
    pub bound: usize,
    /// How many of them, the first ones, were given: somebody else holds them too.
    pub given: usize,
    /// What they are bound to; the port is the real one.
    pub local_address: SocketAddr,
    /// Receive buffer asked for, bytes.
    pub receive_buffer_bytes_asked: usize,
    /// Smallest receive buffer among them as the kernel accounts it, bytes: twice what it granted.
    pub receive_buffer_bytes: usize,
}

impl OpenListener {
    /// Binds the sockets that are added to given ones. From then on the kernel shares datagrams out to them
    /// too, so whoever takes them must be about to read; what it refuses is left out, for sockets of
    /// another user take no further ones beside them.
    pub fn bind_rest(&mut self) {
        let (address, workers) = (self.local_address, self.sockets.len());
        while self.bound < workers {
            if let Err(error) = SockRef::from(&*self.sockets[self.bound]).bind(&address.into()) {
                self.sockets.truncate(self.bound);
                let sockets = self.bound;
                warn!(
                    %address, sockets, workers, %error,
                    "fewer sockets given than workers, and none to be added: give one for each"
                );
                return;
            }
            self.bound += 1;
        }
    }

    /// Datagrams of one short line that the smallest receive buffer holds, as many microseconds of a
    /// million per second.
    #[must_use]
    pub fn small_datagrams_buffered(&self) -> usize {
        self.receive_buffer_bytes / SMALL_DATAGRAM_BYTES
    }

    /// What the kernel granted of what was asked for the smallest receive buffer, bytes: it doubles
    /// that for its own books.
    #[must_use]
    pub fn receive_buffer_bytes_granted(&self) -> usize {
        self.receive_buffer_bytes / 2
    }

    /// What to tell the operator if the kernel granted less than was asked, and that is too little for
    /// bursts, or less than somebody wrote down who wants more than the default.
    #[must_use]
    pub fn receive_buffer_warning(&self) -> Option<String> {
        let asked = self.receive_buffer_bytes_asked;
        let granted = self.receive_buffer_bytes_granted();
        let datagrams = self.small_datagrams_buffered();
        let is_default = asked <= RECEIVE_BUFFER_BYTES_DEFAULT;
        if asked <= granted || is_default && RECEIVE_BUFFER_BYTES_WARN <= granted {
            return None;
        }
        Some(format!(
            "receive buffer of {} is {granted} bytes, {asked} asked: {datagrams} small datagrams, \
             {}.{} ms at a million per second; run: sysctl -w net.core.rmem_max={asked}",
            self.local_address,
            datagrams / 1_000,
            datagrams % 1_000 / 100
        ))
    }
}

/// Opens every listener for `workers` workers.
///
/// `receive_buffer_bytes`: asked for each socket.
/// # Errors
/// [`BindError`] of the first listener that fails; the sockets opened before it are closed.
pub fn open_all(
    listeners: &[Listener],
    workers: usize,
    receive_buffer_bytes: usize,
) -> Result<Vec<OpenListener>, BindError> {
    open_all_given(listeners, workers, receive_buffer_bytes, &mut GivenSockets::default())
}

/// The same where some sockets may be `given`: a listener has those that are bound to its address, and
/// what is missing beside them, to be bound by [`OpenListener::bind_rest`].
///
/// # Errors
/// [`BindError`] of the first listener that fails.
pub fn open_all_given(
    listeners: &[Listener],
    workers: usize,
    receive_buffer_bytes: usize,
    given: &mut GivenSockets,
) -> Result<Vec<OpenListener>, BindError> {
    if LISTENERS_MAX < listeners.len() {
        return Err(BindError::TooManyListeners { found: listeners.len() });
    }
    let mut opened = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let address = resolve(listener)?;
        let mut found = given.take_udp(address);
        if found.is_empty() && listener.is_dual_stack_default {
            found = given.take_udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, listener.port)));
        }
        opened.push(if found.is_empty() {
            open(listener, workers, receive_buffer_bytes)?
        } else {
            go_on_with(address, found, workers, receive_buffer_bytes)?
        });
    }
    let per_worker = |listener: &OpenListener| listener.sockets.len().div_ceil(workers);
    let found = opened.iter().map(per_worker).sum();
    if LISTENERS_MAX < found {
        return Err(BindError::TooManyListeners { found });
    }
    Ok(opened)
}

/// A listener of sockets that were given, and of so many further ones that there is one per worker.
fn go_on_with(
    asked: SocketAddr,
    given: Vec<OwnedFd>,
    workers: usize,
    receive_buffer_bytes_asked: usize,
) -> Result<OpenListener, BindError> {
    let refused = |source: io::Error| BindError::Refused { address: asked, source };
    let mut sockets: Vec<Arc<UdpSocket>> =
        given.into_iter().map(|fd| Arc::new(UdpSocket::from(fd))).collect();
    let mut receive_buffer_bytes = usize::MAX;
    let mut local_address = asked;
    for socket in &sockets {
        // The ring waits for a datagram by itself, which an error would end.
        socket.set_nonblocking(false).map_err(refused)?;
        let bytes = sys::set_receive_buffer_bytes(&**socket, receive_buffer_bytes_asked);
        receive_buffer_bytes = receive_buffer_bytes.min(bytes.map_err(refused)?);
        local_address = socket.local_addr().map_err(refused)?;
    }
    let before = sockets.len();
    if before < workers
        && let Some(first) = sockets.first()
    {
        SockRef::from(&**first).set_reuse_port(true).map_err(refused)?;
    }
    for _ in before..workers {
        let (socket, bytes) =
            prepare(local_address, receive_buffer_bytes_asked).map_err(refused)?;
        socket.set_reuse_port(true).map_err(refused)?;
        receive_buffer_bytes = receive_buffer_bytes.min(bytes);
        sockets.push(Arc::new(UdpSocket::from(socket)));
    }
    Ok(OpenListener {
        sockets,
        bound: before,
        given: before,
        local_address,
        receive_buffer_bytes_asked,
        receive_buffer_bytes,
    })
}

/// Makes the kernel share the datagrams of each listener out by `steering`; `cpus`: of each worker,
/// index = worker index.
///
/// # Errors
/// [`BindError::Steering`].
pub fn steer_all(
    listeners: &[OpenListener],
    steering: Steering,
    cpus: &[usize],
) -> Result<(), BindError> {
    listeners.iter().try_for_each(|listener| {
        let address = listener.local_address;
        let refused = |source| BindError::Steering { address, source };
        listener.steer(steering, cpus).map_err(refused)
    })
}

/// Whether given sockets have trains already ([`coalesce_all`]). What waits in them may be one, and what is
/// one is not to be told from a long datagram when the option is taken away: it stays.
#[must_use]
pub fn have_trains(listeners: &[OpenListener]) -> bool {
    let given = listeners.iter().flat_map(|listener| &listener.sockets[..listener.given]);
    given.into_iter().any(|socket| sys::has_udp_trains(&**socket))
}

/// Makes the sockets of every listener hand over trains of datagrams as one (`UDP_GRO`), where they
/// shall; their workers must know, by `ReceiveOptions::has_trains`.
///
/// # Errors
/// [`BindError::Trains`].
pub fn coalesce_all(listeners: &[OpenListener], has_trains: bool) -> Result<(), BindError> {
    listeners.iter().filter(|_| has_trains).try_for_each(|listener| {
        let address = listener.local_address;
        let refused = |source| BindError::Trains { address, source };
        let mut sockets = listener.sockets.iter();
        sockets
            .try_for_each(|socket| sys::set_udp_offload(socket, UdpOffload::Joined))
            .map_err(refused)
    })
}

/// The sockets of worker `index` of `workers`: of each listener one, or its share of them.
#[must_use]
pub fn sockets_of(listeners: &[OpenListener], index: usize, workers: usize) -> Vec<Arc<UdpSocket>> {
    let share = |listener| shares_of(listener, workers).filter(|(worker, _)| *worker == index);
    listeners.iter().flat_map(share).map(|(_, socket)| Arc::clone(socket)).collect()
}

/// The sockets of a listener, each with the index of the worker that reads it.
pub fn shares_of(
    listener: &OpenListener,
    workers: usize,
) -> impl Iterator<Item = (usize, &Arc<UdpSocket>)> {
    listener.sockets.iter().enumerate().map(move |(number, socket)| (number % workers, socket))
}

/// Opens one listener for `workers` workers; see [`open_all`].
///
/// # Errors
/// [`BindError`].
pub fn open(
    listener: &Listener,
    workers: usize,
    receive_buffer_bytes: usize,
) -> Result<OpenListener, BindError> {
    let address = resolve(listener)?;
    match open_at(address, workers, receive_buffer_bytes) {
        Err(BindError::Refused { source, .. })
            if listener.is_dual_stack_default && address.is_ipv6() && is_without_ipv6(&source) =>
        {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, listener.port));
            open_at(any, workers, receive_buffer_bytes)
        }
        result => result,
    }
}

fn resolve(listener: &Listener) -> Result<SocketAddr, BindError> {
    let text = listener.address.as_str();
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, listener.port));
    }
    let failed = |source| BindError::Address { text: text.to_owned(), source };
    let found: Vec<SocketAddr> = (text, listener.port).to_socket_addrs().map_err(failed)?.collect();
    // IPv4 first, as the reference daemon's default socket has it.
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
    first.ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))
}

/// Binds a socket that shall have the address for itself.
///
/// The kernel takes the ring of a killed process apart after its end, and the sockets of the ring keep
/// their port until then: a port that no process has is waited for.
fn bind_first(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let mut left = ORPHAN_WAITS_MAX;
    loop {
        match socket.bind(&address.into()) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && left != 0
                    && Holder::of_port(PortKind::Udp, address.port()).is_none() =>
            {
                left -= 1;
                // Nothing tells of the end but another try; nobody unparks this thread.
                std::thread::park_timeout(ORPHAN_WAIT);
            }
            result => return result,
        }
    }
}

fn open_at(
    address: SocketAddr,
    workers: usize,
    receive_buffer_bytes_asked: usize,
) -> Result<OpenListener, BindError> {
    assert!(0 < workers, "a listener without workers");
    let refused = |source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            let holder = Holder::of_port(PortKind::Udp, address.port());
            BindError::AddressInUse { address, holder }
        } else {
            BindError::Refused { address, source }
        }
    };
    let (first, mut receive_buffer_bytes) =
        prepare(address, receive_buffer_bytes_asked).map_err(refused)?;
    bind_first(&first, address).map_err(refused)?;
    first.set_reuse_port(true).map_err(refused)?;
    let first = UdpSocket::from(first);
    let local_address = first.local_addr().map_err(refused)?;
    let mut sockets = vec![Arc::new(first)];
    for _ in 1..workers {
        let (socket, bytes) = prepare(address, receive_buffer_bytes_asked).map_err(refused)?;
        socket.set_reuse_port(true).map_err(refused)?;
        socket.bind(&local_address.into()).map_err(refused)?;
        receive_buffer_bytes = receive_buffer_bytes.min(bytes);
        sockets.push(Arc::new(UdpSocket::from(socket)));
    }
    Ok(OpenListener {
        bound: sockets.len(),
        sockets,
        given: 0,
        local_address,
        receive_buffer_bytes_asked,
        receive_buffer_bytes,
    })
}

/// A socket that is not bound yet, and its effective receive buffer, bytes.
fn prepare(address: SocketAddr, receive_buffer_bytes: usize) -> io::Result<(Socket, usize)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // `::` takes IPv4 as well, whatever net.ipv6.bindv6only says: so binds the reference.
        socket.set_only_v6(false)?;
    }
    let effective = sys::set_receive_buffer_bytes(&socket, receive_buffer_bytes)?;
    Ok((socket, effective))
}

#[cfg(test)]
mod tests;
