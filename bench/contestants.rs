//! Who takes part: the bare loops, floe, the reference daemon, and what is found on the machine.
//!
//! All are started alike: pinned to the receiver's CPU, without the right to a receive buffer over
//! `net.core.rmem_max`, with the buffer floe asks for where they have a setting for it, one worker, flushes every second to a Graphite that discards, and
//! the percentile 90. A peer gets the configuration that its own documentation recommends for load.

/// A receive loop on a thread of this process.
pub(crate) mod bare_loop;
/// The bare `recvmmsg` loop.
mod bare_recvmmsg;
/// The bare loop that sleeps at an empty socket.
mod bare_sleep;
/// The bare multishot loop.
mod bare_ring;
/// A statsd in a process of its own.
pub(crate) mod daemon;
/// What contestants may not do.
pub(crate) mod ordinary;
/// A Graphite that reads and forgets.
pub(crate) mod discard;
/// floe.
pub(crate) mod floe;
/// The reference daemon.
pub(crate) mod reference;
/// The others.
pub(crate) mod peers;

use std::path::{Path, PathBuf};

use crate::compare::probe;
use bare_loop::BareLoop;
use daemon::Daemon;
use floe::{Ingest, Launch};
use peers::Peer;

/// Where contestants run and what is beside them.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// CPU of the sender and of Graphite.
    pub(crate) sender_cpu: usize,
    /// CPUs of the contestant; loops and workers take the first.
    pub(crate) receiver_cpus: Vec<usize>,
    /// Interval of daemons, ms.
    pub(crate) flush_interval_ms: u32,
    /// Port of the Graphite; without one there is no backend.
    pub(crate) graphite_port: Option<u16>,
    /// floe's binary.
    pub(crate) floe: PathBuf,
}

impl Site {
    /// The first of the receiver's CPUs.
    pub(crate) fn receiver_cpu(&self) -> usize {
        self.receiver_cpus[0]
    }
}

/// One of those compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contestant {
    /// Blocks in `recvmmsg`, counts newlines.
    BareRecvmmsg,
    /// `recv`, 1 ms of sleep at an empty socket, counts newlines.
    BareSleep,
    /// Multishot receive over io_uring with `min_wait`, counts newlines.
    BareRing,
    /// floe on this receive path.
    Floe(Ingest),
    /// statsd from npm.
    Reference,
    /// Another statsd, by its place in [`peers::PEERS`].
    Peer(usize),
}

impl Contestant {
    /// All of them, in the order of the table.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::BareRing,
            Self::BareRecvmmsg,
            Self::BareSleep,
            Self::Floe(Ingest::IoUring),
            Self::Floe(Ingest::Recvmmsg),
            Self::Reference,
        ];
        all.extend((0..peers::PEERS.len()).map(Self::Peer));
        all
    }

    /// The word for it on the command line and in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BareRecvmmsg => "bare-recvmmsg",
            Self::BareSleep => "bare-sleep",
            Self::BareRing => "bare-io_uring",
            Self::Floe(Ingest::IoUring) => "floe",
            Self::Floe(Ingest::Recvmmsg) => "floe-recvmmsg",
            Self::Reference => "reference",
            Self::Peer(index) => peers::PEERS[index].name,
        }
    }

    /// Its version where it can be had, or why it cannot take part.
    pub(crate) fn find(self) -> Result<String, String> {
        match self {
            Self::BareRecvmmsg | Self::BareSleep | Self::BareRing | Self::Floe(_) => {
                Ok(env!("CARGO_PKG_VERSION").to_owned())
            }
            Self::Reference => reference::find(),
            Self::Peer(index) => peers::PEERS[index].find(),
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it does not start; the reason names it.
    pub(crate) fn start(self, site: &Site) -> anyhow::Result<Running> {
        let cpu = site.receiver_cpu();
        let bare = |body| Ok(Running::bare(BareLoop::start(self.name(), cpu, body)?));
        match self {
            Self::BareRecvmmsg => bare(bare_recvmmsg::run),
            Self::BareSleep => bare(bare_sleep::run),
            Self::BareRing => bare(bare_ring::run),
            Self::Floe(ingest) => Running::floe(site, Launch { ingest, workers: Some(1) }),
            Self::Reference => Ok(Running::daemon(reference::start(site)?, None)),
            Self::Peer(index) => {
                let peer: &Peer = &peers::PEERS[index];
                Ok(Running::daemon(peer.start(site)?, None))
            }
        }
    }
}

/// A contestant that receives.
#[derive(Debug)]
pub(crate) struct Running {
    /// Its UDP port on loopback.
    pub(crate) port: u16,
    /// Its process.
    pub(crate) pid: u32,
    /// Its receiving threads where they are known, else none: then all threads count.
    workers: Option<Vec<u32>>,
    body: Body,
}

/// What ends when it is dropped.
#[derive(Debug)]
enum Body {
    Loop(BareLoop),
    Daemon(Daemon),
}

impl Running {
    fn bare(bare: BareLoop) -> Self {
        let workers = Some(vec![bare.thread_id]);
        Self { port: bare.port, pid: std::process::id(), workers, body: Body::Loop(bare) }
    }

    fn daemon(daemon: Daemon, workers: Option<Vec<u32>>) -> Self {
        Self { port: daemon.port, pid: daemon.pid, workers, body: Body::Daemon(daemon) }
    }

    /// floe with more than one worker, or for a target that looks closer at it.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn floe(site: &Site, launch: Launch) -> anyhow::Result<Self> {
        let (daemon, workers) = floe::start(site, &site.floe, launch)?;
        Ok(Self::daemon(daemon, Some(workers)))
    }

    /// Datagrams received and newlines in them, where it is one of ours.
    pub(crate) fn received(&self) -> Option<(u64, u64)> {
        match &self.body {
            Body::Loop(bare) => Some(bare.received()),
            Body::Daemon(_) => None,
        }
    }

    /// Where the files of a daemon lie.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.body {
            Body::Loop(_) => None,
            Body::Daemon(daemon) => Some(daemon.folder()),
        }
    }

    /// The receiving threads' ids, where they are known.
    pub(crate) fn workers(&self) -> &[u32] {
        self.workers.as_deref().unwrap_or_default()
    }

    /// CPU time so far: of the receiving threads, and of all threads of the contestant, ns.
    ///
    /// # Errors
    /// When its process is gone.
    pub(crate) fn cpu_ns(&self) -> anyhow::Result<CpuTime> {
        let threads = match &self.body {
            Body::Loop(bare) => vec![probe::thread(self.pid, bare.thread_id)?],
            Body::Daemon(_) => probe::threads(self.pid)?,
        };
        let all_ns = threads.iter().map(|thread| thread.cpu_ns).sum();
        let is_worker = |id: u32| self.workers.as_ref().is_none_or(|ids| ids.contains(&id));
        let of_workers = threads.iter().filter(|thread| is_worker(thread.id));
        Ok(CpuTime { worker_ns: of_workers.map(|thread| thread.cpu_ns).sum(), all_ns })
    }
}

/// CPU time of a contestant, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Of the receiving threads; of all where it is not known which they are.
    pub(crate) worker_ns: u64,
    /// Of all threads.
    pub(crate) all_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_has_a_name_of_its_own() {
        let mut names: Vec<&str> = Contestant::all().into_iter().map(Contestant::name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
