//! Where a backend's segments come from: its queue on the disk, and beside it what the backlog in
//! memory offers while the disk takes nothing.
//!
//! One list, one way of reading and one way of acknowledging for both, by name. What is on the disk
//! is removed when it has been delivered; where the disk refuses even that, the name is remembered,
//! not sent again, and removed when the disk allows it. For a backend without redelivery what is
//! being committed is not there yet, neither on the disk nor in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use floe_core::config::settings::Redelivery;
use floe_storage::{
    EncodeError, ExportLock, Quarantined, Queue, Reader, Segment, SegmentError, SegmentName,
    SpoolError, Writer,
};

use super::name_filter::PointTally;
use crate::backlog::{Backlog, Fate};
use crate::clock::{NS_PER_S, monotonic_ns};

/// Between two looks while the disk is trying an interval, ns.
const TRYING_NS: u64 = 50_000_000;

/// Between two tries at removing what was delivered, ns.
const REMOVE_NS: u64 = NS_PER_S;

/// What a delivery brings into the accounts when the segment leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) tally: PointTally,
    pub(crate) is_weak: bool,
}

/// How a delivered segment left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Its link is gone.
    Removed,
    /// It was sent from memory, or from a link that a commit has taken back.
    FromMemory,
    /// It was gone already: expired or dropped, and in the books as that.
    Gone,
    /// It is being committed, and comes again; only where it is taken out before it is sent.
    NotYet,
}

/// Why there are no rows.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The file's fault, or the disk's.
    File(SegmentError),
    /// What is in memory cannot be a segment; the coordinator gives it up.
    Memory(EncodeError),
}

/// Where a segment is read into.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    reader: Reader,
    /// What is sent from memory is laid out as a segment first; given back when nothing is.
    writer: Option<Writer>,
}

/// The queue of one backend, and its part of the backlog.
#[derive(Debug)]
pub(crate) struct Source {
    queue: Queue,
    lock: Arc<ExportLock>,
    backlog: Arc<Backlog>,
    backend: String,
    redelivery: Redelivery,
    /// Delivered segments that could not be removed.
    unremoved: BTreeMap<SegmentName, Delivered>,
    /// When to try again, ns.
    remove_ns: u64,
}

