//! What the host lost before our sockets, or took from us: context for the books.
//!
//! The coordinator reads it at flushes, at most once a second. Counts are the kernel's, since boot and
//! of the whole host or network namespace, so the first reading is the base of all that follow. A file
//! that is not there (a container, `ProcSubset=pid`, a kernel without conntrack) makes its counts *not
//! available*, which is not zero: they have no entry in the books.
//!
//! Nothing here is part of an identity: what a network card or a queue of the kernel lost was maybe
//! not for us.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Shortest time between two readings, ns: with many CPUs `/proc/stat` costs milliseconds.
const READ_NS_MIN: u64 = 1_000_000_000;

/// Length of a tick in `/proc/stat`, ms: the kernel converts to 100 per second for every reader.
const TICK_MS: u64 = 10;

/// All counts, below `host.` in the books, with what they say.
pub const COUNTS: [(&str, &str); 10] = [
    ("softnet_dropped", "packets dropped because a CPU's backlog was full"),
    ("softnet_squeezed", "times a CPU's receive loop ran out of its budget"),
    ("ip_reassembly_failures", "fragmented packets never complete: datagrams lost"),
    ("udp_in_errors", "datagrams of all sockets of this host that were not delivered"),
    ("udp_receive_buffer_errors", "of these, for a full receive buffer"),
    ("conntrack_dropped", "packets dropped by connection tracking, mostly a full table"),
    ("conntrack_insert_failed", "packets dropped because their connection could not be entered"),
    ("cgroup_throttled_periods", "periods in which our cgroup was out of CPU"),
    ("cgroup_throttled_us", "how long, µs"),
    ("cpu_steal_ms", "CPU time that the hypervisor gave to others, ms"),
];

/// Which boot of the kernel this is, 8 hexadecimal digits; `unknown` where it does not say.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let short = id.get(..8).filter(|short| short.bytes().all(|byte| byte.is_ascii_hexdigit()));
    short.unwrap_or("unknown").to_owned()
}

/// Readings of the host, and how far they have come since the first one.
#[derive(Debug)]
pub(crate) struct HostBooks {
    root: PathBuf,
    /// `cpu.stat` of our cgroup, where there is one.
    cpu_stat: Option<PathBuf>,
    read_ns: Option<u64>,
    last: BTreeMap<&'static str, u64>,
    totals: BTreeMap<&'static str, u64>,
}

impl HostBooks {
    /// Books whose base is now.
    pub(crate) fn new(now_ns: u64) -> Self {
        Self::below(Path::new("/"), now_ns)
    }

    fn below(root: &Path, now_ns: u64) -> Self {
        let mut books = Self {
            root: root.to_owned(),
            cpu_stat: cpu_stat(root),
            read_ns: None,
            last: BTreeMap::new(),
            totals: BTreeMap::new(),
        };
        books.read(now_ns);
        books
    }

    /// What was added since the first reading, by name; what is not available is not there.
    pub(crate) fn read(&mut self, now_ns: u64) -> &BTreeMap<&'static str, u64> {
        if self.read_ns.is_none_or(|read_ns| read_ns + READ_NS_MIN <= now_ns) {
            self.read_ns = Some(now_ns);
            for (name, count) in self.now() {
                // A count that fell belongs to another cgroup or namespace: a new base.
                let before = self.last.insert(name, count).unwrap_or(count);
                *self.totals.entry(name).or_default() += count.saturating_sub(before);
            }
        }
        &self.totals
    }

    fn now(&self) -> Vec<(&'static str, u64)> {
        let mut counts = Vec::with_capacity(COUNTS.len());
        let read = |path: &str| fs::read_to_string(self.root.join(path)).ok();
        if let Some(text) = read("proc/net/softnet_stat") {
            counts.push(("softnet_dropped", hex_column(&text, 1)));
            counts.push(("softnet_squeezed", hex_column(&text, 2)));
        }
        if let Some(text) = read("proc/net/snmp") {
            let of_6 = read("proc/net/snmp6").unwrap_or_default();
            let both = |protocol, field| {
                Some(
                    table_field(&text, protocol, field)?
                        + line_field(&of_6, &format!("{protocol}6{field}")),
                )
            };
            let named = [
                ("ip_reassembly_failures", both("Ip", "ReasmFails")),
                ("udp_in_errors", both("Udp", "InErrors")),
                ("udp_receive_buffer_errors", both("Udp", "RcvbufErrors")),
            ];
            counts.extend(named.into_iter().filter_map(|(name, count)| Some((name, count?))));
        }
        if let Some(text) = read("proc/net/stat/nf_conntrack") {
            let named =
                [("conntrack_dropped", "drop"), ("conntrack_insert_failed", "insert_failed")];
            for (name, field) in named {
                let titles = text.lines().next().unwrap_or_default();
                if let Some(column) = titles.split_whitespace().position(|title| title == field) {
                    let rows = text.get(titles.len()..).unwrap_or_default();
                    counts.push((name, hex_column(rows, column)));
                }
            }
        }
        if let Some(text) = self.cpu_stat.as_ref().and_then(|path| fs::read_to_string(path).ok()) {
            // Version 2 tells microseconds, version 1 nanoseconds by another name.
            let us =
                line_field(&text, "throttled_usec") + line_field(&text, "throttled_time") / 1_000;
            counts.push(("cgroup_throttled_periods", line_field(&text, "nr_throttled")));
            counts.push(("cgroup_throttled_us", us));
        }
        if let Some(text) = read("proc/stat") {
            let mut fields = text.lines().next().unwrap_or_default().split_whitespace();
            // cpu user nice system idle iowait irq softirq steal
            if let Some(ticks) = fields.nth(8).and_then(|steal| steal.parse::<u64>().ok()) {
                counts.push(("cpu_steal_ms", ticks * TICK_MS));
            }
        }
        counts
    }
}

