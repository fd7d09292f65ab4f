//! A carbon stand-in: takes plaintext or pickle over TCP and keeps the points.
//!
//! The far end of the way: the daemon under test has this as its backend. It follows carbon's receiver
//! rules: lines end in LF and have exactly three fields; a last line without LF is not taken; a line
//! above 16,384 bytes or invalid UTF-8 ends the connection. It reads each connection to its end and
//! closes it then, so that the FIN means "all read". One thread per connection.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

use crate::pickle;
use crate::received::{Point, Received};

/// Carbon's limit, without the line feed.
const LINE_BYTES_MAX: usize = 16_384;

/// The two protocols of carbon's receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Text,
    Pickle,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Text => "text",
            Protocol::Pickle => "pickle",
        }
    }
}

/// A listening sink; stops listening when it is dropped.
#[derive(Debug)]
pub(crate) struct Sink {
    protocol: Protocol,
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    is_stopping: Arc<AtomicBool>,
}

impl Sink {
    /// Binds `address` (port 0 takes a free one) and begins to accept.
    pub(crate) fn bind(protocol: Protocol, address: SocketAddr) -> Result<Sink> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot bind the {} sink to {address}", protocol.name()))?;
        let address = listener.local_addr().context("cannot tell the sink's address")?;
        let received = Arc::new(Mutex::new(Received::default()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&received), Arc::clone(&is_stopping));
        thread::Builder::new()
            .name(format!("sink {}", protocol.name()))
            .spawn(move || accept(&listener, protocol, &shared, &stop))
            .context("cannot start the sink's thread")?;
        Ok(Sink { protocol, address, received, is_stopping })
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came so far; connections wait while the guard lives.
    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        lock(&self.received)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Relaxed: the connection below is what the accepting thread wakes up by.
        self.is_stopping.store(true, Ordering::Relaxed);
        // A refused connection means the listener is gone already, which is what is wanted.
        drop(TcpStream::connect(self.address));
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(
    listener: &TcpListener,
    protocol: Protocol,
    received: &Arc<Mutex<Received>>,
    is_stopping: &AtomicBool,
) {
    for stream in listener.incoming() {
        if is_stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        lock(received).connections += 1;
        let shared = Arc::clone(received);
        let spawned =
            thread::Builder::new().name("connection".to_owned()).spawn(move || match protocol {
                Protocol::Text => read_lines(stream, &shared),
                Protocol::Pickle => read_frames(stream, &shared),
            });
        if spawned.is_err() {
            lock(received).refused += 1;
        }
    }
}

/// Reads one plaintext connection to its end.
fn read_lines(stream: TcpStream, received: &Mutex<Received>) {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut partial = Vec::new();
    loop {
        let Ok(chunk) = reader.fill_buf() else { return };
        if chunk.is_empty() {
            return;
        }
        let size_bytes = chunk.len();
        let mut received = lock(received);
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            if !take_line(&partial, &mut received) {
                return;
            }
            partial.clear();
        }
        partial.extend_from_slice(rest);
        if LINE_BYTES_MAX < partial.len() {
            received.refused += 1;
            return;
        }
        drop(received);
        reader.consume(size_bytes);
    }
}

/// Takes one line; false where carbon would close the connection.
fn take_line(line: &[u8], received: &mut Received) -> bool {
    let is_short = line.len() <= LINE_BYTES_MAX;
    let Some(text) = std::str::from_utf8(line).ok().filter(|_| is_short) else {
        received.refused += 1;
        return false;
    };
    match point(text) {
        Some((name, point)) => received.record(name, point),
        None => received.refused += 1,
    }
    true
}

fn point(line: &str) -> Option<(&str, Point)> {
    let mut fields = line.split_whitespace();
    let name = fields.next()?;
    let value: f64 = fields.next()?.parse().ok()?;
    let timestamp: f64 = fields.next()?.parse().ok()?;
    if fields.next().is_some() || !(0.0..1e12).contains(&timestamp) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above; whisper cuts it too")]
    let timestamp = timestamp as i64;
    Some((name, Point { timestamp, value }))
}

