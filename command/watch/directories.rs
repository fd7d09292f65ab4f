//! The directories on the way to a file, watched by inotify.
//!
//! Watches are set by the caller itself, by a system call that waits for nobody; what happens is read by a
//! thread of its own, one bounded turn after the other with a pause between them. So a folder in which
//! somebody writes all the time costs that thread little and the caller nothing: no watch is set later, and
//! no stop waits. The kernel is not asked for writes, only for their end: a log in the folder, or a trace of
//! this very process, would be told of with every line, and with the reading of every line.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use tracing::debug;

/// What the kernel tells of.
const TOLD: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What one turn reads at the most, bytes: 2,000 events with short names.
const TURN_BYTES: usize = 64 << 10;

/// Between two turns. Behind a hint comes a longer wait anyway.
const TURN_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Names of files and directories that give hints.
pub(super) type Names = Arc<Mutex<BTreeSet<OsString>>>;

/// Watched directories. Dropped, they are not any more.
#[derive(Debug)]
pub(super) struct Directories {
    inotify: Arc<OwnedFd>,
    /// The kernel's numbers of them.
    watched: BTreeSet<i32>,
    /// The thread ends when it is closed.
    _open: PipeWriter,
}

impl Directories {
    /// Watches none yet; sends a hint for whatever happens to one of `names` in them.
    ///
    /// # Errors
    /// The kernel's, when it refuses inotify, a pipe or a thread.
    pub(super) fn new(names: Names, hints: Sender<()>) -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let (end, open) = io::pipe()?;
        let read = Arc::clone(&inotify);
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || tell(&read, &end, &names, &hints))?;
        Ok(Self { inotify, watched: BTreeSet::new(), _open: open })
    }

    /// Watches these and no others. One that is watched already goes on; one that was made anew under its
    /// name is another one.
    pub(super) fn watch(&mut self, directories: &BTreeSet<PathBuf>) {
        let add = |directory: &PathBuf| {
            inotify::add_watch(&self.inotify, directory, TOLD)
                .inspect_err(|error| {
                    debug!(directory = %directory.display(), %error, "directory not watched");
                })
                .ok()
        };
        let watched: BTreeSet<i32> = directories.iter().filter_map(add).collect();
        for gone in self.watched.difference(&watched) {
            // One that was removed is not watched any more anyway.
            inotify::remove_watch(&self.inotify, *gone).ok();
        }
        self.watched = watched;
    }
}

/// The thread: until `end` is closed.
fn tell(inotify: &OwnedFd, end: &PipeReader, names: &Names, hints: &Sender<()>) {
    let mut buffer = [MaybeUninit::uninit(); TURN_BYTES];
    loop {
        let mut fds = [PollFd::new(end, PollFlags::IN), PollFd::new(inotify, PollFlags::IN)];
        // An interrupted wait is looked at like any other.
        poll(&mut fds, None).ok();
        if !fds[0].revents().is_empty() {
            return;
        }
        let mut events = Reader::new(inotify, &mut buffer);
        // One buffer: what has come meanwhile is the next turn's.
        while let Ok(event) = events.next() {
            if is_hint(&event, names) {
                // A full channel holds a hint already.
                hints.try_send(()).ok();
            }
            if events.is_buffer_empty() {
                break;
            }
        }
        let mut ended = [PollFd::new(end, PollFlags::IN)];
        if poll(&mut ended, Some(&TURN_PAUSE)).is_ok_and(|count| count != 0) {
            return;
        }
    }
}

/// Whether the configuration may be another one after `event`.
fn is_hint(event: &Event<'_>, names: &Names) -> bool {
    let what = event.events();
    if what.contains(ReadFlags::QUEUE_OVERFLOW) {
        // Some were lost.
        return true;
    }
    if what.contains(ReadFlags::IGNORED) {
        // A watch has ended: we said so, or another event tells why.
        return false;
    }
    let names = names.lock().unwrap_or_else(PoisonError::into_inner);
    // Without a name it is the directory itself.
    event.file_name().is_none_or(|name| names.contains(OsStr::from_bytes(name.to_bytes())))
}
