//! What the main thread waits for: signals, and hints that the configuration has changed.
//!
//! The *directory* of the file is watched, for a file is replaced by a rename more often than it is
//! written in place; where the file is a symbolic link, the directories of what it leads to are
//! watched as well, since a configuration map is changed by exchanging a link on the way. A hint is
//! no more than that: whoever gets it waits until things are quiet, reads, and compares. Only names
//! on the way to the file give hints, and neither reading it nor a write before its end gives one.
//! A look each few seconds stands in for hints that do not come.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};
use floe_io::clock::{duration_ns, monotonic_ns};
use floe_io::take_over::Successor;
use signal_hook::consts::SIGXFSZ;
use signal_hook::iterator::Signals;
use tracing::warn;

use self::directories::{Directories, Names};

mod directories;

/// Signals that may wait.
const SIGNALS_MAX: usize = 64;

/// Things are quiet when no hint came for so long.
const QUIET: Duration = Duration::from_millis(80);

/// Longest wait for quiet: a file that is written all the time is read all the same.
const QUIET_LIMIT: Duration = Duration::from_secs(2);

/// Between two looks without a hint.
const LOOK: Duration = Duration::from_secs(2);

/// Symbolic links followed from the file on.
const LINKS_MAX: usize = 16;

/// What woke the main thread.
#[derive(Debug)]
pub(super) enum Event {
    /// A signal, by its number.
    Signal(i32),
    /// The configuration has changed, it seems, and nothing more has happened for a while.
    Hint,
    /// Nothing has been heard for a while; the configuration may have changed, or be changing.
    Look,
    /// Another daemon wants to take over.
    Successor(Successor),
}

/// The main thread's events.
#[derive(Debug)]
pub(super) struct Events {
    signals: Receiver<i32>,
    /// One place: a second hint says nothing new.
    hints: (Sender<()>, Receiver<()>),
    successors: Receiver<Successor>,
    watched: Option<Watched>,
}

/// A watched file.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    names: Names,
    /// `None` where the kernel refuses to watch: then there is the look alone.
    directories: Option<Directories>,
}

impl Events {
    /// Signals from now on.
    pub(super) fn of(mut signals: Signals) -> std::io::Result<Self> {
        let (to_main, received) = bounded(SIGNALS_MAX);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            // A file that would outgrow its limit is refused, as on a full disk; the signal that comes
            // along would end a process that has not asked for it, and says nothing more.
            for signal in signals.forever().filter(|signal| *signal != SIGXFSZ) {
                // The main thread is there as long as the process.
                to_main.send(signal).ok();
            }
        })?;
        Ok(Self { signals: received, hints: bounded(1), successors: never(), watched: None })
    }

    /// Tells of `successors` too.
    pub(super) fn listen_to(&mut self, successors: &Receiver<Successor>) {
        self.successors = successors.clone();
    }

    /// Watches `path` too, or nothing.
    pub(super) fn watch(&mut self, path: Option<&Path>) {
        if self.watched.as_ref().map(|watched| watched.path.as_path()) == path {
            return;
        }
        self.watched = path.map(|path| Watched::new(path, self.hints.0.clone()));
    }

    /// The next event; hints are told when no further one has come for a while.
    pub(super) fn next(&mut self) -> Event {
        let look = if self.watched.is_some() { after(LOOK) } else { never() };
        let event = select! {
            recv(self.signals) -> signal => signal.ok().map(Event::Signal),
            recv(self.hints.1) -> _ => self.signal_before_quiet().map(Event::Signal),
            recv(look) -> _ => return self.looked(Event::Look),
            // The daemon holds the other end as long as it runs.
            recv(self.successors) -> successor => successor.ok().map(Event::Successor),
        };
        event.unwrap_or_else(|| self.looked(Event::Hint))
    }

    /// Waits until no hint has come for a while; a signal cuts it short.
    fn signal_before_quiet(&self) -> Option<i32> {
        let limit_ns = monotonic_ns() + duration_ns(QUIET_LIMIT);
        while monotonic_ns() < limit_ns {
            select! {
                recv(self.signals) -> signal => return signal.ok(),
                recv(self.hints.1) -> _ => {}
                default(QUIET) => break,
            }
        }
        None
    }

    /// Whether a signal waits.
    pub(super) fn has_signal(&self) -> bool {
        !self.signals.is_empty()
    }

    /// The next signal; hints are not of interest any more.
    pub(super) fn next_signal(&mut self) -> Option<i32> {
        self.signals.recv().ok()
    }

    fn looked(&mut self, event: Event) -> Event {
        if let Some(watched) = &mut self.watched {
            watched.follow();
        }
        event
    }
}

