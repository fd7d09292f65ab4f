//! The daemon needs no privilege, io_uring included, and what is packaged takes away the rest: the
//! units' sandbox as systemd scores it, the system calls of a whole life against that sandbox and
//! against the seccomp profile for containers. Method: the built binary under another user without capabilities, and under strace.
//! What a machine lacks for one of these is said.
#![expect(clippy::print_stderr, reason = "what could not be done is said")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use support::daemon::{Ingest, Launch, Ready, floe, send, text_of};
use support::wait;

mod support;

const BOUND: Duration = Duration::from_secs(20);

/// `nobody`, on every distribution.
const NOBODY: &str = "65534";

fn packaging(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging")).join(name)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A daemon behind another program, in a folder that every user may write to.
struct Wrapped {
    folder: tempfile::TempDir,
    child: Child,
    ready: Ready,
}

impl Wrapped {
    /// `None` where the program is not installed.
    fn start(wrapper: &[&str], ingest: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("ours");
        // Where the build lies the other user may have no way to.
        let (binary, log) = (folder.path().join("floe"), folder.path().join("log"));
        // By another process: a descriptor of ours, open for writing, would go to the children of other
        // tests for a moment, and nobody executes a file that somebody writes.
        let copied = Command::new("cp").arg(floe().get_program()).arg(&binary).status();
        assert!(copied.is_ok_and(|status| status.success()), "the binary was built");
        let config = "port = 0\nmgmt_port = 0\nflushInterval = 1000\n";
        fs::write(folder.path().join("floe.toml"), config).expect("the folder is writable");
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(&binary).arg("floe.toml").current_dir(folder.path());
        command.args(["--spool", "spool", "--ready-file", "ready.json", "--ingest", ingest]);
        let log = fs::File::create(log).expect("the folder is writable");
        let child = command.env_clear().stdin(Stdio::null()).stderr(log).spawn();
        let child = match child {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            child => child.expect("the wrapper starts"),
        };
        let path = folder.path().join("ready.json");
        let ready = wait::try_until(BOUND, || serde_json::from_slice(&fs::read(&path).ok()?).ok());
        let log = fs::read_to_string(folder.path().join("log")).expect("made above");
        let ready = ready.unwrap_or_else(|| panic!("not ready under {wrapper:?}:\n{log}"));
        Some(Self { folder, child, ready })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("made at the start")
    }

    /// Sends one value, waits until a segment holds it, and stops the daemon.
    fn live(&mut self) {
        let address = self.ready.udp[0].port();
        send((std::net::Ipv4Addr::LOCALHOST, address).into(), ["a.b:1|c\nc:2|ms\nd:3|s"]);
        let archive = self.folder.path().join("spool/archive");
        wait::until("a segment", BOUND, || fs::read_dir(&archive).ok()?.next()?.ok());
        let pid = i32::try_from(self.ready.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::TERM).expect("it lives");
        let status = self.child.wait().expect("a child of ours");
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Wrapped {
    fn drop(&mut self) {
        if let (Ok(None), Some(pid)) =
            (self.child.try_wait(), i32::try_from(self.ready.pid).ok().and_then(Pid::from_raw))
        {
            kill_process(pid, Signal::KILL).ok();
            self.child.wait().ok();
        }
    }
}

/// Every thread is nobody's, in no other group, without capabilities and without a way to them.
fn assert_unprivileged(pid: u32) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let mut count = 0;
    for thread in threads {
        let path = thread.expect("it can be listed").path().join("status");
        // A thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(path) else { continue };
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(value("Uid:"), [NOBODY; 4], "{status}");
        assert_eq!(value("Gid:"), [NOBODY; 4], "{status}");
        assert!(value("Groups:").iter().all(|group| group == NOBODY), "{status}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), ["0000000000000000"], "{set}");
        }
        assert_eq!(value("NoNewPrivs:"), ["1"]);
        count += 1;
    }
    assert!(4 < count, "the threads were read, {count}");
}

#[test]
fn root_is_left_for_good_by_every_thread() {
    if !is_root() {
        return eprintln!("root not left: the test does not run as root");
    }
    let user = format!("FLOE_USER={NOBODY}:{NOBODY}");
    let daemon = Wrapped::start(&["env", &user], "auto");
    let mut daemon = daemon.expect("env is part of every system");
    assert_unprivileged(daemon.ready.pid);
    daemon.live();
}

/// Not refused: a container with the reference's `config.js` is like that, and a drop-in starts there.
#[test]
fn root_with_an_admin_port_that_is_open_to_others_says_so_and_no_one_else() {
    for (address, is_open) in [("0.0.0.0", true), ("127.0.0.1", false)] {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let text = format!("port = 0\nmgmt_port = 0\nmgmt_address = \"{address}\"\n");
        let launch = Launch::under(folder.path(), Ingest::Recvmmsg).config("floe.toml", &text);
        let mut daemon = launch.start();
        daemon.drain(Signal::TERM);
        let is_said = daemon.output().contains("running as root with an admin port open to others");
        assert_eq!(is_said, is_open && is_root(), "{address}: {}", daemon.output());
    }
}

#[test]
fn a_user_that_does_not_exist_ends_the_start() {
    let output = floe().args(["--user", "nobody-of-this-name"]).output().expect("it was built");
    assert_eq!(output.status.code(), Some(2));
    assert!(text_of(&output).contains("UID:GID"), "{}", text_of(&output));
}

#[test]
fn io_uring_serves_another_user_without_any_capability() {
    if !is_root() {
        return eprintln!("not tried as another user: the test does not run as root");
    }
    let refused = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    if refused.is_ok_and(|text| text.trim() != "0") {
        return eprintln!("not tried: kernel.io_uring_disabled is set");
    }
    let wrapper = [
        "setpriv",
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--ambient-caps=-all",
    ];
    let Some(mut daemon) = Wrapped::start(&wrapper, "io_uring") else {
        return eprintln!("not tried as another user: setpriv is not installed (util-linux)");
    };
    assert_unprivileged(daemon.ready.pid);
    let log = daemon.log();
    assert!(log.contains("ingest=\"io_uring\""), "{log}");
    assert!(!log.contains("restrictions of a ring"), "{log}");
    daemon.live();
}

/// 2.0 and better is systemd's own word "OK".
#[test]
fn units_are_scored_two_or_better_by_systemd() {
    for unit in ["floe.service", "statsd.service"] {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true"]).arg(packaging(unit));
        let Ok(output) = command.output() else {
            return eprintln!("{unit} not scored: systemd-analyze is not installed");
        };
        let text = text_of(&output);
        if text.contains("Unknown") || text.contains("unrecognized option") {
            return eprintln!(
                "{unit} not scored: systemd is older than 250 and cannot do it offline"
            );
        }
        let level = text.lines().find_map(|line| line.split_once("exposure level for "));
        let level = level.and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<f64>().ok());
        let level = level.unwrap_or_else(|| panic!("{unit}: {text}"));
        assert!(level <= 2.0, "{unit}: {level}\n{text}");
    }
}

/// System calls that the seccomp profile lets through.
fn allowed() -> BTreeSet<String> {
    let text = fs::read(packaging("seccomp.json")).expect("it is packaged");
    let profile: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().expect("rules");
    assert!(rules.iter().all(|rule| rule["action"] == "SCMP_ACT_ALLOW"));
    let names = rules.iter().filter_map(|rule| rule["names"].as_array()).flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// What strace saw of a whole life; `None` where it is not installed.
fn calls_of_a_life(ingest: &str) -> Option<String> {
    // Not beside the configuration, whose folder the daemon watches.
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let path = folder.path().join("calls");
    let path = path.to_str().expect("temporary folders have plain names");
    let wrapper = ["strace", "-f", "-qq", "-o", path];
    let Some(mut daemon) = Wrapped::start(&wrapper, ingest) else {
        eprintln!("not compared with real calls: strace is not installed");
        return None;
    };
    daemon.live();
    let calls = fs::read(path).expect("strace wrote it");
    Some(String::from_utf8_lossy(&calls).into_owned())
}

/// Names of `123 name(arguments) = result`, or `123 <... name resumed>`.
fn names_of(calls: &str) -> BTreeSet<&str> {
    let names = calls.lines().filter_map(|line| {
        let call = line.trim_start_matches(|each: char| each.is_ascii_digit()).trim_start();
        let name = call.split('(').next()?;
        let is_name =
            |each: char| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '_';
        (!name.is_empty() && name.chars().all(is_name)).then_some(name)
    });
    let used: BTreeSet<&str> = names.collect();
    assert!(20 < used.len(), "the calls were read: {used:?}");
    used
}

#[test]
fn the_profile_for_containers_lets_a_whole_life_through() {
    let allowed = allowed();
    for ingest in ["auto", "recvmmsg"] {
        let Some(calls) = calls_of_a_life(ingest) else { return };
        let used = names_of(&calls);
        let missing: Vec<_> = used.iter().filter(|name| !allowed.contains(**name)).collect();
        assert!(missing.is_empty(), "{ingest}: not in packaging/seccomp.json: {missing:?}");
    }
}

/// Values of all lines `key=` of a unit, in order.
fn directives<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.collect()
}

/// The system calls in a set of systemd's, as the systemd here has it; `None` without one.
fn set_of_systemd(name: &str) -> Option<BTreeSet<String>> {
    let output = Command::new("systemd-analyze").args(["syscall-filter", name]).output().ok()?;
    assert!(output.status.success(), "{name}: {}", text_of(&output));
    let text = text_of(&output);
    let mut calls = BTreeSet::new();
    for word in text.lines().skip(1).map(str::trim).filter(|word| !word.starts_with('#')) {
        match word.starts_with('@') {
            true => calls.extend(set_of_systemd(word)?),
            false => drop(calls.insert(word.to_owned())),
        }
    }
    Some(calls)
}

/// The system calls that a unit lets through; `None` without systemd.
fn allowed_by(unit: &str) -> Option<BTreeSet<String>> {
    let mut allowed = BTreeSet::new();
    for line in directives(unit, "SystemCallFilter") {
        let (words, is_refusal) = line.strip_prefix('~').map_or((line, false), |it| (it, true));
        for word in words.split_whitespace() {
            let calls = match word.starts_with('@') {
                true => set_of_systemd(word)?,
                false => BTreeSet::from([word.to_owned()]),
            };
            match is_refusal {
                true => allowed.retain(|call| !calls.contains(call)),
                false => allowed.extend(calls),
            }
        }
    }
    Some(allowed)
}

/// What the kernel would have refused of a life under the sandbox of a unit, were it a service here:
/// system calls, families of sockets, memory that is written and executed.
#[test]
fn the_sandbox_of_the_units_lets_a_whole_life_through() {
    for ingest in ["io_uring", "recvmmsg"] {
        let Some(calls) = calls_of_a_life(ingest) else { return };
        let used = names_of(&calls);
        assert_eq!(used.contains("io_uring_enter"), ingest == "io_uring");
        for name in ["floe.service", "statsd.service"] {
            let unit = fs::read_to_string(packaging(name)).expect("it is packaged");
            let Some(allowed) = allowed_by(&unit) else {
                return eprintln!("{name} not compared: systemd-analyze is not installed");
            };
            let refused: Vec<_> = used.iter().filter(|call| !allowed.contains(**call)).collect();
            // What starts a program comes before the filter.
            assert!(refused.is_empty(), "{ingest}: {name} refuses {refused:?}");
            let families = directives(&unit, "RestrictAddressFamilies").join(" ");
            let families: Vec<&str> = families.split_whitespace().collect();
            let opened = calls.split("socket(").skip(1).filter_map(|call| call.split(',').next());
            let refused: BTreeSet<_> = opened.filter(|it| !families.contains(it)).collect();
            assert!(refused.is_empty(), "{ingest}: {name} refuses sockets {refused:?}");
            assert_eq!(directives(&unit, "MemoryDenyWriteExecute"), ["true"]);
            let is_both = |line: &&str| line.contains("PROT_WRITE") && line.contains("PROT_EXEC");
            assert_eq!(calls.lines().find(is_both), None, "{ingest}: {name}");
        }
    }
}

#[test]
fn the_profile_for_containers_has_io_uring_and_nothing_that_escapes() {
    let allowed = allowed();
    for needed in ["io_uring_setup", "io_uring_enter", "io_uring_register", "sched_setaffinity"] {
        assert!(allowed.contains(needed), "{needed}");
    }
    for refused in [
        "ptrace",
        "mount",
        "umount2",
        "pivot_root",
        "setns",
        "unshare",
        "bpf",
        "kexec_load",
        "init_module",
        "finit_module",
        "delete_module",
        "perf_event_open",
        "process_vm_readv",
        "process_vm_writev",
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "open_by_handle_at",
        "reboot",
        "swapon",
        "settimeofday",
        "clock_settime",
        "iopl",
        "ioperm",
        "acct",
    ] {
        assert!(!allowed.contains(refused), "{refused}");
    }
}
