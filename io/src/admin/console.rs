//! The admin console on `mgmt_port`: commands in, the reference daemon's replies out.
//!
//! One thread accepts, and each connection has one of its own, so that `health` is answered while
//! another client waits for a dump of a million series. Scripts take an open admin port for a sign
//! of life, so it opens when everything else listens.
//!
//! Limits: connections (at the cap the one that has been idle longest gives way if that is long
//! enough, else the newcomer is told and closed), idle time, the length of a line, the time a client
//! takes over a reply, and the dumps held at once.

use std::convert::Infallible;
use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs,
};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use floe_core::limits::{CONSOLE_CONNECTIONS_MAX, CONSOLE_VIEWS_MAX};
use rustix::event::{PollFd, PollFlags, poll};
use tracing::debug;

use super::asking::Asking;
use super::connection::{self, Activity};
use super::face::Face;
use crate::clock::duration_ns;
use crate::coordinator::request::Request;
use crate::ingest::udp::holder::{Holder, PortKind, by};
use crate::sys::{WakeUp, is_without_ipv6};

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot bind the admin port {address}: {source}{}; set \"mgmt_port\"",
    by(holder.as_ref())
)]
pub struct ConsoleError {
    /// Address and port asked for.
    address: String,
    /// Who has it, where we may know.
    holder: Option<Holder>,
    #[source]
    source: io::Error,
}

/// What connections may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// A connection that gives no command for so long is closed.
    pub idle_max: Duration,
    /// A connection that has been idle for less never gives way to a new one.
    pub idle_before_giving_way: Duration,
}

impl Default for ConsoleLimits {
    fn default() -> Self {
        Self {
            connections_max: CONSOLE_CONNECTIONS_MAX,
            idle_max: Duration::from_secs(600),
            idle_before_giving_way: Duration::from_secs(5),
        }
    }
}

/// The open admin port and its threads. Dropped, it closes.
#[derive(Debug)]
pub struct Console {
    local_address: SocketAddr,
    listener: Arc<TcpListener>,
    face: Arc<Face>,
    stop: Arc<WakeUp>,
    thread: Option<JoinHandle<()>>,
}

impl Console {
    /// Binds the admin port; `address` `None` = every address of both families, as the reference
    /// daemon does. `given` is one that the daemon before us has bound.
    ///
    /// # Errors
    /// [`ConsoleError`] if the port cannot be bound.
    pub fn bind(
        address: Option<&str>,
        port: u16,
        given: Option<TcpListener>,
    ) -> Result<TcpListener, ConsoleError> {
        if let Some(given) = given
            && is_bound_to(&given, address, port)
        {
            return Ok(given);
        }
        bind(address, port).map_err(|source| {
            let is_taken = source.kind() == io::ErrorKind::AddrInUse;
            let holder = is_taken.then(|| Holder::of_port(PortKind::Tcp, port)).flatten();
            let address = format!("{}:{port}", address.unwrap_or("*"));
            ConsoleError { address, holder, source }
        })
    }

    /// Answers at `listener`. Shows `face`, asks by `requests`.
    ///
    /// # Errors
    /// [`ConsoleError`] if its thread cannot be started.
    pub fn open(
        listener: TcpListener,
        face: Arc<Face>,
        requests: Sender<Request>,
        limits: ConsoleLimits,
    ) -> Result<Self, ConsoleError> {
        let failed = |source| {
            let address = listener.local_addr().map(|address| address.to_string());
            ConsoleError { address: address.unwrap_or_default(), holder: None, source }
        };
        let local_address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let stop = Arc::new(WakeUp::new().map_err(failed)?);
        let (open, closing) = bounded(0);
        let asking = Asking::new(requests, closing, CONSOLE_VIEWS_MAX);
        let guests = Guests {
            face: Arc::clone(&face),
            asking: Arc::new(asking),
            limits,
            guests: Vec::new(),
            open: Some(open),
        };
        let seen = Arc::clone(&stop);
        let listener = Arc::new(listener);
        let accepting = Arc::clone(&listener);
        let started = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || serve(&accepting, &seen, guests));
        let thread = started.map_err(|source| ConsoleError {
            address: local_address.to_string(),
            holder: None,
            source,
        })?;
        Ok(Self { local_address, listener, face, stop, thread: Some(thread) })
    }

    /// Where it listens; the port is the real one.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Its socket, for the daemon after us.
    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// What it shows.
    #[must_use]
    pub fn face(&self) -> &Arc<Face> {
        &self.face
    }

    /// Closes the port and every connection.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether `listener` is what these settings ask for.
