//! What the kernel said about the daemon over a round, in words and numbers.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{float, per};
use crate::clock::Stopwatch;
use crate::fleet::Round;
use crate::process::{Figures, Process};
use crate::run::DRAIN_TIME_MAX;

/// Threads shown in the text report: those that used most.
const THREADS_SHOWN_MAX: usize = 12;

/// What the kernel said about the daemon over a round.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    pub(crate) pid: u32,
    /// From just before the first datagram until the queues were empty.
    pub(crate) window: Duration,
    /// What came on top in the window.
    pub(crate) figures: Figures,
    /// Why these do not say what was dropped.
    pub(crate) why_unknown: Option<&'static str>,
    /// Whether the queues were empty at its end; none where it has no queues that are known.
    pub(crate) is_drained: Option<bool>,
}

impl Usage {
    /// What came on top of `before`, once the queues are empty.
    ///
    /// # Errors
    /// Where the process has ended.
    pub(crate) fn since(
        process: &Process,
        before: &Figures,
        stopwatch: Stopwatch,
    ) -> Result<Usage> {
        let is_drained = process.drain(DRAIN_TIME_MAX)?;
        let figures = process.figures()?.since(before);
        let why_unknown = process.why_unknown(&figures);
        let (pid, window) = (process.pid(), stopwatch.elapsed());
        Ok(Usage { pid, window, figures, why_unknown, is_drained })
    }

    /// Lines and datagrams that the daemon took: what was sent less what its sockets are known to have
    /// dropped. That a dropped datagram had as many lines as the mean is an assumption.
    fn taken(&self, round: &Round) -> (f64, f64) {
        let sent = float(round.datagrams);
        let taken = (sent - float(self.figures.drops().unwrap_or(0))).max(0.0);
        let lines = float(round.lines) * if 0.0 < sent { taken / sent } else { 0.0 };
        (lines, taken)
    }

    /// `unit`: what one send is called, one of them.
    pub(super) fn write_text(
        &self,
        out: &mut impl Write,
        round: &Round,
        unit: &str,
    ) -> io::Result<()> {
        let figures = &self.figures;
        let (lines, datagrams) = self.taken(round);
        let window = self.window.as_secs_f64();
        writeln!(
            out,
            "daemon     pid {}: {:.3} s of CPU in {window:.3} s, {:.0} MiB resident, {}",
            self.pid,
            Duration::from_nanos(figures.cpu_ns()).as_secs_f64(),
            float(figures.resident_bytes) / 1_048_576.0,
            match (figures.drops(), self.why_unknown) {
                (Some(drops), _) => format!("{drops} datagrams dropped"),
                (None, why) => format!("drops not known: {}", why.unwrap_or("no sockets")),
            }
        )?;
        let mut threads: Vec<_> =
            figures.threads.iter().filter(|thread| 0 < thread.cpu_ns).collect();
        threads.sort_by_key(|thread| std::cmp::Reverse(thread.cpu_ns));
        for thread in threads.iter().take(THREADS_SHOWN_MAX) {
            writeln!(
                out,
                "  {:<16} {:>5.1} % of a core, {:>8.1} ns per line, {:>8.1} ns per {unit}",
                thread.name,
                100.0 * float(thread.cpu_ns) / 1e9 / window,
                per(thread.cpu_ns, lines),
                per(thread.cpu_ns, datagrams),
            )?;
        }
        for socket in figures.sockets.iter().filter(|socket| 0 < socket.drops) {
            let part = 100.0 * per(socket.drops, float(round.datagrams));
            writeln!(out, "  {} dropped {} ({part:.3} %)", socket.address, socket.drops)?;
        }
        if self.is_drained == Some(false) {
            writeln!(out, "  its queue was not empty {window:.3} s after the start")?;
        }
        Ok(())
    }

    pub(super) fn to_json(&self, round: &Round) -> Value {
        let figures = &self.figures;
        let (lines, datagrams) = self.taken(round);
        let threads: Vec<Value> = figures
            .threads
            .iter()
            .map(|thread| {
                json!({
                    "tid": thread.id,
                    "name": thread.name,
                    "cpu_ns": thread.cpu_ns,
                    "cpu_ns_per_line": per(thread.cpu_ns, lines),
                    "cpu_ns_per_datagram": per(thread.cpu_ns, datagrams),
                    "voluntary_switches": thread.switches[0],
                    "involuntary_switches": thread.switches[1],
                })
            })
            .collect();
        let sockets: Vec<Value> = figures
            .sockets
            .iter()
            .map(|socket| {
                json!({
                    "address": socket.address.to_string(),
                    "inode": socket.inode,
                    "drops": socket.drops,
                    "queue_bytes": socket.queue_bytes,
                })
            })
            .collect();
        json!({
            "pid": self.pid,
            "window_s": self.window.as_secs_f64(),
            "drained": self.is_drained,
            "cpu_ns": figures.cpu_ns(),
            "cpu_ns_per_line": per(figures.cpu_ns(), lines),
            "cpu_ns_per_datagram": per(figures.cpu_ns(), datagrams),
            "drops": figures.drops(),
            "drops_not_known": self.why_unknown,
            "resident_bytes": figures.resident_bytes,
            "threads": threads,
            "sockets": sockets,
        })
    }
}
