//! Two processes that feed from memory: what the machine itself leaves to two.
//!
//! They run what the threads of target 5 run, and share nothing at all, not even the datagrams. Where
//! they do not reach the target either, caches and memory are what two CPUs share.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;
use floe_bench::feeding::Fed;
use floe_io::clock::monotonic_ns;

use super::together::gained;

/// Time from an order to its beginning, ns: long enough for all to have read it, so that none begins
/// while another is still being told.
const LEAD_NS: u64 = 2_000_000;

/// A process on a CPU of its own.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// This program, feeding by turns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(cpu: usize) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(&program)
            .args(["feed", "packed", "--by-order", "--cpu", &cpu.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut process = Self { child, orders, answers };
        // It answers when it is ready.
        process.order(0)?;
        process.answer()?;
        Ok(process)
    }

    fn order(&mut self, start_ns: u64) -> anyhow::Result<()> {
        Ok(writeln!(self.orders, "{start_ns}")?)
    }

    fn answer(&mut self) -> anyhow::Result<Fed> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let figures: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let [start_ns, end_ns, cpu_ns] = figures?[..] else {
            anyhow::bail!("the process has ended");
        };
        Ok(Fed { start_ns, end_ns, cpu_ns })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends with its input; whatever keeps it is not worth a wait.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A pass of each alone, then of both together: what [`gained`] says of them.
///
/// # Errors
/// When one has ended.
pub(super) fn pair([first, second]: [&mut Process; 2]) -> anyhow::Result<[f64; 2]> {
    let start = |processes: &mut [&mut Process]| {
        let start_ns = monotonic_ns() + LEAD_NS;
        processes.iter_mut().try_for_each(|process| process.order(start_ns))
    };
    start(&mut [first])?;
    let one = first.answer()?;
    start(&mut [second])?;
    let alone = [one, second.answer()?];
    start(&mut [first, second])?;
    Ok(gained(&alone, &[first.answer()?, second.answer()?]))
}
