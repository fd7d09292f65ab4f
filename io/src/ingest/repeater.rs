//! The repeater: every datagram goes on to other statsds as it came, before it is parsed.
//!
//! A thread of its own reads a tap and sends to each target. UDP: one datagram for each, byte for
//! byte, bad and empty ones too. TCP: one connection per target, a newline behind each datagram as
//! the reference adds it; what the target does not take waits in bounded memory.
//!
//! Books per target: datagrams sent, and dropped by cause; what a TCP target has not taken yet is
//! in neither. `tap_full` is common to all: the thread was behind.
//!
//! TCP has no acknowledgement: what the kernel took and the peer never read is lost without our
//! knowing. Bytes are taken as they are; the reference decodes them as UTF-8 first (D50).

mod resolve;
mod tcp;
mod udp;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use floe_core::config::settings::{RepeaterProtocol, RepeaterSettings};
use rustix::event::{PollFd, PollFlags, poll};

use self::tcp::TcpTarget;
use self::udp::UdpTarget;
use super::tap::{TapReader, tap};
use crate::clock::{NS_PER_S, monotonic_ns};
use crate::sys::{WakeUp, timespec};

/// How long the end goes on sending what is queued.
const END_NS: u64 = NS_PER_S / 2;

/// How long the first look-up of a name is waited for, while the tap keeps what comes.
const FIRST_LOOK_UP_NS: u64 = NS_PER_S;

/// Longest sleep: names are looked up again and connections tried again in between.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks for the first answer.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// Longest sleep while a TCP target takes nothing at the end.
const END_LOOK: Duration = Duration::from_millis(10);

/// Why a datagram did not reach a target. A closed list: it labels counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The target's name has no address.
    Unresolved = 0,
    /// The kernel refused to send, or had no room for too long.
    SendFailed = 1,
    /// The target has not taken what is kept for it.
    PendingFull = 2,
    /// The connection ended within the datagram, or the daemon before it.
    Disconnected = 3,
}

impl Cause {
    const ALL: [(Self, &str); 4] = [
        (Self::Unresolved, "unresolved"),
        (Self::SendFailed, "send_failed"),
        (Self::PendingFull, "pending_full"),
        (Self::Disconnected, "disconnected"),
    ];
}

/// The books of one target; numbers that only grow.
#[derive(Debug, Default)]
pub(crate) struct TargetAccounts {
    name: String,
    sent: AtomicU64,
    dropped: [AtomicU64; Cause::ALL.len()],
}

impl TargetAccounts {
    fn new(target: &str) -> Self {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
        let plain = |char: char| if is_plain(char) { char } else { '_' };
        let name = target.chars().map(plain).collect::<String>();
        Self { name: name.trim_start_matches('_').to_owned(), ..Self::default() }
    }

    fn add_sent(&self, datagrams: u64) {
        self.sent.fetch_add(datagrams, Ordering::Relaxed);
    }

    fn add_dropped(&self, cause: Cause, datagrams: u64) {
        self.dropped[cause as usize].fetch_add(datagrams, Ordering::Relaxed);
    }
}

/// The books of a repeater.
#[derive(Clone, Debug)]
pub struct RepeaterAccounts {
    left_out: Arc<AtomicU64>,
    targets: Vec<Arc<TargetAccounts>>,
}

impl RepeaterAccounts {
    /// Names below `<prefixStats>.floe.` and numbers since the start of the repeater.
    #[must_use]
    pub fn read(&self) -> Vec<(String, u64)> {
        let left_out = self.left_out.load(Ordering::Relaxed);
        let mut entries = vec![("repeater.datagrams_dropped.tap_full".to_owned(), left_out)];
        for target in &self.targets {
            let name = &target.name;
            let sent = target.sent.load(Ordering::Relaxed);
            entries.push((format!("repeater.{name}.datagrams_sent"), sent));
            for ((_, word), dropped) in Cause::ALL.iter().zip(&target.dropped) {
                let dropped = dropped.load(Ordering::Relaxed);
                entries.push((format!("repeater.{name}.datagrams_dropped.{word}"), dropped));
            }
        }
        entries
    }
}

/// The repeater's thread. Dropped, it sends what it has, for half a second at the most.
#[derive(Debug)]
pub(crate) struct Repeater {
    reader: TapReader,
    accounts: RepeaterAccounts,
    stop: Arc<WakeUp>,
    thread: Option<JoinHandle<()>>,
}

