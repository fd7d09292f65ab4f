//! Faults of the disk: full, read-only, damaged.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use floe_bench::random::Random;
use floe_io::clock::wall_ms;

use super::carbon::Mode;
use super::daemon::segments;
use super::fault::{Allowed, Fault, Need, Outcome, Scene};
use super::world::{INTERVAL_MS, Settings, World, mount, umount, whole};
use crate::compare::probe::{pause, wait_for};

/// Size of the file system that is filled, MiB.
const DISK_MIB: u32 = 16;

/// Size of the disk whose power is cut, MiB.
const IMAGE_MIB: u32 = 32;

const BACKLOG: &str = "nothing while the memory backlog holds";

/// All of them.
pub(super) const FAULTS: [Fault; 4] = [
    Fault {
        name: "disk_full",
        what: "the spool's file system is full for a while",
        allows: BACKLOG,
        need: Need::Mounts,
        own_world: Some(on_small_disk),
        body: disk_full,
    },
    Fault {
        name: "disk_read_only",
        what: "the spool's file system is read-only for a while",
        allows: BACKLOG,
        need: Need::Mounts,
        own_world: None,
        body: disk_read_only,
    },
    Fault {
        name: "power_cut",
        what: "the power goes at any instant: what the disk held by then, then a start",
        allows: "as with kill -9, and the segment that was being committed",
        need: Need::Image,
        own_world: Some(on_image),
        body: power_cut,
    },
    Fault {
        name: "segments_damaged",
        what: "bits of queued segments flipped, files cut, zeroed, lengthened, over a kill -9",
        allows: "what was in the damaged segments, at the backend that had not got them",
        need: Need::None,
        own_world: None,
        body: segments_damaged,
    },
];

fn on_small_disk(_random: &mut Random) -> Settings {
    Settings { spool_mib: Some(DISK_MIB), ..Settings::default() }
}

fn on_image(_random: &mut Random) -> Settings {
    Settings { image_mib: Some(IMAGE_MIB), ..Settings::default() }
}

/// By chance carbon `a` is away meanwhile.
pub(super) fn perhaps_away(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    if scene.random.below(2) == 0 { scene.world.carbons[0].behave(Mode::Refuse) } else { Ok(()) }
}

fn disk_full(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    perhaps_away(scene)?;
    let ballast = scene.world.spool().join("ballast");
    fill(&ballast)?;
    pause(scene.spell(1_500, 4_000));
    fs::remove_file(&ballast)?;
    scene.world.carbons[0].behave(Mode::Serve)?;
    Ok(Outcome::new(Allowed::Nothing).later(nothing_dropped))
}

fn power_cut(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    perhaps_away(scene)?;
    scene.warm_up();
    pause(scene.spell(0, 2_000));
    let cut_ms = scene.world.cut_power()?;
    let to_ms = scene.world.start_daemon(scene.random)?;
    pause(Duration::from_millis(u64::from(scene.random.below(700))));
    scene.world.carbons[0].behave(Mode::Serve)?;
    // The cut may have come in the midst of a commit, however long a sync takes: of the interval before.
    let from_ms = cut_ms.saturating_sub(INTERVAL_MS) / INTERVAL_MS * INTERVAL_MS;
    Ok(Outcome::new(Allowed::PowerCut { from_ms, to_ms }))
}

