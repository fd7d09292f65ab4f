//! `floe query GLOB`: points of the archive, named as Graphite would have them.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use floe_core::config::quantity;
use floe_core::glob::Glob;
use floe_core::namespace::Namespace;
use floe_core::number_text::push_number;
use floe_core::point::for_each_point;
use floe_storage::{Archive, Reader, Segment};

use super::arguments::QueryArguments;
use super::escaped::Escaped;
use super::{Failure, configuration, spool_place};

pub(super) fn run(arguments: &QueryArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let glob = Glob::new(&arguments.glob).map_err(Failure::refused)?;
    let since_s = since_s(arguments.since.as_deref())?;
    let settings = configuration::load(arguments.config.as_deref())?.settings;
    let spool = spool_place::to_read(arguments.spool.as_deref(), settings.spool.path.as_deref())?;
    let archive = Archive::new(&spool);
    let names = archive
        .list(since_s)
        .with_context(|| format!("cannot list the archive of {}", spool.display()))
        .map_err(Failure::failed)?;
    let namespace = Namespace::new(&settings.namespace);
    let print = Print { glob, namespace, is_json: arguments.json };
    let mut reader = Reader::new();
    let mut damaged = 0;
    for name in &names {
        let path = archive.path(name);
        match reader.read(&path) {
            Ok(segment) => print.segment(&segment, out).map_err(Failure::failed)?,
            // Expired while we were reading.
            Err(error) if error.is_vanished() => {}
            Err(error) => {
                tell_damaged(&path, &error);
                damaged += 1;
            }
        }
    }
    if damaged != 0 {
        return Err(Failure::failed(anyhow!("{damaged} of {} segments not read", names.len())));
    }
    Ok(())
}

/// Said beside the points, which go on.
fn tell_damaged(path: &Path, error: &floe_storage::SegmentError) {
    writeln!(std::io::stderr(), "floe: {}: {error}", path.display()).ok();
}

/// The oldest timestamp wanted, s since the epoch.
fn since_s(text: Option<&str>) -> Result<u64, Failure> {
    let Some(text) = text else { return Ok(0) };
    let unreadable = || anyhow!("--since must be a duration such as 30s, 5m or 6h, found {text:?}");
    let ms = quantity::duration_ms(text).ok_or_else(unreadable).map_err(Failure::refused)?;
    Ok(floe_io::clock::wall_ms().saturating_sub(ms).div_ceil(1_000))
}

struct Print {
    glob: Glob,
    namespace: Namespace,
    is_json: bool,
}

impl Print {
    fn segment(&self, segment: &Segment<'_>, out: &mut dyn Write) -> std::io::Result<()> {
        let time = segment.header.timestamp_s;
        let mut result = Ok(());
        let mut number = Vec::new();
        for_each_point(segment.rows, &self.namespace, |name, value| {
            if result.is_err() || !self.glob.is_match(name) {
                return;
            }
            let name = String::from_utf8_lossy(name);
            if self.is_json {
                let point = serde_json::json!({ "name": name, "value": value, "time": time });
                result = writeln!(out, "{point}");
                return;
            }
            number.clear();
            push_number(&mut number, value);
            result = writeln!(out, "{} {} {time}", Escaped(name), String::from_utf8_lossy(&number));
        });
        result
    }
}
