//! What a user of the reference daemon finds in its place: the same files, the same ports, and an
//! answer to a wrong file that says what to do.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use support::carbon::{Protocol, RecordingCarbon, series};
use support::daemon::{Ingest, Launch, floe, floe_output, send, text_of};
use support::ports;
use support::settings::{self, Backend};

mod support;

const DELIVERY_BOUND: Duration = Duration::from_secs(20);

#[test]
fn check_says_what_it_understood() {
    let backend = Backend { name: "north", port: 2104, protocol: Protocol::Pickle };
    let text = settings::toml(2500, &[backend]);
    let output = check("floe.toml", &text);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    for word in ["north", "127.0.0.1:2104", "pickle"] {
        assert!(text_of(&output).contains(word), "{word} is missing: {}", text_of(&output));
    }
}

#[test]
fn check_reads_a_config_js_of_the_reference() {
    let text = "/* the usual */\n{\n  graphitePort: 2003\n, graphiteHost: 'graphite.example'\n\
                , port: 8125 // the usual port\n, backends: ['./backends/graphite'],\n}\n";
    let output = check("config.js", text);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    for word in ["graphite.example", "2003", "8125"] {
        assert!(text_of(&output).contains(word), "{word} is missing: {}", text_of(&output));
    }
}

/// What a fleet's file means is said in TOML, and floe understands both in the same way.
#[test]
fn the_toml_of_a_config_js_means_the_same() {
    let text = "{ graphiteHost: 'graphite.example', port: '8130', percentThreshold: [90, '99.90', 150]\n\
                , servers: [{ server: './servers/udp' }\n\
                , { server: './servers/tcp', socket: '/tmp/s', socket_mod: 0660 }], title: 'a\\nb'\n\
                , backends: ['./backends/graphite', './backends/repeater', './backends/console']\n\
                , repeater: [{ host: '::1', port: 8125 }], keyFlush: { interval: 5000 } }\n";
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let source = folder.path().join("con\nfig.js");
    fs::write(&source, text).expect("the folder is writable");
    let source = source.to_str().expect("temporary folders have plain names");
    let written = folder.path().join("floe.toml");
    let output = floe_output(["config", "--from", source]);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    fs::write(&written, &output.stdout).expect("the folder is writable");
    let first = floe_output(["check", source]);
    let again = floe_output(["check", written.to_str().expect("a plain name")]);
    assert_eq!(again.status.code(), Some(0), "{}", text_of(&again));
    let is_warning = |line: &&str| line.starts_with("warning: ");
    let first = String::from_utf8_lossy(&first.stdout).into_owned();
    let settings: Vec<&str> = first.lines().filter(|line| !is_warning(line)).collect();
    assert_eq!(String::from_utf8_lossy(&again.stdout).lines().collect::<Vec<_>>(), settings);
    let toml = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(toml.contains("# warning: port has no effect beside servers\n"), "{toml}");
    for arguments in [["config", "--from", "/nowhere/x"], ["config", "--from", "/"]] {
        assert_eq!(floe_output(arguments).status.code(), Some(2));
    }
}

#[test]
fn a_wrong_file_is_refused_with_code_2() {
    for (name, text, said) in [
        ("floe.toml", "flushIntervall = 1000\n", "flushInterval"),
        ("floe.toml", "port = 70000\n", "port"),
        ("floe.toml", "port = \n", "floe.toml"),
        ("floe.toml", "percentThreshold = [200]\n", "percentThreshold"),
        (
            "floe.toml",
            "[[backends]]\nname = \"a\"\naddress = \"x:1\"\nprotocol = \"json\"\n",
            "json",
        ),
        ("config.js", "{ port: 8125", "config.js"),
    ] {
        let output = check(name, text);
        assert_eq!(output.status.code(), Some(2), "{text}: {}", text_of(&output));
        assert!(text_of(&output).contains(said), "{text}: {said} is missing: {}", text_of(&output));
    }
}

#[test]
fn an_unknown_key_of_a_config_js_is_one_warning() {
    let output = check("config.js", "{ port: 8125, someModuleOfOurs: { answer: 42 } }\n");
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output));
    let text = text_of(&output);
    let warnings = text.lines().filter(|line| line.contains("someModuleOfOurs")).count();
    assert_eq!(warnings, 1, "named once: {text}");
}

