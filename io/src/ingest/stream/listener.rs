//! Sockets to accept at: TCP ports and Unix sockets.
//!
//! A TCP listener without an address takes both families, as the reference's does. A Unix socket
//! lies in the file system: one that a dead daemon left behind is taken away, one that somebody
//! answers at is not, and at the end ours is removed, if it is still ours.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use floe_core::config::settings::StreamListener;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::given::GivenSockets;
use crate::ingest::udp::holder::{Holder, PortKind, in_use};
use crate::sys::is_without_ipv6;

/// Connections the kernel completes for us before we accept them.
const BACKLOG: i32 = 1_024;

/// Why a stream listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamBindError {
    /// Another socket has the port.
    #[error(
        "cannot bind tcp {address}: {}",
        in_use(holder.as_ref(), "another server is here, or set \"port\"")
    )]
    AddressInUse {
        /// The address and port asked for.
        address: SocketAddr,
        /// Who has it, where we may know.
        holder: Option<Holder>,
    },
    /// The kernel refuses the address.
    #[error(
        "cannot bind tcp {address}: {source}; set \"address\" and \"port\" to what this host has"
    )]
    Refused {
        /// The address and port asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody answers at the Unix socket.
    #[error(
        "cannot bind {}: another server answers there{}; set \"socket\"",
        path.display(), answering(holder.as_ref())
    )]
    SocketInUse {
        /// The path asked for.
        path: PathBuf,
        /// Who answers, where we may know.
        holder: Option<Holder>,
    },
    /// The path is something else than a socket, or its directory refuses one.
    #[error("cannot bind {}: {source}; set \"socket\" to a path that is free", path.display())]
    Socket {
        /// The path asked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Where a stream listener can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamAddress {
    /// A TCP port; the real one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// An open listener.
#[derive(Debug)]
pub struct OpenStream {
    socket: OwnedFd,
    /// Whether it was given: somebody else holds it too.
    pub(crate) is_given: bool,
    address: StreamAddress,
    /// The file of a Unix socket, removed with it.
    file: Option<SocketFile>,
}

/// The file of a Unix socket: device and inode say whether it is still ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Somebody else goes on with it.
    is_kept: AtomicBool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_kept = self.is_kept.load(Ordering::Relaxed);
        if !is_kept && identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // What resists is taken away by the next start.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

impl AsFd for OpenStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl OpenStream {
    /// Opens a listener.
    ///
    /// # Errors
    /// [`StreamBindError`].
    pub fn open(listener: &StreamListener) -> Result<Self, StreamBindError> {
        match listener {
            StreamListener::Tcp { address, port } => open_tcp(address.as_deref(), *port),
            StreamListener::Unix { path, mode } => open_unix(path, *mode),
        }
    }

    /// The same where it may be among `given` sockets.
    ///
    /// # Errors
    /// [`StreamBindError`].
    pub fn open_given(
        listener: &StreamListener,
        given: &mut GivenSockets,
    ) -> Result<Self, StreamBindError> {
        match listener {
            StreamListener::Tcp { address, port } => {
                let (asked, any) = tcp_addresses(address.as_deref(), *port);
                let found = given.take_tcp(asked).or_else(|| given.take_tcp(any?));
                let Some(socket) = found else { return Self::open(listener) };
                let refused = |source| StreamBindError::Refused { address: asked, source };
                let socket = Socket::from(socket);
                socket.set_nonblocking(true).map_err(refused)?;
                let local = socket.local_addr().map_err(refused)?.as_socket().unwrap_or(asked);
                let address = StreamAddress::Tcp(local);
                Ok(Self { socket: socket.into(), is_given: true, address, file: None })
            }
            StreamListener::Unix { path, .. } => {
                let Some(socket) = given.take_unix(path) else { return Self::open(listener) };
                let failed = |source| StreamBindError::Socket { path: path.to_owned(), source };
                let socket = Socket::from(socket);
                socket.set_nonblocking(true).map_err(failed)?;
                let file = SocketFile {
                    path: path.to_owned(),
                    identity: identity(path).map_err(failed)?,
                    is_kept: AtomicBool::new(false),
                };
                let address = StreamAddress::Unix(path.to_owned());
                Ok(Self { socket: socket.into(), is_given: true, address, file: Some(file) })
            }
        }
    }

    /// Leaves the file of a Unix socket where it is at the end: somebody else goes on with it.
    pub fn keep_file(&self) {
        if let Some(file) = &self.file {
            // Relaxed: who drops it has been joined, or has the last reference.
            file.is_kept.store(true, Ordering::Relaxed);
        }
    }

    /// Where it can be found.
    #[must_use]
    pub fn address(&self) -> &StreamAddress {
        &self.address
    }

    /// The next connection, in blocking mode; never waits.
    pub(super) fn accept(&self) -> Result<OwnedFd, Errno> {
        accept_with(&self.socket, SocketFlags::CLOEXEC)
    }
}

/// The address to bind, and the one that stands in where there is no IPv6.
fn tcp_addresses(address: Option<&str>, port: u16) -> (SocketAddr, Option<SocketAddr>) {
    let ip = address.map_or(Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), str::parse);
    // The settings have checked it.
    let ip = ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    (SocketAddr::new(ip, port), address.is_none().then_some(any))
}

