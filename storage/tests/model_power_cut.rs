//! Claim: whatever the disk refuses, and wherever the power is cut, each segment whose commit had
//! returned is offered to each backend that has not acknowledged it, whole; nothing is offered that
//! was never handed to a commit; two files of one interval never differ in their rows; and whoever
//! takes segments out before they are sent never gets one twice, though commits that fail are made again
//! (docs/decisions/025-once-at-the-most.md).
//! Method: random histories of commits, acknowledgements, retention and restarts with ENOSPC, EIO and
//! EROFS at random operations, with exporters that look in the midst of a commit. The test stands in the door of the disk (`floe_storage::faults`) and
//! keeps a second disk, on which only what was synced is sure: a file's bytes by its `fdatasync`, a
//! directory's names by its `fsync`. A power cut keeps any subset of the rest, by name; the spool is
//! opened again on what is left.
#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use floe_storage::faults::{self, Operation};
use floe_storage::{Kept, Queue, Reader, SegmentName, Spool};
use proptest::prelude::*;
use support::{options, parts, segments};

const BACKENDS: [&str; 3] = ["a", "b", ONCE];
/// Takes segments out before they are sent.
const ONCE: &str = "once";
const START_S: u64 = 1_700_000_000;
const ERRNOS: [i32; 4] = [28, 5, 30, 122];

#[derive(Clone, Debug)]
enum Step {
    /// Commits an interval, or the one that failed; with a fault, the operations from that one on are
    /// refused, `count` of them. Before operation `taken_at` an exporter takes out what it sees.
    Commit {
        part_count: u32,
        fault: Option<Fault>,
        taken_at: usize,
    },
    TakeOut {
        count: usize,
    },
    Acknowledge {
        backend: usize,
        count: usize,
    },
    Retain {
        later_s: u64,
    },
    /// A kill: the kernel still has everything.
    Restart,
    /// The power is cut; `luck` decides what of the unsynced is left.
    PowerCut {
        luck: u64,
    },
    /// The power is cut in the midst of a commit, behind that many operations.
    PowerCutWithin {
        operations: usize,
        taken_at: usize,
        luck: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Fault {
    at: usize,
    count: usize,
    errno: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let fault = (0..24_usize, 1..12_usize, 0..ERRNOS.len()).prop_map(|(at, count, errno)| Fault {
        at,
        count,
        errno,
    });
    prop_oneof![
        5 => (1..3_u32, prop::option::of(fault), 0..30_usize)
            .prop_map(|(part_count, fault, taken_at)| Step::Commit { part_count, fault, taken_at }),
        2 => (1..3_usize).prop_map(|count| Step::TakeOut { count }),
        3 => (0..2_usize, 1..3_usize)
            .prop_map(|(backend, count)| Step::Acknowledge { backend, count }),
        1 => (0..40_u64).prop_map(|later_s| Step::Retain { later_s }),
        1 => Just(Step::Restart),
        2 => any::<u64>().prop_map(|luck| Step::PowerCut { luck }),
        3 => (0..24_usize, 0..24_usize, any::<u64>()).prop_map(|(operations, taken_at, luck)| {
            Step::PowerCutWithin { operations, taken_at, luck }
        }),
    ]
}

/// A file of the second disk.
#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    is_synced: bool,
}

/// Names of a directory and their files.
type Names = BTreeMap<PathBuf, usize>;

/// The second disk: what programs see, and what is sure.
#[derive(Clone, Debug, Default)]
struct Disk {
    files: Vec<File>,
    seen: BTreeMap<PathBuf, Names>,
    sure: BTreeMap<PathBuf, Names>,
}

impl Disk {
    fn apply(&mut self, operation: &Operation<'_>) {
        match *operation {
            Operation::Create(path) => {
                self.files.push(File::default());
                let file = self.files.len() - 1;
                self.names(path).insert(path.to_owned(), file);
            }
            Operation::Write(path, bytes) => self.file(path).bytes = bytes.to_vec(),
            Operation::SyncFile(path) => self.file(path).is_synced = true,
            Operation::Link { from, to } => {
                let file = self.names(from)[from];
                self.names(to).entry(to.to_owned()).or_insert(file);
            }
            Operation::Unlink(path) => {
                self.names(path).remove(path);
            }
            Operation::SyncDirectory(path) => {
                let names = self.seen.get(path).cloned().unwrap_or_default();
                self.sure.insert(path.to_owned(), names);
            }
            _ => {}
        }
    }