#[test]
fn a_wrong_file_keeps_the_daemon_from_starting() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", "flushIntervall = 1000\n")
        .spawn();
    let status = daemon.wait_exit(Duration::from_secs(5));
    assert_eq!(status.code(), Some(2), "{}", daemon.output());
    assert!(daemon.output().contains("flushInterval"), "{}", daemon.output());
}

#[test]
fn an_unknown_option_is_wrong_usage() {
    let output = floe_output(["--no-such-option"]);
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
}

#[test]
fn a_mistyped_command_is_told_from_a_missing_file() {
    for (argument, is_hinted) in [("qurey", true), ("no-such-file.toml", false)] {
        let output = floe_output([argument]);
        assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
        let said = text_of(&output);
        assert!(said.contains(argument) && said.contains("No such file"), "{said}");
        assert_eq!(said.contains("floe --help"), is_hinted, "{said}");
    }
}

#[test]
fn workers_that_cannot_be_placed_are_wrong_usage_and_leave_no_spool() {
    let wrong = [("--workers", "0", "1..=64"), ("--cpus", "1023", "set cpus to some of those")];
    for (option, value, advice) in wrong {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let spool = folder.path().join("spool");
        let text = spool.to_str().expect("temporary folders have plain names");
        let output = floe_output(["--spool", text, option, value]);
        assert_eq!(output.status.code(), Some(2), "{option}: {}", text_of(&output));
        assert!(text_of(&output).contains(advice), "{option}: {}", text_of(&output));
        assert!(!spool.exists(), "{option}: the spool is untouched");
    }
}

#[test]
fn a_cause_is_said_once() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = taken.local_addr().expect("a bound socket has an address").port();
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let config = settings::toml(1000, &[]);
    let config = config.replacen("mgmt_port = 0", &format!("mgmt_port = {port}"), 1);
    let launch = Launch::under(folder.path(), Ingest::Recvmmsg).config("floe.toml", &config);
    let mut daemon = launch.spawn();
    daemon.wait_exit(Duration::from_secs(5));
    let said = daemon.output();
    assert_eq!(said.matches("Address already in use").count(), 1, "{said}");
}

#[test]
fn the_ready_file_tells_the_real_addresses() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &settings::toml(1000, &[]))
        .start();
    let ready = daemon.ready().clone();
    assert_eq!(ready.pid, daemon.id());
    assert!(ready.udp.iter().all(|address| address.port() != 0), "{ready:?}");
    assert!(TcpStream::connect(ready.mgmt).is_ok(), "the management port accepts: {ready:?}");
    assert!(ready.spool.is_dir(), "the spool is there: {ready:?}");
    daemon.drain(Signal::TERM);
}

#[test]
fn r5_the_ready_file_touches_no_neighbour_that_differs_in_its_ending() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let neighbour = folder.path().join("ready.tmp");
    std::fs::write(&neighbour, "another's").expect("the folder is writable");
    let mut daemon = Launch::under(folder.path(), Ingest::Recvmmsg)
        .config("floe.toml", &settings::toml(1000, &[]))
        .start();
    assert_eq!(daemon.ready().pid, daemon.id());
    daemon.drain(Signal::TERM);
    assert_eq!(std::fs::read_to_string(&neighbour).expect("it is there"), "another's");
}

/// Else root, who says `/dev/null`, has a plain file there afterwards.
#[test]
fn r5_a_ready_file_that_is_no_plain_file_is_written_to_and_not_replaced() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).expect("the folder is writable");
    let opened = fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("it is ours");
    fs::write(folder.path().join("floe.toml"), "port = 0\nmgmt_port = 0\n").expect("writable");
    let mut command = floe();
    command.args(["floe.toml", "--spool", "spool", "--ready-file", "pipe"]);
    let mut daemon =
        command.current_dir(folder.path()).stderr(Stdio::null()).spawn().expect("built");
    let mut line = String::new();
    BufReader::new(opened).read_line(&mut line).expect("the daemon writes");
    assert!(line.contains(&format!("\"pid\":{}", daemon.id())), "{line}");
    daemon.kill().expect("it lives");
    daemon.wait().expect("a child of ours");
    let kind = fs::symlink_metadata(&pipe).expect("it is there").file_type();
    assert!(kind.is_fifo(), "{kind:?}");
    assert!(!folder.path().join("pipe.tmp").exists());
}

