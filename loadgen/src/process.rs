//! What the kernel says about the daemon under test, whose process number is given.
//!
//! Beside `sender`: read before and after a round, and a few times meanwhile. CPU time of each thread is
//! the scheduler's own sum (`/proc/PID/task/TID/schedstat`, nanoseconds; it may lag by one tick for a
//! thread that runs just now). The drops of its UDP sockets are those of `/proc/PID/net/udp` and `udp6`,
//! whose rows are told by their inode from the rows of others (`/proc/PID/fd`). Nothing here asks the
//! daemon: it works for any, and a daemon that miscounts its own losses is caught.
//!
//! Only sockets that receive from the target are looked at. Where there are none, what was dropped is not
//! known: it is not 0.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as OwnSocket};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::{self, Stopwatch};
use crate::target::Target;

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
    /// Those that receive from the target; empty where they are not known.
    pub(crate) sockets: Vec<UdpSocket>,
    pub(crate) resident_bytes: u64,
}

impl Figures {
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.threads.iter().map(|thread| thread.cpu_ns).sum()
    }

    /// Datagrams that its sockets dropped, where it has sockets that are known.
    pub(crate) fn drops(&self) -> Option<u64> {
        self.of_sockets(|socket| socket.drops)
    }

    pub(crate) fn queue_bytes(&self) -> Option<u64> {
        self.of_sockets(|socket| socket.queue_bytes)
    }

    fn of_sockets(&self, figure: impl Fn(&UdpSocket) -> u64) -> Option<u64> {
        (!self.sockets.is_empty()).then(|| self.sockets.iter().map(figure).sum())
    }

    /// What came on top of `before`: threads that were not there count from nothing. Queue and memory are
    /// those of now. Sockets are known only where they are the ones of before.
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
        let inodes = |figures: &Figures| -> BTreeSet<u64> {
            figures.sockets.iter().map(|socket| socket.inode).collect()
        };
        let is_same = inodes(self) == inodes(before);
        Figures {
            threads: self.threads.iter().map(thread).collect(),
            sockets: if is_same { self.sockets.iter().map(socket).collect() } else { Vec::new() },
            resident_bytes: self.resident_bytes,
        }
    }
}

/// The daemon under test.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pid: u32,
    folder: PathBuf,
    /// Of its sockets that receive from the target.
    inodes: BTreeSet<u64>,
    /// Why there are none.
    stranger: Option<&'static str>,
}

impl Process {
    /// The process `pid`, which is said to receive at `target`.
    ///
    /// # Errors
    /// Where there is no such process, its descriptors may not be read, or none of its sockets receives
    /// from a UDP target on this machine: another process drops nothing at any rate.
    pub(crate) fn open(pid: u32, target: &Target) -> Result<Process> {
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
        let mut process = Process { pid, folder, inodes, stranger: None };
        let Target::Udp(address) = target else {
            process.inodes.clear();
            process.stranger = Some("only UDP sockets count what they drop");
            return Ok(process);
        };
        let mut sockets = process.sockets()?;
        sockets.retain(|socket| receives(socket.address, *address));
        process.inodes = sockets.iter().map(|socket| socket.inode).collect();
        if sockets.is_empty() {
            // An address of this machine can be bound, any other cannot.
            if OwnSocket::bind(any_port(*address)).is_ok() {
                bail!(
                    "process {pid} (--pid) has no UDP socket at port {} that receives from {target}: \
                     give the pid of the daemon there",
                    address.port()
                );
            }
            process.stranger = Some("the target is not on this machine");
        }
        Ok(process)
    }

    /// Why `figures` do not say what was dropped; none where they do.
    pub(crate) fn why_unknown(&self, figures: &Figures) -> Option<&'static str> {
        let changed = "its sockets changed during the run";
        figures.sockets.is_empty().then(|| self.stranger.unwrap_or(changed))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    fn gone(&self) -> String {
        format!("process {} (--pid) has ended", self.pid)
    }

    /// # Errors
    /// Where the process has ended.
    pub(crate) fn figures(&self) -> Result<Figures> {
        let gone = || self.gone();
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
                Err(error) => return Err(error).with_context(|| self.gone()),
            };
            let rows = text.lines().filter_map(udp_row);
            sockets.extend(rows.filter(|socket| self.inodes.contains(&socket.inode)));
        }
        sockets.sort_by_key(|socket| socket.inode);
        Ok(sockets)
    }

    /// Waits until its queues are empty; false where they still are not after `patience`, none where it
    /// has no queues that are known.
    pub(crate) fn drain(&self, patience: Duration) -> Result<Option<bool>> {
        let stopwatch = Stopwatch::start();
        loop {
            let sockets = self.sockets()?;
            if sockets.iter().all(|socket| socket.queue_bytes == 0) {
                return Ok((!sockets.is_empty()).then_some(true));
            }
            if patience <= stopwatch.elapsed() {
                return Ok(Some(false));
            }
            clock::pause(DRAIN_LOOK_EVERY);
        }
    }
}

