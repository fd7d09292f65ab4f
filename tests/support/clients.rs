//! The statsd clients of other people, each sending the same workload under a prefix of its own:
//! PyPI `statsd` and `datadog` (in the Python environment), npm `hot-shots`, `node-statsd` and
//! `statsd-client` (from the committed lock file), the crate `cadence`, and a shell.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use cadence::prelude::*;
use cadence::{StatsdClient, UdpMetricSink};

use super::{daemon, npm, process, venv};

/// What each client sends, which is what Graphite shall show.
pub(crate) mod workload {
    /// Sum of all increments of `hits`.
    pub(crate) const HITS: f64 = 17.0;
    /// The last value of the gauge `level`.
    pub(crate) const LEVEL: f64 = 42.0;
    /// The values of the timer `latency`, in milliseconds.
    pub(crate) const LATENCY_MS: [f64; 3] = [10.0, 20.0, 30.0];
    /// How many distinct members the set `users` has; each is sent once.
    pub(crate) const USERS: f64 = 3.0;
}

const PYTHON: &str = include_str!("../clients/statsd_client.py");
const DATADOG: &str = include_str!("../clients/datadog_client.py");
const SHELL: &str = include_str!("../clients/shell_client.sh");
const NODE: [(&str, &str); 3] = [
    ("hot_shots_client.js", include_str!("../clients/hot_shots_client.js")),
    ("node_statsd_client.js", include_str!("../clients/node_statsd_client.js")),
    ("statsd_client_client.js", include_str!("../clients/statsd_client_client.js")),
];
const PACKAGE: &str = include_str!("../clients/package.json");
const PACKAGE_LOCK: &str = include_str!("../clients/package-lock.json");

/// PyPI `statsd`: single datagrams and a pipeline, which packs lines.
pub(crate) fn send_with_pypi_statsd(to: SocketAddr, prefix: &str) {
    send_with_python(PYTHON, to, prefix);
}

/// PyPI `datadog`: DogStatsD, buffering lines into packed datagrams.
pub(crate) fn send_with_datadog(to: SocketAddr, prefix: &str) {
    send_with_python(DATADOG, to, prefix);
}

fn send_with_python(program: &str, to: SocketAddr, prefix: &str) {
    let mut command = venv::command("python");
    command.args(["-c", program, &to.ip().to_string(), &to.port().to_string(), prefix]);
    process::run("the PyPI client", &mut command);
}

/// npm `hot-shots`, buffering lines into packed datagrams.
pub(crate) fn send_with_hot_shots(to: SocketAddr, prefix: &str) {
    send_with_node("hot_shots_client.js", to, prefix);
}

/// npm `node-statsd`, one line per datagram.
pub(crate) fn send_with_node_statsd(to: SocketAddr, prefix: &str) {
    send_with_node("node_statsd_client.js", to, prefix);
}

/// npm `statsd-client`, buffering.
pub(crate) fn send_with_statsd_client(to: SocketAddr, prefix: &str) {
    send_with_node("statsd_client_client.js", to, prefix);
}

fn send_with_node(program: &str, to: SocketAddr, prefix: &str) {
    let mut command = Command::new("node");
    command.current_dir(node_folder()).arg(program);
    command.args([&to.ip().to_string(), &to.port().to_string(), prefix]);
    process::run("the npm client", &mut command);
}

/// Bash and its `/dev/udp`, as scripts do without netcat.
pub(crate) fn send_with_shell(to: SocketAddr, prefix: &str) {
    let mut command = Command::new("bash");
    command.args(["-c", SHELL, "shell_client"]);
    command.args([&to.ip().to_string(), &to.port().to_string(), prefix]);
    process::run("the shell (the tests need bash)", &mut command);
}

/// The crate `cadence`, one line per datagram.
pub(crate) fn send_with_cadence(to: SocketAddr, prefix: &str) {
    let sink = UdpMetricSink::from(to, daemon::sender()).expect("the address is resolved");
    let client = StatsdClient::from_sink(prefix, sink);
    for _ in 0..10 {
        client.incr("hits").expect("loopback takes the datagram");
    }
    client.count("hits", 7).expect("loopback takes the datagram");
    client.gauge("level", 40).expect("loopback takes the datagram");
    client.gauge("level", 42).expect("loopback takes the datagram");
    for ms in [10, 20] {
        client.time("latency", ms).expect("loopback takes the datagram");
    }
    client.time("latency", Duration::from_millis(30)).expect("loopback takes the datagram");
    for user in [1, 2, 3] {
        client.set("users", user).expect("loopback takes the datagram");
    }
}

fn node_folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut files = vec![("package.json", PACKAGE), ("package-lock.json", PACKAGE_LOCK)];
        files.extend(NODE);
        npm::folder("node-clients", &files)
    })
}
