//! What the kernel says about the daemon under test, whose process number is given.
//!
//! Beside `sender`: read before and after a round, and a few times meanwhile. CPU time of each thread is
//! the scheduler's own sum (`/proc/PID/task/TID/schedstat`, nanoseconds; it may lag by one tick for a
//! thread that runs just now). The drops of its UDP sockets are those of `/proc/PID/net/udp` and `udp6`,
//! whose rows are told by their inode from the rows of others (`/proc/PID/fd`). Nothing here asks the
//! daemon: it works for any, and a daemon that miscounts its own losses is caught.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::{self, Stopwatch};

/// Between two looks at the queues.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(2);

/// A thread of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) cpu_ns: u64,
    /// Times that it gave its core away, and times that the core was taken from it.
    pub(crate) switches: [u64; 2],
}

/// A UDP socket of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UdpSocket {
    pub(crate) inode: u64,
    pub(crate) address: SocketAddr,
    /// Memory of the datagrams that wait in its queue, as the kernel accounts for it.
    pub(crate) queue_bytes: u64,
    /// Datagrams dropped because the queue was full.
    pub(crate) drops: u64,
}

/// The figures at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) threads: Vec<Thread>,
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) resident_bytes: u64,
}

impl Figures {
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.threads.iter().map(|thread| thread.cpu_ns).sum()
    }

    pub(crate) fn drops(&self) -> u64 {
        self.sockets.iter().map(|socket| socket.drops).sum()
    }

    pub(crate) fn queue_bytes(&self) -> u64 {
        self.sockets.iter().map(|socket| socket.queue_bytes).sum()
    }

    /// What came on top of `before`: threads and sockets that were not there count from nothing. Queue
    /// and memory are those of now.
    pub(crate) fn since(&self, before: &Figures) -> Figures {
        let thread = |thread: &Thread| {
            let known = before.threads.iter().find(|known| known.id == thread.id);
            let (cpu_ns, switches) =
                known.map_or((0, [0; 2]), |known| (known.cpu_ns, known.switches));
            let more = |place: usize| thread.switches[place].saturating_sub(switches[place]);
            Thread {
                cpu_ns: thread.cpu_ns.saturating_sub(cpu_ns),
                switches: [more(0), more(1)],
                ..thread.clone()
            }
        };
        let socket = |socket: &UdpSocket| {
            let known = before.sockets.iter().find(|known| known.inode == socket.inode);
            let drops = socket.drops.saturating_sub(known.map_or(0, |known| known.drops));
            UdpSocket { drops, ..socket.clone() }
        };
        Figures {
            threads: self.threads.iter().map(thread).collect(),
            sockets: self.sockets.iter().map(socket).collect(),
            resident_bytes: self.resident_bytes,
        }
    }
}

/// The daemon under test.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pid: u32,
    folder: PathBuf,
    inodes: BTreeSet<u64>,
}

impl Process {
    /// # Errors
    /// Where there is no such process, or its descriptors may not be read.
    pub(crate) fn open(pid: u32) -> Result<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        if !folder.exists() {
            bail!("no process {pid} (--pid)");
        }
        let mut inodes = BTreeSet::new();
        let links = folder.join("fd");
        let entries = fs::read_dir(&links).with_context(|| {
            format!("cannot read {} (--pid): run as its user or as root", links.display())
        })?;
        for entry in entries.flatten() {
            // A descriptor may be closed between the two calls.
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            inodes.extend(link.to_str().and_then(socket_inode));
        }
        Ok(Process { pid, folder, inodes })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// # Errors
    /// Where the process has ended.
    pub(crate) fn figures(&self) -> Result<Figures> {
        let gone = || format!("{} is gone (--pid)", self.folder.display());
        let mut threads = Vec::new();
        for entry in fs::read_dir(self.folder.join("task")).with_context(gone)?.flatten() {
            // A thread may end between two calls.
            threads.extend(read_thread(&entry.path()));
        }
        threads.sort_by_key(|thread: &Thread| thread.id);
        let status = fs::read_to_string(self.folder.join("status")).with_context(gone)?;
        let resident_bytes = number_behind(&status, "VmRSS:").unwrap_or(0) * 1_024;
        Ok(Figures { threads, sockets: self.sockets()?, resident_bytes })
    }

    /// # Errors
    /// Where the process has ended.
    pub(crate) fn sockets(&self) -> Result<Vec<UdpSocket>> {
        let mut sockets = Vec::new();
        for table in ["net/udp", "net/udp6"] {
            let path = self.folder.join(table);
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                // A kernel without IPv6 has no such table.
                Err(_) if table == "net/udp6" => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path.display()));
                }
            };
            let rows = text.lines().filter_map(udp_row);
            sockets.extend(rows.filter(|socket| self.inodes.contains(&socket.inode)));
        }
        sockets.sort_by_key(|socket| socket.inode);
        Ok(sockets)
    }

    /// Waits until its queues are empty; false where they still are not after `patience`.
    pub(crate) fn drain(&self, patience: Duration) -> Result<bool> {
        let stopwatch = Stopwatch::start();
        loop {
            if self.sockets()?.iter().all(|socket| socket.queue_bytes == 0) {
                return Ok(true);
            }
            if patience <= stopwatch.elapsed() {
                return Ok(false);
            }
            clock::pause(DRAIN_LOOK_EVERY);
        }
    }
}

