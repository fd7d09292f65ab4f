//! The files of `packaging/` start the daemon as it can be started: every flag they use is known, what
//! they ask of the service manager is what the daemon does, the paths agree with each other, and
//! systemd itself finds nothing wrong with its units.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::daemon::{floe, floe_output, text_of};

mod support;

const UNITS: [&str; 2] = ["floe.service", "statsd.service"];
const BINARY: &str = "/usr/local/bin/floe";

fn read(name: &str) -> String {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging"));
    std::fs::read_to_string(folder.join(name)).expect("the file is in the repository")
}

/// The values of `key`, one per line of the file that sets it.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

fn assert_flags_known(command: &str) {
    let help = text_of(&floe_output(["--help"]));
    assert!(command.starts_with(BINARY), "{command}");
    for flag in command.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "{flag} of {command:?} is not in floe --help");
    }
}

#[test]
fn units_of_systemd_match_what_the_daemon_tells_and_does() {
    for name in UNITS {
        let unit = read(name);
        let one = |key: &str| match values(&unit, key)[..] {
            [value] => value.to_owned(),
            ref other => panic!("{name} sets {key} {} times", other.len()),
        };
        assert_flags_known(&one("ExecStart"));
        assert_eq!((one("Type"), one("NotifyAccess")), ("notify".into(), "main".into()));
        assert_eq!(one("ExecReload"), "/bin/kill -HUP $MAINPID");
        // A disk may hold the coordinator up for a while; the drain takes up to three seconds.
        assert!(30 <= one("WatchdogSec").parse::<u32>().expect("seconds"));
        assert!(4 <= one("TimeoutStopSec").parse::<u32>().expect("seconds"));
        assert_eq!(one("StateDirectory"), "floe");
        // A systemd before 254 keeps as many and does not say so.
        assert_eq!(one("Environment"), format!("FDSTORE={}", one("FileDescriptorStoreMax")));
        for section in ["[Unit]", "[Service]", "[Install]"] {
            assert_eq!(unit.lines().filter(|line| *line == section).count(), 1, "{name}");
        }
    }
}

/// A unit whose limit were below the ceiling of default budgets would cut them down on every machine.
#[test]
fn the_memory_limit_of_units_has_room_for_the_default_budgets() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let path = folder.path().join("floe.toml");
    let text = "[ingest]\nworkers = 8\n[memory]\nlimit = \"1TiB\"\n";
    std::fs::write(&path, text).expect("the test's folder is writable");
    let checked = text_of(&floe().arg("check").arg(&path).output().expect("floe runs"));
    let ceiling = checked.lines().find_map(|line| line.strip_prefix("memory ceiling"));
    let ceiling = ceiling.and_then(|rest| rest.trim().strip_suffix(" MiB")?.parse::<u64>().ok());
    let ceiling = ceiling.unwrap_or_else(|| panic!("no ceiling in\n{checked}"));
    for name in UNITS {
        let unit = read(name);
        let [limit] = values(&unit, "MemoryMax")[..] else { panic!("{name} sets MemoryMax once") };
        let limit = limit.strip_suffix('G').and_then(|limit| limit.parse::<u64>().ok());
        assert!(ceiling <= limit.expect("whole GiB") * 1_024, "{name}: {ceiling} MiB");
    }
}

/// `systemd-analyze verify` knows every key and reads every value; it is asked where it is installed.
#[test]
#[expect(clippy::print_stderr, reason = "what could not be done is said")]
fn systemd_finds_nothing_wrong_with_its_units() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let binary = PathBuf::from(floe().get_program());
    let binary = binary.to_str().expect("the build's folder has a plain name");
    // The socket unit last: it names a service, which then is there.
    for name in UNITS.into_iter().chain(["floe.socket"]) {
        let unit = read(name).replace(BINARY, binary);
        let path = folder.path().join(name);
        std::fs::write(&path, unit).expect("the folder is writable");
        let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
            return eprintln!("{name} not verified by systemd: apt-get install systemd");
        };
        assert!(output.status.success(), "{name}: {}", text_of(&output));
        // What it only ignores is a warning with the place of the line.
        assert!(!text_of(&output).contains(name), "{name}: {}", text_of(&output));
    }
}

#[test]
fn the_section_of_supervisord_leaves_the_drain_its_time() {
    let section = read("supervisord.conf");
    assert_flags_known(values(&section, "command")[0]);
    assert_eq!(values(&section, "stopsignal"), ["TERM"]);
    assert!(4 <= values(&section, "stopwaitsecs")[0].parse::<u32>().expect("seconds"));
}

#[test]
fn the_job_of_upstart_leaves_the_drain_its_time() {
    let job = read("floe.upstart");
    let of = |stanza: &str| {
        let mut lines = job.lines().filter_map(|line| line.strip_prefix(stanza));
        lines.next().unwrap_or_else(|| panic!("no {stanza:?}")).trim().to_owned()
    };
    assert_flags_known(&of("exec "));
    assert!(4 <= of("kill timeout ").parse::<u32>().expect("seconds"));
}
