//! A receive loop on a thread of this process: what the kernel alone costs.
//!
//! The three loops count datagrams and newlines and do nothing else. Each is pinned, makes its
//! socket, its buffers and its ring before it says that it is ready, so that the CPU time taken
//! after that is receiving. They tell their counts once per wake-up.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Sender, bounded};
use floe_core::limits::RECEIVE_BUFFER_BYTES_DEFAULT;
use floe_io::cpu;
use floe_io::sys::set_receive_buffer_bytes;
use rustix::thread::gettid;

use super::ordinary::as_ordinary;

/// Longest sleep of a loop before it looks whether it shall end.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_millis(100);

/// Bytes of a receive buffer: the longest datagram of the workloads has 1,400.
pub(crate) const BUFFER_BYTES: usize = 2_048;

/// What a loop has received so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    datagrams: AtomicU64,
    newlines: AtomicU64,
    has_to_stop: AtomicBool,
}

impl Counts {
    /// Adds what one wake-up yielded.
    pub(crate) fn add(&self, datagrams: u64, newlines: u64) {
        // Relaxed: plain counters, read after the loop has gone idle.
        self.datagrams.fetch_add(datagrams, Ordering::Relaxed);
        self.newlines.fetch_add(newlines, Ordering::Relaxed);
    }

    /// Whether the loop shall end.
    pub(crate) fn has_to_stop(&self) -> bool {
        // Relaxed: nothing is published with it.
        self.has_to_stop.load(Ordering::Relaxed)
    }

    /// Datagrams received, and newlines in them.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.datagrams.load(Ordering::Relaxed), self.newlines.load(Ordering::Relaxed))
    }
}

/// Newlines in a datagram: all that the bare loops make of it.
pub(crate) fn newlines(datagram: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', datagram).count() as u64
}

/// The socket a loop receives at, and where it counts.
#[derive(Debug)]
pub(crate) struct Post {
    /// Bound to loopback, with the buffer that floe asks for, too.
    pub(crate) socket: UdpSocket,
    /// Shared with who measures.
    pub(crate) counts: Arc<Counts>,
    ready: Sender<u32>,
}

impl Post {
    /// Says that everything is made: from here on CPU time counts.
    pub(crate) fn tell_ready(&self) {
        let id = gettid().as_raw_nonzero().get();
        // The other side waits for it, or has given up.
        self.ready.send(u32::try_from(id).expect("thread ids are positive")).ok();
    }
}

/// A running loop; ends when dropped.
#[derive(Debug)]
pub(crate) struct BareLoop {
    /// Its port on loopback.
    pub(crate) port: u16,
    /// The kernel's id of its thread.
    pub(crate) thread_id: u32,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl BareLoop {
    /// Starts `body` on a thread pinned to `cpu` and waits until it is ready.
    ///
    /// # Errors
    /// The kernel's, in `body` before it was ready.
    pub(crate) fn start(
        name: &str,
        cpu: usize,
        body: fn(&Post) -> std::io::Result<()>,
    ) -> anyhow::Result<Self> {
        let socket = as_ordinary(|| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            set_receive_buffer_bytes(&socket, RECEIVE_BUFFER_BYTES_DEFAULT)?;
            Ok(socket)
        });
        let socket = socket.context("loopback has no port")?;
        let port = socket.local_addr()?.port();
        let counts = Arc::new(Counts::default());
        let (ready, is_ready) = bounded(1);
        let post = Post { socket, counts: Arc::clone(&counts), ready };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            cpu::pin(cpu)?;
            body(&post)
        })?;
        let mut started = Self { port, thread_id: 0, counts, thread: Some(thread) };
        match is_ready.recv() {
            Ok(id) => started.thread_id = id,
            Err(_) => started.join().with_context(|| format!("{name} cannot start"))?,
        }
        Ok(started)
    }

    /// Datagrams received, and newlines in them.
    pub(crate) fn received(&self) -> (u64, u64) {
        self.counts.read()
    }

    fn join(&mut self) -> std::io::Result<()> {
        self.counts.has_to_stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the loop panicked")))
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        // What it received is read before; an error now changes nothing.
        self.join().ok();
    }
}
