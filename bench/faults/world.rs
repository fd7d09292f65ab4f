//! One daemon with its spool, its two carbons, and the witness that sends to it.
//!
//! Carbon `a` is the one that faults are made of, carbon `b` the one that must not notice. The world
//! lives on from fault to fault, on one spool: what a fault left behind is the next one's ground.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use floe_bench::random::Random;
use floe_io::clock::{monotonic_ns, wall_ms};
use rustix::process::Signal;
use tempfile::TempDir;

use super::carbon::Carbon;
use super::daemon::{Books, Daemon, segments};
use super::image;
use super::kernel::UdpCounts;
use super::network::{Network, Whereabouts};
use super::sender::{Sender, TIME, WEIGHT};
use crate::compare::probe::{Waiting, pause, socket_state, wait_for};
use crate::contestants::daemon::free_port;

/// Its interval, ms.
pub(crate) const INTERVAL_MS: u64 = 1_000;

/// Longest wait until everything is where it will ever be.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// For so long nothing new came: nothing will. More than two intervals, for the first one behind a
/// drain grows by one where the drain's own timestamp lies ahead.
const QUIET: Duration = Duration::from_millis(2_600);

/// Longest orderly stop: the drain's promise, and a busy machine.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// A wall clock that is off by what stands in a file.
const CLOCK_SHIM: &str = include_str!("../../tests/support/clock_shim.c");

/// Names of its backends.
pub(crate) const BACKENDS: [&str; 2] = ["a", "b"];

/// Where a lane's worlds live.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// floe's binary.
    pub(crate) floe: PathBuf,
    /// Whether network, mounts and process ids are our own.
    pub(crate) is_isolated: bool,
}

/// What a world is made with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Lines of TOML before the tables.
    pub(crate) keys: String,
    /// Lines of TOML behind the tables.
    pub(crate) tables: String,
    /// Size of the file system its spool has for itself, MiB; without one it lies on the disk.
    pub(crate) spool_mib: Option<u32>,
    /// Size of the disk in a file that its spool has for itself, MiB: [`World::cut_power`].
    pub(crate) image_mib: Option<u32>,
    /// Words before floe's own: a program that starts it.
    pub(crate) wrapper: Vec<String>,
    /// The receive path; by chance where none is given.
    pub(crate) ingest: Option<&'static str>,
    /// Whether it has a wall clock of its own, which [`World::set_clock`] sets.
    pub(crate) has_clock: bool,
    /// Where carbon `a` is.
    pub(crate) carbon_a: Whereabouts,
}

/// Ports of a world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// Datagrams.
    pub(crate) udp: u16,
    /// Lines over connections.
    pub(crate) tcp: u16,
    /// The console.
    pub(crate) admin: u16,
    /// Its carbons.
    carbons: [u16; 2],
}

impl Ports {
    /// Of our own network below those that the kernel gives out, else any free ones.
    fn pick(is_isolated: bool, base: u16) -> anyhow::Result<Self> {
        let port = |offset| if is_isolated { Ok(base + offset) } else { free_port() };
        Ok(Self { udp: port(0)?, tcp: port(1)?, admin: port(2)?, carbons: [port(3)?, port(4)?] })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    /// Where it lives.
    pub(crate) site: Site,
    /// What it was made with.
    pub(crate) settings: Settings,
    /// Its ports.
    pub(crate) ports: Ports,
    /// What lies between it and carbon `a`.
    pub(crate) network: Network,
    /// Its carbons.
    pub(crate) carbons: [Carbon; 2],
    /// Its witness.
    pub(crate) sender: Sender,
    /// Datagrams that others than the witness have sent.
    pub(crate) others: u64,
    daemon: Option<Daemon>,
    folder: TempDir,
    has_mount: bool,
}

/// Everything that is counted, at a moment when nothing is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Datagrams of the witness.
    pub(crate) sent: u64,
    /// Datagrams of others.
    pub(crate) others: u64,
    /// The kernel's.
    pub(crate) kernel: UdpCounts,
    /// Datagrams of the witness that carbons have, by their hits.
    pub(crate) delivered: [u64; 2],
    /// floe's own.
    pub(crate) books: Books,
    /// The daemon.
    pub(crate) pid: u32,
}

