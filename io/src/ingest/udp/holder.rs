//! Who has a port or a Unix socket: asked of `/proc`, once, when a bind was refused.
//!
//! The tables of sockets give the inodes of those on the port, the descriptors of the processes
//! lead from there to one that holds it. Processes of other users are closed to us unless we are
//! root: then nobody is named.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

/// The process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// The name of its program, as the kernel has it.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_this_process() {
            return write!(out, "another server of this configuration");
        }
        // A program names itself: nothing of it reaches a terminal unescaped.
        write!(out, "{} (pid {})", self.program.escape_debug(), self.pid)
    }
}

/// Where the kernel lists sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// UDP.
    Udp,
    /// TCP: those that listen.
    Tcp,
}

impl PortKind {
    const fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Udp => ["/proc/net/udp", "/proc/net/udp6"],
            Self::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        }
    }

    /// Whether a socket in this state has the port for itself.
    fn is_holding(self, state: &str) -> bool {
        self == Self::Udp || state == "0A"
    }
}

impl Holder {
    /// A process with a socket on `port`, on whatever address; we ourselves where there is no other.
    #[must_use]
    pub fn of_port(kind: PortKind, port: u16) -> Option<Self> {
        let inodes = inodes_on(kind, port);
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = std::process::id();
        let mut others_first = pids.filter(|pid| *pid != ours).chain([ours]);
        Some(Self::of_process(others_first.find(|pid| holds_one_of(*pid, &inodes))?))
    }

    fn is_this_process(&self) -> bool {
        self.pid == std::process::id()
    }

    /// The process `pid` by its name.
    #[must_use]
    pub fn of_process(pid: u32) -> Self {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { pid, program: program.trim_end().to_owned() }
    }
}

/// ` by floe (pid 4711)`, where somebody is known.
pub(crate) fn by(holder: Option<&Holder>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// Why a port cannot be had, and what to do: `advice`, where it is not our own configuration that has
/// it twice.
pub(crate) fn in_use(holder: Option<&Holder>, advice: &str) -> String {
    let is_ours = holder.is_some_and(Holder::is_this_process);
    let advice = if is_ours { "give each a \"port\" of its own" } else { advice };
    format!("address in use{}; {advice}", by(holder))
}

fn inodes_on(kind: PortKind, port: u16) -> BTreeSet<String> {
    let tables = kind.tables().map(fs::read_to_string);
    let port = format!(":{port:04X}");
    let mut inodes = BTreeSet::new();
    for table in tables.into_iter().flatten() {
        for line in table.lines().skip(1) {
            // Local address and port stand second, the state fourth, the inode tenth.
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..]
                && local.ends_with(&port)
                && kind.is_holding(state)
            {
                inodes.insert(format!("socket:[{inode}]"));
            }
        }
    }
    inodes
}

fn holds_one_of(pid: u32, inodes: &BTreeSet<String>) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().any(|entry| {
        let link = fs::read_link(entry.path());
        link.is_ok_and(|link| inodes.iter().any(|inode| link == Path::new(inode)))
    })
}