fn any_port(mut address: SocketAddr) -> SocketAddr {
    address.set_port(0);
    address
}

/// Whether a socket bound to `own` receives what is sent to `target`.
fn receives(own: SocketAddr, target: SocketAddr) -> bool {
    let (ip, wanted) = (own.ip().to_canonical(), target.ip().to_canonical());
    // A socket of all addresses of IPv6 takes those of IPv4 too.
    let is_any = ip.is_unspecified() && (ip.is_ipv6() || wanted.is_ipv4());
    own.port() == target.port() && (is_any || ip == wanted || wanted.is_unspecified())
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

    /// A socket that nobody reads, its address as a target, and this process at it.
    fn receiver() -> (OwnSocket, SocketAddr, Process) {
        let socket = OwnSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let process = Process::open(std::process::id(), &Target::Udp(address)).unwrap();
        (socket, address, process)
    }

    /// This process, a socket of it that nobody reads, and more datagrams than its queue holds.
    #[test]
    fn the_drops_of_a_socket_are_those_of_its_process() {
        let (socket, address, process) = receiver();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4_096).unwrap();
        let before = process.figures().unwrap();
        assert_eq!(before.drops(), Some(0));
        let sender = OwnSocket::bind("127.0.0.1:0").unwrap();
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
        assert_eq!(usage.drops(), Some(200 - queued));
        assert!(usage.queue_bytes().is_some_and(|bytes| 0 < bytes));
        assert_eq!(process.figures().unwrap().queue_bytes(), Some(0));
        assert_eq!(process.drain(Duration::ZERO).unwrap(), Some(true));
        assert_eq!(process.why_unknown(&usage), None);
    }

    #[test]
    fn r4_a_process_without_a_socket_at_the_target_is_refused() {
        let (other, ..) = receiver();
        let port = other.local_addr().unwrap().port();
        drop(other);
        let target = Target::Udp(SocketAddr::from(([127, 0, 0, 1], port)));
        let error = Process::open(std::process::id(), &target).unwrap_err().to_string();
        assert!(error.contains(&format!("has no UDP socket at port {port}")), "{error}");
    }

    /// 192.0.2.0/24 is for documentation: no machine has it.
    #[test]
    fn r4_drops_that_were_not_measured_are_not_known() {
        for (target, why) in [
            (Target::read("192.0.2.1:8125").unwrap(), "the target is not on this machine"),
            (Target::UnixStream(PathBuf::from("/s")), "only UDP sockets count what they drop"),
        ] {
            let process = Process::open(std::process::id(), &target).unwrap();
            let figures = process.figures().unwrap();
            assert_eq!((figures.drops(), figures.queue_bytes()), (None, None));
            assert_eq!(process.why_unknown(&figures), Some(why));
            assert_eq!(process.drain(Duration::ZERO).unwrap(), None);
        }
    }

    #[test]
    fn r4_a_socket_that_went_away_takes_its_drops_with_it() {
        let (socket, _, process) = receiver();
        let before = process.figures().unwrap();
        drop(socket);
        let usage = process.figures().unwrap().since(&before);
        assert_eq!(usage.drops(), None);
        assert_eq!(process.why_unknown(&usage), Some("its sockets changed during the run"));
    }

    #[test]
    fn a_socket_receives_what_goes_to_its_address() {
        for (own, target, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "10.0.0.1:1", true),
            ("[::]:1", "10.0.0.1:1", true),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1", true),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.2:1", "127.0.0.1:1", false),
            ("0.0.0.0:1", "[::1]:1", false),
        ] {
            let is_received = receives(own.parse().unwrap(), target.parse().unwrap());
            assert_eq!(is_received, expected, "{own} {target}");
        }
    }

    #[test]
    fn threads_are_told_by_name_and_their_time_adds_up() {
        let (_socket, _, process) = receiver();
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
        let error = Process::open(u32::MAX, &Target::UnixStream(PathBuf::from("/s"))).unwrap_err();
        assert!(error.to_string().contains("no process"), "{error}");
    }
}
