//! A carbon that fails as it is told to, and keeps what it read before.
//!
//! It reads text as the real one does: every line that arrived whole counts, whatever becomes of the
//! connection. Each connection takes the next fault of the script; when that is used up, the last one
//! goes on until `heal` is called, from when on everything is read and closed cleanly.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wait;

/// What becomes of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None: it is read to its end and closed.
    None,
    /// It is reset when this many bytes were read.
    ResetAfter(usize),
    /// It is closed when this many bytes were read, whatever is left.
    CloseAfter(usize),
    /// It is read by this many bytes a second.
    Slow(usize),
    /// It is accepted and never read.
    NeverRead,
}

/// One connection, as it was when it was accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) at: Instant,
    pub(crate) fault: Fault,
}

/// The listening half.
pub(crate) struct FaultyCarbon {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    script: VecDeque<Fault>,
    accepted: Vec<Accepted>,
    /// Whole lines in the order in which they were read, over all connections.
    lines: Vec<String>,
    is_healed: bool,
    is_closing: bool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is healed, or for `patience`; whether it is.
    fn wait_healed(&self, patience: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |inner| {
            !inner.is_healed && !inner.is_closing
        });
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.is_healed || inner.is_closing
    }
}

impl FaultyCarbon {
    /// Listens on a port of the kernel's choice; each connection takes the next of `script`.
    pub(crate) fn start(script: &[Fault]) -> Self {
        Self::start_on(0, script)
    }

    pub(crate) fn start_on(port: u16, script: &[Fault]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .unwrap_or_else(|error| panic!("faulty carbon cannot bind {port}: {error}"));
        Self::start_with(listener, script)
    }

    /// Takes over a listener, and what waits to be accepted.
    pub(crate) fn start_with(listener: TcpListener, script: &[Fault]) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let inner = Inner { script: script.iter().copied().collect(), ..Inner::default() };
        let state = Arc::new(State { inner: Mutex::new(inner), changed: Condvar::new() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// No more faults: what is open is read on, what comes is read and closed.
    pub(crate) fn heal(&self) {
        self.state.lock().is_healed = true;
        self.state.changed.notify_all();
    }

    /// Every connection so far.
    pub(crate) fn accepted(&self) -> Vec<Accepted> {
        self.state.lock().accepted.clone()
    }

    /// Every whole line so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.state.lock().lines.clone()
    }

    /// The values that came for each name and timestamp, each value once: two are two different ones.
    pub(crate) fn values(&self) -> BTreeMap<(String, u64), Vec<String>> {
        let mut values: BTreeMap<(String, u64), Vec<String>> = BTreeMap::new();
        for line in self.state.lock().lines.iter() {
            let mut fields = line.rsplitn(3, ' ');
            let (time, value, name) = (fields.next(), fields.next(), fields.next());
            let (Some(time), Some(value), Some(name)) = (time, value, name) else {
                panic!("line without three fields: {line:?}")
            };
            let time = time.parse().expect("timestamps are whole seconds");
            let of_slot = values.entry((name.to_owned(), time)).or_default();
            if !of_slot.iter().any(|known| known == value) {
                of_slot.push(value.to_owned());
            }
        }
        values
    }

    /// What `name` was at each timestamp.
    ///
    /// # Panics
    /// If any name had two values at one timestamp.
    pub(crate) fn series(&self, name: &str) -> BTreeMap<u64, f64> {
        let mut series = BTreeMap::new();
        for ((known, time), values) in self.values() {
            assert_eq!(values.len(), 1, "two values in one slot: {known} {time}: {values:?}");
            if known == name {
                series.insert(time, values[0].parse().expect("values are numbers"));
            }
        }
        series
    }
}

impl Drop for FaultyCarbon {
    fn drop(&mut self) {
        self.state.lock().is_closing = true;
        self.state.changed.notify_all();
        // A last connection wakes the accept loop; where it fails, the loop has ended already.
        if let Ok(stream) = TcpStream::connect(self.address) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((stream, _)) = listener.accept() {
        let mut inner = state.lock();
        if inner.is_closing {
            return;
        }
        let fault = match (inner.is_healed, inner.script.len()) {
            (true, _) | (_, 0) => Fault::None,
            (_, 1) => inner.script[0],
            _ => inner.script.pop_front().unwrap_or(Fault::None),
        };
        inner.accepted.push(Accepted { at: wait::now(), fault });
        drop(inner);
        let state = Arc::clone(state);
        std::thread::spawn(move || serve(stream, fault, &state));
    }
}

fn serve(mut stream: TcpStream, fault: Fault, state: &State) {
    let mut reading = Reading { rest: Vec::new(), state };
    match fault {
        Fault::None => {}
        Fault::ResetAfter(bytes) => {
            reading.take(&mut stream, bytes);
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .expect("every socket has a linger");
            return;
        }
        Fault::CloseAfter(bytes) => {
            reading.take(&mut stream, bytes);
            return;
        }
        Fault::Slow(bytes_per_s) => {
            let pause = Duration::from_secs(1) / u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
            while !state.wait_healed(pause) {
                if reading.take(&mut stream, 1) == 0 {
                    return;
                }
            }
        }
        Fault::NeverRead => while !state.wait_healed(Duration::from_secs(3_600)) {},
    }
    reading.take(&mut stream, usize::MAX);
}

/// What one connection has brought.
struct Reading<'s> {
    /// Of a line that is not whole yet.
    rest: Vec<u8>,
    state: &'s State,
}

impl Reading<'_> {
    /// Reads up to `bytes`; returns how many there were before the connection's end.
    fn take(&mut self, stream: &mut TcpStream, bytes: usize) -> usize {
        let mut chunk = [0; 1 << 16];
        let mut taken = 0;
        while taken < bytes {
            let room = chunk.len().min(bytes - taken);
            match stream.read(&mut chunk[..room]) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    taken += length;
                    self.keep(&chunk[..length]);
                }
            }
        }
        taken
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = String::from_utf8(whole).expect("what carbon is sent is text");
        self.state.lock().lines.extend(lines.lines().map(str::to_owned));
    }
}
