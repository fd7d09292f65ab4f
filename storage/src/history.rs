//! The books of a spool as its files tell them.
//!
//! Serves a start, which goes on counting where the last run was cut short, and `floe books` where no
//! daemon runs. Every commit carries the totals of the books as they stand with it, so the newest
//! commit that is whole has the history of the spool, whatever was delivered and unlinked since. What
//! happened behind it is seen in the queues alone: a link that is gone was acknowledged, expired or
//! put away.
//!
//! Takes no lock and changes nothing. Limits: at most `READS_MAX` segments are read for the totals.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{self, Layout};
use crate::reader::{self, Reader};
use crate::segment::SegmentName;

/// Segments read in search of totals: damaged ones and those of version 1 have none.
pub const READS_MAX: usize = 16;

/// The totals of the newest commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// The segment that carries them.
    pub segment: SegmentName,
    /// Counts by name.
    pub counts: BTreeMap<String, u64>,
}

/// What lies in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueFound {
    /// The backend, configured or not.
    pub backend: String,
    /// Segments.
    pub segments: u64,
    /// Their rows.
    pub rows: u64,
}

/// The totals of the newest commit of the spool at `spool`; `None` where no segment has any.
///
/// # Errors
/// Those of listing its directories; [`io::ErrorKind::NotFound`] where there is no spool.
pub fn newest_totals(spool: &Path) -> io::Result<Option<Totals>> {
    let layout = Layout::new(spool);
    let mut places: BTreeMap<SegmentName, PathBuf> = BTreeMap::new();
    fs::metadata(layout.archive())?;
    let directories = [layout.tmp(), layout.archive()].into_iter();
    for directory in directories.chain(queue_directories(&layout)?.into_values()) {
        let mut names = Vec::new();
        layout::list_segments(&directory, &mut names)?;
        places.extend(names.into_iter().map(|name| (name, directory.join(name.to_string()))));
    }
    // In the order of commits: timestamps go back with the clock.
    let mut names: Vec<SegmentName> = places.keys().copied().collect();
    names.sort_unstable_by_key(|name| (name.run_id(), name.sequence(), name.part()));
    let mut reader = Reader::new();
    let mut reads = 0;
    for name in names.into_iter().rev() {
        let path = &places[&name];
        let is_last_part = reader::read_header(path)
            .is_ok_and(|header| u64::from(header.part_index) + 1 == u64::from(header.part_count));
        if !is_last_part {
            continue;
        }
        if let Ok(segment) = reader.read(path)
            && !segment.rows.totals.names.is_empty()
        {
            return Ok(Some(Totals { segment: name, counts: segment.rows.totals.to_map() }));
        }
        reads += 1;
        if reads == READS_MAX {
            break;
        }
    }
    Ok(None)
}

/// What every queue of the spool at `spool` holds, by name of the backend. A commit that was cut short
/// counts as a start will publish it: in every queue.
///
/// # Errors
/// Those of listing the directories.
pub fn queues(spool: &Path) -> io::Result<Vec<QueueFound>> {
    let layout = Layout::new(spool);
    let unpublished = whole_in_tmp(&layout)?;
    let mut found = Vec::new();
    for (backend, directory) in queue_directories(&layout)? {
        let mut names = Vec::new();
        layout::list_segments(&directory, &mut names)?;
        let listed: BTreeSet<SegmentName> = names.into_iter().collect();
        let mut queue = QueueFound { backend, ..QueueFound::default() };
        for name in &listed {
            // One that cannot be read is gone, damaged, or of another version: not to be delivered.
            if let Ok(header) = reader::read_header(&directory.join(name.to_string())) {
                queue.segments += 1;
                queue.rows += u64::from(header.row_count);
            }
        }
        for (name, rows) in &unpublished {
            if !listed.contains(name) {
                queue.segments += 1;
                queue.rows += rows;
            }
        }
        found.push(queue);
    }
    Ok(found)
}

/// Files of a commit that was cut short and that a start will publish, with their rows.
fn whole_in_tmp(layout: &Layout) -> io::Result<Vec<(SegmentName, u64)>> {
    let mut names = Vec::new();
    layout::list_segments(&layout.tmp(), &mut names)?;
    let mut reader = Reader::new();
    names.sort_unstable();
    let whole = names.into_iter().filter_map(|name| {
        let segment = reader.read(&layout.tmp().join(name.to_string())).ok()?;
        reader::check_name(&segment.header, name).ok()?;
        Some((name, u64::from(segment.header.row_count)))
    });
    Ok(whole.collect())
}

fn queue_directories(layout: &Layout) -> io::Result<BTreeMap<String, PathBuf>> {
    let entries = match fs::read_dir(layout.backends()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut directories = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && path.is_dir()
        {
            directories.insert(name.to_owned(), path.clone());
        }
    }
    Ok(directories)
}
