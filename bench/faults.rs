//! `faults`: the campaign against the built daemon, from outside.
//!
//! Lanes run side by side, each a process with a network and mounts of its own where the kernel
//! gives them. A lane has one world: the daemon, a witness that sends with a known truth, two carbons
//! that write down every point. It does one fault after the other to it, in an order that the seed
//! decides, and waits after each until everything is where it will ever be. What the sender sent, what
//! the kernel counted and what the carbons have must then agree; floe's own books are held against
//! them, and are never the judge.

/// The kernel's counts.
pub(crate) mod kernel;
/// The witness.
mod sender;
/// What a carbon was given.
mod ledger;
/// A carbon that does as it is told.
mod carbon;
/// The process of floe.
pub(crate) mod daemon;
/// What lies between daemon and carbon.
mod network;
/// Daemon, spool, carbons, witness.
pub(crate) mod world;
/// What a fault is.
mod fault;
/// Faults of the process.
mod process_faults;
/// Faults of a backend.
mod backend_faults;
/// Faults of the disk.
mod disk_faults;
/// Faults that a debug build makes of itself.
mod point_faults;
/// A disk in a file.
mod image;
/// Faults of the senders.
mod hostile_faults;
/// Whether an injection holds.
mod judge;
/// One line per fault.
mod line;
/// Faults in turn.
mod lane;
/// Namespaces.
mod isolation;
/// What a round leaves behind.
mod record;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use floe_io::clock::wall_ms;

use crate::arguments::FaultsArguments;
use crate::compare::probe::Waiting;
use crate::compare::{machine, record as compare_record};
use crate::contestants::floe;
use fault::{Fault, Need, all};
use isolation::Isolation;
use judge::Injection;
use lane::Plan;
use line::{Line, Verdict};
use record::{Record, Run};
use world::Site;

/// What a lane gets beyond its duration to end the fault it is at.
const GRACE: Duration = Duration::from_secs(150);

/// Runs a round, or one lane of it.
///
/// # Errors
/// When a line does not hold, or the campaign itself cannot run.
pub(crate) fn run(arguments: &FaultsArguments) -> anyhow::Result<()> {
    if arguments.list {
        return list();
    }
    let floe = match &arguments.floe {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => floe::binary()?,
    };
    let seed = arguments.seed.unwrap_or_else(wall_ms);
    let isolation = Isolation::find();
    let chosen = chosen(&arguments.only)?;
    let (faults, absent): (Vec<Fault>, Vec<Fault>) =
        chosen.iter().partition(|fault| absence(fault.need, isolation, &floe).is_none());
    ensure!(!faults.is_empty(), "nothing of it can be done here");
    if let Some(lane) = arguments.lane {
        let site = Site { floe, is_isolated: arguments.isolated };
        let plan = Plan {
            lane,
            lanes: arguments.lanes,
            seed,
            duration: arguments.duration.0,
            faults,
            site,
        };
        return lane::run(&plan);
    }
    say(&format!("seed {seed}, {} lanes, {} faults", arguments.lanes, faults.len()));
    let (started_ms, load, commit) = (wall_ms(), machine::load(), machine::commit());
    let injections = lanes(arguments, &floe, seed, isolation)?;
    let lines = chosen.iter().map(|fault| {
        let is_absent = absent.iter().any(|each| each.name == fault.name);
        let reason = absence(fault.need, isolation, &floe).filter(|_| is_absent);
        Line::of(fault, &injections, reason)
    });
    let run = Run {
        started: compare_record::utc(started_ms),
        seconds: wall_ms().saturating_sub(started_ms) / 1_000,
        seed,
        lanes: arguments.lanes,
        commit,
        build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        is_isolated: isolation.is_own(),
        load: [load, machine::load()],
    };
    let record = Record::new(run, lines.collect(), injections);
    tell(&record, arguments.json)?;
    keep(arguments.record.as_deref(), &record)?;
    let broken = record.lines.iter().filter(|line| line.verdict == Verdict::Broken).count();
    ensure!(broken == 0, "{broken} lines do not hold; again with --seed {seed}");
    Ok(())
}

/// Progress, to standard error.
fn say(text: &str) {
    // A progress line that cannot be written is not worth an end.
    writeln!(std::io::stderr(), "{text}").ok();
}

