//! The control socket: what the daemon answers to commands of its own user.
//!
//! A Unix socket in the spool (`control.sock`), whose directory is closed to everybody else; so
//! whoever knows the spool finds its daemon, whatever its ports. One line asks, lines answer, and the
//! last one is `end`: an answer without it was cut short. `books` answers the books of the spool as
//! `NAME COUNT`, `top` the lines of `top/report.rs`, `take-over` makes whoever asks our successor
//! ([`crate::take_over`]), all else is `unknown`.
//!
//! One thread, one connection at a time: a client has `PATIENCE` for its line and again for the
//! answer. A spool on a file system without sockets has none, which costs `floe books` the open
//! interval alone. The ingest lock is held by whoever binds it, so a socket that is there is stale. One
//! that somebody removes, with the spool or alone, is made again within `LOOK`: without it the daemon
//! could be neither asked nor taken over from.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use tracing::{debug, warn};

use super::asking::Asking;
use crate::coordinator::request::Request;
use crate::sys::{WakeUp, timespec};
use crate::take_over::Successor;
use crate::top::TopView;
use crate::top::report::Report;

/// Name of the socket within the spool.
pub const CONTROL_SOCKET: &str = "control.sock";

/// How long a client may take over its line, and over the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long whoever asks waits for an answer: the coordinator may be at a flush.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks whether the socket is still there.
const LOOK: Duration = Duration::from_secs(2);

/// Longest line of a client, bytes.
const LINE_BYTES_MAX: u64 = 64;

/// Longest path that a socket's address holds, bytes.
const PATH_BYTES_MAX: usize = 107;

/// What ends an answer.
const END: &str = "end";

