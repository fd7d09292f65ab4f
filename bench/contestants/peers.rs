//! Other statsd daemons: taken along where their program is found on the PATH, never installed.
//!
//! Each has the configuration that its documentation recommends for load: one receiver, the largest
//! receive buffer it has a setting for, batches where it knows them. Those that have an internal
//! queue (telegraf, vector, gostatsd) may lose behind the socket; the kernel does not count that.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Site;
use super::daemon::{Daemon, free_port};

/// A daemon, and how it is configured.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Its name, and that of its program.
    pub(crate) name: &'static str,
    /// Arguments; `{config}` is the file.
    arguments: &'static [&'static str],
    /// The file; `{port}`, `{graphite}`, `{seconds}` and `{folder}` are filled in.
    config: &'static str,
    /// What makes it say its version.
    version: &'static [&'static str],
}

/// All that are known.
pub(crate) const PEERS: [Peer; 7] = [
    Peer {
        name: "statsite",
        arguments: &["-f", "{config}"],
        config: "[statsite]\nbind_address = 127.0.0.1\nudp_port = {port}\ntcp_port = 0\n\
            udp_rcvbuf = 8388608\nflush_interval = {seconds}\nquantiles = 0.9\nlog_level = WARN\n\
            stream_cmd = cat > /dev/null\n",
        version: &["-h"],
    },
    Peer {
        name: "brubeck",
        arguments: &["--config", "{config}"],
        config: r#"{"server_name": "brubeck", "dumpfile": "dump", "capacity": 15, "expire": 20,
"backends": [{"type": "carbon", "address": "127.0.0.1", "port": {graphite}, "frequency": {seconds}}],
"samplers": [{"type": "statsd", "address": "127.0.0.1", "port": {port}, "workers": 1,
"multisock": true, "multimsg": 8}]}"#,
        version: &["--version"],
    },
    Peer {
        name: "gostatsd",
        arguments: &["--config-path", "{config}"],
        config: "metrics-addr = \"127.0.0.1:{port}\"\nbackends = [\"graphite\"]\n\
            flush-interval = \"{seconds}s\"\nmax-readers = 1\nreceive-batch-size = 50\n\
            ignore-host = true\npercent-threshold = [90.0]\nhttp-servers = []\n\
            [graphite]\naddress = \"127.0.0.1:{graphite}\"\n",
        version: &["--version"],
    },
    Peer {
        name: "telegraf",
        arguments: &["--quiet", "--config", "{config}"],
        config: "[agent]\ninterval = \"{seconds}s\"\nflush_interval = \"{seconds}s\"\n\
            metric_batch_size = 10000\nmetric_buffer_limit = 1000000\nomit_hostname = true\n\
            [[inputs.statsd]]\nprotocol = \"udp\"\nservice_address = \"127.0.0.1:{port}\"\n\
            percentiles = [90.0]\nallowed_pending_messages = 1000000\nread_buffer_size = 8388608\n\
            [[outputs.graphite]]\nservers = [\"127.0.0.1:{graphite}\"]\n",
        version: &["--version"],
    },
    Peer {
        name: "vector",
        arguments: &["--quiet", "--config-toml", "{config}"],
        config: "data_dir = \".\"\n[sources.statsd]\ntype = \"statsd\"\nmode = \"udp\"\n\
            address = \"127.0.0.1:{port}\"\nreceive_buffer_bytes = 8388608\n\
            [transforms.aggregate]\ntype = \"aggregate\"\ninputs = [\"statsd\"]\n\
            interval_ms = {seconds}000\n\
            [sinks.discard]\ntype = \"blackhole\"\ninputs = [\"aggregate\"]\n",
        version: &["--version"],
    },
    Peer {
        name: "netdata",
        arguments: &["-D", "-u", "root", "-c", "{config}"],
        config: "[directories]\ncache = {folder}/cache\nlib = {folder}/lib\nlog = {folder}/log\n\
            config = {folder}\n[db]\nmode = ram\nupdate every = {seconds}\n[web]\nmode = none\n[ml]\nenabled = no\n\
            [cloud]\nenabled = no\n[health]\nenabled = no\n\
            [plugins]\nenable running new plugins = no\ncheck for new plugins every = 86400\n\
            proc = no\ndiskspace = no\ncgroups = no\ntc = no\nidlejitter = no\ntimex = no\n\
            checks = no\napps = no\nstatsd = yes\n\
            [statsd]\nenabled = yes\nbind to = udp:127.0.0.1:{port}\ndefault port = {port}\n\
            create private charts for metrics matching = !*\n\
            histograms and timers percentile (percentThreshold) = 90.0\n",
        version: &["-V"],
    },
    Peer {
        name: "collectd",
        arguments: &["-f", "-C", "{config}"],
        config: "Hostname \"bench\"\nFQDNLookup false\nBaseDir \".\"\nPIDFile \"pid\"\n\
            Interval {seconds}\nTypesDB \"/usr/share/collectd/types.db\"\n\
            LoadPlugin statsd\n<Plugin statsd>\nHost \"127.0.0.1\"\nPort \"{port}\"\n\
            TimerPercentile 90.0\n</Plugin>\n\
            LoadPlugin write_graphite\n<Plugin write_graphite>\n<Node \"discard\">\n\
            Host \"127.0.0.1\"\nPort \"{graphite}\"\nProtocol \"tcp\"\n</Node>\n</Plugin>\n",
        version: &["-h"],
    },
];

