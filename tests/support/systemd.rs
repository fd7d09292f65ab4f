//! A machine of a test's own that runs under a real systemd, the one that is installed here: its PID 1,
//! in namespaces, a second after it was asked for.
//!
//! Root, `unshare`, overlayfs and systemd are needed; where one is missing that is said.
//! `FLOE_TEST_SYSTEMD` names a folder with another version, to be laid over `/`: its packages and the
//! libraries they want, unpacked by `dpkg -x`, with what lies in `lib`, `bin` and `sbin` moved to `usr`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::daemon::{floe, text_of};
use super::mount::{self, say, text};
use super::process::Process;
use super::wait;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/systemd_machine.sh");
const BOUND: Duration = Duration::from_secs(60);

/// It ends with the test, whatever runs in it.
pub(crate) struct Machine {
    process: Process,
    /// After all that ran in them.
    _cgroups: Cgroups,
    _folder: tempfile::TempDir,
    /// Its PID 1, as seen from here.
    init: u32,
}

impl Machine {
    /// Boots one, with the built daemon and `units` of `packaging/` where an administrator puts them.
    /// `None` where that cannot be, which is said.
    pub(crate) fn boot(units: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let refused = |why: &str| {
            say(&format!("NOT TRIED under systemd: {why}"));
            None
        };
        if !rustix::process::geteuid().is_root() {
            return refused("the test does not run as root");
        }
        if !Path::new("/usr/lib/systemd/systemd").exists() {
            return refused("it is not installed (apt-get install systemd)");
        }
        let cgroups = match Cgroups::make(folder.path()) {
            Ok(cgroups) => cgroups,
            Err(why) => return refused(&why),
        };
        let mut command = Command::new("sh");
        command.arg(SCRIPT).arg(folder.path()).args(std::env::var_os("FLOE_TEST_SYSTEMD"));
        let mut process = Process::start("systemd", command);
        let init = wait::until("the machine's root", BOUND, || {
            let told = fs::read_to_string(folder.path().join("init")).unwrap_or_default();
            told.trim().parse().ok().map(Some).or_else(|| process.exited().map(|_| None))
        });
        let granted = |process: &Process| format!("none is granted here: {}", process.output());
        let Some(init) = init else {
            let _ = process.wait_exit(BOUND);
            return refused(&granted(&process));
        };
        let mut machine = Self { process, _cgroups: cgroups, _folder: folder, init };
        if machine.state().as_deref() != Some("running") {
            let failed = text_of(&machine.run(&["systemctl", "--failed"]));
            return refused(&format!("{}{failed}", granted(&machine.process)));
        }
        machine.install(units);
        say(&format!("under systemd {}", machine.version()));
        Some(machine)
    }

    /// What systemd says of itself when all is started; `None` if it ends, or says nothing.
    fn state(&mut self) -> Option<String> {
        let said = wait::try_until(BOUND, || {
            if self.process.exited().is_some() {
                return Some(None);
            }
            let output = self.run(&["systemctl", "is-system-running"]);
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            // Before it there is nobody to ask.
            ["running", "degraded"].contains(&state.as_str()).then_some(Some(state))
        });
        said.flatten()
    }

