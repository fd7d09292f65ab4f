//! Faults of the process: killed, stopped, started twice, starved of descriptors, misconfigured.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use floe_bench::random::Random;
use floe_io::clock::{monotonic_ns, wall_ms};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use super::carbon::Mode;
use super::daemon::Daemon;
use super::fault::{Allowed, Fault, Need, Outcome, Scene};
use super::kernel::is_stopped;
use super::world::{DRAIN_LIMIT, INTERVAL_MS, Settings, World};
use crate::compare::probe::{pause, wait_for};

/// What is promised for a start and for a refusal, in the release build; the other is slower, and
/// runs beside builds.
const PROMPT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });

const CRASH: &str = "the open interval, what the sockets held, what came while nobody listened";
const NOTHING: &str = "nothing";

/// All of them.
pub(super) const FAULTS: [Fault; 14] = [
    fault("kill_9", "kill -9 at any instant, then a start", CRASH, kill_9),
    fault("kill_9_thrice", "kill -9 three times before the first flush", CRASH, kill_9_thrice),
    fault("kill_9_backend_away", "kill -9 while a backend fails", CRASH, kill_9_backend_away),
    fault(
        "sigterm",
        "SIGTERM in mid-interval under load, then a start",
        "what came behind the signal and was refused or left unread",
        sigterm,
    ),
    fault("sigstop", "SIGSTOP, and SIGCONT later", "what the kernel dropped meanwhile", sigstop),
    fault("second_port", "a second daemon on the same port", NOTHING, second_on_port),
    fault("second_spool", "a second daemon on the same spool", NOTHING, second_on_spool),
    fault("broken_config", "a broken configuration and SIGHUP", NOTHING, broken_configuration),
    fault("reload_storm", "configurations that change, SIGHUP by SIGHUP", NOTHING, reload_storm),
    fault("no_descriptors", "no file descriptor left for a while", NOTHING, no_descriptors),
    Fault {
        need: Need::TakeOver,
        ..fault("take_over", "a successor takes over under load", NOTHING, take_over)
    },
    Fault {
        need: Need::TakeOver,
        ..fault(
            "take_over_killed",
            "a successor is killed with kill -9 while it takes over",
            "nothing while the first one goes on; else as with kill -9",
            take_over_killed,
        )
    },
    Fault {
        name: "io_uring_refused",
        what: "the kernel refuses io_uring: EPERM, ENOSYS or ENOMEM",
        allows: NOTHING,
        need: Need::Python,
        own_world: Some(without_io_uring),
        body: io_uring_refused,
    },
    Fault {
        name: "clock_steps",
        what: "the wall clock is set on or back by up to an hour, and right again",
        allows: NOTHING,
        need: Need::Compiler,
        own_world: Some(with_own_clock),
        body: clock_steps,
    },
];

