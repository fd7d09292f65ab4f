//! The statsd clients of other people, each sending the same workload under a prefix of its own:
//! PyPI `statsd` (in the Python environment), npm `hot-shots` (installed once under `target/`
//! from the committed lock file), and the crate `cadence`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use cadence::prelude::*;
use cadence::{StatsdClient, UdpMetricSink};

use super::{daemon, process, venv};

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
const NODE: &str = include_str!("../clients/hot_shots_client.js");
const PACKAGE: &str = include_str!("../clients/package.json");
const PACKAGE_LOCK: &str = include_str!("../clients/package-lock.json");

/// PyPI `statsd`: single datagrams and a pipeline, which packs lines.
pub(crate) fn send_with_pypi_statsd(to: SocketAddr, prefix: &str) {
    let mut command = venv::command("python");
    command.args(["-c", PYTHON, &to.ip().to_string(), &to.port().to_string(), prefix]);
    process::run("the PyPI client", &mut command);
}

/// npm `hot-shots`, buffering lines into packed datagrams.
pub(crate) fn send_with_hot_shots(to: SocketAddr, prefix: &str) {
    let mut command = Command::new("node");
    command.current_dir(node_folder()).arg("hot_shots_client.js");
    command.args([&to.ip().to_string(), &to.port().to_string(), prefix]);
    process::run("the npm client", &mut command);
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
        let folder = venv::target_folder().join("node-clients");
        let wanted = [PACKAGE, PACKAGE_LOCK, NODE].concat();
        venv::once(&folder, &wanted, |folder| {
            fs::create_dir_all(folder).expect("target/ is writable");
            for (name, text) in [
                ("package.json", PACKAGE),
                ("package-lock.json", PACKAGE_LOCK),
                ("hot_shots_client.js", NODE),
            ] {
                fs::write(folder.join(name), text).expect("target/ is writable");
            }
            let mut command = Command::new("npm");
            command.current_dir(folder).args(["ci", "--omit=optional", "--ignore-scripts"]);
            command.args(["--no-audit", "--no-fund"]);
            process::run("npm ci (the tests need Node.js and npm)", &mut command);
        });
        folder
    })
}
