//! `compare`: plan, rounds, targets, tables, record.
//!
//! The sender runs on the first CPU of the inherited mask, the contestant on the second, alone. Over
//! loopback the kernel's receive work runs on the sender's CPU: figures hold what a receiver pays
//! for taking datagrams out of its socket, and all that it does with them.

/// What the kernel says of a process and of a socket.
pub(crate) mod probe;
/// Medians and ratios.
mod spread;
/// The sender.
mod sender;
/// One feed of one contestant.
mod measurement;
/// Feeds, and rounds of them.
mod feeds;
/// Feeds by turns.
mod turns;
/// The highest rate without loss.
mod limits;
/// Targets at the socket.
mod receiving;
/// Targets that need no socket.
mod memory_fed;
/// Target 5.
mod together;
/// Two processes beside its two threads.
mod processes;
/// Target 4.
mod loss;
/// More than can be taken.
pub(crate) mod overload;
/// Target 8.
mod resident;
/// Target 10.
mod idle;
/// A target and its verdict.
mod target;
/// Tables.
pub(crate) mod table;
/// The contestants as a picture.
mod chart;
/// The machine.
pub(crate) mod machine;
/// Pages with tables.
mod pages;
/// What a run leaves behind.
pub(crate) mod record;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use floe_io::clock::wall_ms;
use floe_io::cpu;

use crate::arguments::CompareArguments;
use crate::contestants::discard::Discard;
use crate::contestants::{Contestant, Site, floe};
use feeds::{Effort, Feed, Plan};
use machine::Machine;
use measurement::Measurement;
use record::{Entrant, Of, Record, Run};
use target::Target;

/// Interval of daemons, ms.
const FLUSH_INTERVAL_MS: u32 = 1_000;

/// Runs the comparison and tells it.
///
/// # Errors
/// When nothing can be measured here, or the record cannot be written.
pub(crate) fn run(arguments: &CompareArguments) -> anyhow::Result<()> {
    // Of the start: whoever works on the checkout meanwhile changes nothing of what runs.
    let (started_ms, load, commit) = (wall_ms(), machine::load(), machine::commit());
    let entrants = entrants(&arguments.only)?;
    let graphite = Discard::start(sender_cpu()?)?;
    let site = site(arguments.floe.as_deref(), graphite.port)?;
    let effort = effort(arguments);
    let mut failures = Vec::new();
    let plan = plan(arguments, &entrants);
    let measurements = feeds::run(&plan, effort, &site, &mut failures);
    let targets = targets(arguments, effort, &site, &measurements);
    say(&format!("the discarding Graphite has read {} lines", graphite.lines()));
    let limits = if arguments.limits {
        limits::search(&found(&entrants), &site, effort.time, &mut failures)
    } else {
        Vec::new()
    };
    let run = Run {
        started: record::utc(started_ms),
        seconds: (wall_ms().saturating_sub(started_ms)) / 1_000,
        command: command(std::env::args().skip(1)),
        commit,
        rounds: effort.rounds,
        load: [load, machine::load()],
    };
    let entrants = entrants.into_iter().map(|(_, entrant)| entrant).collect();
    let mut record = Record::new(Machine::read(), run, entrants, targets, measurements);
    record.failures = failures;
    record.limits = limits.into_iter().map(|figure| Of { run: 0, figure }).collect();
    tell(&record)?;
    keep(arguments, record)
}

/// Writes the tables of all records and pages anew.
///
/// # Errors
/// When a record cannot be read, or a page not written.
pub(crate) fn write_tables() -> anyhow::Result<()> {
    for written in pages::write_anew()? {
        say(&format!("tables written: {written}"));
    }
    Ok(())
}