fn list() -> anyhow::Result<()> {
    let text: String =
        all().iter().map(|fault| format!("{:20}  {}\n", fault.name, fault.what)).collect();
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// Those asked for.
fn chosen(only: &[String]) -> anyhow::Result<Vec<Fault>> {
    let all = all();
    if let Some(name) = only.iter().find(|name| all.iter().all(|fault| fault.name != *name)) {
        bail!("no fault is called {name}; --list tells them");
    }
    let is_asked = |fault: &Fault| only.is_empty() || only.iter().any(|name| name == fault.name);
    Ok(all.into_iter().filter(is_asked).collect())
}

/// Why a fault cannot be done here.
fn absence(need: Need, isolation: Isolation, floe: &Path) -> Option<&'static str> {
    match need {
        Need::Mounts if !isolation.is_own() => {
            Some("no mounts of our own: neither root nor user namespaces, or no unshare or ip")
        }
        Need::Network if !isolation.is_own() => {
            Some("no network of our own: neither root nor user namespaces, or no unshare or ip")
        }
        Need::TakeOver if !knows(floe, "--take-over") => Some("this floe has no --take-over"),
        Need::Compiler if !has("cc") => Some("no cc to build a wall clock with"),
        Need::Image if !isolation.is_own() || !image::is_possible() => {
            Some("no disk in a file: it needs root, loop devices and mkfs.ext4")
        }
        Need::FaultPoints if !point_faults::are_in(floe) => {
            Some("this floe makes no faults of its own; give a debug build with --floe")
        }
        Need::Python if !has("python3") => Some("no python3 to filter system calls"),
        _ => None,
    }
}

fn knows(floe: &Path, word: &str) -> bool {
    let output = Command::new(floe).arg("--help").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(word))
}

fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs all lanes to their ends.
fn lanes(
    arguments: &FaultsArguments,
    floe: &Path,
    seed: u64,
    isolation: Isolation,
) -> anyhow::Result<Vec<Injection>> {
    let own = std::env::current_exe().context("the kernel does not tell which program we are")?;
    let injections = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..arguments.lanes)
            .map(|lane| {
                let mut command = isolation.command(&own);
                command.args(["faults", "--lane", &lane.to_string()]);
                command.args([
                    "--lanes",
                    &arguments.lanes.to_string(),
                    "--seed",
                    &seed.to_string(),
                ]);
                command.args(["--duration", &format!("{}s", arguments.duration.0.as_secs())]);
                command.arg("--floe").arg(floe);
                if !arguments.only.is_empty() {
                    command.args(["--only", &arguments.only.join(",")]);
                }
                if isolation.is_own() {
                    command.arg("--isolated");
                }
                let injections = &injections;
                scope.spawn(move || watch(command, arguments.duration.0 + GRACE, injections))
            })
            .collect();
        for (number, lane) in lanes.into_iter().enumerate() {
            let end = lane.join().unwrap_or_else(|_| bail!("its watcher panicked"));
            end.with_context(|| format!("lane {number}"))?;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(injections.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs one lane and takes down what it says.
fn watch(
    mut command: Command,
    limit: Duration,
    injections: &Mutex<Vec<Injection>>,
) -> anyhow::Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start")?;
    let out = child.stdout.take().context("its output is a pipe")?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            for text in BufReader::new(out).lines().map_while(Result::ok) {
                let injection: Injection = serde_json::from_str(&text)?;
                let said = if injection.failures.is_empty() {
                    "holds".to_owned()
                } else {
                    format!("DOES NOT HOLD: {}", injection.failures.join("; "))
                };
                say(&format!(
                    "lane {} {:3}  {:20}  lost {} of {}, {} may  {:.1} s  {said}",
                    injection.place.0,
                    injection.place.1,
                    injection.fault,
                    injection.lost,
                    injection.sent,
                    injection.allowed,
                    injection.took_ms as f64 / 1e3,
                ));
                injections.lock().unwrap_or_else(PoisonError::into_inner).push(injection);
            }
            Ok::<(), anyhow::Error>(())
        });
        let end = wait(&mut child, limit);
        reader.join().unwrap_or_else(|_| bail!("its reader panicked"))?;
        end
    })
}

/// Waits for its end; kills it where that does not come.
fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<()> {
    let waiting = Waiting::up_to(limit);
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "it ended with {status}");
            return Ok(());
        }
        if !waiting.goes_on() {
            // It may have ended meanwhile.
            child.kill().ok();
            child.wait()?;
            bail!("it still ran after {limit:?}");
        }
    }
}

fn tell(record: &Record, is_json: bool) -> anyhow::Result<()> {
    let text = if is_json { record.json()? } else { record.text() };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the lines")
}

/// Writes the record where it was asked for.
fn keep(asked: Option<&Path>, record: &Record) -> anyhow::Result<()> {
    let (started, host) = (&record.run.started, &record.machine.host);
    if let Some(folder) = compare_record::folder(asked, started, host, "-faults") {
        record.write(&folder)?;
        say(&format!("recorded in {}", folder.display()));
    }
    Ok(())
}