/// Sum of a column of hexadecimal numbers, one row per CPU.
fn hex_column(text: &str, column: usize) -> u64 {
    let fields = text.lines().filter_map(|line| line.split_whitespace().nth(column));
    fields.filter_map(|field| u64::from_str_radix(field, 16).ok()).sum()
}

/// A field of `/proc/net/snmp`: a line of titles per protocol, then a line of numbers.
fn table_field(text: &str, protocol: &str, field: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (titles, numbers) = (lines.next()?, lines.next()?);
    let column = titles.split_whitespace().position(|title| title == field)?;
    numbers.split_whitespace().nth(column)?.parse().ok()
}

/// The number behind `name`, one to a line; 0 where it is not there.
fn line_field(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.find_map(|rest| rest.trim().parse().ok()).unwrap_or(0)
}

/// `cpu.stat` of the cgroup of this process: that of version 2, or of the `cpu` controller.
fn cpu_stat(root: &Path) -> Option<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let candidates = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_of_cpu = controllers.split(',').any(|controller| controller == "cpu");
        let kind = if controllers.is_empty() { "cgroup2" } else { "cgroup" };
        (controllers.is_empty() || is_of_cpu).then_some((kind, path))
    });
    candidates.into_iter().find_map(|(kind, path)| {
        let mount = mounts.lines().find_map(|line| mount_of(line, kind))?;
        // In a container the path may be told from the host's root, and the mount show a part of it.
        let below = path.strip_prefix(mount.root).unwrap_or(path);
        let places = [below, ""].map(|below| {
            let directory = mount.point.trim_start_matches('/');
            root.join(directory).join(below.trim_start_matches('/')).join("cpu.stat")
        });
        places
            .into_iter()
            .find(|place| fs::read_to_string(place).is_ok_and(|text| text.contains("nr_throttled")))
    })
}

struct Mount<'a> {
    root: &'a str,
    point: &'a str,
}