/// The number in `socket:[12345]`.
fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn read_thread(folder: &std::path::Path) -> Option<Thread> {
    let id = folder.file_name()?.to_str()?.parse().ok()?;
    let name = fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned();
    let times = fs::read_to_string(folder.join("schedstat")).ok()?;
    let cpu_ns = times.split_whitespace().next()?.parse().ok()?;
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"]
        .map(|label| number_behind(&status, label).unwrap_or(0));
    Some(Thread { id, name, cpu_ns, switches })
}

/// The first number behind `label`, which begins a line.
fn number_behind(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// One row of `/proc/net/udp` or `udp6`; none for the heading.
fn udp_row(line: &str) -> Option<UdpSocket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // sl local remote st tx:rx tr:when retransmits uid timeout inode references pointer drops
    let [_, local, _, _, queues, _, _, _, _, inode, _, _, drops] = fields[..] else { return None };
    Some(UdpSocket {
        inode: inode.parse().ok()?,
        address: hex_address(local)?,
        queue_bytes: u64::from_str_radix(queues.split_once(':')?.1, 16).ok()?,
        drops: drops.parse().ok()?,
    })
}

/// `0100007F:1FBD`: words of 32 bits in the byte order of the machine, then the port.
fn hex_address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0u8; 16];
    if words.len() % 8 != 0 || !words.is_ascii() || bytes.len() * 2 < words.len() {
        return None;
    }
    for (place, chunk) in bytes.chunks_exact_mut(4).zip(words.as_bytes().chunks_exact(8)) {
        let word = u32::from_str_radix(std::str::from_utf8(chunk).ok()?, 16).ok()?;
        place.copy_from_slice(&word.to_ne_bytes());
    }
    let address = match words.len() {
        8 => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        32 => IpAddr::V6(Ipv6Addr::from(bytes)),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_both_tables_are_read() {
        let row = " 1234: 0100007F:1FBD 00000000:0000 07 00000000:00000D00 00:00000000 00000000  \
                   1000        0 48213 2 0000000000000000 744";
        let socket = udp_row(row).unwrap();
        assert_eq!(socket.address, "127.0.0.1:8125".parse().unwrap());
        assert_eq!((socket.inode, socket.queue_bytes, socket.drops), (48_213, 3_328, 744));
        let row = "  77: 00000000000000000000000001000000:1FBD 0:0 07 00000000:00000000 00:00000000 \
                   00000000 0 0 9 2 0 0";
        assert_eq!(udp_row(row).unwrap().address, "[::1]:8125".parse().unwrap());
    }

    #[test]
    fn what_is_no_row_is_left_out() {
        let heading = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                       uid  timeout inode ref pointer drops";
        for line in [heading, "", "1: 0100007F 0:0 07 0:0 0:0 0 0 0 9 2 0 0", "1 2 3"] {
            assert_eq!(udp_row(line), None, "{line:?}");
        }
    }

    /// This process, a socket of it that nobody reads, and more datagrams than its queue holds.
    #[test]
    fn the_drops_of_a_socket_are_those_of_its_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4_096).unwrap();
        let process = Process::open(std::process::id()).unwrap();
        let address = socket.local_addr().unwrap();
        let ours = |figures: &Figures| {
            figures.sockets.iter().find(|one| one.address == address).unwrap().clone()
        };
        let before = process.figures().unwrap();
        assert_eq!(ours(&before).drops, 0);
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..200 {
            sender.send_to(b"a:1|c", address).unwrap();
        }
        let after = process.figures().unwrap();
        let mut queued = 0;
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 100]).is_ok() {
            queued += 1;
        }
        let usage = after.since(&before);
        assert_eq!(ours(&usage).drops, 200 - queued);
        assert!(0 < ours(&usage).queue_bytes);
        assert_eq!(ours(&process.figures().unwrap()).queue_bytes, 0);
    }

    #[test]
    fn threads_are_told_by_name_and_their_time_adds_up() {
        let process = Process::open(std::process::id()).unwrap();
        let before = process.figures().unwrap();
        assert!(0 < before.cpu_ns() && 0 < before.resident_bytes);
        let later = Figures {
            threads: before
                .threads
                .iter()
                .map(|thread| Thread { cpu_ns: thread.cpu_ns + 7, ..thread.clone() })
                .collect(),
            ..before.clone()
        };
        let usage = later.since(&before);
        assert!(usage.threads.iter().all(|thread| thread.cpu_ns == 7 && !thread.name.is_empty()));
        assert_eq!(later.since(&Figures::default()).cpu_ns(), later.cpu_ns());
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        // Above the largest number that the kernel gives.
        let error = Process::open(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("no process"), "{error}");
    }
}
