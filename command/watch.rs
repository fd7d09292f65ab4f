//! What the main thread waits for: signals, and hints that the configuration has changed.
//!
//! The *directory* of the file is watched, for a file is replaced by a rename more often than it is
//! written in place; where the file is a symbolic link, the directories of what it leads to are
//! watched as well, since a configuration map is changed by exchanging a link on the way. A hint is
//! no more than that: whoever gets it waits until things are quiet, reads, and compares. A look each
//! few seconds stands in for hints that do not come.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use notify::{RecursiveMode, Watcher};
use signal_hook::iterator::Signals;
use tracing::{debug, warn};

/// Events that may wait; further hints say nothing new.
const EVENTS_MAX: usize = 64;

/// Things are quiet when no hint came for so long.
const QUIET: Duration = Duration::from_millis(80);

/// Hints in a row that are waited out: a file that is written all the time is read all the same.
const HINTS_MAX: usize = 25;

/// Between two looks without a hint.
const LOOK: Duration = Duration::from_secs(2);

/// Symbolic links followed from the file on.
const LINKS_MAX: usize = 16;

/// What woke the main thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A signal, by its number.
    Signal(i32),
    /// The configuration may have changed.
    Hint,
}

/// The main thread's events.
#[derive(Debug)]
pub(super) struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    watched: Option<Watched>,
}

/// A watched file.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    directories: BTreeSet<PathBuf>,
    /// `None` where the kernel refuses to watch: then there is the look alone.
    watcher: Option<notify::RecommendedWatcher>,
}

impl Events {
    /// Signals from now on.
    pub(super) fn of(mut signals: Signals) -> std::io::Result<Self> {
        let (sender, receiver) = bounded(EVENTS_MAX);
        let to_main = sender.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                // The main thread is there as long as the process.
                to_main.send(Event::Signal(signal)).ok();
            }
        })?;
        Ok(Self { sender, receiver, watched: None })
    }

    /// Watches `path` too, or nothing.
    pub(super) fn watch(&mut self, path: Option<&Path>) {
        if self.watched.as_ref().map(|watched| watched.path.as_path()) == path {
            return;
        }
        self.watched = path.map(|path| {
            let to_main = self.sender.clone();
            let watcher = notify::recommended_watcher(move |_| {
                // A full channel holds a hint already.
                to_main.try_send(Event::Hint).ok();
            });
            let watcher = watcher.inspect_err(|error| {
                warn!(%error, "configuration not watched: looked at every two seconds");
            });
            let mut watched = Watched {
                path: path.to_owned(),
                directories: BTreeSet::new(),
                watcher: watcher.ok(),
            };
            watched.follow();
            watched
        });
    }

    /// The next event; hints are told when no further one has come for a while.
    pub(super) fn next(&mut self) -> Event {
        let mut hints = 0;
        loop {
            let wait = match (hints, &self.watched) {
                (0, None) => None,
                (0, Some(_)) => Some(LOOK),
                (HINTS_MAX.., _) => return self.told_hint(),
                _ => Some(QUIET),
            };
            let received = match wait {
                Some(wait) => self.receiver.recv_timeout(wait),
                None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(Event::Hint) => hints += 1,
                Ok(signal) => return signal,
                Err(_) => return self.told_hint(),
            }
        }
    }

    /// The next signal; hints are not of interest any more.
    pub(super) fn next_signal(&mut self) -> i32 {
        loop {
            if let Ok(Event::Signal(signal)) = self.receiver.recv() {
                return signal;
            }
        }
    }

    fn told_hint(&mut self) -> Event {
        if let Some(watched) = &mut self.watched {
            watched.follow();
        }
        Event::Hint
    }
}

impl Watched {
    /// Watches the directories that the path leads through now.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let directories = directories_to(&self.path);
        for gone in self.directories.difference(&directories) {
            // One that was removed is not watched any more anyway.
            watcher.unwatch(gone).ok();
        }
        let mut watched = BTreeSet::new();
        for directory in directories {
            let is_watched = self.directories.contains(&directory)
                || watcher.watch(&directory, RecursiveMode::NonRecursive).is_ok();
            if is_watched {
                watched.insert(directory);
            } else {
                debug!(directory = %directory.display(), "directory not watched");
            }
        }
        self.directories = watched;
    }
}

/// The directory of `path`, and of each file that symbolic links on its way lead to.
fn directories_to(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut next = Some(path.to_owned());
    for _ in 0..LINKS_MAX {
        let Some(path) = next.take() else { break };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if let Ok(target) = std::fs::read_link(&path) {
            next = Some(directory.join(target));
        }
        directories.insert(directory);
    }
    if let Some(real) = path.canonicalize().ok().as_deref().and_then(Path::parent) {
        directories.insert(real.to_owned());
    }
    directories
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_directory_on_the_way_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        // As a configuration map lies: config.js -> ..data/config.js, ..data -> ..v1.
        std::fs::create_dir(root.join("..v1")).unwrap();
        std::fs::write(root.join("..v1/config.js"), "{}").unwrap();
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/config.js", root.join("config.js")).unwrap();
        let expected = [root.clone(), root.join("..data"), root.join("..v1")];
        assert_eq!(directories_to(&root.join("config.js")), BTreeSet::from(expected));
        assert_eq!(directories_to(Path::new("nowhere.js")), BTreeSet::from([PathBuf::from(".")]));
    }
}
