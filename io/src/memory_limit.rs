//! How much memory our cgroup may use.
//!
//! Looks through the files of version 1 and 2, of our group and of all above it as far as they can be
//! seen: the lowest limit counts. Nothing there, or no limit, is `None`.

use std::fs;
use std::path::{Path, PathBuf};

use floe_core::ceiling::{Ceiling, mebibytes};
use floe_core::config::settings::Settings;

/// The ceiling of a daemon and the limit it must keep.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// What it may come to.
    pub ceiling: Ceiling,
    /// `memory.limit`, or that of the cgroup; `None` = there is none.
    pub limit_bytes: Option<u64>,
}

impl MemoryPlan {
    /// The plan of so many workers under these settings and the limits in force.
    #[must_use]
    pub fn of(settings: &Settings, workers: usize) -> Self {
        let configured = settings.budgets.limit_bytes;
        let limit_bytes = configured.or_else(memory_limit_bytes);
        // What is left open fits the machine, unless somebody says what it should fit.
        let machine = || limit_bytes.into_iter().chain(memory_total_bytes()).min();
        let fitting = configured.or_else(machine);
        Self { ceiling: Ceiling::of(settings, workers, fitting), limit_bytes }
    }

    /// Whether the ceiling is beyond the limit.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.limit_bytes.is_some_and(|limit| limit < self.ceiling.bytes())
    }

    /// The limit in words.
    #[must_use]
    pub fn limit_text(&self) -> String {
        self.limit_bytes.map_or("none".to_owned(), mebibytes)
    }
}

/// Version 1 says "no limit" by a number near the largest: nothing above this is one.
const LIMIT_BYTES_MAX: u64 = 1 << 60;

/// The lowest memory limit of our cgroup and those above it, bytes.
#[must_use]
pub fn memory_limit_bytes() -> Option<u64> {
    below(Path::new("/"))
}

/// The memory of the machine, bytes.
fn memory_total_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

fn below(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        // number:controllers:path; version 2 has no controllers.
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_of_memory = controllers.split(',').any(|controller| controller == "memory");
        let (kind, file) = match (controllers.is_empty(), is_of_memory) {
            (true, _) => ("cgroup2", "memory.max"),
            (_, true) => ("cgroup", "memory.limit_in_bytes"),
            _ => return None,
        };
        lowest(root, &mounts, kind, file, path)
    });
    limits.min()
}

/// The lowest limit from the group at `path` up to the root of its mount.
fn lowest(root: &Path, mounts: &str, kind: &str, file: &str, path: &str) -> Option<u64> {
    let (mount_root, point) = mounts.lines().find_map(|line| mount_of(line, kind))?;
    let point = root.join(point.trim_start_matches('/'));
    // In a container the path may be told from the host's root, and the mount show a part of it.
    let below = path.strip_prefix(mount_root).unwrap_or(path);
    let group = point.join(below.trim_start_matches('/'));
    let mut directories: Vec<PathBuf> = group
        .ancestors()
        .take_while(|directory| directory.starts_with(&point))
        .map(Path::to_path_buf)
        .collect();
    directories.push(point);
    let limit = |directory: PathBuf| {
        let text = fs::read_to_string(directory.join(file)).ok()?;
        text.trim().parse().ok().filter(|bytes| *bytes < LIMIT_BYTES_MAX)
    };
    directories.into_iter().filter_map(limit).min()
}

/// Root and place of a mount of cgroups with the memory controller, if `line` of `mountinfo` is one.
fn mount_of<'a>(line: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let (before, behind) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut fields = behind.split(' ');
    let found = fields.next()?;
    let mut is_of_memory =
        || fields.nth(1).is_some_and(|all| all.split(',').any(|one| one == "memory"));
    (found == kind && (kind == "cgroup2" || is_of_memory())).then_some((root, point))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn root(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const V2: &str = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const V1: &str = "31 25 0:27 /docker/a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      32 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let limit = |files: &[(&str, &str)]| below(root(files).path());
        for (own, above, expected) in [
            ("1000000\n", "max\n", Some(1_000_000)),
            ("max\n", "2000000\n", Some(2_000_000)),
            ("3000000\n", "2000000\n", Some(2_000_000)),
            ("max\n", "max\n", None),
            ("", "nonsense", None),
        ] {
            let found = limit(&[
                ("proc/self/cgroup", "0::/a/b\n"),
                ("proc/self/mountinfo", V2),
                ("sys/fs/cgroup/a/b/memory.max", own),
                ("sys/fs/cgroup/a/memory.max", above),
            ]);
            assert_eq!(found, expected, "{own} {above}");
        }
        let of_container = [
            ("proc/self/cgroup", "9:cpu:/docker/a\n5:memory:/docker/a/x\n0::/\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000000\n"),
        ];
        assert_eq!(limit(&of_container), Some(5_000_000));
        assert_eq!(limit(&[("proc/self/cgroup", "0::/../x\n"), ("proc/self/mountinfo", V2)]), None);
        assert_eq!(limit(&[]), None);
    }
}