    fn names(&mut self, path: &Path) -> &mut Names {
        self.seen.entry(path.parent().unwrap().to_owned()).or_default()
    }

    fn file(&mut self, path: &Path) -> &mut File {
        let file = self.names(path)[path];
        &mut self.files[file]
    }

    /// What a power cut leaves: of names that were added or removed since the last sync each one by
    /// chance, of bytes that were not synced none, half or all.
    fn cut(&self, mut luck: u64) -> Vec<(PathBuf, Vec<u8>)> {
        let mut random = move || {
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (luck >> 33) as usize
        };
        let empty = Names::new();
        let mut left = Vec::new();
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        for (directory, seen) in &self.seen {
            let sure = self.sure.get(directory).unwrap_or(&empty);
            let all: BTreeSet<&PathBuf> = seen.keys().chain(sure.keys()).collect();
            for name in all {
                let file = match (seen.get(name), sure.get(name)) {
                    (Some(file), Some(_)) => *file,
                    (Some(file), None) | (None, Some(file)) if random() % 2 == 0 => *file,
                    _ => continue,
                };
                let File { bytes, is_synced } = &self.files[file];
                let chance = [0, bytes.len() / 2, bytes.len()][random() % 3];
                let length = *lengths.entry(file).or_insert(chance);
                let length = if *is_synced { bytes.len() } else { length };
                left.push((name.clone(), bytes[..length].to_vec()));
            }
        }
        left
    }
}

/// What is known beside the disk.
#[derive(Default)]
struct World {
    disk: Rc<RefCell<Disk>>,
    /// Operations so far, over the current step.
    done: Rc<RefCell<usize>>,
    /// The disk as it was when the power went, if it went within the step.
    snapshot: Rc<RefCell<Option<Disk>>>,
    /// Timestamps and parts that a commit said were on the disk, and those it was ever given.
    committed: BTreeSet<(u64, u32)>,
    handed: BTreeSet<(u64, u32)>,
    /// Per backend: what left its queue on purpose.
    left: BTreeMap<String, BTreeSet<(u64, u32)>>,
    /// What an exporter took out in the midst of the step.
    taken: Rc<RefCell<Vec<SegmentName>>>,
    /// The interval whose commit failed: parts, and what did not come back.
    pending: Option<(u32, Vec<Kept>)>,
    now_s: u64,
}

/// What is done to one commit.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    cut_at: Option<usize>,
    /// Before which operation the exporter looks.
    taken_at: Option<usize>,
}

/// An exporter that takes out all it sees; not by way of the door, in which it stands.
fn take_out_all(path: &Path, disk: &mut Disk) -> Vec<SegmentName> {
    let (queue, tmp) = (path.join("backends").join(ONCE), path.join("tmp"));
    let mut names = segments(&queue);
    let unfinished = segments(&tmp);
    names.retain(|name| !unfinished.contains(name));
    for name in &names {
        let link = queue.join(name.to_string());
        fs::remove_file(&link).unwrap();
        disk.apply(&Operation::Unlink(&link));
        disk.apply(&Operation::SyncDirectory(&queue));
        disk.apply(&Operation::SyncDirectory(&tmp));
    }
    names
}