impl Repeater {
    /// Starts the thread.
    ///
    /// # Errors
    /// The kernel's, when it refuses a socket, a descriptor or a thread.
    pub(crate) fn start(settings: &RepeaterSettings) -> io::Result<Self> {
        let (reader, stop) = (tap()?, Arc::new(WakeUp::new()?));
        let mut targets = Vec::with_capacity(settings.targets.len());
        let mut books: Vec<Arc<TargetAccounts>> = Vec::with_capacity(settings.targets.len());
        for address in &settings.targets {
            let accounts = TargetAccounts::new(address);
            // A target that is named twice gets everything twice, and has one name in the books.
            let known = books.iter().find(|known| known.name == accounts.name).cloned();
            let accounts = known.unwrap_or_else(|| {
                books.push(Arc::new(accounts));
                Arc::clone(&books[books.len() - 1])
            });
            targets.push(match settings.protocol {
                RepeaterProtocol::Tcp => Target::Tcp(TcpTarget::new(address, accounts)),
                RepeaterProtocol::Udp4 => Target::Udp(UdpTarget::new(address, false, accounts)?),
                RepeaterProtocol::Udp6 => Target::Udp(UdpTarget::new(address, true, accounts)?),
            });
        }
        let accounts = RepeaterAccounts { left_out: reader.left_out_count(), targets: books };
        let (shared, seen) = (reader.share(), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("repeater".to_owned())
            .spawn(move || serve(&shared, targets, &seen))?;
        Ok(Self { reader, accounts, stop, thread: Some(thread) })
    }

    /// The tap for its workers.
    pub(crate) fn tap(&self) -> &TapReader {
        &self.reader
    }

    /// What it counts.
    pub(crate) fn accounts(&self) -> RepeaterAccounts {
        self.accounts.clone()
    }
}

impl Drop for Repeater {
    fn drop(&mut self) {
        self.stop.wake();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// One target.
enum Target {
    Udp(UdpTarget),
    Tcp(TcpTarget),
}

fn serve(reader: &TapReader, mut targets: Vec<Target>, stop: &WakeUp) {
    let mut end_ns = None;
    let mut now_ns = monotonic_ns();
    let first_ns = now_ns + FIRST_LOOK_UP_NS;
    while !targets.iter_mut().all(|target| target.is_known(now_ns))
        && now_ns < first_ns
        && !stop.wait(FIRST_LOOK)
    {
        now_ns = monotonic_ns();
    }
    loop {
        let is_stopping = wait(reader, &targets, stop, now_ns, end_ns.is_some());
        now_ns = monotonic_ns();
        if is_stopping && end_ns.is_none() {
            end_ns = Some(now_ns + END_NS);
        }
        reader.filled().clear();
        while let Some(batch) = reader.take() {
            // Under a load that never lets this loop end, connections and look-ups go on all the same.
            now_ns = monotonic_ns();
            for target in &mut targets {
                match target {
                    Target::Udp(target) => target.send(&batch, now_ns, end_ns),
                    Target::Tcp(target) => target.queue(&batch),
                }
                target.drive(now_ns);
            }
            reader.give_back(batch);
        }
        targets.iter_mut().for_each(|target| target.drive(now_ns));
        if let Some(end_ns) = end_ns {
            let is_sent = targets.iter().all(Target::is_idle);
            if is_sent || end_ns <= now_ns {
                targets.iter_mut().for_each(Target::give_up);
                return;
            }
        }
    }
}

/// Sleeps until there is something to do; whether it is to end.
fn wait(
    reader: &TapReader,
    targets: &[Target],
    stop: &WakeUp,
    now_ns: u64,
    is_ending: bool,
) -> bool {
    let mut fds = vec![
        PollFd::new(reader.filled(), PollFlags::IN),
        PollFd::new(stop, if is_ending { PollFlags::empty() } else { PollFlags::IN }),
    ];
    let mut limit = if is_ending { END_LOOK } else { LOOK };
    for target in targets {
        if let Target::Tcp(target) = target {
            fds.extend(target.awaited());
            limit = limit.min(target.pause(now_ns));
        }
    }
    // An interrupted wait is looked at like any other.
    poll(&mut fds, Some(&timespec(limit))).ok();
    is_ending || !fds[1].revents().is_empty()
}

impl Target {
    /// Goes on with what can go on.
    fn drive(&mut self, now_ns: u64) {
        if let Self::Tcp(target) = self {
            target.drive(now_ns);
        }
    }

    /// Whether nothing is lost because its name is still looked up; TCP keeps what comes meanwhile.
    fn is_known(&mut self, now_ns: u64) -> bool {
        match self {
            Self::Udp(target) => target.is_known(now_ns),
            Self::Tcp(_) => true,
        }
    }

    fn is_idle(&self) -> bool {
        match self {
            Self::Udp(_) => true,
            Self::Tcp(target) => target.is_idle(),
        }
    }

    fn give_up(&mut self) {
        if let Self::Tcp(target) = self {
            target.give_up();
        }
    }
}

#[cfg(test)]
mod tests;
