//! Rows formatted as a backend is sent them, and a backend that reads and forgets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::JoinHandle;

use floe_core::namespace::Namespace;
use floe_core::point::for_each_point;
use floe_core::row::ArchivedRows;
use floe_io::export::carbon_line::LineBuffer;
use floe_io::export::carbon_pickle::FrameBuffer;

/// Bytes formatted between two writes.
const CHUNK_BYTES: usize = 256 << 10;

/// A backend that reads and forgets.
#[derive(Debug)]
pub struct Discard {
    connection: TcpStream,
    reader: JoinHandle<u64>,
}

impl Discard {
    /// Connects to a thread that reads until the end.
    ///
    /// # Panics
    /// If loopback has no port.
    #[must_use]
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let reader = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("the benchmark connects");
            let mut buffer = vec![0; CHUNK_BYTES];
            let mut bytes = 0;
            loop {
                let count = peer.read(&mut buffer).expect("loopback does not break");
                if count == 0 {
                    return bytes;
                }
                bytes += count as u64;
            }
        });
        Self { connection: TcpStream::connect(address).expect("the listener is there"), reader }
    }

    /// Sends `chunk`.
    ///
    /// # Panics
    /// If loopback breaks.
    pub fn write(&mut self, chunk: &[u8]) {
        self.connection.write_all(chunk).expect("loopback does not break");
    }

    /// Ends the connection; returns how many bytes came through.
    ///
    /// # Panics
    /// If loopback breaks.
    #[must_use]
    pub fn finish(self) -> u64 {
        self.connection.shutdown(Shutdown::Write).expect("the connection is open");
        self.reader.join().expect("the reader does not panic")
    }
}

impl Default for Discard {
    fn default() -> Self {
        Self::new()
    }
}

/// Formats all points as text and hands chunks to `write`; returns the bytes.
pub fn text(rows: &ArchivedRows, namespace: &Namespace, mut write: impl FnMut(&[u8])) -> u64 {
    let mut buffer = LineBuffer::new(rows.timestamp_s.to_native());
    let mut bytes = 0;
    for_each_point(rows, namespace, |name, value| {
        buffer.push(name, value);
        if CHUNK_BYTES <= buffer.as_bytes().len() {
            bytes += buffer.as_bytes().len() as u64;
            write(buffer.as_bytes());
            buffer.clear();
        }
    });
    write(buffer.as_bytes());
    bytes + buffer.as_bytes().len() as u64
}

/// The same as pickle.
pub fn pickle(rows: &ArchivedRows, namespace: &Namespace, mut write: impl FnMut(&[u8])) -> u64 {
    let mut buffer = FrameBuffer::new(rows.timestamp_s.to_native());
    let mut bytes = 0;
    for_each_point(rows, namespace, |name, value| {
        buffer.push(name, value);
        if CHUNK_BYTES <= buffer.as_bytes().len() {
            bytes += buffer.as_bytes().len() as u64;
            write(buffer.as_bytes());
            buffer.clear();
        }
    });
    buffer.close_frame();
    write(buffer.as_bytes());
    bytes + buffer.as_bytes().len() as u64
}