/// The open socket and its thread. Dropped, it closes and is gone.
#[derive(Debug)]
pub struct Control {
    stop: Arc<WakeUp>,
    /// Dropped, it ends a wait for the coordinator.
    open: Option<Sender<std::convert::Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Opens the socket in the spool at `spool`, whose ingest lock the caller holds; asks by
    /// `requests`, and leaves whoever wants to take over with `successors`.
    ///
    /// # Errors
    /// Those of the file system and of the kernel.
    pub fn open(
        spool: &Path,
        requests: Sender<Request>,
        successors: Sender<Successor>,
        top: Option<Arc<TopView>>,
    ) -> io::Result<Self> {
        let path = spool.join(CONTROL_SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::bind(path)?;
        let stop = Arc::new(WakeUp::new()?);
        let (open, closing) = bounded(0);
        let asking = Asking::new(requests, closing, 1);
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || serve(socket, &seen, &asking, &successors, top.as_deref()))?;
        Ok(Self { stop, open: Some(open), thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.open = None;
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A socket and its name in the spool, which goes with it, if it is still its own.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a successor binds its own there.
    identity: Option<(u64, u64)>,
}

impl Socket {
    fn bind(path: PathBuf) -> io::Result<Self> {
        let listener = at(&path, |path| UnixListener::bind(path))?;
        // The spool of an operator's making may be open to others; this is not.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let identity = identity(&path);
        Ok(Self { listener, path, identity })
    }

    /// Makes it again where nothing has its name; a successor's is left alone.
    fn remake(&mut self) {
        let kind = fs::symlink_metadata(&self.path).map_err(|error| error.kind());
        if kind.is_ok() || kind.is_err_and(|kind| kind != io::ErrorKind::NotFound) {
            return;
        }
        match Self::bind(self.path.clone()) {
            Ok(again) => {
                warn!(path = %self.path.display(), "removed control socket made again");
                *self = again;
            }
            // The spool is gone as a whole, and comes back with the next commit.
            Err(error) => debug!(%error, "control socket not made again"),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // One that somebody removed is gone as well.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn serve(
    mut socket: Socket,
    stop: &WakeUp,
    asking: &Asking,
    successors: &Sender<Successor>,
    top: Option<&TopView>,
) {
    loop {
        let listener = &socket.listener;
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        // An interrupted wait is looked at like any other.
        poll(&mut fds, Some(&timespec(LOOK))).ok();
        if !fds[1].revents().is_empty() {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream, asking, successors, top) {
                    debug!(%error, "control connection ended");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.remake(),
            // Out of descriptors, most likely: the connection stays in the backlog.
            Err(_) => drop(stop.wait(PATIENCE)),
        }
    }
}

fn answer(
    stream: UnixStream,
    asking: &Asking,
    successors: &Sender<Successor>,
    top: Option<&TopView>,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LINE_BYTES_MAX)).read_line(&mut line)?;
    if line.starts_with("take-over ") {
        if let Some(successor) = Successor::of(stream, &line)?
            && let Err(refused) = successors.try_send(successor)
        {
            refused.into_inner().refuse("it is being taken over already, or ends");
        }
        return Ok(());
    }
    let mut reply = String::new();
    if line == "books\n" {
        // A daemon that is about to end answers nothing, not even the end.
        let Some(stats) = asking.ask(Request::Stats) else { return Ok(()) };
        for (name, count) in stats.books {
            reply.push_str(&format!("{name} {count}\n"));
        }
    } else if let (Some(top), "top\n") = (top, line.as_str()) {
        reply.push_str(&top.report().to_lines());
    } else {
        reply.push_str("unknown\n");
    }
    reply.push_str(END);
    reply.push('\n');
    (&stream).write_all(reply.as_bytes())
}

/// The books of the daemon that runs on the spool at `spool`; `None` where none answers, or it ends
/// meanwhile.
///
/// # Errors
/// A daemon that is there, but does not answer as it should.
pub fn ask_books(spool: &Path) -> io::Result<Option<BTreeMap<String, u64>>> {
    let ended = [
        io::ErrorKind::NotFound,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::UnexpectedEof,
    ];
    match answered_books(spool) {
        Err(error) if ended.contains(&error.kind()) => Ok(None),
        answered => answered.map(Some).map_err(told),
    }
}

/// Who brings most, as the daemon tells that runs on the spool at `spool`.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] or [`io::ErrorKind::ConnectionRefused`] where none runs; a daemon that
/// does not answer as it should.
pub fn ask_top(spool: &Path) -> io::Result<Report> {
    answered_top(spool).map_err(told)
}

/// An error as whoever has asked may read it.
fn told(error: io::Error) -> io::Error {
    // What a read is told whose time is over.
    if error.kind() != io::ErrorKind::WouldBlock {
        return error;
    }
    let seconds = ANSWER_PATIENCE.as_secs();
    let why =
        format!("no answer for {seconds} s; it is taken over, its disk hangs, or it is stopped");
    io::Error::new(io::ErrorKind::TimedOut, why)
}

fn answered_top(spool: &Path) -> io::Result<Report> {
    let mut stream = connect(spool)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.write_all(b"top\n")?;
    let mut report = Report::default();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line == END {
            return Ok(report);
        }
        report.take_line(&line).ok_or(io::ErrorKind::InvalidData)?;
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Connects to the daemon that runs on the spool at `spool`.
pub(crate) fn connect(spool: &Path) -> io::Result<UnixStream> {
    at(&spool.join(CONTROL_SOCKET), |path| UnixStream::connect(path))
}

fn answered_books(spool: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut stream = connect(spool)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.write_all(b"books\n")?;
    let mut books = BTreeMap::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line == END {
            return Ok(books);
        }
        let entry =
            line.rsplit_once(' ').and_then(|(name, count)| Some((name, count.parse().ok()?)));
        let Some((name, count)) = entry else { return Err(io::ErrorKind::InvalidData.into()) };
        books.insert(name.to_owned(), count);
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Gives `work` a name of `path` that a socket's address can hold.
fn at<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return work(path);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(directory, flags, Mode::empty())?;
    work(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::coordinator::request::Stats;

    fn books() -> Vec<(String, u64)> {
        vec![("a.b".to_owned(), u64::MAX), ("c".to_owned(), 0)]
    }

    /// Opens the socket in `spool` over a coordinator that answers `answers` questions and ends.
    fn answered(spool: &Path, answers: usize, work: impl FnOnce()) {
        let (requests, received) = bounded(1);
        let coordinator = std::thread::spawn(move || {
            for _ in 0..answers {
                match received.recv() {
                    Ok(Request::Stats(asker)) => {
                        drop(asker.send(Stats { books: books(), ..Stats::default() }));
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        let control = Control::open(spool, requests, bounded(1).0, None).unwrap();
        work();
        drop(control);
        coordinator.join().unwrap();
    }

    #[test]
    fn books_are_answered_at_any_length_of_path() {
        let directory = TempDir::new().unwrap();
        let long = directory.path().join("n".repeat(150));
        fs::create_dir(&long).unwrap();
        for spool in [directory.path(), &long] {
            assert_eq!(ask_books(spool).unwrap(), None, "nobody is there");
            // What a daemon leaves that was killed.
            fs::write(spool.join(CONTROL_SOCKET), "").unwrap();
            answered(spool, 2, || {
                let mode = fs::metadata(spool.join(CONTROL_SOCKET)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
                for _ in 0..2 {
                    let found = ask_books(spool).unwrap().unwrap();
                    assert_eq!(found.into_iter().collect::<Vec<_>>(), books());
                }
            });
            assert!(!spool.join(CONTROL_SOCKET).exists());
        }
    }

    #[test]
    fn whoever_says_nothing_or_nonsense_keeps_nobody_back() {
        let directory = TempDir::new().unwrap();
        answered(directory.path(), 1, || {
            let silent = connect(directory.path()).unwrap();
            let mut nonsense = connect(directory.path()).unwrap();
            nonsense.write_all(&[b'x'; 4_096]).unwrap();
            let mut unknown = connect(directory.path()).unwrap();
            unknown.write_all(b"stop\n").unwrap();
            let mut reply = String::new();
            unknown.read_to_string(&mut reply).unwrap();
            assert_eq!(reply, "unknown\nend\n");
            assert!(ask_books(directory.path()).unwrap().is_some());
            drop(silent);
        });
    }

    /// Waits until somebody answers in `spool`.
    fn wait_until_answered(spool: &Path) {
        let never = WakeUp::new().unwrap();
        for _ in 0..3_000 {
            if ask_books(spool).unwrap().is_some() {
                return;
            }
            never.wait(Duration::from_millis(10));
        }
        panic!("nobody answers");
    }

    #[test]
    fn r5_a_socket_that_was_removed_alone_or_with_the_spool_is_made_again() {
        let directory = TempDir::new().unwrap();
        let spool = directory.path().join("spool");
        fs::create_dir(&spool).unwrap();
        answered(&spool, 2, || {
            fs::remove_file(spool.join(CONTROL_SOCKET)).unwrap();
            wait_until_answered(&spool);
            fs::remove_dir_all(&spool).unwrap();
            fs::create_dir(&spool).unwrap();
            wait_until_answered(&spool);
        });
        assert!(!spool.join(CONTROL_SOCKET).exists(), "it goes with its daemon");
    }

    #[test]
    fn a_socket_of_a_successor_stays() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(CONTROL_SOCKET);
        let mut before = Socket::bind(path.clone()).unwrap();
        fs::remove_file(&path).unwrap();
        let after = Socket::bind(path.clone()).unwrap();
        before.remake();
        drop(before);
        assert_eq!(identity(&path), after.identity);
    }

    #[test]
    fn a_daemon_that_ends_meanwhile_has_no_answer() {
        let directory = TempDir::new().unwrap();
        answered(directory.path(), 0, || {
            assert_eq!(ask_books(directory.path()).unwrap(), None);
        });
    }
}