/// Writes until nothing fits any more.
fn fill(path: &Path) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for size in [64 << 10, 4_096, 1] {
        let chunk = vec![b'x'; size];
        loop {
            match file.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn disk_read_only(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    perhaps_away(scene)?;
    let spool = scene.world.spool();
    // A mount of the spool over itself: a file system with files open for writing cannot be made
    // read-only, and the daemon holds its locks.
    mount(&["--bind", path_text(&spool)?], &spool)?;
    // Busy while a file of it is being written.
    let read_only =
        wait_for("the spool to be at rest", || mount(&["-o", "remount,bind,ro"], &spool).ok());
    if read_only.is_ok() {
        pause(scene.spell(1_500, 4_000));
    }
    // Busy while floe looks into it.
    wait_for("the spool to be let go", || umount(&spool).ok())?;
    read_only?;
    scene.world.carbons[0].behave(Mode::Serve)?;
    Ok(Outcome::new(Allowed::Nothing).later(nothing_dropped))
}

fn path_text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().ok_or_else(|| anyhow::anyhow!("a folder with a plain name"))
}

/// floe itself says that it gave nothing up.
pub(super) fn nothing_dropped(world: &World) -> anyhow::Result<Vec<String>> {
    let dropped = world.books()?.sum("rows_dropped.");
    Ok(if dropped == 0 { vec![] } else { vec![format!("{dropped} rows dropped")] })
}

fn segments_damaged(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.world.carbons[0].behave(Mode::Refuse)?;
    scene.warm_up();
    pause(scene.spell(2_000, 4_000));
    scene.world.sender.silence()?;
    let last_s = wall_ms() / INTERVAL_MS + 1;
    wait_for("carbon b", || {
        (last_s <= scene.world.carbons[1].ledger().newest_whole()).then_some(())
    })?;
    scene.world.kill()?;
    let queued = segments(&scene.world.queue(0))?;
    ensure!(!queued.is_empty(), "nothing is queued");
    // One file has a name in both queues: what carbon `b` still waits for stays whole.
    let spared: Vec<u64> = segments(&scene.world.queue(1))?.iter().map(|(time, _)| *time).collect();
    let mut damaged = Vec::new();
    for (time, path) in &queued {
        if scene.random.below(3) == 0 && !spared.contains(time) {
            damage(path, scene.random)?;
            damaged.push(*time);
        }
    }
    let quarantine = scene.world.spool().join("quarantine");
    let before = count(&quarantine)?;
    scene.world.start_daemon(scene.random)?;
    scene.world.carbons[0].behave(Mode::Serve)?;
    let at_b = scene.world.carbons[1].ledger().series("stats_counts.witness.hits");
    let hits = damaged.iter().filter_map(|time| at_b.get(time)).sum::<f64>();
    pause(Duration::from_millis(200));
    let (files, from_s) = (damaged.len(), queued[0].0);
    let outcome = Outcome::new(Allowed::Destroyed(whole(hits)));
    Ok(outcome.later(move |world| Ok(damage_contained(world, from_s, &damaged))).later(
        move |world| {
            let found = count(&world.spool().join("quarantine"))? - before;
            let is_all = found == files;
            Ok(if is_all {
                vec![]
            } else {
                vec![format!("{found} of {files} files in quarantine")]
            })
        },
    ))
}

/// Carbon `a` has what carbon `b` has, but for the damaged intervals, of which it has nothing.
fn damage_contained(world: &World, from_s: u64, damaged: &[u64]) -> Vec<String> {
    let [at_a, at_b] =
        [0, 1].map(|index| world.carbons[index].ledger().series("stats_counts.witness.hits"));
    let differ = at_b.range(from_s..).filter(|(time, hits)| {
        let wanted = (!damaged.contains(time)).then_some(*hits);
        at_a.get(time) != wanted
    });
    let differ: Vec<String> = differ
        .map(|(time, hits)| format!("interval {time}: a {:?}, b {hits}", at_a.get(time)))
        .collect();
    differ.into_iter().take(2).collect()
}

fn count(folder: &Path) -> anyhow::Result<usize> {
    Ok(fs::read_dir(folder)?.count())
}

/// Flips a bit, cuts, zeroes the tail, or appends.
fn damage(path: &Path, random: &mut Random) -> anyhow::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let at = u64::from(random.below(u32::try_from(length)?));
    match random.below(4) {
        0 => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ (1 << random.below(8))], at)?;
        }
        1 => file.set_len(at)?,
        2 => {
            // To the last byte: what was zero before is no damage otherwise.
            let at = at.min(length - 1);
            let mut tail = vec![0; usize::try_from(length - at)?];
            file.read_exact_at(&mut tail, at)?;
            let is_zero = tail.iter().all(|byte| *byte == 0);
            tail.fill(if is_zero { 0xff } else { 0 });
            file.write_all_at(&tail, at)?;
        }
        _ => file.write_all_at(b"garbage", length)?,
    }
    Ok(())
}
