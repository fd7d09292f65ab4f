//! Claims: the threads beside the workers run where no worker does, or stand behind the workers where
//! every CPU has one; those that start later do the same; intervals are closed and delivered then.
//! Method: the built daemon's threads as the kernel lists them, with as many workers as CPUs and with
//! one.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use support::carbon::{Protocol, RecordingCarbon};
use support::daemon::{Daemon, Ingest, Launch, send};
use support::settings;

mod support;

/// What the kernel says of one thread.
#[derive(Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    policy: u32,
    nice: i32,
    cpus: BTreeSet<usize>,
}

const BATCH: u32 = 3;
const NICE: i32 = 10;

fn thread_at(path: &Path) -> Option<Thread> {
    let read = |file: &str| std::fs::read_to_string(path.join(file)).ok();
    let (stat, status) = (read("stat")?, read("status")?);
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(Thread {
        name: read("comm")?.trim_end().to_owned(),
        // Fields 41 and 19 of proc_pid_stat(5); the first here is the third there.
        policy: fields.get(41 - 3)?.parse().ok()?,
        nice: fields.get(19 - 3)?.parse().ok()?,
        cpus: cpu_list(allowed.trim()),
    })
}

/// `0-2,5`.
fn cpu_list(text: &str) -> BTreeSet<usize> {
    let number = |text: &str| text.parse::<usize>().expect("a list of CPUs");
    let ranges = text.split(',').map(|range| match range.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(range)..=number(range),
    });
    ranges.flatten().collect()
}

/// The threads of a process; those that end meanwhile are left out.
fn threads(id: u32) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("the process runs");
    tasks.filter_map(|task| thread_at(&task.ok()?.path())).collect()
}

fn own() -> Thread {
    thread_at(Path::new("/proc/thread-self")).expect("the kernel lists this thread")
}

fn parted(daemon: &Daemon) -> (Vec<Thread>, Vec<Thread>) {
    threads(daemon.id()).into_iter().partition(|thread| thread.name.starts_with("ingest-"))
}

fn workers_run_as_started(workers: &[Thread], own: &Thread) {
    for worker in workers {
        assert_eq!((worker.policy, worker.nice), (own.policy, own.nice), "{worker:?}");
        assert_eq!(worker.cpus.len(), 1, "{worker:?}");
    }
}

/// Asks the console, whose connection has a thread of its own, and looks at it meanwhile.
fn with_console(daemon: &Daemon, look: impl FnOnce()) {
    let mut console = TcpStream::connect(daemon.ready().mgmt).expect("the console listens");
    console.write_all(b"health\n").expect("the console reads");
    let mut reply = [0; 10];
    console.read_exact(&mut reply).expect("the console answers");
    assert_eq!(&reply, b"health: up");
    look();
}

#[test]
fn threads_beside_workers_on_every_cpu_stand_behind_them_and_deliver() {
    let own = own();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let carbon = RecordingCarbon::start();
    let config = settings::one_text_backend(1_000, carbon.port());
    let daemon = Launch::under(folder.path(), Ingest::IoUring)
        .config("floe.toml", &config)
        .argument("--workers")
        .argument(&own.cpus.len().to_string())
        .start();
    with_console(&daemon, || {
        let (workers, others) = parted(&daemon);
        assert_eq!(workers.len(), own.cpus.len());
        workers_run_as_started(&workers, &own);
        let pinned: BTreeSet<usize> =
            workers.iter().flat_map(|worker| worker.cpus.clone()).collect();
        assert_eq!(pinned, own.cpus, "one worker on each CPU");
        let names: Vec<&str> = others.iter().map(|thread| thread.name.as_str()).collect();
        for name in ["coordinator", "export-a", "console"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        for thread in &others {
            assert_eq!((thread.policy, thread.nice), (BATCH, NICE.max(own.nice)), "{thread:?}");
            assert_eq!(thread.cpus, own.cpus, "{thread:?}");
        }
    });
    let output = daemon.output();
    assert!(output.contains("other threads placed behind the workers"), "{output}");
    send(daemon.udp(), ["placed:3|c"]);
    let bound = Duration::from_secs(30);
    carbon.wait_points("the counter at Carbon", bound, Protocol::Text, |points| {
        points.iter().any(|point| point.name == "stats_counts.placed" && point.number() == 3.0)
    });
}

#[test]
fn threads_beside_fewer_workers_than_cpus_have_the_other_cpus() {
    let own = own();
    let Some(first) = own.cpus.first().filter(|_| 1 < own.cpus.len()) else {
        // A machine with one CPU has none without a worker.
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &settings::toml(1_000, &[]))
        .argument("--cpus")
        .argument(&first.to_string())
        .start();
    let rest: BTreeSet<usize> = own.cpus.iter().copied().skip(1).collect();
    with_console(&daemon, || {
        let (workers, others) = parted(&daemon);
        workers_run_as_started(&workers, &own);
        assert_eq!(workers.len(), 1);
        assert!(workers[0].cpus.contains(first), "{workers:?}");
        for thread in &others {
            assert_eq!((thread.policy, thread.nice), (own.policy, own.nice), "{thread:?}");
            assert_eq!(thread.cpus, rest, "{thread:?}");
        }
    });
    let output = daemon.output();
    assert!(output.contains("other threads placed on CPUs without a worker"), "{output}");
}