const fn fault(
    name: &'static str,
    what: &'static str,
    allows: &'static str,
    body: fn(&mut Scene<'_>) -> anyhow::Result<Outcome>,
) -> Fault {
    Fault { name, what, allows, need: Need::None, own_world: None, body }
}

fn kill_9(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    pause(scene.spell(0, 1_500));
    kill_and_start(scene)
}

/// Kills it and starts it; whatever was on the disk must come to both carbons.
fn kill_and_start(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    let killed_ms = scene.world.kill()?;
    pause(Duration::from_millis(u64::from(scene.random.below(300))));
    let begin_ns = monotonic_ns();
    let ready_ms = scene.world.start_daemon(scene.random)?;
    let took = Duration::from_nanos(monotonic_ns() - begin_ns);
    pause(Duration::from_millis(u64::from(scene.random.below(700))));
    Ok(Outcome::new(Allowed::crash(killed_ms, ready_ms))
        .ensure(took <= PROMPT, format!("ready {took:?} after its start")))
}

fn kill_9_thrice(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let killed_ms = scene.world.kill()?;
    for _ in 0..2 {
        scene.world.start_daemon(scene.random)?;
        pause(Duration::from_millis(u64::from(scene.random.below(300))));
        scene.world.kill()?;
    }
    let ready_ms = scene.world.start_daemon(scene.random)?;
    Ok(Outcome::new(Allowed::crash(killed_ms, ready_ms)))
}

fn kill_9_backend_away(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    let modes =
        [Mode::Refuse, Mode::Stall, Mode::ResetAfter(scene.random.below(5_000)), Mode::Trickle];
    let mode = modes[scene.random.below(4) as usize];
    scene.world.carbons[0].behave(mode)?;
    scene.warm_up();
    pause(scene.spell(500, 2_500));
    let outcome = kill_and_start(scene)?;
    pause(scene.spell(200, 1_500));
    scene.world.carbons[0].behave(Mode::Serve)?;
    Ok(outcome)
}

fn sigterm(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let from_ms = wall_ms();
    let (status, took) = scene.world.terminate()?;
    let to_ms = scene.world.start_daemon(scene.random)?;
    pause(Duration::from_millis(u64::from(scene.random.below(700))));
    Ok(Outcome::new(Allowed::Drain { from_ms, to_ms })
        .ensure(status.success(), format!("it ended with {status}"))
        .ensure(took <= DRAIN_LIMIT, format!("it ended {took:?} after the signal")))
}

fn take_over(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let begin_ms = wall_ms();
    let mut successor = scene.world.spawn_successor(scene.random)?;
    successor.wait_ready(&scene.world.path("ready.json"))?;
    let mut first = scene.world.succeed(successor)?;
    let status = first.wait_exit(2 * DRAIN_LIMIT)?;
    pause(Duration::from_millis(u64::from(scene.random.below(1_200))));
    let is_clean = status.is_some_and(|status| status.success());
    Ok(Outcome::new(Allowed::Nothing)
        .ensure(is_clean, format!("the first ended with {status:?}"))
        .b_is_on_time_from(begin_ms))
}

fn take_over_killed(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let mut successor = scene.world.spawn_successor(scene.random)?;
    pause(Duration::from_millis(u64::from(scene.random.below(150))));
    let killed_ms = wall_ms();
    successor.kill()?;
    // Does the first one still go on, or has it handed over already?
    let status = scene.world.daemon()?.wait_exit(DRAIN_LIMIT)?;
    let allowed = match status {
        None => Allowed::Nothing,
        Some(_) => Allowed::crash(killed_ms, scene.world.start_daemon(scene.random)?),
    };
    pause(Duration::from_millis(u64::from(scene.random.below(700))));
    Ok(Outcome::new(allowed))
}

fn sigstop(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let pid = scene.world.daemon()?.pid;
    scene.world.daemon()?.signal(Signal::STOP)?;
    wait_for("the stop", || is_stopped(pid).then_some(()))?;
    let stopped_ms = wall_ms();
    pause(scene.spell(1_200, 4_500).min(Duration::from_secs(60)));
    let continued_ms = wall_ms();
    scene.world.daemon()?.signal(Signal::CONT)?;
    pause(Duration::from_millis(300));
    let outcome = Outcome::new(Allowed::Dropped);
    Ok(outcome.later(move |world| {
        let arrivals = world.carbons[1].ledger().arrivals_from(stopped_ms / INTERVAL_MS + 1);
        let missed = arrivals.iter().filter(|(time, _)| *time * INTERVAL_MS <= continued_ms);
        let count = missed.count();
        let is_one = count <= 1;
        Ok(if is_one { vec![] } else { vec![format!("{count} flushes for intervals of the stop")] })
    }))
}

/// Runs a second daemon on `config` and `spool`; it must end at once and name the first.
fn refuse_second(scene: &mut Scene<'_>, config: &str, spool: &Path) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let first = scene.world.daemon()?.pid;
    let (config_path, log) = (scene.world.path("second.toml"), scene.world.path("second.log"));
    fs::write(&config_path, config)?;
    fs::write(&log, "")?;
    let begin_ns = monotonic_ns();
    let mut second = Daemon::spawn(scene.world.command(&config_path, spool), &log)?;
    let status = second.wait_exit(Duration::from_secs(10))?;
    let took = Duration::from_nanos(monotonic_ns() - begin_ns);
    let said = second.last_words();
    drop(second);
    pause(Duration::from_millis(300));
    let code = status.and_then(|status| status.code());
    Ok(Outcome::new(Allowed::Nothing)
        .ensure(code == Some(1), format!("the second ended with {code:?}: {said}"))
        .ensure(took <= PROMPT, format!("the second ended after {took:?}"))
        .ensure(said.contains(&first.to_string()), format!("the first is not named: {said}")))
}

fn second_on_port(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    let port = scene.world.ports.udp;
    let spool = scene.world.path("second-spool");
    let config = format!("port = {port}\naddress = \"127.0.0.1\"\nmgmt_port = 0\n");
    refuse_second(scene, &config, &spool)
}

fn second_on_spool(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    let spool = scene.world.spool();
    refuse_second(scene, "port = 0\naddress = \"127.0.0.1\"\nmgmt_port = 0\n", &spool)
}

/// Waits until the log, from `from` bytes on, has `word`.
fn wait_log(world: &World, from: u64, word: &str) -> anyhow::Result<()> {
    let path = world.path("log");
    wait_for(&format!("{word:?} in the log"), || {
        let log = fs::read(&path).ok()?;
        let new = log.get(usize::try_from(from).ok()?..)?;
        String::from_utf8_lossy(new).contains(word).then_some(())
    })
}

fn broken_configuration(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let texts = [
        "port = \"no number\"\n",
        "flushInterval = -1\n",
        "[[backends]\n",
        "",
        "\0\u{1b}[2J",
        "no_such_key = 1\n",
    ];
    // The empty one is valid, and would close the listeners if they could change: left out below.
    let text = texts[scene.random.below(6) as usize];
    let text = if text.is_empty() { "=\n" } else { text };
    let before = scene.world.books()?.count("reloads_refused");
    let log = fs::metadata(scene.world.path("log"))?.len();
    fs::write(scene.world.path("floe.toml"), text)?;
    scene.world.daemon()?.signal(Signal::HUP)?;
    wait_log(scene.world, log, "configuration refused").or_else(|error| {
        let told = scene.world.books()?.count("reloads_refused");
        ensure!(before < told, "{error:#}");
        Ok(())
    })?;
    pause(scene.spell(300, 1_500));
    scene.world.write_configuration("")?;
    scene.world.daemon()?.signal(Signal::HUP)?;
    pause(Duration::from_millis(300));
    Ok(Outcome::new(Allowed::Nothing))
}

fn reload_storm(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let count = 5 + scene.random.below(10);
    for _ in 0..count {
        let threshold = 1 + scene.random.below(99);
        scene.world.write_configuration(&format!("percentThreshold = [{threshold}]"))?;
        scene.world.daemon()?.signal(Signal::HUP)?;
        pause(Duration::from_millis(u64::from(scene.random.below(150))));
    }
    scene.world.write_configuration("")?;
    scene.world.daemon()?.signal(Signal::HUP)?;
    pause(Duration::from_millis(300));
    Ok(Outcome::new(Allowed::Nothing).b_is_on_time_from(wall_ms()))
}

fn no_descriptors(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let pid = scene.world.daemon()?.pid;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")?;
    let set = |limit: Rlimit| prlimit(Some(process), Resource::Nofile, limit).context("prlimit");
    // The lowest limit that lets no descriptor be opened is that of the lowest one free.
    let open: Vec<u64> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let free = (0..).find(|fd| !open.contains(fd)).context("a descriptor is free")?;
    let before = set(Rlimit { current: Some(free), maximum: None });
    let before = match before {
        Ok(before) => before,
        // Without the right to raise the upper limit it stays as it is.
        Err(_) => {
            let limits = rustix::process::getrlimit(Resource::Nofile);
            set(Rlimit { current: Some(free), ..limits })?
        }
    };
    pause(scene.spell(1_000, 3_000));
    set(before)?;
    pause(Duration::from_millis(300));
    Ok(Outcome::new(Allowed::Nothing))
}

/// Refuses the three system calls of io_uring by seccomp, then becomes what is named behind it.
const REFUSE: &str = "
import ctypes, os, struct, sys
error = int(sys.argv[1])
calls = [(0x20, 0, 0, 0)]
calls += [(0x15, 3 - index, 0, 425 + index) for index in range(3)]
calls += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | error)]
code = b''.join(struct.pack('HBBI', *call) for call in calls)
text = ctypes.create_string_buffer(code)
class Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('code', ctypes.c_void_p)]
program = Program(len(calls), ctypes.cast(text, ctypes.c_void_p))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[2], sys.argv[2:])
";

