//! The admin interface on `mgmt_port`: the port is held and answers, but knows no commands.
//!
//! Scripts take an open admin port for a sign of life, so it opens last, when everything else
//! listens. A connection is told what this version offers and closed; nothing is read, so nobody
//! can hold memory or the thread.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::sys::WakeUp;

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection is told.
const GREETING: &[u8] = b"ERROR floe is running; this version has no admin commands\n";

/// The admin port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind the admin port {address}: {source}; set \"mgmt_port\"")]
pub struct ConsoleError {
    /// Address and port asked for.
    address: String,
    #[source]
    source: io::Error,
}

/// The open admin port and its thread.
#[derive(Debug)]
pub struct Console {
    local_address: SocketAddr,
    stop: Arc<WakeUp>,
    thread: JoinHandle<()>,
}

impl Console {
    /// Binds the admin port; `address` `None` = every address of both families, as the reference
    /// daemon does.
    ///
    /// # Errors
    /// [`ConsoleError`] if the port cannot be bound or its thread not started.
    pub fn open(address: Option<&str>, port: u16) -> Result<Self, ConsoleError> {
        let failed =
            |source| ConsoleError { address: format!("{}:{port}", address.unwrap_or("*")), source };
        let listener = bind(address, port).map_err(failed)?;
        let local_address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let stop = Arc::new(WakeUp::new().map_err(failed)?);
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || serve(&listener, &seen))
            .map_err(failed)?;
        Ok(Self { local_address, stop, thread })
    }

    /// Where it listens; the port is the real one.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Closes the port.
    pub fn close(self) {
        self.stop.wake();
        drop(self.thread.join());
    }
}

fn bind(address: Option<&str>, port: u16) -> io::Result<TcpListener> {
    match address {
        Some(address) => {
            let addresses: Vec<SocketAddr> = (address, port).to_socket_addrs()?.collect();
            TcpListener::bind(&addresses[..])
        }
        None => {
            TcpListener::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).or_else(
                |error| match error.raw_os_error() {
                    Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
                        TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
                    }
                    _ => Err(error),
                },
            )
        }
    }
}

fn serve(listener: &TcpListener, stop: &WakeUp) {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        // An interrupted wait is looked at like any other.
        poll(&mut fds, None).ok();
        if !fds[1].revents().is_empty() {
            return;
        }
        loop {
            match listener.accept() {
                // One short write into an empty socket buffer; a peer that is gone already has lost
                // nothing.
                Ok((mut connection, _)) => drop(connection.write_all(GREETING)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // Out of descriptors, most likely: the connection stays in the backlog.
                    stop.wait(ACCEPT_PAUSE);
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_connection_is_answered_and_closed_and_the_port_is_free_afterwards() {
        let console = Console::open(Some("127.0.0.1"), 0).unwrap();
        let address = console.local_address();
        let mut answer = String::new();
        TcpStream::connect(address).unwrap().read_to_string(&mut answer).unwrap();
        assert!(answer.contains("floe"), "{answer}");
        console.close();
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_setting() {
        let first = Console::open(Some("127.0.0.1"), 0).unwrap();
        let port = first.local_address().port();
        let error = Console::open(Some("127.0.0.1"), port).unwrap_err();
        assert!(error.to_string().contains("mgmt_port"), "{error}");
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        first.close();
    }
}
