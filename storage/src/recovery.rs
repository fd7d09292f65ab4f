//! What a start does about the traces of a sudden stop.
//!
//! `tmp/` first: a file that is whole, body included, is published as if the stop had not come; a
//! torn one was never promised to anybody and is removed. So is one that was not for every queue: some
//! backend has had it, and which one died with the process. Then headers and lengths of all links,
//! each file once however many links it has: damaged ones go to `quarantine/`, those of unknown
//! versions stay untouched. Bodies are checked at first use, by the reader.
//!
//! Every outcome is counted in `RecoveryReport`. One bad file never keeps the daemon from
//! starting. An exporter may be at work meanwhile: a link that vanishes is acknowledged.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::{SegmentError, SpoolError};
use crate::layout::{self, FileId, Layout};
use crate::reader::{self, Reader};
use crate::retention::{Entry, Index};
use crate::segment::SegmentName;
use crate::writer;

/// What the start found and did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whole files of `tmp/` that were published.
    pub published: u64,
    /// Files of `tmp/` that were removed: torn, or not for every queue.
    pub torn: u64,
    /// Segments in the archive.
    pub archived: u64,
    /// What each configured backend has not had yet, in configured order.
    pub backlogs: Vec<Backlog>,
    /// Damaged links put away.
    pub quarantined: Vec<QuarantinedLink>,
    /// Files of unknown format versions, left where they are.
    pub unknown: u64,
    /// Entries that are no segments by name, left where they are.
    pub foreign: u64,
    /// Directories of backends no longer configured, left where they are.
    pub abandoned: Vec<Abandoned>,
    /// Files that could not be read, published or put away: left, tried again at the next start.
    pub failed: u64,
    /// The first of those failures.
    pub first_failure: Option<SpoolError>,
}

/// A queue as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The backend.
    pub backend: String,
    /// Segments waiting.
    pub segments: u64,
    /// Their rows.
    pub rows: u64,
    /// Their lengths.
    pub bytes: u64,
}

/// A damaged link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedLink {
    /// The backend that will not get it; `None` for the archive's link.
    pub backend: Option<String>,
    /// The segment.
    pub name: SegmentName,
    /// Rows lost; `None` where the header does not tell.
    pub rows: Option<u64>,
    /// What is wrong with it.
    pub reason: String,
}

/// A backend's directory without a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// Its name.
    pub backend: String,
    /// Segments in it.
    pub segments: u64,
}

/// A commit of any run; ordered by run, then by sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) run_id: u64,
    pub(crate) sequence: u64,
}

/// What recovery hands to the spool.
pub(crate) struct Recovered {
    pub(crate) report: RecoveryReport,
    pub(crate) archive: Index,
    pub(crate) queues: Vec<Index>,
    pub(crate) newest_timestamp_s: Option<u64>,
    pub(crate) newest_commit: Option<Commit>,
    pub(crate) last_timestamp_s: Option<u64>,
}

/// Runs recovery; the caller holds the ingest lock and has made the directories.
pub(crate) fn recover(layout: &Layout, backends: &[String]) -> Result<Recovered, SpoolError> {
    let mut recovery = Recovery {
        layout,
        report: RecoveryReport::default(),
        verdicts: HashMap::new(),
        newest: None,
        newest_commit: None,
        last_timestamp_s: None,
    };
    recovery.sweep_tmp(backends)?;
    let archive = recovery.check_directory(&layout.archive(), None)?;
    recovery.report.archived = archive.len() as u64;
    let mut queues = Vec::with_capacity(backends.len());
    for backend in backends {
        let queue = recovery.check_directory(&layout.backend(backend), Some(backend))?;
        recovery.report.backlogs.push(Backlog {
            backend: backend.clone(),
            segments: queue.len() as u64,
            rows: queue.rows(),
            bytes: queue.bytes(),
        });
        queues.push(queue);
    }
    recovery.find_abandoned(backends)?;
    // A damaged segment's timestamp has been used all the same.
    recovery.list(&layout.quarantine())?;
    let newest_timestamp_s = recovery.newest.map(|name| name.timestamp_s());
    let Recovery { report, newest_commit, last_timestamp_s, .. } = recovery;
    Ok(Recovered { report, archive, queues, newest_timestamp_s, newest_commit, last_timestamp_s })
}