impl World {
    /// Starts daemon, carbons and witness; ports count from `base` in a network of our own.
    ///
    /// # Errors
    /// When any of them does not start.
    pub(crate) fn start(
        site: &Site,
        settings: Settings,
        base: u16,
        random: &mut Random,
    ) -> anyhow::Result<Self> {
        let ports = Ports::pick(site.is_isolated, base)?;
        let folder = tempfile::tempdir()?;
        let network = Network::make(settings.carbon_a, folder.path())?;
        let carbons =
            [Carbon::start_at(&network.host, ports.carbons[0])?, Carbon::start(ports.carbons[1])?];
        let sender = Sender::start(ports.udp)?;
        let mut world = Self {
            site: site.clone(),
            settings,
            ports,
            network,
            carbons,
            sender,
            others: 0,
            daemon: None,
            folder,
            has_mount: false,
        };
        fs::create_dir(world.spool())?;
        if world.settings.has_clock {
            world.make_clock()?;
        }
        if let Some(mib) = world.settings.spool_mib {
            mount(
                &["-t", "tmpfs", "-o", &format!("size={mib}m,mode=700"), "spool"],
                &world.spool(),
            )?;
            world.has_mount = true;
        }
        if let Some(mib) = world.settings.image_mib {
            image::make(&world.path("image"), mib, &world.spool())?;
            world.has_mount = true;
        }
        world.write_configuration("")?;
        world.start_daemon(random)?;
        Ok(world)
    }

    /// Builds what stands between the daemon and the wall clock; it is right at first.
    fn make_clock(&mut self) -> anyhow::Result<()> {
        let (source, library) = (self.path("clock.c"), self.path("clock.so"));
        fs::write(&source, CLOCK_SHIM)?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let output = compile.output().context("cc")?;
        ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        self.set_clock(0)?;
        let set = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        let offset = set("CLOCK_SHIM_FILE", self.path("clock"));
        self.settings.wrapper = vec!["env".to_owned(), set("LD_PRELOAD", library), offset];
        Ok(())
    }