/// Reads one pickle connection to its end.
fn read_frames(stream: TcpStream, received: &Mutex<Received>) {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut frame = Vec::new();
    loop {
        let mut length = [0u8; 4];
        if reader.read_exact(&mut length).is_err() {
            return;
        }
        let length = u32::from_be_bytes(length) as usize;
        if pickle::FRAME_BYTES_MAX < length {
            lock(received).refused += 1;
            return;
        }
        frame.resize(length, 0);
        if reader.read_exact(&mut frame).is_err() {
            return;
        }
        pickle::read_frame(&frame, &mut lock(received));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::Shutdown;

    fn sink(protocol: Protocol) -> Sink {
        Sink::bind(protocol, "127.0.0.1:0".parse().unwrap()).unwrap()
    }

    /// Sends `bytes`, half-closes and waits for the sink's FIN: then everything has been read.
    fn deliver(sink: &Sink, bytes: &[u8]) {
        let mut stream = TcpStream::connect(sink.address()).unwrap();
        // The sink may close first where it refuses the rest; that is an outcome, not a fault.
        let written = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        assert!(written.is_err() || read.is_err() || rest.is_empty());
    }

    #[test]
    fn lines_are_taken_and_a_last_one_without_a_line_feed_is_not() {
        let sink = sink(Protocol::Text);
        deliver(&sink, b"a.b 1 1000\nc 2.5 1010.9\r\nlast 3 1000");
        let received = sink.received();
        assert_eq!(received.points("a.b"), [Point { timestamp: 1_000, value: 1.0 }]);
        assert_eq!(received.points("c"), [Point { timestamp: 1_010, value: 2.5 }]);
        assert!(received.points("last").is_empty());
        assert_eq!((received.refused, received.connections), (0, 1));
    }

    #[test]
    fn several_connections_fill_one_book() {
        let sink = sink(Protocol::Text);
        for time in 0..5 {
            deliver(&sink, format!("a {time} {time}\n").as_bytes());
        }
        assert_eq!(sink.received().points("a").len(), 5);
        assert_eq!(sink.received().connections, 5);
    }

    #[test]
    fn a_malformed_line_is_refused_and_the_next_one_taken() {
        for bad in ["a 1", "a 1 2 3", "a x 1", "a 1 x", "", "a 1 -1"] {
            let sink = sink(Protocol::Text);
            deliver(&sink, format!("{bad}\nok 1 1\n").as_bytes());
            assert_eq!(sink.received().refused, 1, "{bad:?}");
            assert_eq!(sink.received().points("ok").len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_long_line_or_invalid_text_ends_the_connection() {
        let at_limit = format!("{} 1 1\n", "a".repeat(LINE_BYTES_MAX - 4));
        let long = format!("{} 1 1\n", "a".repeat(LINE_BYTES_MAX - 3));
        for (line, refused) in
            [(at_limit.into_bytes(), 0), (long.into_bytes(), 1), (b"\xff 1 1\n".to_vec(), 1)]
        {
            let sink = sink(Protocol::Text);
            let mut bytes = line;
            bytes.extend_from_slice(b"ok 1 1\n");
            deliver(&sink, &bytes);
            let taken = sink.received().points("ok").len();
            assert_eq!((sink.received().refused, taken), (refused, usize::from(refused == 0)));
        }
    }

    #[test]
    fn pickle_frames_are_taken_one_after_another() {
        let sink = sink(Protocol::Pickle);
        let mut bytes = Vec::new();
        for time in [1_000, 1_010] {
            let frame = crate::pickle::tests::protocol_2(&[("a", time, 4.0)]);
            bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&frame);
        }
        deliver(&sink, &bytes);
        assert_eq!(sink.received().points("a").len(), 2);
        assert_eq!(sink.received().refused, 0);
    }

    #[test]
    fn a_frame_above_carbons_limit_ends_the_connection() {
        let sink = sink(Protocol::Pickle);
        deliver(&sink, &1_048_577u32.to_be_bytes());
        assert_eq!(sink.received().refused, 1);
    }

    #[test]
    fn a_dropped_sink_frees_its_port() {
        // An address of its own: no other test can take the port meanwhile.
        let first = Sink::bind(Protocol::Text, "127.0.0.3:0".parse().unwrap()).unwrap();
        let address = first.address();
        drop(first);
        // The accepting thread closes the listener a moment later; connects fail from then on.
        let mut tries = 0;
        while TcpStream::connect(address).is_ok() {
            tries += 1;
            assert!(tries < 10_000, "the listener is still there");
            crate::clock::pause(std::time::Duration::from_millis(1));
        }
    }
}
