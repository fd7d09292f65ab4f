//! What the kernel says of a process and of a socket, read from /proc; and waiting for it.
//!
//! CPU time comes from `schedstat`, in nanoseconds, the same counter that `getrusage` of a thread
//! reads, so that a thread of this process and one of another are measured alike. It is exact while
//! the thread sleeps and up to a tick old while it runs: figures are taken before and after a feed,
//! when everything has been read.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use floe_io::clock::{duration_ns, monotonic_ns};

/// Longest wait for something that is about to happen.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// Waits without a clock of its own; may return late, never early.
pub(crate) fn pause(time: Duration) {
    let end_ns = monotonic_ns() + duration_ns(time);
    loop {
        let left_ns = end_ns.saturating_sub(monotonic_ns());
        if left_ns == 0 {
            return;
        }
        std::thread::park_timeout(Duration::from_nanos(left_ns));
    }
}

/// A bounded wait, look by look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    end_ns: u64,
}

impl Waiting {
    /// Begins.
    pub(crate) fn up_to(limit: Duration) -> Self {
        Self { end_ns: monotonic_ns() + duration_ns(limit) }
    }

    /// Pauses; false once the time is over.
    pub(crate) fn goes_on(&self) -> bool {
        pause(LOOK);
        monotonic_ns() < self.end_ns
    }
}

/// Looks until `probe` has an answer.
///
/// # Errors
/// When ten seconds were not enough.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let waiting = Waiting::up_to(WAIT_LIMIT);
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if !waiting.goes_on() {
            bail!("waited in vain for {what}");
        }
    }
}

/// Longest wait for a quiet machine.
const QUIET_LIMIT: Duration = Duration::from_secs(20);

/// Time that the machine must be quiet for.
const QUIET_TIME: Duration = Duration::from_millis(100);

/// Waits until others use less than a tenth of all CPUs, 20 s at the most.
pub(crate) fn await_quiet() {
    let waiting = Waiting::up_to(QUIET_LIMIT);
    let mut before = busy_and_total();
    loop {
        pause(QUIET_TIME);
        let after = busy_and_total();
        let (busy, total) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        if busy * 10 <= total || !waiting.goes_on() {
            return;
        }
        before = after;
    }
}

/// Ticks of all CPUs so far: those in which they did something, and all.
fn busy_and_total() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    ticks(text.lines().next().unwrap_or_default())
}

fn ticks(line: &str) -> (u64, u64) {
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    // The fourth and fifth are idle, and idle with a disk at work.
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (total - idle, total)
}

/// What the kernel says of the UDP sockets bound to a port, all families and workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketState {
    /// Sockets bound to it.
    pub(crate) sockets: usize,
    /// Bytes of accounting that wait to be read.
    pub(crate) queue_bytes: u64,
    /// Datagrams dropped since the sockets were made.
    pub(crate) drops: u64,
}

/// The state of the sockets at `port`.
///
/// # Errors
/// The kernel's, when /proc cannot be read.
pub(crate) fn socket_state(port: u16) -> io::Result<SocketState> {
    let mut state = SocketState::default();
    for path in ["/proc/net/udp", "/proc/net/udp6"] {
        match fs::read_to_string(path) {
            Ok(text) => add_sockets(&text, port, &mut state),
            // No IPv6 here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(state)
}

fn add_sockets(table: &str, port: u16, state: &mut SocketState) {
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(queues), Some(drops)) =
            (fields.get(1), fields.get(4), fields.last())
        else {
            continue;
        };
        let bound = local.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
        if bound == Some(port) {
            let waiting = queues.rsplit(':').next();
            let waiting = waiting.and_then(|bytes| u64::from_str_radix(bytes, 16).ok());
            state.sockets += 1;
            state.queue_bytes += waiting.unwrap_or(0);
            state.drops += drops.parse::<u64>().unwrap_or(0);
        }
    }
}