/// Root and place of a mount of cgroups, if `line` of `mountinfo` is one that has the CPU controller.
fn mount_of<'a>(line: &'a str, kind: &str) -> Option<Mount<'a>> {
    let (front, back) = line.split_once(" - ")?;
    let mut fields = front.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut fields = back.split(' ');
    let is_kind = fields.next()? == kind;
    let options = fields.nth(1)?;
    let is_of_cpu = kind == "cgroup2" || options.split(',').any(|option| option == "cpu");
    (is_kind && is_of_cpu).then_some(Mount { root, point })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn root(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        write(&root, files);
        root
    }

    fn write(root: &TempDir, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    const SNMP: &str = "Ip: Forwarding ReasmReqds ReasmFails\nIp: 1 9 4\n\
                        Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\n\
                        Udp: 100 1 7 50 6\nUdpLite: InDatagrams\nUdpLite: 0\n";
    const CONNTRACK: &str = "entries  searched found insert insert_failed drop early_drop\n\
                             0000000a 00000000 00000000 00000000 00000001 0000000f 00000000\n\
                             0000000a 00000000 00000000 00000000 00000002 00000001 00000000\n";

    #[test]
    fn counts_are_those_since_the_first_reading() {
        let root = root(&[
            ("proc/net/softnet_stat", "0000ffff 00000010 00000001\n0000ffff 00000001 00000002\n"),
            ("proc/net/snmp", SNMP),
            ("proc/net/snmp6", "Ip6ReasmFails \t1\nUdp6InErrors  \t2\nUdp6RcvbufErrors 3\n"),
            ("proc/net/stat/nf_conntrack", CONNTRACK),
            ("proc/stat", "cpu  1 2 3 4 5 6 7 80 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n"),
        ]);
        let mut books = HostBooks::below(root.path(), 0);
        assert!(books.read(0).values().all(|count| *count == 0));
        write(
            &root,
            &[
                (
                    "proc/net/softnet_stat",
                    "0000ffff 00000020 00000001\n0000ffff 00000003 00000004\n",
                ),
                (
                    "proc/net/snmp",
                    &SNMP.replace("1 9 4", "1 9 5").replace("1 7 50 6", "1 17 50 26"),
                ),
                ("proc/net/stat/nf_conntrack", &CONNTRACK.replace("0000000f", "0000001f")),
                ("proc/stat", "cpu  1 2 3 4 5 6 7 83 9 10\n"),
            ],
        );
        assert!(books.read(READ_NS_MIN - 1).values().all(|count| *count == 0), "not yet");
        let found: Vec<(&str, u64)> =
            books.read(READ_NS_MIN).iter().map(|(name, count)| (*name, *count)).collect();
        let expected = [
            ("conntrack_dropped", 16),
            ("conntrack_insert_failed", 0),
            ("cpu_steal_ms", 30),
            ("ip_reassembly_failures", 1),
            ("softnet_dropped", 18),
            ("softnet_squeezed", 2),
            ("udp_in_errors", 10),
            ("udp_receive_buffer_errors", 20),
        ];
        assert_eq!(found, expected, "no cgroup: not available");
    }

    #[test]
    fn what_is_not_there_is_not_available_and_may_come_later() {
        let root = root(&[("proc/stat", "cpu 1 2\n"), ("proc/net/snmp", "Tcp: A\nTcp: 1\n")]);
        let mut books = HostBooks::below(root.path(), 0);
        assert!(books.read(0).is_empty());
        write(&root, &[("proc/net/snmp", SNMP)]);
        assert_eq!(books.read(READ_NS_MIN).get("udp_in_errors"), Some(&0), "its base is its first");
    }

    #[test]
    fn throttling_is_read_from_either_version_of_cgroups() {
        let v2 = "36 25 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw\n";
        let v1 = "31 25 0:27 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let cases = [
            ("0::/a/b\n", v2, "sys/fs/cgroup/a/b/cpu.stat", "throttled_usec 5000\n"),
            ("0::/../x\n", v2, "sys/fs/cgroup/cpu.stat", "throttled_usec 5000\n"),
            (
                "0::/\n4:cpu,cpuacct:/docker/abc/d\n",
                v1,
                "sys/fs/cgroup/cpu/d/cpu.stat",
                "throttled_time 5000000\n",
            ),
        ];
        for (groups, mounts, place, time) in cases {
            let root = root(&[
                ("proc/self/cgroup", groups),
                ("proc/self/mountinfo", mounts),
                (place, "nr_periods 9\nnr_throttled 0\nthrottled_usec 0\nthrottled_time 0\n"),
            ]);
            let mut books = HostBooks::below(root.path(), 0);
            write(&root, &[(place, &format!("nr_periods 9\nnr_throttled 3\n{time}"))]);
            let found = books.read(READ_NS_MIN);
            assert_eq!(found.get("cgroup_throttled_periods"), Some(&3), "{groups}");
            assert_eq!(found.get("cgroup_throttled_us"), Some(&5_000), "{groups}");
        }
    }

    #[test]
    fn every_count_of_this_host_has_its_name_in_the_list() {
        let mut books = HostBooks::new(0);
        let found: Vec<&str> = books.read(0).keys().copied().collect();
        assert!(found.iter().all(|name| COUNTS.iter().any(|(known, _)| known == name)));
        assert!(found.contains(&"udp_in_errors") && found.contains(&"cpu_steal_ms"), "{found:?}");
    }
}
