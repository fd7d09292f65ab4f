//! Faults of the senders: rubbish, floods, connections that misbehave, more than can be carried.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use floe_bench::random::Random;
use floe_io::clock::wall_ms;
use rustix::net::sockopt::set_socket_linger;

use super::fault::{Allowed, Fault, Need, Outcome, RATE, Scene};
use super::kernel::memory_bytes;
use super::sender::FLOOD;
use super::world::{Settings, World};
use crate::compare::probe::pause;

/// Most that a flood of connections may add to the resident memory, bytes.
const GROWTH_MAX: u64 = 64 << 20;

/// The same at the console's port: each of its 64 connections has a thread with a heap.
const CONSOLES_GROWTH_MAX: u64 = 160 << 20;

/// Most that a round of rubbish may add to the log, bytes.
const LOG_MAX: u64 = 1 << 20;

/// Between two bursts of a flood.
const BURST: Duration = Duration::from_millis(5);

/// Lines of one datagram of a flood.
const LINES: u32 = 30;

const NOTHING: &str = "nothing of what the witness sent";

/// All of them.
pub(super) const FAULTS: [Fault; 9] = [
    fault(
        "hostile_datagrams",
        "random bytes, mutated lines, names of JavaScript's own, 64 KiB, none",
        hostile_datagrams,
    ),
    fault("tcp_without_newline", "megabytes over connections, and no newline", tcp_without_newline),
    fault("tcp_reset_storm", "connections that are reset in the middle of a line", tcp_reset_storm),
    fault("tcp_many", "more connections than are allowed", tcp_many),
    fault("admin_flood", "rubbish and silence at the console's port", admin_flood),
    fault("timer_flood", "times of one name by the ten thousand", timer_flood),
    fault("set_flood", "members of one set by the ten thousand", set_flood),
    Fault {
        name: "cardinality_bomb",
        what: "new names by the hundred thousand, far beyond series.max",
        allows: "nothing of what the witness sent; names of the flood, but not their sum",
        need: Need::None,
        own_world: Some(with_small_budgets),
        body: cardinality_bomb,
    },
    Fault {
        name: "overload",
        what: "all that a sender can send into small sockets",
        allows: "what the kernel dropped at the socket, to the datagram",
        need: Need::None,
        own_world: Some(with_small_sockets),
        body: overload,
    },
];

const fn fault(
    name: &'static str,
    what: &'static str,
    body: fn(&mut Scene<'_>) -> anyhow::Result<Outcome>,
) -> Fault {
    Fault { name, what, allows: NOTHING, need: Need::None, own_world: None, body }
}

/// Sends what `datagram` makes, `per_burst` at a time, for a spell; returns how many left.
fn flood(
    scene: &mut Scene<'_>,
    per_burst: u32,
    mut datagram: impl FnMut(&mut Random) -> Vec<u8>,
) -> anyhow::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let end_ms = wall_ms() + u64::try_from(scene.spell(1_000, 3_000).as_millis())?;
    let mut sent = 0;
    while wall_ms() < end_ms {
        for _ in 0..per_burst {
            let bytes = datagram(scene.random);
            sent += u64::from(
                socket.send_to(&bytes, (Ipv4Addr::LOCALHOST, scene.world.ports.udp)).is_ok(),
            );
        }
        pause(BURST);
    }
    scene.world.others += sent;
    Ok(sent)
}

const LINES_TO_MUTATE: [&[u8]; 14] = [
    b"hostile.a:1|c",
    b"hostile.b:2|ms|@0.1",
    b"hostile.c:+5|g",
    b"hostile.d:member|s",
    b"hostile.e;tag=value:1|c|#more:tags,other",
    b"constructor:1|ms",
    b"__proto__:1|ms",
    b"toString:1|s",
    b"hasOwnProperty:1|g",
    b"hostile.f:1e400|c",
    b"hostile.g:1|c|@0",
    b"hostile.h:nan|g",
    b"../../etc/hostile:1|c",
    b"hostile.\x1b[2J:\0|c",
];

