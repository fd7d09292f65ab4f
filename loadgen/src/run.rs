//! One run from beginning to end: sinks up, workload out, books compared, report written.
//!
//! Called by `main` with checked settings; the only module that knows the order of things.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::capture;
use crate::cli::{Load, Replay, Task};
use crate::clock::{self, Stopwatch};
use crate::fleet::{Fleet, Round};
use crate::graphite::Graphite;
use crate::ledger::Terms;
use crate::probe::{Arrivals, Latency, Probe, Sent};
use crate::process::Process;
use crate::replay;
use crate::report::{self, Report, Usage, page};
use crate::settle::{self, Witness};
use crate::sink::Sink;
use crate::watch::{Moment, Watch};
use crate::workload::Keys;

mod hunt;

/// Longest wait for the start file.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Between two looks for the start file.
const START_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Longest wait for the daemon to empty its queues after the last datagram.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// Runs `task`; true where nothing is left to explain.
pub(crate) fn run(task: Task) -> Result<bool> {
    match task {
        Task::Load(load) => run_load(&load),
        Task::Search(load, settings) => hunt::run_search(&load, settings),
        Task::Replay(replay) => run_replay(&replay).map(|()| true),
    }
}

fn run_load(load: &Load) -> Result<bool> {
    let sinks = set_up(load)?;
    let step = i64::try_from(load.graphite_step.as_secs()).unwrap_or(i64::MAX);
    let from = clock::unix_seconds().saturating_sub(step);
    let mut fleet = Fleet::prepare(&load.plan, &load.shape)?;
    let probe = start_probe(load, &sinks)?;
    let (round, usage, moments) = send(load, &mut fleet)?;
    let (mut sent, refused) = fleet.close();
    let probed = probe.map(Probe::end).transpose()?;
    if let Some(probed) = &probed {
        sent.lines += probed.lines();
        sent.datagrams += probed.datagrams;
    }

    let mut witnesses: Vec<Witness> = sinks.into_iter().map(Witness::Sink).collect();
    if let Some(base) = &load.graphite {
        witnesses.push(Witness::Graphite { graphite: Graphite::new(base), from });
    }
    let terms = Terms {
        keys: Keys::new(&load.shape),
        naming: load.naming.clone(),
        is_shared: load.is_shared,
        is_stream: load.plan.target.is_stream(),
    };
    let waiting = waiting(!witnesses.is_empty());
    let statements = settle::settle(&witnesses, &terms, &sent, load.patience);
    waiting.finish_and_clear();
    let latency = latency(load, &witnesses, probed.as_ref());

    let report = Report {
        seed: load.shape.seed,
        plan: &load.plan,
        round: &round,
        sent: &sent,
        refused,
        usage: usage.as_ref(),
        moments: &moments,
        latency: latency.as_ref(),
        statements: &statements,
    };
    let mut out = io::stdout().lock();
    if load.is_json {
        writeln!(out, "{:#}", report.to_json()).context("cannot write the report")?;
    } else {
        report.write_text(&mut out).context("cannot write the report")?;
    }
    write_page(load, || page::of_run(&report))?;
    Ok(settle::is_explained(&statements))
}

/// Writes the page where one is wanted.
fn write_page(load: &Load, page: impl FnOnce() -> Result<String>) -> Result<()> {
    let Some(path) = &load.html else { return Ok(()) };
    std::fs::write(path, page()?).with_context(|| format!("cannot write {}", path.display()))
}

/// Binds the sinks, tells where they are, and waits for the start.
fn set_up(load: &Load) -> Result<Vec<Sink>> {
    let mut sinks = Vec::new();
    for &(protocol, address) in &load.sinks {
        sinks.push(Sink::bind(protocol, address)?);
    }
    announce(&sinks, load.sink_ready_file.as_deref())?;
    if let Some(path) = &load.start_file {
        wait_for(path)?;
    }
    Ok(sinks)
}

/// Starts the probes, whose arrivals the first sink notes.
fn start_probe(load: &Load, sinks: &[Sink]) -> Result<Option<Probe>> {
    let (Some(every), Some(sink)) = (load.probe_every, sinks.first()) else { return Ok(None) };
    let (stopwatch, prefix) = (Stopwatch::start(), &load.shape.key_prefix);
    sink.received().arrivals = Some(Arrivals::new(&load.naming, prefix, stopwatch));
    Probe::start(&load.plan.target, prefix, every, stopwatch).map(Some)
}