    fn install(&self, units: &[&str]) {
        let copied = Command::new("cp")
            .arg(floe().get_program())
            .arg(self.path("/usr/local/bin/floe"))
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "the binary was built");
        for unit in units {
            let from = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging")).join(unit);
            let to = self.path("/etc/systemd/system").join(unit);
            fs::copy(from, to).expect("the unit is in the repository");
        }
        self.systemctl(&["daemon-reload"]);
    }

    /// A file of the machine, as seen from here.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Writes a file of the machine, for its root alone to change.
    pub(crate) fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("it is absolute")).expect("the layer is writable");
        fs::write(path, text).expect("the layer is writable");
    }

    /// Adds to a unit, as `systemctl edit` does.
    pub(crate) fn drop_in(&self, unit: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{unit}.d/test.conf"), text);
        self.systemctl(&["daemon-reload"]);
    }

    /// A command line in its namespaces; the files that it names are the machine's.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = self.entered(&["--mount", "--pid", "--uts", "--ipc", "--net"]);
        command.args(words).env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
        command.stdin(Stdio::null()).output().expect("nsenter was found before")
    }

    /// What a command says, which has to succeed.
    pub(crate) fn tell(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let journal = || text_of(&self.run(&["journalctl", "--no-pager", "-n", "60"]));
        assert!(output.status.success(), "{words:?}: {}\n{}", text_of(&output), journal());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn systemctl(&self, words: &[&str]) -> String {
        self.tell(&[&["systemctl"], words].concat())
    }

    /// A property of a unit.
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        let said = self.systemctl(&["show", "--value", "--property", property, unit]);
        said.trim().to_owned()
    }

    /// The version of its systemd.
    pub(crate) fn version(&self) -> u32 {
        let said = self.tell(&["systemctl", "--version"]);
        let number = said.split_whitespace().nth(1).and_then(|word| word.split('.').next());
        number.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    }

    /// What the journal has of a unit, as `journalctl` shows it in `form`.
    pub(crate) fn journal(&self, unit: &str, form: &str) -> String {
        self.tell(&["journalctl", "--sync"]);
        self.tell(&["journalctl", "--no-pager", "--unit", unit, "--output", form])
    }

    /// What the journal has of one start of a unit.
    pub(crate) fn journal_of_start(&self, invocation: &str) -> String {
        self.tell(&["journalctl", "--sync"]);
        let of_start = format!("_SYSTEMD_INVOCATION_ID={invocation}");
        self.tell(&["journalctl", "--no-pager", "--output", "short", &of_start])
    }

    /// Whether `MemoryMax=` means something in there.
    pub(crate) fn limits_memory(&self) -> bool {
        let groups = self.tell(&["cat", "/proc/1/cgroup"]);
        let is_old = groups.lines().any(|line| line.contains(":memory:"));
        let controllers = self.path("/sys/fs/cgroup/cgroup.controllers");
        is_old || fs::read_to_string(controllers).is_ok_and(|all| all.contains("memory"))
    }

    /// Runs `work` on a thread in its network.
    pub(crate) fn with_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let place = fs::File::open(format!("/proc/{}/ns/net", self.init)).expect("it runs");
        std::thread::scope(|scope| {
            let enter = || {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&place),
                    Some(LinkNameSpaceType::Network),
                )
                .expect("root may enter");
                work()
            };
            scope.spawn(enter).join().expect("the work does not panic")
        })
    }

    fn entered(&self, spaces: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.to_string()).args(spaces).arg("--");
        command
    }
}

/// Cgroups below ours, one in every hierarchy; dropped, they are removed.
#[derive(Default)]
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// Makes them, and writes down for the script which.
    fn make(folder: &Path) -> Result<Self, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let (mounts, ours) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let name = folder.file_name().expect("a temporary folder has a name");
        let name = format!("floe-{}", text(Path::new(name)));
        let (mut made, mut lines) = (Self::default(), String::new());
        for Hierarchy { kind, options, place, ours } in
            mounts.lines().filter_map(|mount| Hierarchy::of(mount, &ours))
        {
            let group = ours.join(&name);
            let refused = |error| format!("no cgroup {}: {error}", group.display());
            fs::create_dir(&group).map_err(refused)?;
            lines.push_str(&format!("{kind} {options} {} {place}\n", text(&group)));
            made.0.push(group);
        }
        if made.0.is_empty() {
            return Err("no cgroups are mounted".to_owned());
        }
        fs::write(folder.join("cgroups"), lines).expect("the folder is ours");
        Ok(made)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Empty as soon as the kernel has buried all that ran in them.
        let is_removed = |group: &Path| {
            let deepest_first = ["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"];
            drop(Command::new("find").arg(group).args(deepest_first).output());
            !group.exists()
        };
        for group in &self.0 {
            wait::try_until(Duration::from_secs(5), || is_removed(group).then_some(()));
        }
    }
}

/// A mounted hierarchy of cgroups.
struct Hierarchy<'t> {
    kind: &'t str,
    /// To mount it once more.
    options: String,
    place: &'t str,
    /// Our own cgroup in it.
    ours: PathBuf,
}

impl<'t> Hierarchy<'t> {
    /// That of a line of `mountinfo`, if it is one; `groups` is `/proc/self/cgroup`.
    fn of(mount: &'t str, groups: &str) -> Option<Self> {
        let (before, behind) = mount.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, place) = (before.next()?, before.next()?);
        let mut behind = behind.split(' ');
        let (kind, options) = (behind.next()?, behind.nth(1)?.trim_start_matches("rw,"));
        let is_second = kind == "cgroup2";
        // `cpuset` wants processors and memory before it takes a process; nothing here needs it.
        if !(is_second || kind == "cgroup") || options.contains("cpuset") {
            return None;
        }
        let is_of_it = |controllers: &str| {
            let all: Vec<&str> = options.split(',').collect();
            controllers.is_empty() == is_second
                && controllers.split(',').all(|one| is_second || all.contains(&one))
        };
        let group = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            is_of_it(controllers).then_some(path)
        })?;
        let below = group.strip_prefix(root).unwrap_or(group).trim_start_matches('/');
        let options = match (is_second, options.contains("name=")) {
            (true, _) => "rw".to_owned(),
            (false, true) => format!("none,{options}"),
            (false, false) => options.to_owned(),
        };
        Some(Self { kind, options, place, ours: Path::new(place).join(below) })
    }
}