fn without_io_uring(random: &mut Random) -> Settings {
    // EPERM as container profiles do it, ENOSYS as an old kernel, ENOMEM as a low memlock limit.
    let error = [1, 38, 12][random.below(3) as usize];
    let wrapper = ["python3".to_owned(), "-c".to_owned(), REFUSE.to_owned(), error.to_string()];
    Settings { wrapper: wrapper.to_vec(), ingest: Some("auto"), ..Settings::default() }
}

fn io_uring_refused(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    wait_log(scene.world, 0, "io_uring refused")?;
    scene.warm_up();
    pause(scene.spell(500, 2_000));
    Ok(Outcome::new(Allowed::Nothing).b_is_on_time_from(wall_ms()))
}

fn with_own_clock(_random: &mut Random) -> Settings {
    Settings { has_clock: true, ..Settings::default() }
}

fn clock_steps(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let seconds = i64::from(scene.random.below(3_600) + 1);
    let seconds = if scene.random.below(2) == 0 { seconds } else { -seconds };
    scene.world.set_clock(seconds)?;
    pause(scene.spell(1_000, 4_000));
    scene.world.set_clock(0)?;
    pause(Duration::from_millis(u64::from(scene.random.below(1_500))));
    scene.world.sender.silence()?;
    // A clock that was set back, the second one here or the first, is followed after two intervals.
    let sent = scene.world.sender.sent();
    wait_for("what was sent under another clock", || {
        (scene.world.delivered() == [sent; 2]).then_some(())
    })?;
    let steps = scene.world.books()?.count("clock_steps");
    Ok(Outcome::new(Allowed::Nothing)
        .ensure(steps != 0 || seconds.abs() < 3, "no step was counted"))
}