fn is_bound_to(listener: &TcpListener, address: Option<&str>, port: u16) -> bool {
    let Ok(bound) = listener.local_addr() else { return false };
    let is_host = match address {
        None => bound.ip().is_unspecified(),
        Some(address) => (address, port)
            .to_socket_addrs()
            .is_ok_and(|mut asked| asked.any(|asked| asked.ip() == bound.ip())),
    };
    is_host && (port == 0 || bound.port() == port)
}

fn bind(address: Option<&str>, port: u16) -> io::Result<TcpListener> {
    match address {
        Some(address) => {
            let addresses: Vec<SocketAddr> = (address, port).to_socket_addrs()?.collect();
            TcpListener::bind(&addresses[..])
        }
        None => match TcpListener::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) {
            Err(error) if is_without_ipv6(&error) => {
                TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
            }
            bound => bound,
        },
    }
}

fn serve(listener: &TcpListener, stop: &WakeUp, mut guests: Guests) {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        // An interrupted wait is looked at like any other.
        poll(&mut fds, None).ok();
        if !fds[1].revents().is_empty() {
            return;
        }
        loop {
            match listener.accept() {
                Ok((stream, _)) => guests.admit(stream),
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

/// One connection as the acceptor sees it.
struct Guest {
    /// The socket, to be shut down; its thread owns it, so that it closes when that ends.
    stream: Weak<TcpStream>,
    activity: Arc<Activity>,
    thread: JoinHandle<()>,
    /// Told to go; its thread ends soon.
    is_leaving: bool,
}

impl Guest {
    /// Ends its reads and writes.
    fn dismiss(&mut self) {
        if let Some(stream) = self.stream.upgrade() {
            // One that is gone already has nothing to shut down.
            stream.shutdown(Shutdown::Both).ok();
        }
        self.is_leaving = true;
    }
}

/// All connections. Dropped, they end.
struct Guests {
    face: Arc<Face>,
    asking: Arc<Asking>,
    limits: ConsoleLimits,
    guests: Vec<Guest>,
    /// Dropped, it ends every wait of a connection.
    open: Option<Sender<Infallible>>,
}

impl Guests {
    fn admit(&mut self, stream: TcpStream) {
        for index in (0..self.guests.len()).rev() {
            if self.guests[index].thread.is_finished() {
                drop(self.guests.swap_remove(index).thread.join());
            }
        }
        if !self.has_place() {
            debug!(connections = self.guests.len(), "admin connection refused");
            return connection::refuse(stream);
        }
        match self.start(stream) {
            Ok(guest) => self.guests.push(guest),
            Err(error) => debug!(%error, "admin connection failed"),
        }
    }

    /// Whether there is a place, or one was made.
    fn has_place(&mut self) -> bool {
        let most = self.limits.connections_max;
        let staying = self.guests.iter().filter(|guest| !guest.is_leaving).count();
        if staying < most {
            return true;
        }
        // Those told to go are on their way; should they linger, nobody else comes in.
        if 2 * most <= self.guests.len() {
            return false;
        }
        let idle_ns = self.guests.iter().map(|guest| match guest.is_leaving {
            true => None,
            false => guest.activity.idle_ns(),
        });
        let least_ns = duration_ns(self.limits.idle_before_giving_way);
        let Some(index) = idlest(idle_ns, least_ns) else { return false };
        self.guests[index].dismiss();
        true
    }

    fn start(&self, stream: TcpStream) -> io::Result<Guest> {
        // An accepted socket blocks, whatever the listener does.
        let (stream, activity) = (Arc::new(stream), Arc::new(Activity::new()));
        let seen = Arc::downgrade(&stream);
        let (face, asking) = (Arc::clone(&self.face), Arc::clone(&self.asking));
        let (at_work, idle_max) = (Arc::clone(&activity), self.limits.idle_max);
        let thread = std::thread::Builder::new().name("console".to_owned()).spawn(move || {
            if let Err(error) = connection::serve(&stream, &at_work, &face, &asking, idle_max) {
                debug!(%error, "admin connection ended");
            }
        })?;
        Ok(Guest { stream: seen, activity, thread, is_leaving: false })
    }
}

/// Index of the one that has been idle longest, `least_ns` at the least; `None` = at work.
fn idlest(idle_ns: impl Iterator<Item = Option<u64>>, least_ns: u64) -> Option<usize> {
    let idle = idle_ns.enumerate().filter_map(|(index, idle_ns)| Some((idle_ns?, index)));
    idle.filter(|(idle_ns, _)| least_ns <= *idle_ns).max().map(|(_, index)| index)
}

impl Drop for Guests {
    fn drop(&mut self) {
        self.open = None;
        self.guests.iter_mut().for_each(Guest::dismiss);
        for guest in self.guests.drain(..) {
            drop(guest.thread.join());
        }
    }
}

#[cfg(test)]
mod tests;
