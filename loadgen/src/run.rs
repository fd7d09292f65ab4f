//! One run from beginning to end: sinks up, workload out, books compared, report written.
//!
//! Called by `main` with checked settings; the only module that knows the order of things.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

use crate::capture;
use crate::cli::{Load, Replay, Task};
use crate::clock::{self, Stopwatch};
use crate::fleet::{Fleet, Round};
use crate::graphite::Graphite;
use crate::ledger::Terms;
use crate::probe::{Arrivals, Latency, Probe, Sent};
use crate::process::Process;
use crate::replay;
use crate::report::origin::Origin;
use crate::report::replayed::ReplayReport;
use crate::report::usage::Usage;
use crate::report::{Report, page};
use crate::settle::{self, Witness};
use crate::sink::Sink;
use crate::stop::{Signal, Stop};
use crate::watch::{Moment, Watch};
use crate::workload::Keys;

mod hunt;
mod way;

/// Longest wait for the start file.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Between two looks for the start file.
const START_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Longest wait for the daemon to empty its queues after the last datagram.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// How a task ended, once its report was written.
#[derive(Debug)]
pub(crate) enum Outcome {
    Good,
    /// The report says what is left to explain.
    Unexplained,
    /// One sentence.
    Failed(String),
    Interrupted(Signal),
}

/// Runs `task`.
pub(crate) fn run(task: Task) -> Result<Outcome> {
    match task {
        Task::Load(load) => run_load(&load),
        Task::Search(load, settings) => hunt::run_search(&load, settings),
        Task::Replay(replay) => run_replay(&replay),
    }
}

fn run_load(load: &Load) -> Result<Outcome> {
    let sinks = set_up(load)?;
    let process = load.pid.map(|pid| Process::open(pid, &load.plan.target)).transpose()?;
    let step = i64::try_from(load.graphite_step.as_secs()).unwrap_or(i64::MAX);
    let from = clock::unix_seconds().saturating_sub(step);
    let mut fleet = Fleet::prepare(&load.plan, &load.shape)?;
    // From here on there is something to report.
    let stop = Stop::on_signals()?;
    let probe = start_probe(load, &sinks, &stop)?;
    let origin = Origin::now(load);
    let Course { mut round, usage, moments } = send(load, &mut fleet, process.as_ref(), &stop)?;
    let (mut sent, mut refused) = fleet.close();
    let probed = match probe.map(Probe::end) {
        Some(Ok(probed)) => Some(probed),
        Some(Err(failure)) => {
            round.failures.push(format!("{failure:#}"));
            None
        }
        None => None,
    };
    if let Some(probed) = &probed {
        sent.lines += probed.lines();
        sent.datagrams += probed.datagrams;
        refused.add(probed.refused);
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
    let statements = settle::settle(&witnesses, &terms, &sent, load.patience, &stop);
    waiting.finish_and_clear();
    let latency = latency(load, &witnesses, probed.as_ref());

    let report = Report {
        origin: &origin,
        seed: load.shape.seed,
        plan: &load.plan,
        round: &round,
        sent: &sent,
        refused,
        usage: usage.as_ref(),
        moments: &moments,
        latency: latency.as_ref(),
        statements: &statements,
        interrupted: stop.signal(),
    };
    let mut out = io::stdout().lock();
    if load.is_json {
        writeln!(out, "{:#}", report.to_json()).context("cannot write the report")?;
    } else {
        report.write_text(&mut out).context("cannot write the report")?;
    }
    write_page(load, || page::of_run(&report))?;
    Ok(report.outcome())
}

/// Writes the page where one is wanted.
fn write_page(load: &Load, page: impl FnOnce() -> Result<String>) -> Result<()> {
    let Some(path) = &load.html else { return Ok(()) };
    std::fs::write(path, page()?).with_context(|| format!("cannot write {}", path.display()))
}

/// Binds the sinks, tells where they are, and waits for the start.
fn set_up(load: &Load) -> Result<Vec<Sink>> {
    if let Some(path) = &load.html {
        // A page that cannot be written is no surprise for the end of a long run.
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
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
fn start_probe(load: &Load, sinks: &[Sink], stop: &Stop) -> Result<Option<Probe>> {
    let (Some(every), Some(sink)) = (load.probe_every, sinks.first()) else { return Ok(None) };
    let (stopwatch, prefix) = (Stopwatch::start(), &load.shape.key_prefix);
    sink.received().arrivals = Some(Arrivals::new(&load.naming, prefix, stopwatch));
    Probe::start(&load.plan.target, prefix, every, stopwatch, stop).map(Some)
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

/// How the sending went.
struct Course {
    round: Round,
    /// What that did to the daemon; the error is one sentence.
    usage: Option<Result<Usage, String>>,
    moments: Vec<Moment>,
}

/// Sends the load, and asks the kernel what that did to the daemon.
fn send(load: &Load, fleet: &mut Fleet, process: Option<&Process>, stop: &Stop) -> Result<Course> {
    let progress = progress(lines_expected(load), "lines");
    let mut watch = Watch::new(&progress, process);
    let before = process.map(Process::figures).transpose()?;
    let stopwatch = Stopwatch::start();
    let round = fleet.run(load.share, stop, &mut |look| watch.look(look));
    let usage = process.zip(before).map(|(process, before)| {
        // A daemon that ended meanwhile does not take the report with it.
        Usage::since(process, &before, stopwatch).map_err(|error| format!("{error:#}"))
    });
    let moments = watch.into_moments();
    progress.finish_and_clear();
    Ok(Course { round, usage, moments })
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

fn run_replay(replay: &Replay) -> Result<Outcome> {
    let path = replay.file.display();
    let file = std::fs::read(&replay.file).with_context(|| format!("cannot read {path}"))?;
    let capture =
        capture::read(&file, replay.port).with_context(|| format!("cannot replay {path}"))?;
    let progress = progress(Some(capture.payloads.len() as u64), "datagrams");
    let stop = Stop::on_signals()?;
    let replayed = replay::replay(replay.target, &capture.payloads, replay.rate, &progress, &stop)?;
    progress.finish_and_clear();
    let report = ReplayReport {
        target: replay.target,
        replayed: &replayed,
        payloads: capture.payloads.len() as u64,
        skipped: capture.skipped,
        interrupted: stop.signal(),
    };
    report.write(&mut io::stdout().lock(), replay.is_json).context("cannot write the report")?;
    Ok(report.outcome())
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
            format!("{{bar:30}} {{percent}} % {{human_pos}} {what}, {{mean}}/s, {{elapsed}}"),
        ),
        None => (
            ProgressBar::no_length(),
            format!("{{spinner}} {{human_pos}} {what}, {{mean}}/s, {{elapsed}}"),
        ),
    };
    let style =
        ProgressStyle::with_template(&template).expect("the templates above are well formed");
    bar.with_style(style.with_key("mean", write_mean))
}

/// Things per second since the start; indicatif's own estimate lags behind, and has four decimals.
fn write_mean(state: &ProgressState, out: &mut dyn fmt::Write) {
    let ms = state.elapsed().as_millis().max(1);
    let mean = u128::from(state.pos()) * 1_000 / ms;
    // Where a line on the terminal cannot be written there is nobody to tell.
    write!(out, "{}", HumanCount(u64::try_from(mean).unwrap_or(u64::MAX))).ok();
}

fn waiting(is_needed: bool) -> ProgressBar {
    if !is_needed {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message("waiting for the points");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