fn hostile_datagram(random: &mut Random) -> Vec<u8> {
    let chance = random.below(100);
    let bytes = |random: &mut Random, most: u32| -> Vec<u8> {
        (0..random.below(most)).map(|_| random.bits().to_le_bytes()[0]).collect()
    };
    match chance {
        0 => Vec::new(),
        1 => vec![b":|\n\xff"[random.below(4) as usize]; 65_507],
        2..30 => bytes(random, 1_500),
        _ => {
            let mut text = Vec::new();
            for _ in 0..=random.below(5) {
                let from = text.len();
                text.extend_from_slice(LINES_TO_MUTATE[random.below(14) as usize]);
                for _ in 0..random.below(3) {
                    let at =
                        from + random.below(u32::try_from(text.len() - from).unwrap_or(1)) as usize;
                    text[at] = random.bits().to_le_bytes()[0];
                }
                text.push(b'\n');
            }
            text
        }
    }
}

fn hostile_datagrams(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    let log = scene.world.path("log");
    let before = fs::metadata(&log)?.len();
    scene.warm_up();
    flood(scene, 5, hostile_datagram)?;
    Ok(Outcome::new(Allowed::Nothing).later(move |_| {
        let written = fs::read(&log)?;
        let new = written.get(usize::try_from(before)?..).unwrap_or_default();
        let mut wrong = Vec::new();
        if LOG_MAX < new.len() as u64 {
            wrong.push(format!("{} bytes of log", new.len()));
        }
        if let Some(byte) = new.iter().find(|byte| byte.is_ascii_control() && **byte != b'\n') {
            wrong.push(format!("byte {byte:#04x} in the log"));
        }
        Ok(wrong)
    }))
}

fn connect(scene: &Scene<'_>) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, scene.world.ports.tcp))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// A connection that behaves, when all is over: its lines must come.
fn well_behaved(scene: &Scene<'_>, outcome: Outcome) -> anyhow::Result<Outcome> {
    const LINES: u32 = 1_000;
    let sum = |world: &World| world.carbons[1].ledger().sum("stats_counts.witness.connection");
    let before = sum(scene.world);
    let mut stream = connect(scene)?;
    stream.write_all("witness.connection:1|c\n".repeat(LINES as usize).as_bytes())?;
    Ok(outcome.later(move |world| {
        let found = sum(world) - before;
        let is_all = found == f64::from(LINES);
        Ok(if is_all { vec![] } else { vec![format!("{found} of {LINES} lines of a connection")] })
    }))
}

/// The daemon's resident memory, and a later look at what was added.
fn bounded(
    scene: &mut Scene<'_>,
    before: u64,
    most: u64,
    outcome: Outcome,
) -> anyhow::Result<Outcome> {
    let growth = resident(scene)?.saturating_sub(before);
    Ok(outcome.ensure(growth <= most, format!("{growth} bytes more memory, {most} may be")))
}

fn resident(scene: &mut Scene<'_>) -> anyhow::Result<u64> {
    let pid = scene.world.daemon()?.pid;
    memory_bytes(pid, "VmRSS")
}

fn tcp_without_newline(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let before = resident(scene)?;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(connect(scene)?);
    }
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..(4 + scene.random.below(8 * scene.scale)) {
        for stream in &mut streams {
            // It may close them.
            stream.write_all(&chunk).ok();
        }
    }
    let outcome = bounded(scene, before, GROWTH_MAX, Outcome::new(Allowed::Nothing))?;
    drop(streams);
    well_behaved(scene, outcome)
}

