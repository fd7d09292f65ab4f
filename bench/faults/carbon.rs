//! A carbon that does as it is told: serves, refuses, stalls, resets, trickles, talks.
//!
//! It writes down every point it reads, in every mode: what a carbon has read it has, whatever becomes
//! of the connection. One thread accepts, one serves each connection; a connection keeps the mode
//! in which it was accepted, but that a stall ends with the mode.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use floe_io::clock::wall_ms;
use rustix::net::sockopt::set_socket_linger;

use super::ledger::Ledger;
use crate::compare::probe::{pause, wait_for};

/// Between two looks at the mode.
const LOOK: Duration = Duration::from_millis(20);

/// Between two bytes of a carbon that trickles.
const TRICKLE: Duration = Duration::from_secs(1);

/// What a carbon does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Reads all, closes when the peer has.
    Serve,
    /// Does not listen.
    Refuse,
    /// Accepts and never reads; resets at the end of the mode.
    Stall,
    /// Reads so many bytes, then resets.
    ResetAfter(u32),
    /// Reads a byte a second; resets at the end of the mode.
    Trickle,
    /// Closes its half at once, and reads all: it could not know yet that it would.
    HalfClose,
    /// Reads so many bytes, then closes as it should: the kernel resets where bytes are unread.
    CloseAfter(u32),
    /// Sends bytes nobody asked for, and reads all.
    Talk,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Carbon {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    mode: Mutex<Mode>,
    /// Grows with each change of the mode.
    era: AtomicU64,
    /// The era that the listening thread has obeyed.
    obeyed: AtomicU64,
    is_ending: AtomicBool,
    ledger: Mutex<Ledger>,
    connections: AtomicU64,
}

impl Carbon {
    /// Serves at `port` of loopback.
    ///
    /// # Errors
    /// The kernel's, when it cannot listen there.
    pub(crate) fn start(port: u16) -> anyhow::Result<Self> {
        Self::start_at("127.0.0.1", port)
    }