    /// Sets the daemon's wall clock off by `seconds`, at once.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn set_clock(&self, seconds: i64) -> anyhow::Result<()> {
        fs::write(self.path("clock.new"), seconds.to_string())?;
        Ok(fs::rename(self.path("clock.new"), self.path("clock"))?)
    }

    /// What the daemon says it will never need more memory than, bytes.
    pub(crate) fn ceiling_bytes(&self) -> Option<u64> {
        let log = fs::read(self.path("log")).ok()?;
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().rfind(|line| line.contains("memory ceiling computed"))?;
        let mib = line.split("ceiling=\"").nth(1)?.split(" MiB").next()?;
        Some(mib.parse::<u64>().ok()? << 20)
    }

    /// Its spool.
    pub(crate) fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// The queue of backend `index`.
    pub(crate) fn queue(&self, index: usize) -> PathBuf {
        self.spool().join("backends").join(BACKENDS[index])
    }

    /// Its folder, and what the daemon writes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes its configuration as ever, with `more` before the tables.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn write_configuration(&self, more: &str) -> anyhow::Result<()> {
        let text = configuration(&self.ports, &self.network, &self.settings, more);
        // By a rename, as an operator's tool does it.
        fs::write(self.path("new.toml"), text)?;
        Ok(fs::rename(self.path("new.toml"), self.path("floe.toml"))?)
    }

    /// A command line of floe on the configuration `config`, within the wrapper.
    pub(crate) fn command(&self, config: &Path, spool: &Path) -> Command {
        let mut words = self.settings.wrapper.iter();
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(&self.site.floe);
                command
            }
            None => Command::new(&self.site.floe),
        };
        command.arg(config).arg("--spool").arg(spool).current_dir(self.folder.path());
        command
    }

    /// Starts the daemon; returns when it was ready, ms of the wall clock.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start_daemon(&mut self, random: &mut Random) -> anyhow::Result<u64> {
        let mut daemon = self.spawn(random, &[])?;
        let ready_ms = daemon.wait_ready(&self.path("ready.json"))?;
        self.daemon = Some(daemon);
        Ok(ready_ms)
    }

    /// Starts floe with `words` beside the usual ones, and does not wait.
    fn spawn(&self, random: &mut Random, words: &[&str]) -> anyhow::Result<Daemon> {
        let ready = self.path("ready.json");
        // There is none at the first start.
        fs::remove_file(&ready).ok();
        let by_chance = ["io_uring", "recvmmsg"][random.below(2) as usize];
        let ingest = self.settings.ingest.unwrap_or(by_chance);
        let mut command = self.command(&self.path("floe.toml"), &self.spool());
        command.arg("--ready-file").arg(&ready).args(["--ingest", ingest]).args(words);
        Daemon::spawn(command, &self.path("log"))
    }

    /// Starts a daemon that takes over from the one that runs, and does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn_successor(&self, random: &mut Random) -> anyhow::Result<Daemon> {
        self.spawn(random, &["--take-over"])
    }

    /// Puts `successor` in the place of the daemon, and returns that one.
    ///
    /// # Errors
    /// When there was none.
    pub(crate) fn succeed(&mut self, successor: Daemon) -> anyhow::Result<Daemon> {
        self.daemon.replace(successor).context("no daemon runs")
    }

    /// The daemon.
    ///
    /// # Errors
    /// When there is none: it was killed and not started again.
    pub(crate) fn daemon(&mut self) -> anyhow::Result<&mut Daemon> {
        self.daemon.as_mut().context("no daemon runs")
    }

    /// Whether the daemon still is process `pid`.
    ///
    /// # Errors
    /// When it ended, with its last words.
    pub(crate) fn ensure_alive(&mut self, pid: u32) -> anyhow::Result<()> {
        let daemon = self.daemon()?;
        if let Some(status) = daemon.exited()? {
            bail!("floe ended with {status}: {}", daemon.last_words());
        }
        ensure!(daemon.pid == pid, "floe is another process");
        Ok(())
    }

    /// kill -9; returns when, ms of the wall clock.
    ///
    /// # Errors
    /// When it was gone already.
    pub(crate) fn kill(&mut self) -> anyhow::Result<u64> {
        let now_ms = wall_ms();
        self.daemon()?.kill()?;
        self.daemon = None;
        Ok(now_ms)
    }

    /// Leaves of the spool what its disk held at one instant, of the daemon nothing; returns when, ms of
    /// the wall clock.
    ///
    /// # Errors
    /// When the disk cannot be copied.
    pub(crate) fn cut_power(&mut self) -> anyhow::Result<u64> {
        let (image, copy) = (self.path("image"), self.path("image.cut"));
        self.daemon()?.signal(Signal::STOP)?;
        let now_ms = wall_ms();
        image::copy(&image, &copy)?;
        self.kill()?;
        wait_for("the disk to be let go", || umount(&self.spool()).ok())?;
        fs::rename(&copy, &image)?;
        image::attach(&image, &self.spool())?;
        Ok(now_ms)
    }

    /// SIGTERM; returns how it ended and how long that took.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn terminate(&mut self) -> anyhow::Result<(ExitStatus, Duration)> {
        let begin_ns = monotonic_ns();
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        daemon.signal(Signal::TERM)?;
        let status = daemon.wait_exit(4 * DRAIN_LIMIT)?;
        let status = status.with_context(|| format!("no end: {}", daemon.last_words()))?;
        Ok((status, Duration::from_nanos(monotonic_ns() - begin_ns)))
    }

    /// What floe says of itself.
    ///
    /// # Errors
    /// When it says nothing.
    pub(crate) fn books(&self) -> anyhow::Result<Books> {
        Books::of(&self.site.floe, &self.spool())
    }

    /// Lines of the daemon's log that tell of a bug.
    pub(crate) fn bugs(&self) -> Vec<String> {
        let log = fs::read(self.path("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let is_bug =
            |line: &&str| ["this is a bug", "panicked"].iter().any(|word| line.contains(word));
        log.lines().filter(is_bug).map(|line| line.chars().take(300).collect()).collect()
    }

    /// Silences the witness, and waits until everything is where it will ever be: sockets empty, an
    /// interval behind the last datagram at both carbons, queues empty of what is older.
    ///
    /// # Errors
    /// When that takes longer than 40 s.
    pub(crate) fn settle(&mut self) -> anyhow::Result<Tally> {
        self.sender.silence()?;
        let waiting = Waiting::up_to(SETTLE_LIMIT);
        let goes_on = |what: &str| {
            pause(LOOK);
            ensure!(waiting.goes_on(), "after {SETTLE_LIMIT:?} {what}");
            Ok(())
        };
        while 0 < socket_state(self.ports.udp)?.queue_bytes {
            goes_on("datagrams wait in the sockets")?;
        }
        // The interval that what came last belongs to.
        let last_s = wall_ms() / INTERVAL_MS + 1;
        for (index, name) in BACKENDS.iter().enumerate() {
            while !self.has_all_until(index, last_s)? {
                goes_on(&format!("carbon {name} has not all until {last_s}")).with_context(
                    || self.daemon.as_ref().map(Daemon::last_words).unwrap_or_default(),
                )?;
            }
        }
        while 0 < self.books()?.count("rows_waiting") {
            goes_on("rows wait in memory")?;
        }
        self.wait_quiet()?;
        self.tally()
    }

    /// Whether carbon `index` has interval `last_s`, and nothing as old waits for it.
    fn has_all_until(&self, index: usize, last_s: u64) -> anyhow::Result<bool> {
        let newest = self.carbons[index].ledger().newest_whole();
        let oldest = segments(&self.queue(index))?.first().map(|(time, _)| *time);
        Ok(last_s <= newest && oldest.is_none_or(|oldest| last_s < oldest))
    }

    /// Waits until both carbons have all, or nothing came for a while.
    fn wait_quiet(&self) -> anyhow::Result<()> {
        let mut before = self.delivered();
        let mut quiet_ns = monotonic_ns();
        let enough = [self.sender.sent(); 2];
        while before != enough && Duration::from_nanos(monotonic_ns() - quiet_ns) < QUIET {
            pause(Duration::from_millis(50));
            let now = self.delivered();
            if now != before {
                (before, quiet_ns) = (now, monotonic_ns());
            }
        }
        Ok(())
    }

    /// Hits that carbons have.
    pub(crate) fn delivered(&self) -> [u64; 2] {
        [0, 1].map(|index| whole(self.carbons[index].ledger().sum("stats_counts.witness.hits")))
    }

    /// All counts of now.
    ///
    /// # Errors
    /// When kernel or floe do not tell.
    pub(crate) fn tally(&mut self) -> anyhow::Result<Tally> {
        Ok(Tally {
            sent: self.sender.sent(),
            others: self.others,
            kernel: UdpCounts::now()?,
            delivered: self.delivered(),
            books: self.books()?,
            pid: self.daemon()?.pid,
        })
    }

    /// What is wrong with what carbons have: half datagrams, values nobody sent, poison.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        for (index, name) in BACKENDS.iter().enumerate() {
            let mut ledger = self.carbons[index].ledger();
            let hits = ledger.sum("stats_counts.witness.hits");
            for (series, each) in [
                ("stats_counts.witness.weight", WEIGHT),
                ("stats.timers.witness.time.count", 1),
                ("stats.timers.witness.time.sum", TIME),
            ] {
                let (found, wanted) = (ledger.sum(series), hits * each as f64);
                if found != wanted {
                    wrongs.push(format!("{name}: {series} is {found}, and hits want {wanted}"));
                }
            }
            let last = ledger.series("stats.gauges.witness.last");
            let sent = self.sender.sent() as f64;
            if last.values().any(|number| *number < 1.0 || sent < *number) {
                wrongs.push(format!("{name}: a gauge that nobody sent"));
            }
            let (count, examples) = ledger.take_wrongs();
            if 0 < count {
                wrongs.push(format!(
                    "{name}: {count} points no carbon should get: {}",
                    examples.join("; ")
                ));
            }
        }
        wrongs
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.daemon = None;
        if self.has_mount {
            // What is left unmounted goes with the lane's own mounts.
            umount(&self.spool()).ok();
        }
    }
}

