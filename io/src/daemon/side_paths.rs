//! Everything that is told of datagrams and flushes beside the road to the spool: the repeater,
//! `dumpMessages`, `keyFlush` and the console backend.
//!
//! Each is a thread of its own, started and replaced by its settings alone. One that is replaced is
//! given back to the caller, who drops it when the workers have let go of it: what they had copied
//! until then still leaves.

use std::io;
use std::sync::Arc;

use floe_core::config::settings::{
    ConsoleBackendSettings, KeyFlushSettings, RepeaterSettings, Settings,
};

use crate::coordinator::{ReplacedBooks, SideBooks};
use crate::export::console::ConsoleBackend;
use crate::ingest::dump::Dump;
use crate::ingest::intake::SideTaps;
use crate::ingest::key_flush::KeyFlush;
use crate::ingest::repeater::Repeater;
use crate::ingest::worker::WorkerSignals;

/// The settings that decide what runs.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    repeater: Option<RepeaterSettings>,
    dumps: bool,
    key_flush: Option<KeyFlushSettings>,
    console: Option<ConsoleBackendSettings>,
}

/// What runs beside the road.
#[derive(Debug, Default)]
pub(super) struct SidePaths {
    /// What runs; a path that could not be started is off here.
    running: Wanted,
    workers: Vec<Arc<WorkerSignals>>,
    repeater: Option<Repeater>,
    dump: Option<Dump>,
    key_flush: Option<KeyFlush>,
    console: Option<ConsoleBackend>,
    replaced: ReplacedBooks,
}

/// What was replaced; its threads end when it is dropped.
#[derive(Debug, Default)]
#[must_use = "dropped when the workers have let go of it"]
pub(super) struct Replaced {
    /// Whether the workers' taps are other ones now.
    pub(super) is_changed: bool,
    /// What could not be started, and why; it is off.
    pub(super) failures: Vec<(&'static str, io::Error)>,
    _repeater: Option<Repeater>,
    _dump: Option<Dump>,
    _key_flush: Option<KeyFlush>,
    _console: Option<ConsoleBackend>,
}

impl SidePaths {
    /// Starts what the settings ask for, over `workers` in order of their indexes.
    ///
    /// # Errors
    /// What the kernel refuses: a thread, a socket or a descriptor; nothing runs then.
    pub(super) fn start(
        settings: &Settings,
        workers: Vec<Arc<WorkerSignals>>,
    ) -> Result<Self, (&'static str, io::Error)> {
        let mut paths = Self { workers, ..Self::default() };
        match paths.apply(settings).failures.pop() {
            Some(failure) => Err(failure),
            None => Ok(paths),
        }
    }

    /// Starts, ends and replaces what the settings say otherwise than what runs. One that cannot be
    /// started is off, and tried again at the next call; the others hold.
    pub(super) fn apply(&mut self, settings: &Settings) -> Replaced {
        let wanted = Wanted {
            repeater: settings.repeater.clone(),
            dumps: settings.dump_messages,
            key_flush: settings.key_flush.clone(),
            console: settings.console_backend,
        };
        let mut replaced = Replaced { is_changed: self.running != wanted, ..Replaced::default() };
        let failures = &mut replaced.failures;
        if self.running.repeater != wanted.repeater {
            replaced._repeater = self.repeater.take();
            let accounts = replaced._repeater.as_ref().map(Repeater::accounts);
            accounts.into_iter().for_each(|accounts| self.replaced.take_repeater(accounts));
            let start = || wanted.repeater.as_ref().map(Repeater::start).transpose();
            self.repeater = started("the repeater", start, failures);
        }
        if self.running.dumps != wanted.dumps {
            replaced._dump = self.dump.take();
            let start = || wanted.dumps.then(Dump::start).transpose();
            self.dump = started("dumpMessages", start, failures);
        }
        if self.running.key_flush != wanted.key_flush {
            replaced._key_flush = self.key_flush.take();
            let workers = &self.workers;
            let start = || {
                let key_flush = wanted.key_flush.as_ref();
                key_flush.map(|settings| KeyFlush::start(settings, workers)).transpose()
            };
            self.key_flush = started("keyFlush", start, failures);
        }
        if self.running.console != wanted.console {
            replaced._console = self.console.take();
            let desk = replaced._console.as_ref().and_then(ConsoleBackend::desk);
            desk.iter().for_each(|desk| self.replaced.take_console(desk));
            let start = || wanted.console.map(ConsoleBackend::start).transpose();
            self.console = started("the console backend", start, failures);
        }
        self.running = Wanted {
            repeater: wanted.repeater.filter(|_| self.repeater.is_some()),
            dumps: self.dump.is_some(),
            key_flush: wanted.key_flush.filter(|_| self.key_flush.is_some()),
            console: wanted.console.filter(|_| self.console.is_some()),
        };
        replaced
    }

    /// The taps of worker `index`; `None` where nobody wants to be told.
    pub(super) fn taps(&self, index: usize) -> Option<Box<SideTaps>> {
        let taps = SideTaps {
            repeater: self.repeater.as_ref().map(|repeater| repeater.tap().writer()),
            dump: self.dump.as_ref().map(|dump| dump.tap().writer()),
            keys: self.key_flush.as_ref().and_then(|key_flush| key_flush.counter(index)),
        };
        let is_wanted = taps.repeater.is_some() || taps.dump.is_some() || taps.keys.is_some();
        is_wanted.then(|| Box::new(taps))
    }

    /// What the coordinator needs of them.
    pub(super) fn books(&self) -> SideBooks {
        SideBooks {
            repeater: self.repeater.as_ref().map(Repeater::accounts),
            console: self.console.as_ref().and_then(ConsoleBackend::desk),
            replaced: self.replaced.clone(),
        }
    }
}

/// What `start` gives; its refusal is entered into `failures`.
fn started<P>(
    what: &'static str,
    start: impl FnOnce() -> io::Result<Option<P>>,
    failures: &mut Vec<(&'static str, io::Error)>,
) -> Option<P> {
    start().unwrap_or_else(|error| {
        failures.push((what, error));
        None
    })
}
