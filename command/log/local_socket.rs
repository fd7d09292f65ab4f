//! A socket of this machine on which a log daemon listens: `/dev/log`, the journal's.
//!
//! It is made again whenever the daemon behind it was started anew, and waited for a tenth of a
//! second at the most.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// Longest wait for room: queues of such sockets hold a few lines, and their daemons read at once.
const ROOM_LIMIT: Duration = Duration::from_millis(100);

/// The way to a log daemon.
#[derive(Debug)]
pub(super) struct LocalSocket {
    path: PathBuf,
    open: Option<(Socket, Type)>,
}

impl LocalSocket {
    /// To whoever listens at `path`, when there is something to say.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends one message, whole or not at all.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if there was no room in time, anything else if nobody listens.
    pub(super) fn send(&mut self, message: &str) -> io::Result<()> {
        let was_open = self.open.is_some();
        match self.try_send(message.as_bytes()) {
            // Whoever listened has gone; a successor may be there.
            Err(error) if was_open && error.kind() != ErrorKind::WouldBlock => {
                self.try_send(message.as_bytes())
            }
            result => result,
        }
    }

    fn try_send(&mut self, message: &[u8]) -> io::Result<()> {
        let (socket, kind) = match self.open.take() {
            Some(open) => open,
            None => connect(&self.path)?,
        };
        let framed;
        let bytes = if kind == Type::STREAM {
            // As the C library frames them.
            framed = [message, b"\0"].concat();
            &framed[..]
        } else {
            message
        };
        match socket.send(bytes) {
            Ok(sent) if sent == bytes.len() => {
                self.open = Some((socket, kind));
                Ok(())
            }
            // Half a line: the connection goes, so that the next one is not taken for its rest.
            Ok(_) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => {
                if error.kind() == ErrorKind::WouldBlock {
                    self.open = Some((socket, kind));
                }
                Err(error)
            }
        }
    }
}

/// Datagrams, or a stream where the daemon has it so.
fn connect(path: &Path) -> io::Result<(Socket, Type)> {
    match connect_as(Type::DGRAM, path) {
        Err(error) if error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => {
            connect_as(Type::STREAM, path)
        }
        result => result,
    }
}

fn connect_as(kind: Type, path: &Path) -> io::Result<(Socket, Type)> {
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_write_timeout(Some(ROOM_LIMIT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok((socket, kind))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        (folder, path)
    }

    #[test]
    fn a_daemon_that_was_started_anew_is_found() {
        let (_folder, path) = place();
        let mut socket = LocalSocket::at(path.clone());
        assert_eq!(socket.send("nobody").unwrap_err().kind(), ErrorKind::NotFound);
        for message in ["one", "two"] {
            let daemon = UnixDatagram::bind(&path).unwrap();
            socket.send(message).unwrap();
            let mut buffer = [0; 16];
            let len = daemon.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], message.as_bytes());
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_daemon_that_does_not_read_is_not_waited_for() {
        let (_folder, path) = place();
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut socket = LocalSocket::at(path);
        let message = "x".repeat(2_048);
        let error = (0..100_000).find_map(|_| socket.send(&message).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        daemon.recv(&mut [0; 4_096]).unwrap();
        socket.send("there is room again").unwrap();
    }

    #[test]
    fn a_stream_is_framed_by_zeros() {
        let (_folder, path) = place();
        let daemon = UnixListener::bind(&path).unwrap();
        let mut socket = LocalSocket::at(path);
        socket.send("one").unwrap();
        socket.send("two").unwrap();
        let mut buffer = [0; 8];
        daemon.accept().unwrap().0.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"one\0two\0");
    }
}