fn latency(load: &Load, witnesses: &[Witness], probed: Option<&Sent>) -> Option<Latency> {
    let (Some(every), Some(probed)) = (load.probe_every, probed) else { return None };
    witnesses.iter().find_map(|witness| match witness {
        Witness::Sink(sink) => {
            sink.received().arrivals.as_ref().map(|arrivals| arrivals.latency(probed, every))
        }
        Witness::Graphite { .. } => None,
    })
}

/// Sends the load, and asks the kernel what that did to the daemon.
fn send(load: &Load, fleet: &mut Fleet) -> Result<(Round, Option<Usage>, Vec<Moment>)> {
    let process = load.pid.map(Process::open).transpose()?;
    let progress = progress(lines_expected(load), "lines");
    let mut watch = Watch::new(&progress, process.as_ref());
    let before = process.as_ref().map(Process::figures).transpose()?;
    let stopwatch = Stopwatch::start();
    let round = fleet.run(load.share, &mut |look| watch.look(look))?;
    let usage = match (&process, before) {
        (Some(process), Some(before)) => {
            let is_drained = process.drain(DRAIN_TIME_MAX)?;
            let figures = process.figures()?.since(&before);
            Some(Usage { pid: process.pid(), window: stopwatch.elapsed(), figures, is_drained })
        }
        _ => None,
    };
    let moments = watch.into_moments();
    progress.finish_and_clear();
    Ok((round, usage, moments))
}

/// Lines that the load has, where that is known before.
fn lines_expected(load: &Load) -> Option<u64> {
    let by_time = match (load.share.duration_max, load.share.rate) {
        (Some(duration), Some(rate)) => {
            u64::try_from(duration.as_millis()).ok()?.saturating_mul(rate) / 1_000
        }
        _ => u64::MAX,
    };
    Some(by_time.min(load.share.lines_max)).filter(|lines| *lines != u64::MAX)
}

fn run_replay(replay: &Replay) -> Result<()> {
    let path = replay.file.display();
    let file = std::fs::read(&replay.file).with_context(|| format!("cannot read {path}"))?;
    let capture =
        capture::read(&file, replay.port).with_context(|| format!("cannot replay {path}"))?;
    let progress = progress(Some(capture.payloads.len() as u64), "datagrams");
    let replayed = replay::replay(replay.target, &capture.payloads, replay.rate, &progress)?;
    progress.finish_and_clear();
    let mut out = io::stdout().lock();
    report::write_replayed(&mut out, &replayed, capture.skipped, replay.is_json)
        .context("cannot write the report")
}

/// Tells where the sinks listen: in the ready file, else on stderr.
fn announce(sinks: &[Sink], ready_file: Option<&Path>) -> Result<()> {
    let line = |sink: &Sink| format!("{}={}\n", sink.protocol().name(), sink.address());
    let text: String = sinks.iter().map(line).collect();
    let Some(path) = ready_file else {
        for line in text.lines() {
            writeln!(io::stderr(), "sink {line}").context("cannot tell the sink's address")?;
        }
        return Ok(());
    };
    // A reader sees the whole file or none.
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn wait_for(path: &Path) -> Result<()> {
    let stopwatch = Stopwatch::start();
    while !path.exists() {
        if START_TIME_MAX <= stopwatch.elapsed() {
            bail!("{} did not appear within 60 s", path.display());
        }
        clock::pause(START_LOOK_EVERY);
    }
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
fn progress(length: Option<u64>, what: &str) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            format!("{{bar:30}} {{percent}} % {{human_pos}} {what} {{per_sec}} {{elapsed}}"),
        ),
        None => (
            ProgressBar::no_length(),
            format!("{{spinner}} {{human_pos}} {what} {{per_sec}} {{elapsed}}"),
        ),
    };
    let style =
        ProgressStyle::with_template(&template).expect("the templates above are well formed");
    bar.with_style(style)
}

fn waiting(is_needed: bool) -> ProgressBar {
    if !is_needed {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message("waiting for the points");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
