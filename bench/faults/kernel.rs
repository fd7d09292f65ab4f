//! The referee: what the kernel counted, which is neither floe's figure nor the sender's.
//!
//! In a network namespace of our own nobody else sends or receives, so that `/proc/net/snmp` tells of
//! this daemon alone, and it outlives the sockets of a daemon that was killed: every datagram that
//! was sent is one that a socket's owner read, one that found a full socket, one that nobody was bound
//! for, or one that lay in a socket when that was closed.

use std::fs;

use anyhow::Context;

/// Counts of UDP in this network namespace since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UdpCounts {
    /// Datagrams that were read out of sockets.
    pub(crate) read: u64,
    /// Datagrams that nobody was bound for.
    pub(crate) refused: u64,
    /// Datagrams that found a full socket, or were bad.
    pub(crate) dropped: u64,
}

impl UdpCounts {
    /// Those of now, both address families together.
    ///
    /// # Errors
    /// When /proc does not tell.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/net/snmp").context("/proc/net/snmp")?;
        // Absent without IPv6.
        let text_6 = fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
        Self::of_tables(&text, &text_6).context("/proc/net/snmp has no counts of UDP")
    }

    fn of_tables(snmp: &str, snmp_6: &str) -> Option<Self> {
        let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
        let (names, values) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
        let of_6 = |name: &str| {
            let line = snmp_6.lines().find_map(|line| {
                let rest = line.strip_prefix("Udp6")?.strip_prefix(name)?;
                rest.starts_with(char::is_whitespace).then(|| rest.trim().parse::<u64>().ok())?
            });
            line.unwrap_or(0)
        };
        let mut counts = Self::default();
        for (name, value) in names.zip(values).skip(1) {
            let count = value.parse::<u64>().unwrap_or(0) + of_6(name);
            match name {
                "InDatagrams" => counts.read = count,
                "NoPorts" => counts.refused = count,
                // RcvbufErrors and MemErrors are among them.
                "InErrors" => counts.dropped = count,
                _ => {}
            }
        }
        Some(counts)
    }

    /// What came since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            read: self.read.saturating_sub(before.read),
            refused: self.refused.saturating_sub(before.refused),
            dropped: self.dropped.saturating_sub(before.dropped),
        }
    }

    /// All of them.
    pub(crate) fn sum(self) -> u64 {
        self.read + self.refused + self.dropped
    }
}

/// A figure of `/proc/<pid>/status` that is given in KiB, in bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn memory_bytes(pid: u32, key: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("the kernel tells no {key}"))? * 1_024)
}

/// Whether every thread of process `pid` is stopped.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut tasks = tasks.flatten().map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
    });
    tasks.all(|is_stopped| is_stopped)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn both_families_are_added_up() {
        let snmp = "Tcp: InErrs\nTcp: 9\n\
            Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 10 2 3 99 3\n";
        let snmp_6 = "Udp6InDatagrams                 \t5\nUdp6InDatagramsX 7\nUdp6NoPorts 1\n";
        let counts = UdpCounts::of_tables(snmp, snmp_6).unwrap();
        assert_eq!(counts, UdpCounts { read: 15, refused: 3, dropped: 3 });
        assert_eq!(counts.sum(), 21);
        assert_eq!(UdpCounts::of_tables("Tcp: 1\n", ""), None);
    }

    #[test]
    fn datagram_counts_as_read_once_it_was_read() {
        let before = UdpCounts::now().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"a", socket.local_addr().unwrap()).unwrap();
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        // Others may send at the same time.
        assert!(1 <= UdpCounts::now().unwrap().since(before).read);
    }

    #[test]
    fn memory_of_this_process_is_told_and_it_runs() {
        let pid = std::process::id();
        assert!(1 << 20 < memory_bytes(pid, "VmRSS").unwrap());
        assert!(memory_bytes(pid, "VmRS").is_err());
        assert!(!is_stopped(pid));
    }
}
