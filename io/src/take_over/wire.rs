//! Messages, bytes and descriptors over a Unix socket, one behind the other, each waited for with a
//! bound.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use floe_core::interval::handed::HandedBytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{duration_ns, monotonic_ns};
use crate::sys::timespec;

/// Longest message, bytes: the names of all books of many backends are far below it.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// Longest run of bytes: what an archive with offsets of 32 bits can be.
const BYTES_MAX: u64 = 2 << 30;

/// Between two looks whether the wait is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// Descriptors of one message; the kernel's limit is 253.
const FDS_AT_ONCE: usize = 128;

const SPACE: usize = rustix::cmsg_space!(ScmRights(FDS_AT_ONCE));

/// One end of the connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
}

impl Wire {
    /// Waits `patience` for each step.
    pub(super) fn new(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream })
    }

    /// Waits until something has come; `is_wanted` is asked again and again meanwhile.
    pub(super) fn wait(&self, patience: Duration, is_wanted: &dyn Fn() -> bool) -> io::Result<()> {
        let end_ns = monotonic_ns().saturating_add(duration_ns(patience));
        while is_wanted() {
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            // An interrupted wait is looked at like any other.
            poll(&mut fds, Some(&timespec(LOOK))).ok();
            if !fds[0].revents().is_empty() {
                return Ok(());
            }
            if end_ns <= monotonic_ns() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the daemon was told to stop"))
    }

    pub(super) fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        self.send_bytes(&serde_json::to_vec(message)?)
    }

    pub(super) fn receive<T: DeserializeOwned>(&self) -> io::Result<T> {
        let mut body = vec![0; self.receive_length(MESSAGE_BYTES_MAX)?];
        self.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.stream).write_all(&(bytes.len() as u64).to_le_bytes())?;
        (&self.stream).write_all(bytes)
    }

    pub(super) fn receive_bytes(&self) -> io::Result<HandedBytes> {
        let length = self.receive_length(BYTES_MAX)?;
        let mut bytes = HandedBytes::with_capacity(length);
        bytes.resize(length, 0);
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn read_exact(&self, bytes: &mut [u8]) -> io::Result<()> {
        (&self.stream).read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it has gone away"),
            // What a read is told whose time is over.
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it says nothing"),
            _ => error,
        })
    }

    fn receive_length(&self, limit: u64) -> io::Result<usize> {
        let mut length = [0; 8];
        self.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if limit < length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without end"));
        }
        usize::try_from(length).map_err(io::Error::other)
    }

    /// Sends descriptors; the other side knows how many.
    pub(super) fn send_fds(&self, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        for some in fds.chunks(FDS_AT_ONCE) {
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(some)) {
                return Err(io::Error::other("descriptors do not fit"));
            }
            sendmsg(&self.stream, &[IoSlice::new(b"f")], &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Receives `count` descriptors.
    pub(super) fn receive_fds(&self, count: usize) -> io::Result<Vec<OwnedFd>> {
        let mut fds = Vec::with_capacity(count);
        while fds.len() < count {
            let before = fds.len();
            let mut space = [MaybeUninit::uninit(); SPACE];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let mut data = [IoSliceMut::new(&mut byte)];
            let got = recvmsg(&self.stream, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    fds.extend(some);
                }
            }
            if got.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if fds.len() == before || count < fds.len() {
                // Out of descriptors, the kernel leaves some away.
                let said = "descriptors did not arrive; raise the limit of open files: ulimit -n";
                return Err(io::Error::new(io::ErrorKind::InvalidData, said));
            }
        }
        Ok(fds)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn pair() -> [Wire; 2] {
        let (one, other) = UnixStream::pair().unwrap();
        [one, other].map(|stream| Wire::new(stream, PATIENCE).unwrap())
    }

    #[test]
    fn messages_bytes_and_many_descriptors_arrive_in_order() {
        let [one, other] = pair();
        let file = tempfile::tempfile().unwrap();
        let fds: Vec<BorrowedFd<'_>> = (0..300).map(|_| file.as_fd()).collect();
        one.send(&vec!["a", "b"]).unwrap();
        one.send_fds(&fds).unwrap();
        one.send_bytes(b"raw").unwrap();
        one.send_bytes(b"").unwrap();
        assert_eq!(other.receive::<Vec<String>>().unwrap(), ["a", "b"]);
        assert_eq!(other.receive_fds(300).unwrap().len(), 300);
        assert_eq!(&*other.receive_bytes().unwrap(), b"raw");
        assert!(other.receive_bytes().unwrap().is_empty());
        drop(one);
        let error = other.receive::<u8>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(other.receive_fds(1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_wait_ends_with_what_comes_with_time_or_when_nobody_wants_it() {
        let [one, other] = pair();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        let short = Duration::from_millis(1);
        assert_eq!(kind(other.wait(short, &|| true)), io::ErrorKind::TimedOut);
        assert_eq!(kind(other.wait(PATIENCE, &|| false)), io::ErrorKind::Interrupted);
        one.send(&1).unwrap();
        other.wait(PATIENCE, &|| true).unwrap();
        assert_eq!(other.receive::<u8>().unwrap(), 1);
        drop(one);
        other.wait(PATIENCE, &|| true).unwrap();
    }

    #[test]
    fn a_message_without_end_or_sense_is_refused() {
        let [one, other] = pair();
        (&one.stream).write_all(&u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(other.receive_bytes().unwrap_err().kind(), io::ErrorKind::InvalidData);
        one.send_bytes(b"{no json").unwrap();
        assert_eq!(other.receive::<u8>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        one.send_bytes(b"").unwrap();
        let error = other.receive_fds(1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
