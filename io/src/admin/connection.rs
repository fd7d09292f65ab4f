//! One connection to the console, on a thread of its own.
//!
//! Plain blocking calls with limits: a read waits until the connection has been idle for too long,
//! or, while a command may still be incomplete, for a moment; a write waits for 30 s. Whoever closes
//! the console or needs the place shuts the socket down, which ends both.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::asking::Asking;
use super::command::{CommandReader, GRACE};
use super::face::Face;
use super::reply::{Ended, answer};
use crate::clock::monotonic_ns;

/// How long a write waits for the client.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;

/// What is taken from a client that is told to go, so that it sees why, bytes and time.
const LEFTOVER_READS_MAX: usize = 64;
const LEFTOVER_WAIT: Duration = Duration::from_millis(200);

/// The word for a line that is too long.
const TOO_LONG: &[u8] = b"ERROR line too long\n";

/// When a connection was last at work.
#[derive(Debug)]
pub(super) struct Activity {
    /// Monotonic ns; `u64::MAX` while a command is answered.
    idle_since_ns: AtomicU64,
}

impl Activity {
    /// Idle as of now.
    pub(super) fn new() -> Self {
        Self { idle_since_ns: AtomicU64::new(monotonic_ns()) }
    }

    /// For how long it has been idle, ns; `None` while it is at work.
    pub(super) fn idle_ns(&self) -> Option<u64> {
        match self.idle_since_ns.load(Ordering::Relaxed) {
            u64::MAX => None,
            since_ns => Some(monotonic_ns().saturating_sub(since_ns)),
        }
    }

    fn begin(&self) {
        self.idle_since_ns.store(u64::MAX, Ordering::Relaxed);
    }

    fn end(&self) {
        self.idle_since_ns.store(monotonic_ns(), Ordering::Relaxed);
    }
}

/// Answers commands until the client leaves, is told to, or is idle for `idle_max`.
pub(super) fn serve(
    mut stream: &TcpStream,
    activity: &Activity,
    face: &Face,
    asking: &Asking,
    idle_max: Duration,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(WRITE_MAX))?;
    let mut reader = CommandReader::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let idle = Duration::from_nanos(activity.idle_ns().unwrap_or(0));
        let left = idle_max.saturating_sub(idle);
        if left.is_zero() {
            return Ok(());
        }
        let wait = if reader.is_holding() { left.min(GRACE) } else { left };
        // The kernel takes no wait below a microsecond.
        stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let (commands, is_over) = match stream.read(&mut buffer) {
            Ok(0) => (reader.finish().into_iter().collect(), true),
            Ok(len) => match reader.take(buffer.get(..len).unwrap_or_default()) {
                Ok(commands) => (commands, false),
                Err(_) => return send_away(stream, TOO_LONG),
            },
            Err(error) if is_timeout(&error) => (reader.finish().into_iter().collect(), false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for command in commands {
            activity.begin();
            let answered = answer(command, stream, face, asking);
            activity.end();
            match answered {
                Ok(()) => {}
                Err(Ended::Quit) => return send_away(stream, b""),
                Err(Ended::Closing) => return Ok(()),
                Err(Ended::Refused(error)) => return Err(error),
            }
        }
        if is_over {
            return Ok(());
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Says `words` and closes. What the client still sends is taken for a moment: closing over unread
/// bytes would reset the connection, and the words with it.
fn send_away(mut stream: &TcpStream, words: &[u8]) -> io::Result<()> {
    stream.write_all(words)?;
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LEFTOVER_WAIT))?;
    let mut buffer = vec![0; READ_BYTES];
    for _ in 0..LEFTOVER_READS_MAX {
        if matches!(stream.read(&mut buffer), Ok(0) | Err(_)) {
            break;
        }
    }
    Ok(())
}

/// Tells a client that comes when there is no place, without waiting for it.
pub(super) fn refuse(mut stream: TcpStream) {
    let told = stream.set_nonblocking(true).and_then(|()| {
        stream.write_all(b"ERROR too many connections\n")?;
        // What it has sent already is taken, so that closing does not reset the connection.
        let _taken = stream.read(&mut [0; 1_024]);
        stream.shutdown(Shutdown::Write)
    });
    // A client that is gone already has lost nothing.
    told.ok();
}
