//! Faults that only a debug build of floe makes of itself: an end at a named step of a segment's life,
//! and a disk that fails at a named operation (docs/decisions/020-faults-in-debug-builds.md).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use floe_bench::random::Random;
use floe_io::clock::wall_ms;

use super::disk_faults::{nothing_dropped, perhaps_away};
use super::fault::{Allowed, Fault, Need, Outcome, Scene};
use super::world::{INTERVAL_MS, Settings};
use crate::compare::probe::pause;

/// Steps of a segment's life, and how often each is passed with one: two queues and the archive. No
/// segment expires here, so `expire-unlinked` is left out.
const POINTS: [(&str, u32); 11] = [
    ("tmp-created", 1),
    ("tmp-written", 1),
    ("tmp-synced", 1),
    ("linked-first", 3),
    ("linked-all", 1),
    ("tmp-unlinked", 1),
    ("dirs-synced", 1),
    ("sent-half", 2),
    ("sent-all", 2),
    ("fin-received", 2),
    ("acked-unlinked", 2),
];

/// Segments before the one in trouble, at the least: by then the witness speaks.
const SEGMENTS_BEFORE: u32 = 3;

/// Longest wait for a step: some intervals, on a machine that builds beside us.
const REACHED_LIMIT: Duration = Duration::from_secs(30);

/// What the disk does, as the file says it that the daemon looks into.
const DISK_FAULTS: [&str; 6] =
    ["create 5", "write 5", "sync-file 5", "link 5", "sync-directory 5", "write short"];

/// The file, as the daemon knows it: its own folder is where it runs.
const DISK_FILE: &str = "disk-faults";

/// All of them.
pub(super) const FAULTS: [Fault; 2] = [
    Fault {
        name: "crash_point",
        what: "an end at a named step of writing, sending or removing a segment, then a start",
        allows: "as with kill -9, and the segment that was being committed",
        need: Need::FaultPoints,
        own_world: Some(with_crash_point),
        body: crash_point,
    },
    Fault {
        name: "disk_error",
        what: "EIO from open, write, sync, link or a directory's sync, or short writes, for a while",
        allows: "nothing while the memory backlog holds",
        need: Need::FaultPoints,
        own_world: Some(with_disk_file),
        body: disk_error,
    },
];

/// Whether this floe has them: a release build does not even know the name.
pub(super) fn are_in(floe: &Path) -> bool {
    const NAME: &[u8] = b"FLOE_DISK_FAULTS";
    fs::read(floe).is_ok_and(|binary| binary.windows(NAME.len()).any(|bytes| bytes == NAME))
}

fn with(variable: &str, value: &str) -> Settings {
    // By `env`: whoever runs the campaign gives the daemon no variables of floe.
    let wrapper = vec!["env".to_owned(), format!("{variable}={value}")];
    Settings { wrapper, ..Settings::default() }
}

fn with_crash_point(random: &mut Random) -> Settings {
    let count = u32::try_from(POINTS.len()).unwrap_or(u32::MAX);
    let (point, per_segment) = POINTS[random.below(count) as usize];
    let occasion = SEGMENTS_BEFORE * per_segment + 1 + random.below(2 * per_segment);
    with("FLOE_CRASH_AT", &format!("{point}:{occasion}"))
}

fn crash_point(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let status = scene.world.daemon()?.wait_exit(REACHED_LIMIT)?;
    let ended_ms = wall_ms();
    let status = status.context("it did not come to its end")?;
    ensure!(!status.success(), "it ended with {status}");
    scene.world.settings.wrapper.clear();
    let to_ms = scene.world.start_daemon(scene.random)?;
    pause(Duration::from_millis(u64::from(scene.random.below(700))));
    // The end may have come in the midst of a commit: of the interval before.
    let from_ms = ended_ms.saturating_sub(INTERVAL_MS) / INTERVAL_MS * INTERVAL_MS;
    Ok(Outcome::new(Allowed::Crash { from_ms, to_ms }))
}

fn with_disk_file(_random: &mut Random) -> Settings {
    with("FLOE_DISK_FAULTS", DISK_FILE)
}

fn disk_error(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    perhaps_away(scene)?;
    let count = u32::try_from(DISK_FAULTS.len()).unwrap_or(u32::MAX);
    let fault = DISK_FAULTS[scene.random.below(count) as usize];
    let (file, whole) = (scene.world.path(DISK_FILE), scene.world.path("disk-faults.new"));
    let before = scene.world.books()?.count("spool_failures");
    fs::write(&whole, format!("{fault}\n"))?;
    fs::rename(&whole, &file)?;
    // An interval ends within it, whatever the place.
    pause(scene.spell(1_800, 4_000));
    fs::remove_file(&file)?;
    let failures = scene.world.books()?.count("spool_failures") - before;
    scene.world.carbons[0].behave(super::carbon::Mode::Serve)?;
    let is_refusal = fault != "write short";
    let outcome = Outcome::new(Allowed::Nothing).later(nothing_dropped);
    Ok(outcome.ensure(is_refusal == (0 < failures), format!("{failures} refusals of {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_from_the_binary() {
        let folder = tempfile::tempdir().unwrap();
        let (with, without) = (folder.path().join("debug"), folder.path().join("release"));
        fs::write(&with, b"\x7fELF..FLOE_DISK_FAULTS..").unwrap();
        fs::write(&without, b"\x7fELF..FLOE_SPOOL..").unwrap();
        assert!(are_in(&with) && !are_in(&without) && !are_in(&folder.path().join("none")));
    }

    #[test]
    fn steps_are_those_of_the_daemon() {
        let known = floe_storage::CrashPoint::ALL.map(floe_storage::CrashPoint::word);
        assert!(POINTS.iter().all(|(point, _)| known.contains(point)));
    }
}