fn open_tcp(address: Option<&str>, port: u16) -> Result<OpenStream, StreamBindError> {
    let (asked, any) = tcp_addresses(address, port);
    let bound = match (bind_tcp(asked), any) {
        (Err(error), Some(any)) if is_without_ipv6(&error) => bind_tcp(any),
        (bound, _) => bound,
    };
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = Holder::of_port(PortKind::Tcp, asked.port());
            StreamBindError::AddressInUse { address: asked, holder }
        }
        _ => StreamBindError::Refused { address: asked, source },
    };
    let socket = bound.map_err(refused)?;
    let local = socket.local_addr().map_err(refused)?.as_socket().unwrap_or(asked);
    Ok(OpenStream {
        socket: socket.into(),
        is_given: false,
        address: StreamAddress::Tcp(local),
        file: None,
    })
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of the daemon before us do not keep the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    listen(socket)
}

fn listen(socket: Socket) -> io::Result<Socket> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_unix(path: &Path, mode: Option<u32>) -> Result<OpenStream, StreamBindError> {
    let failed = |source| StreamBindError::Socket { path: path.to_owned(), source };
    if std::fs::symlink_metadata(path).is_ok() {
        take_away_stale(path)?;
    }
    let socket = bind_unix(path, mode).map_err(failed)?;
    let identity = identity(path).map_err(failed)?;
    let is_kept = AtomicBool::new(false);
    let file = Some(SocketFile { path: path.to_owned(), identity, is_kept });
    let address = StreamAddress::Unix(path.to_owned());
    let socket = UnixListener::from(OwnedFd::from(socket)).into();
    Ok(OpenStream { socket, is_given: false, address, file })
}

fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(mode) = mode {
        // The file comes into being with these, less the umask: never wider than asked.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
    }
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    listen(socket)
}

/// Removes a socket that nobody answers at.
fn take_away_stale(path: &Path) -> Result<(), StreamBindError> {
    let failed = |source| StreamBindError::Socket { path: path.to_owned(), source };
    let is_socket = std::fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket();
    if !is_socket {
        return Err(failed(io::Error::from(io::ErrorKind::AlreadyExists)));
    }
    match try_connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(error)),
        // Also one whose backlog is full has an owner.
        answer => {
            let peer = answer.ok().and_then(|socket| socket_peercred(&socket).ok());
            let pid = peer.map(|peer| peer.pid.as_raw_nonzero().get().unsigned_abs());
            let holder = pid.map(Holder::of_process);
            Err(StreamBindError::SocketInUse { path: path.to_owned(), holder })
        }
    }
}

/// `, floe (pid 4711)`, where somebody is known.
fn answering(holder: Option<&Holder>) -> String {
    holder.map(|holder| format!(", {holder}")).unwrap_or_default()
}

/// Connects without waiting: for room in the backlog of an owner that hangs one would wait for ever.
fn try_connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn unix(path: &Path, mode: Option<u32>) -> Result<OpenStream, StreamBindError> {
        OpenStream::open(&StreamListener::Unix { path: path.to_owned(), mode })
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floe.sock");
        let open = unix(&path, Some(0o751)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o751);
        assert!(UnixStream::connect(&path).is_ok());
        drop(open);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_taken_away_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floe.sock");
        // Dropped without the file being removed, as after a kill.
        drop(UnixListener::bind(&path).unwrap());
        let open = unix(&path, None).unwrap();
        let error = unix(&path, None).unwrap_err();
        // The owner is this very process.
        let expected = format!(
            "cannot bind {}: another server answers there, {}; set \"socket\"",
            path.display(),
            Holder::of_process(std::process::id())
        );
        assert_eq!(error.to_string(), expected);
        drop(open);
    }

    #[test]
    fn an_owner_that_hangs_is_an_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floe.sock");
        let owner = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        owner.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        owner.listen(0).unwrap();
        // The backlog is full: whoever connects now waits.
        let waiting = UnixStream::connect(&path).unwrap();
        assert!(matches!(unix(&path, None), Err(StreamBindError::SocketInUse { .. })));
        drop((waiting, owner));
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(unix(&path, None), Err(StreamBindError::Socket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_socket_that_took_our_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("floe.sock");
        let open = unix(&path, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        let successor = UnixListener::bind(&path).unwrap();
        drop(open);
        assert!(path.exists());
        drop(successor);
    }

    #[test]
    fn a_taken_tcp_port_is_named() {
        let tcp = |port| StreamListener::Tcp { address: Some("127.0.0.1".to_owned()), port };
        let open = OpenStream::open(&tcp(0)).unwrap();
        let StreamAddress::Tcp(address) = open.address().clone() else { panic!("a TCP listener") };
        let error = OpenStream::open(&tcp(address.port())).unwrap_err();
        let owner = Holder::of_process(std::process::id());
        let expected = format!("cannot bind tcp {address}: address in use by {owner}; ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn without_an_address_both_families_connect() {
        let open = OpenStream::open(&StreamListener::Tcp { address: None, port: 0 }).unwrap();
        let StreamAddress::Tcp(address) = open.address() else { panic!("a TCP listener") };
        std::net::TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        if address.is_ipv6() {
            std::net::TcpStream::connect(("::1", address.port())).unwrap();
        }
    }
}