/// Progress, to standard error.
fn say(text: &str) {
    // A progress line that cannot be written is not worth an end.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Who was asked for: those that are found, and those that are not with the reason.
fn entrants(only: &[String]) -> anyhow::Result<Vec<(Contestant, Entrant)>> {
    let all = Contestant::all();
    for name in only {
        if !all.iter().any(|each| each.name() == name) {
            let names: Vec<&str> = all.iter().map(|each| each.name()).collect();
            bail!("no contestant is called {name}; there are {}", names.join(", "));
        }
    }
    let asked = all
        .into_iter()
        .filter(|each| only.is_empty() || only.iter().any(|name| name == each.name()));
    let entrants = asked.map(|contestant| {
        let (version, absent) = match contestant.find() {
            Ok(version) => (Some(version), None),
            Err(reason) => (None, Some(reason)),
        };
        (contestant, Entrant { name: contestant.name().to_owned(), version, absent })
    });
    let entrants: Vec<_> = entrants.collect();
    for (_, entrant) in &entrants {
        if let Some(reason) = &entrant.absent {
            say(&format!("{} does not take part: {reason}", entrant.name));
        }
    }
    Ok(entrants)
}

/// The first of the inherited mask.
fn sender_cpu() -> anyhow::Result<usize> {
    cpu::inherited()?.first().copied().context("this process may use a CPU")
}

fn site(floe: Option<&Path>, graphite_port: u16) -> anyhow::Result<Site> {
    let (cpus, sender_cpu) = (cpu::inherited()?, sender_cpu()?);
    let receiver_cpu = cpus.get(1).copied().unwrap_or(sender_cpu);
    if receiver_cpu == sender_cpu {
        say("one CPU alone: sender and receiver share it, and figures say little");
    }
    let floe = match floe {
        // The daemon is started in a folder of its own.
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => floe::binary()?,
    };
    Ok(Site {
        sender_cpu,
        receiver_cpus: vec![receiver_cpu],
        flush_interval_ms: FLUSH_INTERVAL_MS,
        graphite_port: Some(graphite_port),
        floe,
    })
}

fn effort(arguments: &CompareArguments) -> Effort {
    let (rounds, seconds) = if arguments.quick { (1, 0.5) } else { (5, 2.0) };
    let seconds = arguments.seconds.unwrap_or(seconds).clamp(0.01, 3_600.0);
    Effort {
        rounds: arguments.rounds.unwrap_or(rounds).max(1),
        time: Duration::from_secs_f64(seconds),
        rate_max: arguments.rate,
        is_segmented: false,
    }
}

fn found(entrants: &[(Contestant, Entrant)]) -> Vec<Contestant> {
    let found = entrants.iter().filter(|(_, entrant)| entrant.version.is_some());
    found.map(|(contestant, _)| *contestant).collect()
}

/// What is fed to whom: the contestants side by side, and what the targets need.
fn plan(arguments: &CompareArguments, entrants: &[(Contestant, Entrant)]) -> Plan {
    let mut plan = Plan::new();
    let found = found(entrants);
    if !arguments.without_table {
        for feed in [Feed::SingleFlood, Feed::PackedFlood, Feed::Light] {
            plan.insert(feed, found.clone());
        }
    }
    receiving::plan(&arguments.targets.0, &mut plan);
    for contestants in plan.values_mut() {
        contestants.retain(|each| found.contains(each));
    }
    plan
}

fn targets(
    arguments: &CompareArguments,
    effort: Effort,
    site: &Site,
    measurements: &[Measurement],
) -> Vec<Target> {
    let rounds = effort.rounds;
    let minute = Duration::from_secs(if arguments.quick { 10 } else { 60 });
    let steady = arguments.steady.map_or(minute, Duration::from_secs);
    let idle = Duration::from_secs(if arguments.quick { 3 } else { 10 });
    let mut targets = Vec::new();
    for &number in &arguments.targets.0 {
        say(&format!("target {number}"));
        match number {
            1 => targets.extend(receiving::single(measurements)),
            2 => {
                targets.push(memory_fed::lines(2, rounds));
                targets.extend(receiving::packed(measurements));
            }
            3 => {
                targets.push(memory_fed::lines(3, rounds));
                targets.push(receiving::million(measurements));
            }
            4 => {
                targets.extend(loss::measure(site, minute, effort.rate_max));
                targets.push(memory_fed::pause());
            }
            5 => targets.extend(together::measure(rounds)),
            6 => targets.extend(memory_fed::flushes(rounds)),
            7 => targets.extend(memory_fed::exports(rounds)),
            8 => targets.extend(resident::measure(site, steady)),
            9 => targets.push(receiving::light(measurements)),
            10 => targets.extend(idle::measure(site, idle)),
            _ => targets.push(receiving::recvmmsg(measurements)),
        }
    }
    targets
}

/// The command, as it would be typed; without places on this machine.
fn command(mut arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["cargo run --release -p floe-bench --".to_owned()];
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "--floe" | "--record" => drop(arguments.next()),
            _ => words.push(word),
        }
    }
    words.join(" ")
}

/// Tables, to standard output.
fn tell(record: &Record) -> anyhow::Result<()> {
    let mut text = format!("{}\n\n", record.machine.sentence());
    for table in record.tables() {
        if !table.is_empty() {
            text += &format!("{}\n", table.text());
        }
    }
    for failure in &record.failures {
        text += &format!("failed: {failure}\n");
    }
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the tables")
}

/// Writes the record, over one of the same day and machine, and the page of the docs if asked.
fn keep(arguments: &CompareArguments, record: Record) -> anyhow::Result<()> {
    let (asked, started) = (arguments.record.as_deref(), &record.runs[0].started);
    let Some(folder) = record::folder(asked, started, &record.machine.host, "") else {
        return Ok(());
    };
    let (folder, older) = record::place(&folder, &record.machine)?;
    let record = match older {
        Some(older) => older.overlaid_by(record),
        None => record,
    };
    record.write(&folder)?;
    say(&format!("recorded in {}", folder.display()));
    if arguments.write_docs {
        pages::write(&folder, &record)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_command_names_no_place_of_this_machine() {
        let words = "compare --floe /tmp/floe --targets 1,2 --record none --quick";
        let told = command(words.split(' ').map(str::to_owned));
        assert_eq!(told, "cargo run --release -p floe-bench -- compare --targets 1,2 --quick");
    }
}