impl Watched {
    fn new(path: &Path, hints: Sender<()>) -> Self {
        let names = Names::default();
        let directories = Directories::new(Arc::clone(&names), hints).inspect_err(|error| {
            warn!(%error, "configuration not watched: looked at every two seconds");
        });
        let mut watched = Self { path: path.to_owned(), names, directories: directories.ok() };
        watched.follow();
        watched
    }

    /// Watches the directories that the path leads through now.
    fn follow(&mut self) {
        let Some(directories) = &mut self.directories else { return };
        let way = Way::to(&self.path);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = way.names;
        directories.watch(&way.directories);
    }
}

/// What a path leads through.
#[derive(Debug, Default)]
struct Way {
    /// The directory of the path, and of each file that symbolic links on its way lead to.
    directories: BTreeSet<PathBuf>,
    /// Every name in these paths.
    names: BTreeSet<OsString>,
}

impl Way {
    fn to(path: &Path) -> Self {
        let mut way = Self::default();
        let mut next = Some(path.to_owned());
        for _ in 0..LINKS_MAX {
            let Some(path) = next.take() else { break };
            let directory = way.add(&path);
            if let Ok(target) = std::fs::read_link(&path) {
                next = Some(directory.join(target));
            }
        }
        if let Ok(real) = path.canonicalize() {
            way.add(&real);
        }
        way
    }

    /// Adds a file; returns its directory.
    fn add(&mut self, path: &Path) -> PathBuf {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        self.names.extend(path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            _ => None,
        }));
        self.directories.insert(directory.clone());
        directory
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Events without signals, and the end that keeps their channel open.
    fn events(path: &Path) -> (Events, Sender<i32>) {
        let (to_main, signals) = bounded(SIGNALS_MAX);
        let mut events = Events { signals, hints: bounded(1), successors: never(), watched: None };
        events.watch(Some(path));
        (events, to_main)
    }

    #[test]
    fn every_directory_on_the_way_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        // As a configuration map lies: config.js -> ..data/config.js, ..data -> ..v1.
        fs::create_dir(root.join("..v1")).unwrap();
        fs::write(root.join("..v1/config.js"), "{}").unwrap();
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/config.js", root.join("config.js")).unwrap();
        let way = Way::to(&root.join("config.js"));
        let expected = [root.clone(), root.join("..data"), root.join("..v1")];
        assert_eq!(way.directories, BTreeSet::from(expected));
        for name in ["config.js", "..data", "..v1"] {
            assert!(way.names.contains(Path::new(name).as_os_str()), "{name}");
        }
        let nowhere = Way::to(Path::new("nowhere.js"));
        assert_eq!(nowhere.directories, BTreeSet::from([PathBuf::from(".")]));
    }

    #[test]
    fn changes_give_hints_and_reading_or_a_neighbour_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.js");
        fs::write(&path, "{}").unwrap();
        let (mut events, _open) = events(&path);
        fs::read(&path).unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        assert!(matches!(events.next(), Event::Look));
        fs::write(&path, "{ }").unwrap();
        assert!(matches!(events.next(), Event::Hint));
        fs::write(folder.path().join("new"), "{}").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(matches!(events.next(), Event::Hint));
        fs::remove_file(&path).unwrap();
        assert!(matches!(events.next(), Event::Hint));
    }

    #[test]
    fn a_directory_made_anew_is_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("d");
        let path = directory.join("config.js");
        fs::create_dir(&directory).unwrap();
        fs::write(&path, "{}").unwrap();
        let (mut events, _open) = events(&path);
        // Kept under another name, so that the new one cannot have its inode.
        fs::rename(&directory, folder.path().join("old")).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(&path, "{}").unwrap();
        // What the rename itself tells is of no interest here.
        while !matches!(events.next(), Event::Look) {}
        fs::write(&path, "{ }").unwrap();
        assert!(matches!(events.next(), Event::Hint));
    }

    #[test]
    fn a_signal_does_not_wait_for_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.js");
        fs::write(&path, "{}").unwrap();
        let (mut events, to_main) = events(&path);
        to_main.send(15).unwrap();
        fs::write(&path, "{ }").unwrap();
        let first = events.next();
        assert!(matches!(first, Event::Signal(15)), "{first:?}");
    }
}