impl World {
    /// Runs `work` with the second disk kept up, faults injected and the power cut where asked for.
    fn watched<T>(&self, path: &Path, plan: Plan, work: impl FnOnce() -> T) -> T {
        let Plan { fault, cut_at, taken_at } = plan;
        let (disk, done) = (Rc::clone(&self.disk), Rc::clone(&self.done));
        let (snapshot, taken) = (Rc::clone(&self.snapshot), Rc::clone(&self.taken));
        let path = path.to_owned();
        *done.borrow_mut() = 0;
        let watch = move |operation: &Operation<'_>| {
            let at = *done.borrow();
            *done.borrow_mut() += 1;
            if cut_at == Some(at) {
                *snapshot.borrow_mut() = Some(disk.borrow().clone());
            }
            if taken_at == Some(at) && snapshot.borrow().is_none() {
                taken.borrow_mut().extend(take_out_all(&path, &mut disk.borrow_mut()));
            }
            let is_refused =
                fault.is_some_and(|fault| (fault.at..fault.at + fault.count).contains(&at));
            if is_refused {
                if let Operation::Write(path, bytes) = operation {
                    disk.borrow_mut().apply(&Operation::Write(path, &bytes[..bytes.len() / 2]));
                }
                return Err(io::Error::from_raw_os_error(ERRNOS[fault.unwrap().errno]));
            }
            disk.borrow_mut().apply(operation);
            Ok(())
        };
        faults::with(watch, work)
    }

    fn open(&self, path: &Path) -> Spool {
        let mut options = options(path, &BACKENDS);
        options.run_id = 1_000;
        options.archive_age_ms = 30_000;
        options.backends[1].backlog_age_ms = 60_000;
        let (spool, report) = self.watched(path, Plan::default(), || Spool::open(options).unwrap());
        assert_eq!(report.failed, 0, "{:?}", report.first_failure);
        spool
    }

    fn commit(&mut self, spool: &mut Spool, part_count: u32, plan: Plan) {
        let (part_count, mut kept) = self.pending.take().unwrap_or_else(|| {
            self.now_s += 10;
            (part_count, Vec::new())
        });
        let rows = parts(self.now_s, part_count);
        let now_s = self.now_s;
        let all = (0..part_count).map(move |part| (now_s, part));
        self.handed.extend(all.clone());
        let is_wanted = |part: usize, backend: &str| {
            !kept.iter().any(|kept: &Kept| kept.part == part && kept.backend == backend)
        };
        let path = spool.path().to_owned();
        let result = self.watched(&path, plan, || spool.commit_to(&rows, is_wanted));
        for name in self.taken.take() {
            self.take_once(name);
        }
        match result {
            // With the power cut within, nobody was told.
            Ok(_) if plan.cut_at.is_none() => self.committed.extend(all),
            Ok(_) => {}
            Err(refused) => {
                kept.extend(refused.kept);
                self.pending = Some((part_count, kept));
            }
        }
    }

    fn take_once(&mut self, name: SegmentName) {
        let which = (name.timestamp_s(), name.part());
        let is_first = self.left.entry(ONCE.to_owned()).or_default().insert(which);
        assert!(is_first, "{which:?} a second time");
    }

    fn leave(&mut self, backend: &str, which: (u64, u32)) {
        self.left.entry(backend.to_owned()).or_default().insert(which);
    }

    /// What each queue offers, against what it must and what it may.
    fn check(&self, path: &Path) {
        let none = BTreeSet::new();
        let mut reader = Reader::new();
        for backend in BACKENDS {
            let queue = Queue::open(path, backend).unwrap();
            let mut names = Vec::new();
            queue.list(&mut names).unwrap();
            let mut offered = BTreeSet::new();
            for name in &names {
                let segment = reader.read(&queue.path(name)).unwrap();
                assert_eq!(segment.rows.counters[0], 12.5, "one value for one timestamp");
                offered.insert((name.timestamp_s(), name.part()));
            }
            let left = self.left.get(backend).unwrap_or(&none);
            let must: BTreeSet<_> = self.committed.difference(left).copied().collect();
            assert!(must.is_subset(&offered), "{backend}: {:?}", must.difference(&offered));
            assert!(offered.is_subset(&self.handed), "{backend}: invented");
        }
    }
}