struct Recovery<'a> {
    layout: &'a Layout,
    report: RecoveryReport,
    /// What was found out about each file.
    verdicts: HashMap<FileId, Verdict>,
    newest: Option<SegmentName>,
    newest_commit: Option<Commit>,
    last_timestamp_s: Option<u64>,
}

#[derive(Clone, Debug)]
enum Verdict {
    Good { rows: u64, bytes: u64 },
    Damaged { rows: Option<u64>, reason: String },
    Unknown,
}

impl Recovery<'_> {
    /// Publishes or removes what a commit left behind.
    fn sweep_tmp(&mut self, backends: &[String]) -> Result<(), SpoolError> {
        let mut names = Vec::new();
        let tmp = self.layout.tmp();
        layout::list_segments(&tmp, &mut names).map_err(SpoolError::io("list", &tmp))?;
        names.sort_unstable();
        let mut directories: Vec<_> =
            backends.iter().map(|backend| self.layout.backend(backend)).collect();
        directories.push(self.layout.archive());
        for path in layout::list_for_some(&tmp).map_err(SpoolError::io("list", &tmp))? {
            self.remove_torn(&path);
        }
        let mut reader = Reader::new();
        for name in names {
            let path = tmp.join(name.to_string());
            let read =
                reader.read(&path).and_then(|segment| reader::check_name(&segment.header, name));
            match read {
                Ok(()) => match publish(&path, &directories, name) {
                    Ok(()) => self.report.published += 1,
                    Err(error) => self.fail(error),
                },
                Err(error) if error.is_damage() => self.remove_torn(&path),
                Err(SegmentError::Io(error)) => self.fail(SpoolError::io("read", &path)(error)),
                Err(_) => self.report.unknown += 1,
            }
        }
        if self.report.published != 0 {
            for directory in directories.iter().chain([&tmp]) {
                layout::sync_directory(directory)?;
            }
        }
        // What is left will be published one day: its timestamps are used.
        self.list(&tmp)?;
        Ok(())
    }

    fn remove_torn(&mut self, path: &Path) {
        match layout::unlink(path) {
            Ok(_) => self.report.torn += 1,
            Err(error) => self.fail(SpoolError::io("unlink", path)(error)),
        }
    }

    /// Checks headers and lengths in one directory.
    fn check_directory(
        &mut self,
        directory: &Path,
        backend: Option<&String>,
    ) -> Result<Index, SpoolError> {
        let mut index = Index::new(directory.to_owned());
        for name in self.list(directory)? {
            let path = directory.join(name.to_string());
            match self.verdict(&path, name) {
                Ok(Verdict::Good { rows, bytes }) => index.insert(Entry { name, bytes, rows }),
                Ok(Verdict::Unknown) => {}
                Ok(Verdict::Damaged { rows, reason }) => {
                    match layout::move_to_quarantine(&path, &self.layout.quarantine()) {
                        Ok(_) => self.report.quarantined.push(QuarantinedLink {
                            backend: backend.cloned(),
                            name,
                            rows,
                            reason,
                        }),
                        Err(error) => self.fail(SpoolError::io("quarantine", &path)(error)),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.fail(SpoolError::io("read", &path)(error)),
            }
        }
        Ok(index)
    }

    /// What is to be thought of `path`; only failures to read are errors.
    fn verdict(&mut self, path: &Path, name: SegmentName) -> io::Result<Verdict> {
        let metadata = fs::symlink_metadata(path)?;
        let id = FileId::of(&metadata);
        if let Some(verdict) = self.verdicts.get(&id) {
            return Ok(verdict.clone());
        }
        let checked = reader::read_header(path).and_then(|header| {
            reader::check_name(&header, name)?;
            Ok(header)
        });
        let verdict = match checked {
            Ok(header) => {
                Verdict::Good { rows: u64::from(header.row_count), bytes: metadata.len() }
            }
            Err(SegmentError::Io(error)) => return Err(error),
            Err(error) if error.is_unknown() => {
                self.report.unknown += 1;
                Verdict::Unknown
            }
            Err(error) => Verdict::Damaged {
                rows: reader::row_count_of_damaged(path),
                reason: error.to_string(),
            },
        };
        self.verdicts.insert(id, verdict.clone());
        Ok(verdict)
    }

    /// Counts what lies in directories of backends that are no longer configured.
    fn find_abandoned(&mut self, backends: &[String]) -> Result<(), SpoolError> {
        let parent = self.layout.backends();
        let entries = fs::read_dir(&parent).map_err(SpoolError::io("list", &parent))?;
        for entry in entries {
            let entry = entry.map_err(SpoolError::io("list", &parent))?;
            let backend = entry.file_name().to_string_lossy().into_owned();
            if backends.contains(&backend) {
                continue;
            }
            if !entry.path().is_dir() {
                self.report.foreign += 1;
                continue;
            }
            let segments = self.list(&entry.path())?.len() as u64;
            self.report.abandoned.push(Abandoned { backend, segments });
        }
        self.report.abandoned.sort_unstable_by(|a, b| a.backend.cmp(&b.backend));
        Ok(())
    }

    /// Names in `directory`, oldest first; remembers the newest timestamp and commit.
    fn list(&mut self, directory: &Path) -> Result<Vec<SegmentName>, SpoolError> {
        let mut names = Vec::new();
        self.report.foreign += layout::list_segments(directory, &mut names)
            .map_err(SpoolError::io("list", directory))?;
        names.sort_unstable();
        self.newest = self.newest.max(names.last().copied());
        for name in &names {
            let commit = Commit { run_id: name.run_id(), sequence: name.sequence() };
            if self.newest_commit < Some(commit) {
                self.newest_commit = Some(commit);
                self.last_timestamp_s = Some(name.timestamp_s());
            }
        }
        Ok(names)
    }

    fn fail(&mut self, error: SpoolError) {
        self.report.failed += 1;
        self.report.first_failure.get_or_insert(error);
    }
}

/// The queue that lies in `directory`, for a backend that is added while the daemon runs.
///
/// Nothing is put away: that is left to whoever reads the file. Damaged files are in the index, so
/// that they expire; those of unknown versions are not, and stay.
pub(crate) fn index_of(directory: &Path) -> Result<Index, SpoolError> {
    let mut names = Vec::new();
    layout::list_segments(directory, &mut names).map_err(SpoolError::io("list", directory))?;
    names.sort_unstable();
    let mut index = Index::new(directory.to_owned());
    for name in names {
        let path = directory.join(name.to_string());
        // One that cannot be looked at was acknowledged meanwhile.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if !metadata.is_file() {
            continue;
        }
        let rows = match reader::read_header(&path) {
            Ok(header) => u64::from(header.row_count),
            Err(error) if error.is_unknown() => continue,
            Err(_) => reader::row_count_of_damaged(&path).unwrap_or(0),
        };
        index.insert(Entry { name, bytes: metadata.len(), rows });
    }
    Ok(index)
}

/// Finishes a commit that was cut short; `path` may never have been synced.
fn publish(path: &Path, directories: &[PathBuf], name: SegmentName) -> Result<(), SpoolError> {
    File::open(path)
        .and_then(|file| disk::sync_data(&file, path))
        .map_err(SpoolError::io("sync", path))?;
    for directory in directories {
        writer::link_into(path, directory, name)?;
    }
    layout::unlink(path).map_err(SpoolError::io("unlink", path))?;
    Ok(())
}
