//! A cgroup with a limit of memory, for one process: the kernel kills who passes it, and counts.
//!
//! Stands at the root of the memory controller's mount, version 1 or 2, and goes when it is dropped:
//! what ran in it must have ended before. `floe-bench memory` uses this file, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two tries to remove a group whose last process has just ended, and how many there are.
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);
const REMOVAL_TRIES: u32 = 500;

/// Which files a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryCgroup {
    folder: PathBuf,
    version: Version,
}

/// What the kernel counted of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CgroupFigures {
    /// Processes of it that were killed for want of memory.
    pub(crate) oom_kills: u64,
    /// How often it wanted more than its limit, which the page cache gave back mostly. Linux 6.18 does
    /// not count it in version 1: a peak below the limit says the same.
    pub(crate) refusals: u64,
    /// Most that it had at once, bytes, the page cache of its files among it; version 2 tells it
    /// from Linux 5.19 on.
    pub(crate) peak_bytes: Option<u64>,
}

impl MemoryCgroup {
    /// Makes an empty one with a limit.
    ///
    /// # Errors
    /// What stands in the way, in words.
    pub(crate) fn make(name: &str, limit_bytes: u64) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let (mount, version) = mount(&mounts).ok_or("no memory controller is mounted here")?;
        let folder = mount.join(format!("floe-{}-{name}", std::process::id()));
        fs::create_dir(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let group = Self { folder, version };
        group.limit(limit_bytes)?;
        Ok(group)
    }

    /// Sets its limit, which swap does not lift.
    fn limit(&self, bytes: u64) -> Result<(), String> {
        let (memory, swap, swap_bytes) = match self.version {
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
            Version::Two => ("memory.max", "memory.swap.max", 0),
        };
        let path = self.folder.join(memory);
        fs::write(&path, bytes.to_string())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        // Absent where there is no account of swap.
        fs::write(self.folder.join(swap), swap_bytes.to_string()).ok();
        Ok(())
    }

    /// Words before a command: it becomes a process of this group.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let processes = self.folder.join("cgroup.procs").display().to_string();
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), processes]
    }

    /// What the kernel has counted so far.
    ///
    /// # Panics
    /// If a file of the group cannot be read.
    pub(crate) fn figures(&self) -> CgroupFigures {
        let read = |name: &str| {
            let path = self.folder.join(name);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        match self.version {
            Version::One => {
                // Memory and swap together are asked for first, where there is an account of both.
                let of_both = fs::read_to_string(self.folder.join("memory.memsw.failcnt"));
                let of_both = of_both.map_or(0, |text| number(&text));
                CgroupFigures {
                    oom_kills: field(&read("memory.oom_control"), "oom_kill"),
                    refusals: number(&read("memory.failcnt")) + of_both,
                    peak_bytes: Some(number(&read("memory.max_usage_in_bytes"))),
                }
            }
            Version::Two => CgroupFigures {
                oom_kills: field(&read("memory.events"), "oom_kill"),
                refusals: field(&read("memory.events"), "max"),
                peak_bytes: self
                    .folder
                    .join("memory.peak")
                    .exists()
                    .then(|| number(&read("memory.peak"))),
            },
        }
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // A process that was killed is in it until the kernel has taken it apart.
        let is_removed = (0..REMOVAL_TRIES).any(|_| {
            let is_removed = fs::remove_dir(&self.folder).is_ok();
            if !is_removed {
                std::thread::park_timeout(REMOVAL_PAUSE);
            }
            is_removed
        });
        let is_in_vain = !is_removed && !std::thread::panicking();
        assert!(!is_in_vain, "{} is still there: a process runs in it", self.folder.display());
    }
}

/// Where the memory controller is mounted; version 2 has it where its root hands it down.
fn mount(mounts: &str) -> Option<(PathBuf, Version)> {
    let mut second = None;
    for line in mounts.lines() {
        let Some((before, behind)) = line.split_once(" - ") else { continue };
        let Some(point) = before.split(' ').nth(4).map(Path::new) else { continue };
        let mut fields = behind.split(' ');
        match fields.next() {
            Some("cgroup") if fields.nth(1).is_some_and(|all| all.split(',').any(is_memory)) => {
                return Some((point.to_owned(), Version::One));
            }
            Some("cgroup2") => {
                let handed = fs::read_to_string(point.join("cgroup.subtree_control"));
                if handed.is_ok_and(|all| all.split_whitespace().any(is_memory)) {
                    second = Some((point.to_owned(), Version::Two));
                }
            }
            _ => {}
        }
    }
    second
}

fn is_memory(controller: &str) -> bool {
    controller == "memory"
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|error| panic!("no number: {text:?}: {error}"))
}

/// The number behind `name` in a file of lines of two fields.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number(line.unwrap_or_else(|| panic!("the kernel tells no {name}: {text:?}")))
}