/// A fresh spool with what a power cut has left of the one at `path`.
fn after_the_cut(disk: &Disk, luck: u64, path: &Path) -> (tempfile::TempDir, Disk) {
    let fresh = tempfile::tempdir().unwrap();
    let mut copy = Disk::default();
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (name, bytes) in disk.cut(luck) {
        let target = fresh.path().join(name.strip_prefix(path).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        // Names of one file are the same file again.
        let key = name.file_name().unwrap().to_string_lossy().into_owned();
        match files.get(&key) {
            Some(first) => {
                fs::hard_link(first, &target).unwrap();
                let file = copy.names(first)[first];
                copy.names(&target).insert(target.clone(), file);
            }
            None => {
                fs::write(&target, &bytes).unwrap();
                copy.files.push(File { bytes, is_synced: true });
                let file = copy.files.len() - 1;
                copy.names(&target).insert(target.clone(), file);
                files.insert(key, target);
            }
        }
    }
    copy.sure = copy.seen.clone();
    (fresh, copy)
}

fn acknowledge(world: &mut World, path: &Path, backend: &str, count: usize) {
    let queue = Queue::open(path, backend).unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    for name in names.iter().take(count) {
        world.watched(path, Plan::default(), || queue.acknowledge(name)).unwrap();
        world.leave(backend, (name.timestamp_s(), name.part()));
    }
}

fn take_out(world: &mut World, path: &Path, count: usize) {
    let queue = Queue::open(path, ONCE).unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    queue.retain_finished(&mut names).unwrap();
    for name in names.iter().take(count) {
        assert!(world.watched(path, Plan::default(), || queue.take_out(name)).unwrap());
        world.take_once(*name);
    }
}

fn play(steps: &[Step]) {
    let mut directory = tempfile::tempdir().unwrap();
    let mut world = World { now_s: START_S, ..World::default() };
    let mut spool = Some(world.open(directory.path()));
    for step in steps {
        let running = spool.as_mut().unwrap();
        let mut luck_of_cut = None;
        match *step {
            Step::Commit { part_count, fault, taken_at } => {
                let plan = Plan { fault, cut_at: None, taken_at: Some(taken_at) };
                world.commit(running, part_count, plan);
            }
            Step::TakeOut { count } => take_out(&mut world, directory.path(), count),
            Step::Acknowledge { backend, count } => {
                acknowledge(&mut world, directory.path(), BACKENDS[backend], count);
            }
            Step::Retain { later_s } => {
                let now_s = world.now_s + later_s;
                let retired =
                    world.watched(directory.path(), Plan::default(), || running.retain(now_s));
                if !retired.backends.is_empty() {
                    let old = |which: &&(u64, u32)| which.0 + 60 < now_s;
                    let gone: Vec<_> = world.handed.iter().filter(old).copied().collect();
                    gone.into_iter().for_each(|which| world.leave("b", which));
                }
            }
            Step::Restart => {
                drop(spool.take());
                world.pending = None;
                spool = Some(world.open(directory.path()));
            }
            Step::PowerCut { luck } => luck_of_cut = Some(luck),
            Step::PowerCutWithin { operations, taken_at, luck } => {
                let (cut_at, taken_at) = (Some(operations), Some(taken_at));
                world.commit(running, 1, Plan { fault: None, cut_at, taken_at });
                luck_of_cut = Some(luck);
            }
        }
        if let Some(luck) = luck_of_cut {
            drop(spool.take());
            world.pending = None;
            let disk = world.snapshot.borrow_mut().take();
            let disk = disk.unwrap_or_else(|| world.disk.borrow().clone());
            let (fresh, copy) = after_the_cut(&disk, luck, directory.path());
            world.disk = Rc::new(RefCell::new(copy));
            directory = fresh;
            spool = Some(world.open(directory.path()));
        }
        assert!(spool.is_some());
        world.check(directory.path());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_power_cut_and_no_fault_takes_a_committed_segment(
        steps in prop::collection::vec(step(), 1..20),
    ) {
        play(&steps);
    }
}