impl Peer {
    /// Its version where its program is found; or that it is not.
    pub(super) fn find(&self) -> Result<String, String> {
        let Some(path) = on_path(self.name) else {
            return Err("not on the PATH".to_owned());
        };
        let output = Command::new(path).args(self.version).output();
        let output = output.map_err(|error| format!("does not run: {error}"))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let has_digit = |line: &&str| line.chars().any(|each| each.is_ascii_digit());
        let word = text.lines().find(|line| line.contains(self.name) && has_digit(line));
        Ok(word.or(text.lines().find(has_digit)).unwrap_or("found").trim().to_owned())
    }

    /// Starts it.
    pub(super) fn start(&self, site: &Site) -> anyhow::Result<Daemon> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        for name in ["cache", "lib", "log"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let path = folder.path().join("config");
        std::fs::write(&path, self.config_text(port, site, folder.path()))?;
        let path = path.display().to_string();
        let mut command = Command::new(on_path(self.name).unwrap_or_else(|| self.name.into()));
        command.args(self.arguments.iter().map(|word| word.replace("{config}", &path)));
        Daemon::start(command, folder, port, &site.receiver_cpus)
    }

    fn config_text(&self, port: u16, site: &Site, folder: &Path) -> String {
        // The discard port stands in where nothing is delivered.
        let graphite = site.graphite_port.unwrap_or(9);
        let seconds = (site.flush_interval_ms / 1_000).max(1);
        self.config
            .replace("{port}", &port.to_string())
            .replace("{graphite}", &graphite.to_string())
            .replace("{seconds}", &seconds.to_string())
            .replace("{folder}", &folder.display().to_string())
    }
}

/// The program `name` in the folders of PATH, and in those of system programs.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_name_the_port_and_leave_no_blank() {
        let site = Site {
            sender_cpu: 0,
            receiver_cpus: vec![1],
            flush_interval_ms: 2_000,
            graphite_port: Some(2_003),
            floe: PathBuf::new(),
        };
        for peer in &PEERS {
            let text = peer.config_text(8_125, &site, Path::new("/tmp/one"));
            assert!(text.contains("8125"), "{}: {text}", peer.name);
            for blank in ["{port}", "{graphite}", "{seconds}", "{folder}"] {
                assert!(!text.contains(blank), "{}: {text}", peer.name);
            }
        }
    }
}