/// One thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ThreadState {
    /// The kernel's id.
    pub(crate) id: u32,
    /// Its name, cut to 15 bytes by the kernel.
    pub(crate) name: String,
    /// Time on a CPU, ns.
    pub(crate) cpu_ns: u64,
    /// Time it was ready and waited for a CPU, ns.
    pub(crate) delay_ns: u64,
    /// Context switches of both kinds.
    pub(crate) switches: u64,
}

/// All threads of process `pid` that live.
///
/// # Errors
/// When there is no such process.
pub(crate) fn threads(pid: u32) -> anyhow::Result<Vec<ThreadState>> {
    let folder = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("process {pid} is gone"))?;
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A thread that ends meanwhile is not there.
    Ok(ids.filter_map(|id| thread(pid, id).ok()).collect())
}

/// One thread.
///
/// # Errors
/// When it is gone.
pub(crate) fn thread(pid: u32, id: u32) -> io::Result<ThreadState> {
    let folder = format!("/proc/{pid}/task/{id}");
    let (cpu_ns, delay_ns) = schedstat(pid, id)?;
    let status = fs::read_to_string(format!("{folder}/status"))?;
    let name = status_field(&status, "Name:").unwrap_or_default().to_owned();
    let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
    let switches = switches.map(|key| number(status_field(&status, key)));
    Ok(ThreadState { id, name, cpu_ns, delay_ns, switches: switches.iter().sum() })
}

/// Time on a CPU and time waited for one, ns.
///
/// # Errors
/// When the thread is gone, or the kernel keeps no such statistics.
pub(crate) fn schedstat(pid: u32, id: u32) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{id}/schedstat"))?;
    let mut fields = text.split_whitespace();
    Ok((number(fields.next()), number(fields.next())))
}

/// Resident memory of process `pid`, bytes.
///
/// # Errors
/// When there is no such process.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let kib = status_field(&status, "VmRSS:").and_then(|text| text.split_whitespace().next());
    Ok(number(kib) * 1_024)
}

fn status_field<'t>(status: &'t str, key: &str) -> Option<&'t str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn sockets_of_a_port_are_added_up() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            1: 0100007F:1FBD 00000000:0000 07 00000000:00000340 00:00000000 00000000 0 0 1 2 00 7\n\
            2: 0100007F:1FBD 00000000:0000 07 00000000:00000010 00:00000000 00000000 0 0 1 2 00 5\n\
            3: 0100007F:1FBE 00000000:0000 07 00000000:00000340 00:00000000 00000000 0 0 1 2 00 9\n";
        let mut state = SocketState::default();
        add_sockets(table, 8_125, &mut state);
        assert_eq!(state, SocketState { sockets: 2, queue_bytes: 0x350, drops: 12 });
    }

    #[test]
    fn ticks_but_those_of_idling_are_busy() {
        assert_eq!(ticks("cpu  10 1 5 100 20 0 3 1 0 0"), (20, 140));
        assert_eq!(ticks(""), (0, 0));
        assert!(0 < busy_and_total().1);
    }

    #[test]
    fn datagram_that_waits_is_seen_and_an_unbound_port_is_not() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(socket_state(port).unwrap(), SocketState { sockets: 1, ..Default::default() });
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"a:1|c", ("127.0.0.1", port)).unwrap();
        assert!(5 < socket_state(port).unwrap().queue_bytes);
        drop(socket);
        assert_eq!(socket_state(port).unwrap().sockets, 0);
    }

    #[test]
    fn threads_of_this_process_have_names_times_and_memory() {
        let thread = std::thread::Builder::new().name("a-named-one".to_owned());
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let thread = thread.spawn(move || stopped.recv().is_ok()).unwrap();
        let pid = std::process::id();
        let found = wait_for("the thread's name", || {
            let threads = threads(pid).unwrap();
            threads.into_iter().find(|thread| thread.name == "a-named-one")
        });
        assert!(0 < found.unwrap().id);
        assert!(1 << 20 < resident_bytes(pid).unwrap());
        drop(stop);
        thread.join().unwrap();
    }
}
