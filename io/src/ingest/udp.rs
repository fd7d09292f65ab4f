//! The sockets of a listener, one per worker, sharing a port by `SO_REUSEPORT`.
//!
//! The kernel spreads flows over the sockets by a hash of their addresses, so one sender stays at
//! one worker. The first socket is bound *without* `SO_REUSEPORT` and joins the group only then:
//! the port must be free at that moment, so a second daemon on it is an error and not a silent half
//! of the traffic; and a port chosen by the kernel (port 0) is nobody else's. All sockets of all
//! listeners are bound before a worker starts; what arrives meanwhile waits in them.
//!
//! Limits: [`LISTENERS_MAX`] listeners. Nothing is received here, and no address is resolved again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;

use floe_core::config::settings::Listener;
use floe_core::limits::{LISTENERS_MAX, RECEIVE_BUFFER_BYTES_WARN};
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys;

/// Why the sockets of a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the port.
    #[error(
        "cannot bind {address}: address in use; another statsd is running here, or set \"port\""
    )]
    AddressInUse {
        /// The address and port asked for.
        address: SocketAddr,
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
    /// One per worker, index = worker index, in blocking mode.
    pub sockets: Vec<Arc<UdpSocket>>,
    /// What they are bound to; the port is the real one.
    pub local_address: SocketAddr,
    /// Receive buffer asked for, bytes.
    pub receive_buffer_bytes_asked: usize,
    /// Smallest receive buffer among them as the kernel accounts it, bytes: twice what it granted.
    pub receive_buffer_bytes: usize,
}

impl OpenListener {
    /// What to tell the operator if the receive buffer is too small for bursts.
    #[must_use]
    pub fn receive_buffer_warning(&self) -> Option<String> {
        let (asked, effective) = (self.receive_buffer_bytes_asked, self.receive_buffer_bytes);
        // A small buffer that was asked for is no surprise.
        if RECEIVE_BUFFER_BYTES_WARN <= effective || asked <= effective / 2 {
            return None;
        }
        Some(format!(
            "receive buffer of {} is {effective} bytes, {asked} asked; \
             run: sysctl -w net.core.rmem_max={asked}",
            self.local_address
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
    if LISTENERS_MAX < listeners.len() {
        return Err(BindError::TooManyListeners { found: listeners.len() });
    }
    listeners.iter().map(|listener| open(listener, workers, receive_buffer_bytes)).collect()
}

/// The sockets of worker `index`, one per listener.
///
/// # Panics
/// If the listeners were opened for fewer workers.
#[must_use]
pub fn sockets_of(listeners: &[OpenListener], index: usize) -> Vec<Arc<UdpSocket>> {
    listeners.iter().map(|listener| Arc::clone(&listener.sockets[index])).collect()
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

/// Whether an error says that this host has no IPv6.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
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

fn open_at(
    address: SocketAddr,
    workers: usize,
    receive_buffer_bytes_asked: usize,
) -> Result<OpenListener, BindError> {
    assert!(0 < workers, "a listener without workers");
    let refused = |source: io::Error| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::AddressInUse { address }
        } else {
            BindError::Refused { address, source }
        }
    };
    let (first, mut receive_buffer_bytes) =
        prepare(address, receive_buffer_bytes_asked).map_err(refused)?;
    first.bind(&address.into()).map_err(refused)?;
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
    Ok(OpenListener { sockets, local_address, receive_buffer_bytes_asked, receive_buffer_bytes })
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
mod tests {
    use std::time::Duration;

    use super::*;

    fn listener(address: &str, port: u16) -> Listener {
        Listener { address: address.into(), port, is_dual_stack_default: false }
    }

    #[test]
    fn taken_port_is_refused_even_if_its_owner_shares_it() {
        for shared in [false, true] {
            let owner = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            owner.set_reuse_port(shared).unwrap();
            owner.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            let port = owner.local_addr().unwrap().as_socket().unwrap().port();
            let error = open(&listener("127.0.0.1", port), 2, 65_536).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot bind 127.0.0.1:{port}: address in use; \
                     another statsd is running here, or set \"port\""
                )
            );
        }
    }

    #[test]
    fn second_daemon_on_the_port_is_refused_and_the_first_keeps_it() {
        let first = open(&listener("127.0.0.1", 0), 3, 65_536).unwrap();
        let port = first.local_address.port();
        let second = open(&listener("127.0.0.1", port), 3, 65_536);
        assert!(matches!(second, Err(BindError::AddressInUse { .. })), "{second:?}");
        let any = open(&listener("0.0.0.0", port), 3, 65_536);
        assert!(matches!(any, Err(BindError::AddressInUse { .. })), "{any:?}");
        drop(first);
        assert!(open(&listener("127.0.0.1", port), 3, 65_536).is_ok());
    }

    #[test]
    fn port_0_is_one_port_for_all_workers_and_flows_spread() {
        let opened = open(&listener("127.0.0.1", 0), 3, 1 << 20).unwrap();
        assert_ne!(opened.local_address.port(), 0);
        for socket in &opened.sockets {
            assert_eq!(socket.local_addr().unwrap(), opened.local_address);
        }
        for _ in 0..64 {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"a:1|c", opened.local_address).unwrap();
        }
        let counts: Vec<usize> = opened.sockets.iter().map(|socket| drain(socket)).collect();
        assert_eq!(counts.iter().sum::<usize>(), 64, "{counts:?}");
        // 64 flows miss one of three sockets once in 60,000,000,000 runs.
        assert!(counts.iter().all(|count| 0 < *count), "{counts:?}");
    }

