//! The machine a run was made on, and the settings of its kernel that figures depend on.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Settings that are written down, by their path.
const SETTINGS: [(&str, &str); 9] = [
    ("net.core.rmem_max", "/proc/sys/net/core/rmem_max"),
    ("net.core.rmem_default", "/proc/sys/net/core/rmem_default"),
    ("net.core.wmem_default", "/proc/sys/net/core/wmem_default"),
    ("net.core.netdev_max_backlog", "/proc/sys/net/core/netdev_max_backlog"),
    ("kernel.io_uring_disabled", "/proc/sys/kernel/io_uring_disabled"),
    ("cpu governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ("cpu boost", "/sys/devices/system/cpu/cpufreq/boost"),
    ("transparent huge pages", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("clock source", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
];

/// Where a run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Host name.
    pub(crate) host: String,
    /// Model of the CPU.
    pub(crate) cpu: String,
    /// CPUs this process may use.
    pub(crate) cpus: usize,
    /// Memory, MiB.
    pub(crate) memory_mib: u64,
    /// Kernel and its release.
    pub(crate) kernel: String,
    /// Whether a hypervisor is below.
    pub(crate) is_virtual: bool,
    /// Settings; those that the kernel does not have are absent.
    pub(crate) settings: BTreeMap<String, String>,
}

impl Machine {
    /// This one.
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |key: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split(": ").nth(1)).unwrap_or_default().to_owned()
        };
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = meminfo.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let settings = SETTINGS.iter().filter_map(|(name, path)| {
            let value = fs::read_to_string(path).ok()?;
            Some(((*name).to_owned(), value.trim().to_owned()))
        });
        Self {
            host: text(system.nodename()),
            cpu: field("model name"),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: kib.unwrap_or(0) / 1_024,
            kernel: format!("{} {}", text(system.sysname()), text(system.release())),
            is_virtual: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            settings: settings.collect(),
        }
    }

    /// Whether figures of `other` belong beside figures of this one, whatever was set there.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.host == other.host && self.cpu == other.cpu && self.cpus == other.cpus
    }

    /// One sentence for the head of a table.
    pub(crate) fn sentence(&self) -> String {
        let kind = if self.is_virtual { " (virtual)" } else { "" };
        let rmem = self.settings.get("net.core.rmem_max").map_or("unknown", String::as_str);
        format!(
            "{}, {} CPUs{kind}, {} MiB, {}, rmem_max {rmem}",
            self.cpu, self.cpus, self.memory_mib, self.kernel
        )
    }
}

/// The load average of the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// The commit that is checked out, with a plus where files differ from it; `unknown` without git.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    if changes.is_empty() { commit } else { format!("{commit}+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::read();
        assert!(!machine.host.is_empty() && machine.kernel.starts_with("Linux "));
        assert!(0 < machine.cpus && 0 < machine.memory_mib);
        assert!(machine.settings.contains_key("net.core.rmem_max"), "{machine:?}");
        assert!(machine.sentence().contains("rmem_max"));
    }
}