impl Source {
    pub(crate) fn open(
        spool: &Path,
        backend: &str,
        redelivery: Redelivery,
        lock: Arc<ExportLock>,
        backlog: Arc<Backlog>,
    ) -> Result<Self, SpoolError> {
        Ok(Self {
            queue: Queue::open(spool, backend)?,
            lock,
            backlog,
            backend: backend.to_owned(),
            redelivery,
            unremoved: BTreeMap::new(),
            remove_ns: 0,
        })
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Fills `out` with what is to be sent, in queue order.
    ///
    /// # Errors
    /// Those of listing the directory, and a spool that another has by now, where memory offers nothing.
    pub(crate) fn list(
        &mut self,
        buffers: &mut Buffers,
        out: &mut Vec<SegmentName>,
    ) -> io::Result<()> {
        let is_once = self.redelivery == Redelivery::Never;
        let mut result = self.lock.keep().map_err(io::Error::other);
        result = result.and_then(|()| self.queue.list(out));
        if is_once && result.is_ok() {
            result = self.queue.retain_finished(out);
        }
        if result.is_ok() {
            self.unremoved.retain(|name, _| out.binary_search(name).is_ok());
            out.retain(|name| !self.unremoved.contains_key(name));
        } else {
            out.clear();
        }
        let from_disk = out.len();
        self.backlog.list(&self.backend, is_once, out);
        if from_disk == out.len() {
            buffers.writer = None;
            return result;
        }
        out.sort_unstable();
        Ok(())
    }

    /// Reads the segment `name`, from wherever it is.
    pub(crate) fn read<'b>(
        &self,
        buffers: &'b mut Buffers,
        name: SegmentName,
    ) -> Result<Segment<'b>, ReadError> {
        match self.backlog.take(&self.backend, name) {
            Some(offer) => {
                let writer = buffers.writer.get_or_insert_default();
                writer.segment(&offer.rows, offer.part_count).map_err(ReadError::Memory)
            }
            None => buffers.reader.read(&self.queue.path(&name)).map_err(ReadError::File),
        }
    }

    /// The attempt at what was read last has ended, delivered or not.
    pub(crate) fn let_go(&self) {
        self.backlog.let_go(&self.backend);
    }

    /// The backend has `name`: it leaves.
    ///
    /// # Errors
    /// Those of unlinking, with the name on the disk.
    pub(crate) fn acknowledge(&self, name: SegmentName) -> Result<Leave, (SegmentName, io::Error)> {
        let name = match self.backlog.settle(&self.backend, name) {
            Some(Fate::Held) => return Ok(Leave::FromMemory),
            Some(Fate::Dropped | Fate::BeingCommitted) => return Ok(Leave::Gone),
            Some(Fate::Committed(on_disk)) => on_disk,
            None => name,
        };
        let was_there = self.queue.acknowledge(&name).map_err(|error| (name, error))?;
        if was_there {
            return Ok(Leave::Removed);
        }
        match self.backlog.settle_taken_back(&self.backend, name) {
            Some(Fate::Held) => Ok(Leave::FromMemory),
            // It has been committed meanwhile, under another name.
            Some(Fate::Committed(name)) => {
                self.queue.acknowledge(&name).map(removed).map_err(|error| (name, error))
            }
            _ => Ok(Leave::Gone),
        }
    }

    /// Takes `name` out before it is sent, for a backend that must not get it twice.
    ///
    /// # Errors
    /// Those of unlinking, with the name on the disk: it must not be sent then.
    pub(crate) fn take_out(&self, name: SegmentName) -> Result<Leave, (SegmentName, io::Error)> {
        let name = match self.backlog.settle_beforehand(&self.backend, name) {
            Some(Fate::Held) => return Ok(Leave::FromMemory),
            Some(Fate::Dropped) => return Ok(Leave::Gone),
            Some(Fate::BeingCommitted) => return Ok(Leave::NotYet),
            Some(Fate::Committed(on_disk)) => on_disk,
            None => name,
        };
        self.queue.take_out(&name).map(removed).map_err(|error| (name, error))
    }

    /// `name` was delivered and cannot be removed: it is not sent again, and
    /// [`Source::remove_delivered`] goes on.
    pub(crate) fn keep_delivered(&mut self, name: SegmentName, delivered: Delivered) {
        self.unremoved.insert(name, delivered);
        self.remove_ns = monotonic_ns() + REMOVE_NS;
    }

    /// The name that what was called `name` has now, in memory or on the disk, if it has another.
    pub(crate) fn present_name(&self, name: SegmentName) -> Option<SegmentName> {
        self.backlog.present_name(name)
    }

    /// Tries to remove one segment that was delivered and could not be; `None` if it is not yet time,
    /// or there is none, or the disk still refuses.
    pub(crate) fn remove_delivered(&mut self) -> Option<(Leave, Delivered)> {
        if monotonic_ns() < self.remove_ns {
            return None;
        }
        let (name, _) = self.unremoved.first_key_value()?;
        match self.queue.acknowledge(name) {
            Ok(was_there) => {
                let (_, delivered) = self.unremoved.pop_first()?;
                Some((removed(was_there), delivered))
            }
            Err(_) => {
                self.remove_ns = monotonic_ns() + REMOVE_NS;
                None
            }
        }
    }

    /// When to look again though nothing is there, ns: soon, while the disk is trying an interval that
    /// memory may offer when it has failed. Nobody tells of that, and ticks are as far apart as looks.
    pub(crate) fn look_ns(&self) -> u64 {
        if self.backlog.is_trying() { monotonic_ns() + TRYING_NS } else { u64::MAX }
    }

    /// Whether anything that was delivered is still to be removed.
    pub(crate) fn has_delivered(&self) -> bool {
        !self.unremoved.is_empty()
    }

    /// Puts a damaged segment away.
    ///
    /// # Errors
    /// Those of linking and unlinking.
    pub(crate) fn quarantine(&self, name: SegmentName) -> io::Result<Quarantined> {
        self.queue.quarantine(&name)
    }
}

fn removed(was_there: bool) -> Leave {
    if was_there { Leave::Removed } else { Leave::Gone }
}