    fn drain(socket: &UdpSocket) -> usize {
        socket.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| socket.recv(&mut [0; 16]).ok()).count()
    }

    #[test]
    fn sockets_of_a_worker_are_one_per_listener() {
        let listeners = [listener("127.0.0.1", 0), listener("127.0.0.2", 0)];
        let opened = open_all(&listeners, 2, 65_536).unwrap();
        let sockets = sockets_of(&opened, 1);
        assert_eq!(sockets.len(), 2);
        assert!(Arc::ptr_eq(&sockets[1], &opened[1].sockets[1]));
    }

    #[test]
    fn default_listener_takes_both_families() {
        let settings = Listener { address: "::".into(), port: 0, is_dual_stack_default: true };
        let opened = open(&settings, 1, 65_536).unwrap();
        let port = opened.local_address.port();
        let mut sent = 0;
        for host in ["127.0.0.1", "::1"] {
            let target = SocketAddr::new(host.parse().unwrap(), port);
            let source = if target.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
            // A host without IPv6 has no `::1` to send from.
            if let Ok(sender) = UdpSocket::bind(source) {
                sender.send_to(b"a:1|c", target).unwrap();
                sent += 1;
            }
        }
        opened.sockets[0].set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        for _ in 0..sent {
            assert_eq!(opened.sockets[0].recv(&mut [0; 16]).unwrap(), 5);
        }
    }

    #[test]
    fn only_the_errors_of_a_missing_family_lead_to_ipv4() {
        assert!(is_without_ipv6(&io::Error::from_raw_os_error(libc::EAFNOSUPPORT)));
        assert!(is_without_ipv6(&io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)));
        assert!(!is_without_ipv6(&io::Error::from_raw_os_error(libc::EACCES)));
        // An address of no interface here: the same error as IPv6 switched off.
        let foreign =
            Listener { address: "2001:db8::1".into(), port: 0, is_dual_stack_default: true };
        let opened = open(&foreign, 2, 65_536).unwrap();
        assert_eq!(opened.local_address.ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let explicit = Listener { is_dual_stack_default: false, ..foreign };
        assert!(matches!(open(&explicit, 2, 65_536), Err(BindError::Refused { .. })));
    }

    #[test]
    fn names_resolve_to_ipv4_first_and_nonsense_is_refused() {
        let opened = open(&listener("localhost", 0), 1, 65_536).unwrap();
        assert!(opened.local_address.ip().is_loopback());
        let error = open(&listener("no address", 0), 1, 65_536).unwrap_err();
        assert!(error.to_string().starts_with("cannot bind \"no address\": "), "{error}");
    }

    #[test]
    fn too_many_listeners_are_refused() {
        let listeners = vec![listener("127.0.0.1", 0); LISTENERS_MAX + 1];
        let error = open_all(&listeners, 1, 65_536).unwrap_err();
        assert!(matches!(error, BindError::TooManyListeners { found: 33 }));
    }

    #[test]
    fn warning_names_the_sysctl_only_where_the_kernel_clamped() {
        let mut opened = open(&listener("127.0.0.1", 0), 1, 65_536).unwrap();
        assert_eq!(opened.receive_buffer_bytes, 131_072);
        assert_eq!(opened.receive_buffer_warning(), None);
        opened.receive_buffer_bytes_asked = 8 << 20;
        opened.receive_buffer_bytes = 425_984;
        let warning = opened.receive_buffer_warning().unwrap();
        assert!(warning.contains("is 425984 bytes, 8388608 asked"), "{warning}");
        assert!(warning.ends_with("run: sysctl -w net.core.rmem_max=8388608"), "{warning}");
        opened.receive_buffer_bytes = RECEIVE_BUFFER_BYTES_WARN;
        assert_eq!(opened.receive_buffer_warning(), None);
    }
}