fn tcp_reset_storm(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let before = resident(scene)?;
    for _ in 0..100 + scene.random.below(200 * scene.scale) {
        let mut stream = connect(scene)?;
        let text = b"hostile.reset:1|c\nhostile.half";
        let length = scene.random.below(u32::try_from(text.len())?) as usize;
        // It may be closed already where there are too many.
        stream.write_all(&text[..length]).ok();
        set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    let outcome = bounded(scene, before, GROWTH_MAX, Outcome::new(Allowed::Nothing))?;
    well_behaved(scene, outcome)
}

fn tcp_many(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let before = resident(scene)?;
    let mut streams = Vec::new();
    for _ in 0..700 {
        // Where our own descriptors end, so be it.
        let Ok(mut stream) = connect(scene) else { break };
        stream.write_all(b"hostile.many:1|c").ok();
        streams.push(stream);
    }
    pause(scene.spell(300, 1_500));
    let outcome = bounded(scene, before, GROWTH_MAX, Outcome::new(Allowed::Nothing))?;
    drop(streams);
    pause(Duration::from_millis(300));
    well_behaved(scene, outcome)
}

fn admin_flood(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let (before, from_ms) = (resident(scene)?, wall_ms());
    let mut silent = Vec::new();
    for _ in 0..100 {
        let port = scene.world.ports.admin;
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        let rubbish: Vec<u8> = match scene.random.below(4) {
            0 => b"counters\n".repeat(50),
            1 => vec![b'x'; 100_000],
            2 => (0..1_000).map(|_| scene.random.bits().to_le_bytes()[0]).collect(),
            _ => Vec::new(),
        };
        // It may close them.
        stream.write_all(&rubbish).ok();
        silent.push(stream);
    }
    pause(scene.spell(300, 1_500));
    let outcome = Outcome::new(Allowed::Nothing).b_is_on_time_from(from_ms);
    bounded(scene, before, CONSOLES_GROWTH_MAX, outcome)
}

fn timer_flood(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let sum = |world: &World| {
        let ledger = world.carbons[1].ledger();
        let name = "stats.timers.witness.flood";
        [ledger.sum(&format!("{name}.count")), ledger.sum(&format!("{name}.sum"))]
    };
    let before = sum(scene.world);
    let text = "witness.flood:2|ms\n".repeat(LINES as usize).into_bytes();
    let sent = flood(scene, 10, |_| text.clone())?;
    Ok(Outcome::new(Allowed::Nothing).later(move |world| {
        let after = sum(world);
        let times = (sent * u64::from(LINES)) as f64;
        let is_exact = after[0] - before[0] == times && after[1] - before[1] == 2.0 * times;
        Ok(if is_exact {
            vec![]
        } else {
            vec![format!("{after:?} from {before:?}, {times} times")]
        })
    }))
}

fn set_flood(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let sum = |world: &World| world.carbons[1].ledger().sum("stats.sets.witness.members.count");
    let before = sum(scene.world);
    let mut member = 0_u64;
    let sent = flood(scene, 10, |_| {
        let mut text = String::new();
        for _ in 0..LINES {
            member += 1;
            text += &format!("witness.members:{member}|s\n");
        }
        text.into_bytes()
    })?;
    Ok(Outcome::new(Allowed::Nothing).later(move |world| {
        let (found, members) = (sum(world) - before, (sent * u64::from(LINES)) as f64);
        let is_close = (found - members).abs() <= members / 50.0;
        Ok(if is_close { vec![] } else { vec![format!("{found} members, {members} were sent")] })
    }))
}

fn with_small_sockets(_random: &mut Random) -> Settings {
    let tables = "[ingest]\nreceive_buffer = \"64KiB\"\n".to_owned();
    Settings { tables, ..Settings::default() }
}

fn overload(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let begin_ms = wall_ms();
    scene.world.sender.send_at(FLOOD);
    pause(scene.spell(1_000, 2_500));
    scene.world.sender.send_at(RATE);
    Ok(Outcome::new(Allowed::Dropped).b_is_on_time_from(begin_ms))
}

fn with_small_budgets(_random: &mut Random) -> Settings {
    let tables = "[series]\nmax = 20000\n\
        [memory]\ntimer_bytes_max = \"32MiB\"\nset_bytes_max = \"32MiB\"\n";
    Settings { tables: tables.to_owned(), ..Settings::default() }
}

fn cardinality_bomb(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let (from_ms, before) = (wall_ms(), scene.world.carbons[1].ledger().flood());
    let mut number = 0_u64;
    let sent = flood(scene, 10, |_| {
        let mut text = String::new();
        for _ in 0..LINES {
            number += 1;
            text += &format!("flood.{number}:1|c\n");
        }
        text.into_bytes()
    })?;
    let told = scene.world.ceiling_bytes().is_some();
    Ok(Outcome::new(Allowed::Nothing)
        .ensure(told, "no memory ceiling was told")
        .b_is_on_time_from(from_ms)
        .later(move |world| {
            let (found, lines) =
                (world.carbons[1].ledger().flood() - before, sent * u64::from(LINES));
            let is_all = found == lines as f64;
            Ok(if is_all { vec![] } else { vec![format!("{found} counts of {lines} new names")] })
        }))
}
