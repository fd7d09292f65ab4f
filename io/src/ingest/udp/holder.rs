//! Who has a UDP port: asked of `/proc`, once, when a bind was refused.
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
        // A program names itself: nothing of it reaches a terminal unescaped.
        write!(out, "{} (pid {})", self.program.escape_debug(), self.pid)
    }
}

/// A process with a UDP socket on `port`, on whatever address.
pub(super) fn holder_of(port: u16) -> Option<Holder> {
    let inodes = inodes_on(port);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| holds_one_of(*pid, &inodes))?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, program: program.trim_end().to_owned() })
}

fn inodes_on(port: u16) -> BTreeSet<String> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(fs::read_to_string);
    let port = format!(":{port:04X}");
    let mut inodes = BTreeSet::new();
    for table in tables.into_iter().flatten() {
        for line in table.lines().skip(1) {
            // Local address and port stand second, the inode tenth.
            let mut fields = line.split_whitespace();
            if fields.nth(1).is_some_and(|local| local.ends_with(&port)) {
                inodes.extend(fields.nth(7).map(|inode| format!("socket:[{inode}]")));
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