    /// Serves at `port` of `host`, an address.
    ///
    /// # Errors
    /// The kernel's, when it cannot listen there.
    pub(crate) fn start_at(host: &str, port: u16) -> anyhow::Result<Self> {
        let address = SocketAddr::new(host.parse()?, port);
        let listener = listen(address)?;
        let shared = Arc::new(Shared {
            address,
            mode: Mutex::new(Mode::Serve),
            era: AtomicU64::new(0),
            obeyed: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
            ledger: Mutex::default(),
            connections: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("carbon".to_owned());
        let thread = thread.spawn(move || accept(&accepting, Some(listener)))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Does so from now on.
    ///
    /// # Errors
    /// When the listening thread does not answer: its port may be taken.
    pub(crate) fn behave(&self, mode: Mode) -> anyhow::Result<()> {
        *self.shared.mode() = mode;
        let era = self.shared.era.fetch_add(1, Ordering::SeqCst) + 1;
        wait_for("a carbon's obedience", || {
            (era <= self.shared.obeyed.load(Ordering::SeqCst)).then_some(())
        })
    }

    /// What it was given.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    /// Connections it has accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Carbon {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::SeqCst);
        self.shared.era.fetch_add(1, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // The port is free afterwards. It may have panicked, which was said.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, era: u64) -> bool {
        era != self.era.load(Ordering::SeqCst)
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(shared: &Arc<Shared>, mut listener: Option<TcpListener>) {
    while !shared.is_ending.load(Ordering::SeqCst) {
        let era = shared.era.load(Ordering::SeqCst);
        let mode = *shared.mode();
        if mode == Mode::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = listen(shared.address).ok();
        }
        if listener.is_some() != (mode == Mode::Refuse) {
            shared.obeyed.store(era, Ordering::SeqCst);
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((connection, _))) => {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(shared);
                let thread = std::thread::Builder::new().name("carbon".to_owned());
                // A connection that gets no thread is closed; the daemon comes again.
                thread.spawn(move || serve(&shared, connection, mode, era)).ok();
            }
            _ => pause(LOOK),
        }
    }
}

/// One connection, from its acceptance to its end.
fn serve(shared: &Shared, connection: TcpStream, mode: Mode, era: u64) {
    // A socket that cannot be set up is closed.
    if connection
        .set_nonblocking(false)
        .and_then(|()| connection.set_read_timeout(Some(LOOK)))
        .is_err()
    {
        return;
    }
    let mut reader = Reader { shared, connection, tail: Vec::new(), newest: 0 };
    match mode {
        Mode::Serve => {
            reader.read_up_to(usize::MAX);
        }
        Mode::Talk => {
            // Whatever comes of it: nobody asked for it.
            reader.connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\0\x1b[2J").ok();
            reader.read_up_to(usize::MAX);
        }
        Mode::Refuse => reset(&reader.connection),
        Mode::Stall => {
            while !shared.is_over(era) {
                pause(LOOK);
            }
            reset(&reader.connection);
        }
        Mode::ResetAfter(bytes) => {
            reader.read_up_to(bytes as usize);
            reset(&reader.connection);
        }
        Mode::HalfClose => {
            // It may be gone already.
            reader.connection.shutdown(Shutdown::Write).ok();
            reader.read_up_to(usize::MAX);
        }
        Mode::CloseAfter(bytes) => {
            reader.read_up_to(bytes as usize);
        }
        Mode::Trickle => {
            let looks = TRICKLE.as_millis() / LOOK.as_millis();
            let mut is_open = true;
            while is_open && !shared.is_over(era) {
                is_open = reader.read_up_to(1);
                (0..looks).take_while(|_| !shared.is_over(era)).for_each(|_| pause(LOOK));
            }
            reset(&reader.connection);
        }
    }
}

/// A close that says so: the peer finds its connection reset.
fn reset(connection: &TcpStream) {
    // Without it the kernel resets where bytes are unread, which is most often.
    set_socket_linger(connection, Some(Duration::ZERO)).ok();
}

/// The reading half of a connection.
struct Reader<'s> {
    shared: &'s Shared,
    connection: TcpStream,
    /// A line of which the end has not come.
    tail: Vec<u8>,
    newest: u64,
}

impl Reader<'_> {
    /// Reads up to `bytes`; false at the end of the connection.
    fn read_up_to(&mut self, mut bytes: usize) -> bool {
        let mut chunk = vec![0; 64 << 10];
        while 0 < bytes && !self.shared.is_ending.load(Ordering::SeqCst) {
            let most = chunk.len().min(bytes);
            match self.connection.read(&mut chunk[..most]) {
                Ok(0) => {
                    self.shared.ledger().whole(self.newest);
                    return false;
                }
                Ok(count) => {
                    bytes -= count;
                    self.take(&chunk[..count]);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let Some(end) = memchr::memrchr(b'\n', &self.tail) else { return };
        let rest = self.tail.split_off(end + 1);
        let lines = std::mem::replace(&mut self.tail, rest);
        let now_ms = wall_ms();
        let mut ledger = self.shared.ledger();
        for line in lines[..end].split(|byte| *byte == b'\n') {
            self.newest = self.newest.max(ledger.take(line, now_ms).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::daemon::free_port;

    fn connect(carbon: &Carbon) -> std::io::Result<TcpStream> {
        TcpStream::connect(carbon.shared.address)
    }

    #[test]
    fn points_of_a_connection_that_ends_well_are_whole() {
        let carbon = Carbon::start(free_port().unwrap()).unwrap();
        let mut peer = connect(&carbon).unwrap();
        peer.write_all(b"stats.witness.hits 3 100\nstats.witness.hits 4 101\nhalf 1").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "it closes after us");
        wait_for("the points", || (carbon.ledger().newest_whole() == 101).then_some(())).unwrap();
        assert_eq!(carbon.ledger().sum("stats.witness.hits"), 7.0);
        assert_eq!(carbon.ledger().take_wrongs().0, 0);
        assert_eq!(carbon.connections(), 1);
    }

    #[test]
    fn carbon_that_refuses_comes_back() {
        let carbon = Carbon::start(free_port().unwrap()).unwrap();
        carbon.behave(Mode::Refuse).unwrap();
        assert!(connect(&carbon).is_err());
        carbon.behave(Mode::Serve).unwrap();
        connect(&carbon).unwrap();
    }

    #[test]
    fn carbon_that_resets_has_what_it_read() {
        let carbon = Carbon::start(free_port().unwrap()).unwrap();
        carbon.behave(Mode::ResetAfter(25)).unwrap();
        let mut peer = connect(&carbon).unwrap();
        peer.write_all(b"stats.witness.hits 3 100\nstats.witness.hits 4 101\n").unwrap();
        assert!(peer.read(&mut [0; 8]).is_err(), "it is no clean end");
        let ledger = carbon.ledger();
        assert_eq!((ledger.sum("stats.witness.hits"), ledger.newest_whole()), (3.0, 0));
    }

    #[test]
    fn stall_ends_with_its_mode() {
        let carbon = Carbon::start(free_port().unwrap()).unwrap();
        carbon.behave(Mode::Stall).unwrap();
        let mut peer = connect(&carbon).unwrap();
        peer.write_all(b"a 1 1\n").unwrap();
        wait_for("the connection", || (carbon.connections() == 1).then_some(())).unwrap();
        carbon.behave(Mode::Serve).unwrap();
        assert!(peer.read(&mut [0; 8]).is_err());
    }
}