#[test]
fn r5_a_port_that_the_configuration_has_twice_is_not_blamed_on_another_process() {
    let port = ports::free();
    let udp =
        |port| format!("{{ server = './servers/udp', address = '127.0.0.1', port = {port} }}");
    let tcp = format!("{{ server = './servers/tcp', address = '127.0.0.1', port = {port} }}");
    for (servers, mgmt_port) in [([udp(port), udp(port)], 0), ([udp(0), tcp], port)] {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let text = format!("servers = [{}]\nmgmt_port = {mgmt_port}\n", servers.join(", "));
        let launch = Launch::under(folder.path(), Ingest::Recvmmsg).config("floe.toml", &text);
        let mut daemon = launch.spawn();
        let status = daemon.wait_exit(DELIVERY_BOUND);
        let said = daemon.output();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("by another server of this configuration; "), "{said}");
    }
}

#[test]
fn workers_and_cpus_are_taken_from_the_command_line() {
    for ingest in Ingest::BOTH {
        let carbon = RecordingCarbon::start();
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let mut daemon = Launch::under(folder.path(), ingest)
            .config("floe.toml", &settings::one_text_backend(1000, carbon.port()))
            .argument("--workers")
            .argument("3")
            .argument("--cpus")
            .argument(&allowed_cpu())
            .start();
        // Many sockets, so that every worker gets its share of the flows.
        for _ in 0..60 {
            send(daemon.udp(), ["shared.hits:1|c"]);
        }
        daemon.drain(Signal::TERM);
        carbon.wait_idle(DELIVERY_BOUND);
        let points = carbon.take_points(Protocol::Text);
        let total: f64 = series(&points, "stats_counts.shared.hits").values().sum();
        assert_eq!(total, 60.0, "{ingest:?}: the workers' shards are merged");
    }
}

/// Flag, environment, `config.js`, TOML: each chooses, and the one before wins.
#[test]
fn workers_and_their_receive_path_are_chosen_in_every_way() {
    let cpu = allowed_cpu();
    let toml = format!(
        "{}ingest = \"recvmmsg\"\nworkers = 2\ncpus = \"{cpu}\"\n",
        settings::toml(1000, &[])
    );
    let table = format!(
        "{}[ingest]\nmode = \"recvmmsg\"\nworkers = 2\ncpus = [{cpu}]\n",
        settings::toml(1000, &[])
    );
    let javascript = format!(
        "{{ port: {}, address: '127.0.0.1', mgmt_port: {}, mgmt_address: '127.0.0.1',\n\
         floe: {{ ingest: 'recvmmsg', workers: 2, cpus: '{cpu}' }} }}\n",
        ports::free(),
        ports::free()
    );
    for (name, text) in [("floe.toml", &toml), ("floe.toml", &table), ("config.js", &javascript)] {
        assert_eq!(workers_of(name, text, &[], &[]), ["recvmmsg"; 2], "{text}");
    }
    let environment = [("FLOE_INGEST", "recvmmsg"), ("FLOE_WORKERS", "2"), ("FLOE_CPUS", &cpu)];
    let empty = [("FLOE_INGEST", ""), ("FLOE_WORKERS", ""), ("FLOE_CPUS", "")];
    assert_eq!(workers_of("floe.toml", &toml, &empty, &[]), ["recvmmsg"; 2], "set, but to nothing");
    let plain = settings::toml(1000, &[]);
    assert_eq!(workers_of("floe.toml", &plain, &environment, &[]), ["recvmmsg"; 2]);
    let contrary = format!("{plain}ingest = \"io_uring\"\nworkers = 3\n");
    assert_eq!(workers_of("floe.toml", &contrary, &environment, &[]), ["recvmmsg"; 2]);
    let flags = ["--ingest", "recvmmsg", "--workers", "1", "--cpus", &cpu];
    let contrary = [("FLOE_INGEST", "io_uring"), ("FLOE_WORKERS", "3"), ("FLOE_CPUS", "1023")];
    assert_eq!(workers_of("floe.toml", &plain, &contrary, &flags), ["recvmmsg"]);
}