/// A sum of whole numbers.
#[expect(
    clippy::cast_possible_truncation,
    reason = "sums of counts are below 2^53 and not negative"
)]
#[expect(clippy::cast_sign_loss, reason = "sums of counts are below 2^53 and not negative")]
pub(crate) fn whole(sum: f64) -> u64 {
    sum.round() as u64
}

fn configuration(ports: &Ports, network: &Network, settings: &Settings, more: &str) -> String {
    let Ports { udp, tcp, admin, carbons } = ports;
    let mut text = format!(
        "mgmt_port = {admin}\nflushInterval = {INTERVAL_MS}\n\
         deleteIdleStats = true\n{}\n{more}\n\
         [[servers]]\nserver = \"udp\"\naddress = \"127.0.0.1\"\nport = {udp}\n\
         [[servers]]\nserver = \"tcp\"\naddress = \"127.0.0.1\"\nport = {tcp}\n",
        settings.keys
    );
    let hosts = [network.name.as_str(), "127.0.0.1"];
    for ((name, host), port) in BACKENDS.iter().zip(hosts).zip(carbons) {
        text += &format!("[[backends]]\nname = \"{name}\"\naddress = \"{host}:{port}\"\n");
    }
    text + &settings.tables
}

/// `mount` with `words` on `place`.
///
/// # Errors
/// What it says.
pub(crate) fn mount(words: &[&str], place: &Path) -> anyhow::Result<()> {
    run("mount", words, place)
}

/// Takes the uppermost mount of `place` away.
///
/// # Errors
/// What `umount` says.
pub(crate) fn umount(place: &Path) -> anyhow::Result<()> {
    run("umount", &[], place)
}

fn run(program: &str, words: &[&str], place: &Path) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(words).arg(place).output().context(program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(())
}
