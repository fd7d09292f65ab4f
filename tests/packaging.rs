//! The files of `packaging/` start the daemon as it can be started: every flag they use is known, what
//! they ask of the service manager is what the daemon does, and the paths agree with each other.

use std::path::Path;

use support::daemon::{floe_output, text_of};

mod support;

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
    assert!(command.starts_with("/usr/local/bin/floe"), "{command}");
    for flag in command.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "{flag} of {command:?} is not in floe --help");
    }
}

#[test]
fn units_of_systemd_match_what_the_daemon_tells_and_does() {
    for name in ["floe.service", "statsd.service"] {
        let unit = read(name);
        let one = |key: &str| match values(&unit, key)[..] {
            [value] => value.to_owned(),
            ref other => panic!("{name} sets {key} {} times", other.len()),
        };
        assert_flags_known(&one("ExecStart"));
        assert_eq!((one("Type"), one("NotifyAccess")), ("notify".into(), "main".into()));
        assert_eq!(one("ExecReload"), "/bin/kill -HUP $MAINPID");
        // The coordinator tells it once a second; the drain takes up to three.
        assert!(10 <= one("WatchdogSec").parse::<u32>().expect("seconds"));
        assert!(4 <= one("TimeoutStopSec").parse::<u32>().expect("seconds"));
        assert_eq!(one("StateDirectory"), "floe");
        for section in ["[Unit]", "[Service]", "[Install]"] {
            assert_eq!(unit.lines().filter(|line| *line == section).count(), 1, "{name}");
        }
    }
}

#[test]
fn the_section_of_supervisord_leaves_the_drain_its_time() {
    let section = read("supervisord.conf");
    assert_flags_known(values(&section, "command")[0]);
    assert_eq!(values(&section, "stopsignal"), ["TERM"]);
    assert!(4 <= values(&section, "stopwaitsecs")[0].parse::<u32>().expect("seconds"));
}
