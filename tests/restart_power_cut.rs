//! Claim: of a power cut at any instant under load, each segment that had been committed an interval
//! before comes back whole and is delivered, and nothing is invented. Method: the spool lies on an
//! ext4 in a file; at fifty random instants (the seed is printed, `FLOE_SEED` repeats it) the daemon is
//! stopped for the moment of a copy of that file, which is what the disk would hold: nothing that
//! was not written back is in it. A daemon is started on each copy, and what its carbon gets is held
//! against the archive of the first one. Without root or loop devices it says so:
//! `storage/tests/model_power_cut.rs` then stands alone, with a disk that drops unsynced writes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use support::books::{Books, archived};
use support::carbon::{Protocol, RecordingCarbon, settled};
use support::daemon::{Daemon, Ingest, Launch, sender};
use support::mount::{self, Mount, run, text};
use support::settings::{Backend, toml};
use support::{ports, wait};

mod support;

const BOUND: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_secs(1);
const HITS: &str = "stats_counts.cut.hits";
const CUTS: usize = 50;
const IMAGE_BYTES: u64 = 32 << 20;
/// Daemons on copies at once.
const AT_ONCE: usize = 5;
/// Tries of one copy: a journal that is written back meanwhile spoils it.
const COPIES_MAX: usize = 20;

fn launch(folder: &Path, port: u16) -> Launch {
    let text = toml(1000, &[Backend { name: "away", port, protocol: Protocol::Text }]);
    Launch::under(folder, Ingest::Recvmmsg).config("floe.toml", &text)
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }
}

/// An ext4 in a file, mounted; `None` where the machine has no loop devices.
fn disk(folder: &Path) -> Option<(PathBuf, Mount)> {
    let image = folder.join("image");
    let file = fs::File::create(&image).expect("the folder is the test's");
    file.set_len(IMAGE_BYTES).expect("the file is sparse");
    let made = run("mkfs.ext4", &["-q", "-F", text(&image)]);
    match made.and_then(|()| Mount::image(&image, &folder.join("disk"))) {
        Ok(mount) => Some((image, mount)),
        Err(error) => {
            mount::say(&format!("NOT TRIED: {error}; storage/tests/model_power_cut.rs covers it"));
            None
        }
    }
}

/// Writes that the loop device of `image` has completed, as the kernel counts them.
fn writes(image: &Path) -> String {
    let devices = fs::read_dir("/sys/block").expect("sysfs is mounted");
    let ours = devices.filter_map(|device| {
        let device = device.ok()?.path();
        let backing = fs::read_to_string(device.join("loop/backing_file")).ok()?;
        (Path::new(backing.trim_end()) == image).then_some(device)
    });
    let device = ours.last().expect("the image is mounted");
    let stat = fs::read_to_string(device.join("stat")).expect("a block device has counts");
    // Read requests come and go; what matters is the fields of writes.
    stat.split_whitespace().skip(4).take(4).collect::<Vec<_>>().join(" ")
}

/// What the disk holds at this instant.
fn copy(daemon: &Daemon, image: &Path, to: &Path) {
    daemon.signal(Signal::STOP);
    let is_of_one_instant = (0..COPIES_MAX).any(|_| {
        let before = writes(image);
        // Most of it is holes.
        run("cp", &["--sparse=always", text(image), text(to)]).expect("there is room for a copy");
        before == writes(image)
    });
    daemon.signal(Signal::CONT);
    assert!(is_of_one_instant, "the disk is never quiet");
}

fn archive(spool: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(spool.join("archive")).expect("it is a spool");
    entries
        .map(|entry| entry.expect("it is readable").file_name().to_string_lossy().into_owned())
        .collect()
}

/// Starts a daemon on a copy: all that was `known` is there and delivered, with the values of `all`.
fn check(copy: &Path, folder: &Path, known: &BTreeSet<String>, all: &BTreeMap<u64, f64>) {
    let mount = Mount::image(copy, folder).expect("the copy is mounted like the first");
    let carbon = RecordingCarbon::start();
    let mut daemon = launch(mount.path(), carbon.port()).start();
    let spool = daemon.ready().spool.clone();
    let there = archive(&spool);
    assert!(known.is_subset(&there), "gone: {:?}", known.difference(&there));
    let quarantined = fs::read_dir(spool.join("quarantine")).expect("it is a spool").count();
    assert_eq!(quarantined, 0, "damaged segments");
    wait::until("the queue to be delivered", BOUND, || {
        (Books::of(&spool).of_backend("away", "rows_pending") == 0).then_some(())
    });
    daemon.drain(Signal::TERM);
    carbon.wait_idle(BOUND);
    let got = settled(&carbon.take_points(Protocol::Text), HITS);
    for (time, value) in &got {
        assert_eq!(all.get(time), Some(value), "invented at {time}");
    }
    let seconds = known.iter().map(|name| name[..11].parse::<u64>().expect("names begin so"));
    for time in seconds.filter(|time| all.contains_key(time)) {
        assert!(got.contains_key(&time), "the values of {time} are not delivered: {got:?}");
    }
}

#[test]
fn what_was_committed_an_interval_before_the_power_was_cut_is_there() {
    let instead = "storage/tests/model_power_cut.rs covers it with a disk that drops writes";
    if !mount::is_possible(instead) {
        return;
    }
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let Some((image, mounted)) = disk(folder.path()) else { return };
    let seed = std::env::var("FLOE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| wait::wall().as_secs());
    mount::say(&format!("FLOE_SEED={seed}"));
    let mut random = Random(seed);

    let mut daemon = launch(mounted.path(), ports::free()).start();
    let spool = daemon.ready().spool.clone();
    let is_over = AtomicBool::new(false);
    let (mut cuts, none) = (Vec::new(), BTreeSet::new());
    let to = daemon.udp();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let socket = sender();
            while !is_over.load(Ordering::Relaxed) {
                drop(socket.send_to(b"cut.hits:1|c\ncut.time:5|ms", to));
                wait::pause(Duration::from_millis(1));
            }
        });
        let mut looks = VecDeque::from([(wait::now(), archive(&spool))]);
        for cut in 0..CUTS {
            // Half of them in the moments of a commit.
            if random.below(2) == 0 {
                wait::next_second(Duration::from_millis(random.below(30)));
            } else {
                wait::pause(Duration::from_millis(random.below(400)));
            }
            let to = folder.path().join(format!("copy-{cut}"));
            // The newest look that is an interval old.
            while looks.get(1).is_some_and(|(at, _)| INTERVAL <= at.elapsed()) {
                looks.pop_front();
            }
            let known = if INTERVAL <= looks[0].0.elapsed() { &looks[0].1 } else { &none };
            copy(&daemon, &image, &to);
            cuts.push((to, known.clone()));
            looks.push_back((wait::now(), archive(&spool)));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let telling = cuts.iter().filter(|(_, known)| !known.is_empty()).count();
    assert!(CUTS / 2 < telling, "{telling} of {CUTS} cuts have something to lose");
    daemon.drain(Signal::TERM);
    let all = archived(&spool, HITS);
    let cuts = Mutex::new(cuts);
    let next = || cuts.lock().expect("a panic ends the test").pop();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((copy, known)) = next() {
                    check(&copy, &copy.with_extension("disk"), &known, &all);
                    fs::remove_file(&copy).expect("it is the test's");
                }
            });
        }
    });
}
