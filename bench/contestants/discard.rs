//! A Graphite that reads and forgets: what every daemon delivers to.
//!
//! It runs on the sender's CPU, as a Graphite would run on another machine, and counts lines, so
//! that it can be said that a daemon did deliver.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use floe_io::cpu;

use crate::compare::probe;

/// Bytes of one read.
const CHUNK_BYTES: usize = 256 << 10;

/// Name of its threads.
const THREAD: &str = "graphite";

/// CPU time its living threads have used so far, ns.
pub(crate) fn cpu_ns() -> u64 {
    let threads = probe::threads(std::process::id()).unwrap_or_default();
    threads.iter().filter(|thread| thread.name == THREAD).map(|thread| thread.cpu_ns).sum()
}

/// Takes connections until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Discard {
    /// Its port on loopback.
    pub(crate) port: u16,
    lines: Arc<AtomicU64>,
}

impl Discard {
    /// Listens; the threads are pinned to `cpu`.
    ///
    /// # Errors
    /// The kernel's, when loopback has no port.
    pub(crate) fn start(cpu: usize) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let lines = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lines);
        std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            for connection in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                let thread = std::thread::Builder::new().name(THREAD.to_owned());
                // A connection that gets no thread is closed; the daemon comes again.
                thread.spawn(move || read(connection, &counted, cpu)).ok();
            }
        })?;
        Ok(Self { port, lines })
    }

    /// Lines read so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }
}

fn read(mut connection: TcpStream, counted: &AtomicU64, cpu: usize) {
    // A cpuset that shrank meanwhile: it then reads wherever the kernel lets it.
    cpu::pin(cpu).ok();
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = connection.read(&mut buffer) {
        let lines = memchr::memchr_iter(b'\n', &buffer[..count]).count() as u64;
        counted.fetch_add(lines, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::compare::probe::wait_for;

    #[test]
    fn lines_of_every_connection_are_counted() {
        let discard = Discard::start(cpu::inherited().unwrap()[0]).unwrap();
        for _ in 0..2 {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, discard.port)).unwrap();
            connection.write_all(b"a 1 1\nb 2 1\n").unwrap();
        }
        wait_for("four lines", || (discard.lines() == 4).then_some(())).unwrap();
    }
}