/// The receive path of each worker, as the log of a start says it; all are on [`allowed_cpu`].
fn workers_of(name: &str, text: &str, environment: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut launch =
        Launch::under(folder.path(), Ingest::IoUring).config(name, text).without_ingest_flag();
    for (name, value) in environment {
        launch = launch.environment(name, value);
    }
    for flag in flags {
        launch = launch.argument(flag);
    }
    let mut daemon = launch.start();
    daemon.drain(Signal::TERM);
    let output = daemon.output();
    let started: Vec<&str> =
        output.lines().filter(|line| line.contains("worker started")).collect();
    let cpu = format!(" cpu={} ", allowed_cpu());
    assert!(started.iter().all(|line| line.contains(&cpu)), "pinned to{cpu}: {started:?}");
    let path = |line: &&str| line.split("ingest=").nth(1).map(|path| path.replace('"', ""));
    started.iter().filter_map(path).collect()
}

/// Graphite receives exactly what the reference sends, unless the file asks for more.
#[test]
fn books_are_points_with_a_config_js_only_if_it_says_so() {
    for (block, is_on) in [("", false), (", floe: { books: true }", true)] {
        let carbon = RecordingCarbon::start();
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let (port, mgmt_port) = (ports::free(), ports::free());
        let text = format!(
            "{{ graphiteHost: '127.0.0.1', graphitePort: {}, port: {port}, address: '127.0.0.1',\n\
             mgmt_port: {mgmt_port}, mgmt_address: '127.0.0.1', flushInterval: 1000{block} }}\n",
            carbon.port()
        );
        let launch = Launch::under(folder.path(), Ingest::Recvmmsg).config("config.js", &text);
        let mut daemon = launch.start();
        send(daemon.udp(), ["booked.hits:1|c\nbooked.hits:x|c\nbooked.hits"]);
        daemon.drain(Signal::TERM);
        carbon.wait_idle(DELIVERY_BOUND);
        let points = carbon.take_points(Protocol::Text);
        let sum = |name: &str| series(&points, name).values().sum::<f64>();
        assert_eq!(sum("stats_counts.booked.hits"), 1.0, "{block}");
        let books: BTreeSet<&str> =
            points.iter().filter_map(|point| point.name.split(".floe.").nth(1)).collect();
        assert_eq!(!books.is_empty(), is_on, "{block}: {books:?}");
        let untold: Vec<&&str> = books.iter().filter(|name| !is_told(name)).collect();
        assert!(untold.is_empty(), "not in docs/protocol.md: {untold:?}");
        for (name, expected) in [
            ("datagrams_received", 1.0),
            ("values_accepted", 1.0),
            ("values_rejected.value", 1.0),
            ("values_rejected.syntax", 1.0),
        ] {
            let expected = if is_on { expected } else { 0.0 };
            assert_eq!(sum(&format!("stats.statsd.floe.{name}")), expected, "{block}: {name}");
        }
    }
}

/// Whether the manual has the book: a name of one word in full, others by their first word, those of
/// a backend by what follows its name.
fn is_told(book: &str) -> bool {
    let page = include_str!("../docs/protocol.md");
    let word = book.strip_prefix("backend.graphite.").unwrap_or(book).split('.').next();
    word.is_some_and(|word| {
        [format!("`{word}"), format!(".{word}")].iter().any(|shown| page.contains(shown))
    })
}

/// The first CPU that this process may use, from the kernel's list such as `0-3,8`.
fn allowed_cpu() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = list.and_then(|list| list.trim().split(['-', ',']).next());
    first.expect("the list has a first CPU").to_owned()
}

fn check(name: &str, text: &str) -> Output {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, text).expect("the temporary folder is writable");
    floe_output(["check".as_ref(), Path::new(&path).as_os_str()])
}
