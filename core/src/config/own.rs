//! Our own keys: `books`, `spool`, `ingest`; at the top of a TOML file, in the `floe` block of a
//! `config.js`. Read strictly in both.

use std::path::PathBuf;

use crate::limits::WORKERS_MAX;

use super::settings::{IngestMode, IngestSettings, SpoolSettings, Steering};
use super::value::Value;
use super::walk::{Field, Notes, Table};
use super::{ConfigError, quantity};

const ARCHIVE_AGE_MS: u64 = 6 * 3_600_000;
const ARCHIVE_BYTES: u64 = 1 << 30;

/// 1 PiB: beyond any disk, and far from an overflow.
const ARCHIVE_BYTES_MAX: u64 = 1 << 50;

/// Most that `memory_bytes` may be: no machine we know would notice more.
const MEMORY_BYTES_MAX: u64 = 64 << 30;

/// Least and most receive buffer, bytes: a page, and what the kernel's `int` holds when doubled.
const RECEIVE_BUFFER_BYTES: std::ops::RangeInclusive<u64> = 4_096..=(1 << 30) - 4_096;

/// Highest CPU number: as in [`quantity::cpu_list`].
const CPU_MAX: u64 = 1_023;

const MODES: [(&str, IngestMode); 3] = [
    ("auto", IngestMode::Auto),
    ("io_uring", IngestMode::IoUring),
    ("recvmmsg", IngestMode::Recvmmsg),
];

const STEERINGS: [(&str, Steering); 3] =
    [("hash", Steering::Hash), ("random", Steering::Random), ("cpu", Steering::Cpu)];

/// The spool of no configuration.
pub(super) fn default_spool() -> SpoolSettings {
    SpoolSettings {
        path: None,
        archive_age_ms: ARCHIVE_AGE_MS,
        archive_bytes: ARCHIVE_BYTES,
        reserve_bytes: None,
        memory_bytes: None,
    }
}

/// `spool`.
pub(super) fn spool(
    table: &mut Table<'_>,
    notes: &mut Notes,
) -> Result<SpoolSettings, ConfigError> {
    let mut spool = default_spool();
    let Some(field) = table.take("spool") else {
        return Ok(spool);
    };
    let mut block = field.table()?;
    if let Some(field) = block.take("path") {
        let path = field.text()?;
        if path.is_empty() || path.contains('\0') {
            return Err(field.refused("the path of a directory"));
        }
        spool.path = Some(PathBuf::from(path));
    }
    if let Some(field) = block.take("archive_age") {
        spool.archive_age_ms = field.duration_ms(0)?;
    }
    if let Some(field) = block.take("archive_bytes") {
        spool.archive_bytes = field.size_bytes(0..=ARCHIVE_BYTES_MAX)?;
    }
    if let Some(field) = block.take("reserve_bytes") {
        spool.reserve_bytes = Some(field.size_bytes(0..=ARCHIVE_BYTES_MAX)?);
    }
    if let Some(field) = block.take("memory_bytes") {
        spool.memory_bytes = Some(field.size_bytes(0..=MEMORY_BYTES_MAX)?);
    }
    block.finish(notes)?;
    Ok(spool)
}

/// `ingest` as a word or a table, `workers` and `cpus` in it or beside it.
pub(super) fn ingest(
    table: &mut Table<'_>,
    notes: &mut Notes,
) -> Result<IngestSettings, ConfigError> {
    let mut ingest = IngestSettings::default();
    let workers = table.take("workers");
    let cpus = table.take("cpus");
    if let Some(field) = table.take("ingest") {
        if let Value::Text(_) = field.value() {
            ingest.mode = field.choice(&MODES)?;
        } else {
            let mut block = field.table()?;
            if let Some(field) = block.take("mode") {
                ingest.mode = field.choice(&MODES)?;
            }
            if let Some(field) = block.take("receive_buffer") {
                let bytes = field.size_bytes(RECEIVE_BUFFER_BYTES)?;
                ingest.receive_buffer_bytes = usize::try_from(bytes).ok();
            }
            if let Some(field) = block.take("steering") {
                ingest.steering = field.choice(&STEERINGS)?;
            }
            if let Some(field) = block.take("udp_gro") {
                ingest.udp_gro = field.flag()?;
            }
            read_workers(block.take("workers"), block.take("cpus"), &mut ingest)?;
            given_once(&mut block, workers.as_ref(), cpus.as_ref())?;
            block.finish(notes)?;
        }
    }
    read_workers(workers, cpus, &mut ingest)?;
    Ok(ingest)
}

fn given_once(
    block: &mut Table<'_>,
    workers: Option<&Field<'_>>,
    cpus: Option<&Field<'_>>,
) -> Result<(), ConfigError> {
    for (key, outer) in [("workers", workers), ("cpus", cpus)] {
        if let (Some(outer), Some(inner)) = (outer, block.take(key)) {
            let (first, second) = (outer.path().to_owned(), inner.path().to_owned());
            return Err(ConfigError::GivenTwice { first, second, line: inner.line() });
        }
    }
    Ok(())
}

fn read_workers(
    workers: Option<Field<'_>>,
    cpus: Option<Field<'_>>,
    ingest: &mut IngestSettings,
) -> Result<(), ConfigError> {
    if let Some(field) = workers {
        let workers = field.whole(1..=u64::try_from(WORKERS_MAX).expect("a small constant"))?;
        ingest.workers = usize::try_from(workers).ok();
    }
    if let Some(field) = cpus {
        ingest.cpus = Some(cpu_numbers(&field)?);
    }
    Ok(())
}

/// `[0, 1]` or `"0-3,5"`.
fn cpu_numbers(field: &Field<'_>) -> Result<Vec<usize>, ConfigError> {
    let refused =
        || field.refused(format!("CPU numbers within 0..={CPU_MAX} like [0, 1] or \"0-3,5\""));
    let cpus = match field.value() {
        Value::Text(text) => quantity::cpu_list(text).ok_or_else(refused)?,
        Value::List(_) => {
            let numbers = field.list("CPU numbers")?;
            let cpu = |number: &Field<'_>| number.whole(0..=CPU_MAX);
            let cpus = numbers.iter().map(cpu).collect::<Result<Vec<_>, _>>()?;
            cpus.into_iter().filter_map(|cpu| usize::try_from(cpu).ok()).collect()
        }
        _ => return Err(refused()),
    };
    if cpus.is_empty() { Err(refused()) } else { Ok(cpus) }
}

/// The word for a receive path, as `mode` and the command line take it.
#[must_use]
pub fn ingest_mode(word: &str) -> Option<IngestMode> {
    MODES.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode)
}

/// The word of a receive path.
pub(super) fn ingest_mode_text(mode: IngestMode) -> &'static str {
    let named = MODES.iter().find(|(_, other)| *other == mode);
    named.expect("every mode has its word in MODES").0
}

/// The word of a steering.
pub(super) fn steering_text(steering: Steering) -> &'static str {
    let named = STEERINGS.iter().find(|(_, other)| *other == steering);
    named.expect("every steering has its word in STEERINGS").0
}
