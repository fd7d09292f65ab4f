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

use crate::coordinator::SideBooks;
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
    wanted: Wanted,
    workers: Vec<Arc<WorkerSignals>>,
    repeater: Option<Repeater>,
    dump: Option<Dump>,
    key_flush: Option<KeyFlush>,
    console: Option<ConsoleBackend>,
}

/// What was replaced; its threads end when it is dropped.
#[derive(Debug, Default)]
#[must_use = "dropped when the workers have let go of it"]
pub(super) struct Replaced {
    /// Whether the workers' taps are other ones now.
    pub(super) is_changed: bool,
    _repeater: Option<Repeater>,
    _dump: Option<Dump>,
    _key_flush: Option<KeyFlush>,
    _console: Option<ConsoleBackend>,
}

impl SidePaths {
    /// Starts what the settings ask for, over `workers` in order of their indexes.
    ///
    /// # Errors
    /// The kernel's, when it refuses a thread, a socket or a descriptor; nothing runs then.
    pub(super) fn start(settings: &Settings, workers: Vec<Arc<WorkerSignals>>) -> io::Result<Self> {
        let mut paths = Self { workers, ..Self::default() };
        drop(paths.apply(settings)?);
        Ok(paths)
    }

    /// Starts, ends and replaces what the settings say otherwise than before.
    ///
    /// # Errors
    /// As [`Self::start`]; what could not be started is off then.
    pub(super) fn apply(&mut self, settings: &Settings) -> io::Result<Replaced> {
        let before = std::mem::replace(
            &mut self.wanted,
            Wanted {
                repeater: settings.repeater.clone(),
                dumps: settings.dump_messages,
                key_flush: settings.key_flush.clone(),
                console: settings.console_backend,
            },
        );
        let wanted = &self.wanted;
        let is_changed = before != *wanted;
        let mut replaced = Replaced { is_changed, ..Replaced::default() };
        if before.repeater != wanted.repeater {
            replaced._repeater = self.repeater.take();
            self.repeater = wanted.repeater.as_ref().map(Repeater::start).transpose()?;
        }
        if before.dumps != wanted.dumps {
            replaced._dump = self.dump.take();
            self.dump = wanted.dumps.then(Dump::start).transpose()?;
        }
        if before.key_flush != wanted.key_flush {
            replaced._key_flush = self.key_flush.take();
            let start = |settings| KeyFlush::start(settings, &self.workers);
            self.key_flush = wanted.key_flush.as_ref().map(start).transpose()?;
        }
        if before.console != wanted.console {
            replaced._console = self.console.take();
            self.console = wanted.console.map(ConsoleBackend::start).transpose()?;
        }
        Ok(replaced)
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
        }
    }
}
