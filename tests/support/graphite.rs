//! A real Graphite of the test's own: carbon-cache and graphite-web on free loopback ports, every
//! file under a temporary folder, and the read side through the render API and through whisper.
//!
//! carbon binds with `SO_REUSEPORT`, so it would share a taken port in silence: ports come from
//! [`ports::free`], and a start that fails is repeated with others. Stopping and starting again
//! keeps ports and data.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, tail};
use super::{ports, venv, wait};

const START_BOUND: Duration = Duration::from_secs(30);
const STOP_BOUND: Duration = Duration::from_secs(10);
const START_TRIES: usize = 3;
/// How long a point may take from floe's flush to a reader, on a busy machine.
pub(crate) const READ_BOUND: Duration = Duration::from_secs(30);

/// Values by timestamp (seconds since the epoch); slots without a value are left out.
pub(crate) type Series = BTreeMap<u64, f64>;

/// carbon-cache, and graphite-web where it was asked for.
pub(crate) struct Graphite {
    folder: TempDir,
    ports: Ports,
    carbon: Option<Process>,
    web: Option<Process>,
}

/// What carbon-cache keeps in memory, and how fast it empties that.
#[derive(Clone, Copy)]
pub(crate) struct Cache {
    /// Points in memory, beyond which it stops reading (`MAX_CACHE_SIZE`, with flow control).
    pub(crate) points_max: Option<u32>,
    /// Points written a second at the most (`MAX_UPDATES_PER_SECOND`).
    pub(crate) updates_per_s_max: Option<u32>,
}

impl Cache {
    const UNBOUNDED: Self = Self { points_max: None, updates_per_s_max: None };
}

#[derive(Clone, Copy)]
struct Ports {
    text: u16,
    pickle: u16,
    query: u16,
    web: u16,
}

impl Graphite {
    /// carbon-cache and graphite-web; new series get `retention`, such as `1s:1h`.
    pub(crate) fn start(retention: &str) -> Self {
        let mut graphite = Self::carbon_only(retention);
        graphite.start_web();
        graphite
    }

    /// carbon-cache alone, read through whisper.
    pub(crate) fn carbon_only(retention: &str) -> Self {
        Self::carbon_within(retention, Cache::UNBOUNDED)
    }

    /// The same that can hold and write only so much.
    pub(crate) fn carbon_within(retention: &str, cache: Cache) -> Self {
        venv::folder();
        for _ in 1..START_TRIES {
            let mut graphite = Self::prepare(retention, cache);
            if graphite.try_start_carbon().is_ok() {
                return graphite;
            }
        }
        let mut graphite = Self::prepare(retention, cache);
        graphite.start_carbon();
        graphite
    }

    pub(crate) fn text_port(&self) -> u16 {
        self.ports.text
    }

    pub(crate) fn pickle_port(&self) -> u16 {
        self.ports.pickle
    }

    /// Stops carbon as an operator would. Its ports close at once; what it took during the last
    /// second and has not written is lost, since its writer sleeps for so long between passes.
    pub(crate) fn stop_carbon(&mut self) {
        self.carbon.take().expect("carbon runs").stop(STOP_BOUND);
    }

    /// Starts carbon on the same ports and data.
    pub(crate) fn start_carbon(&mut self) {
        if let Err(log) = self.try_start_carbon() {
            panic!("carbon-cache did not come up; its log ends:\n{log}");
        }
    }

    /// The values of `target` over the last `minutes` by the render API.
    pub(crate) fn render(&self, target: &str, minutes: u32) -> Series {
        let url = format!("http://127.0.0.1:{}/render", self.ports.web);
        let mut response = ureq::get(&url)
            .query("target", target)
            .query("from", format!("-{minutes}min"))
            .query("noCache", "1")
            .query("format", "json")
            .call()
            .unwrap_or_else(|error| {
                panic!("render of {target} failed: {error}\n{}", tail(&self.log("web")))
            });
        let text = response.body_mut().read_to_string().expect("the render API answers in UTF-8");
        let answer: Value = serde_json::from_str(&text).expect("format=json answers in JSON");
        let mut series = Series::new();
        for list in answer.as_array().expect("a list of series") {
            for pair in list["datapoints"].as_array().expect("a list of pairs") {
                if let (Some(value), Some(time)) = (pair[0].as_f64(), pair[1].as_u64()) {
                    series.insert(time, value);
                }
            }
        }
        series
    }

    /// The values of `path` as the whisper file has them.
    pub(crate) fn whisper(&self, path: &str) -> Series {
        self.whisper_all(&[path]).remove(path).unwrap_or_default()
    }

    /// The values of each of `paths` as the whisper files have them; missing files are left out.
    pub(crate) fn whisper_all(&self, paths: &[&str]) -> BTreeMap<String, Series> {
        // Whisper answers "from" exclusively and the newest slot belongs to the range.
        const PROGRAM: &str = "
import json, os, sys, time, whisper
out = {}
for name in sys.argv[2:]:
    path = os.path.join(sys.argv[1], *name.split('.')) + '.wsp'
    if not os.path.exists(path):
        continue
    now = int(time.time())
    fetched = whisper.fetch(path, now - 3000, now + 60, now=now + 60)
    (start, end, step), values = fetched
    out[name] = [[start + i * step, v] for i, v in enumerate(values) if v is not None]
print(json.dumps(out))
";
        let mut command = venv::command("python");
        command.args(["-c", PROGRAM]).arg(self.whisper_folder()).args(paths);
        let text = super::process::run("whisper.fetch", &mut command);
        let read: BTreeMap<String, Vec<(u64, f64)>> =
            serde_json::from_str(&text).expect("the program prints JSON");
        read.into_iter().map(|(name, pairs)| (name, pairs.into_iter().collect())).collect()
    }

    /// The dotted names of all whisper files but carbon's own.
    pub(crate) fn whisper_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        collect_names(&self.whisper_folder(), "", &mut names);
        names.retain(|name| !name.starts_with("carbon."));
        names.sort();
        names
    }

    /// What carbon has said so far.
    pub(crate) fn carbon_output(&self) -> String {
        self.carbon.as_ref().map(Process::output).unwrap_or_default()
    }

    fn prepare(retention: &str, cache: Cache) -> Self {
        let folder = tempfile::tempdir().expect("the machine has a temporary folder");
        let ports = Ports {
            text: ports::free(),
            pickle: ports::free(),
            query: ports::free(),
            web: ports::free(),
        };
        let root = folder.path();
        for name in ["conf", "whisper", "log", "lists"] {
            fs::create_dir(root.join(name)).expect("the temporary folder is writable");
        }
        let schemas = format!("[all]\npattern = .*\nretentions = {retention}\n");
        let aggregation = "[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = average\n";
        let settings = django_settings(root, &root.join("graphite.db"), ports.query);
        for (name, text) in [
            ("carbon.conf", carbon_settings(root, ports, cache).as_str()),
            ("storage-schemas.conf", schemas.as_str()),
            ("storage-aggregation.conf", aggregation),
            ("local_settings.py", settings.as_str()),
        ] {
            fs::write(root.join("conf").join(name), text).expect("the folder is writable");
        }
        Self { folder, ports, carbon: None, web: None }
    }

    fn try_start_carbon(&mut self) -> Result<(), String> {
        let root = self.folder.path();
        let mut command = venv::command("carbon-cache.py");
        command.env("GRAPHITE_ROOT", root);
        command.arg("--config").arg(root.join("conf/carbon.conf")).args(["--nodaemon", "start"]);
        // The pid file of a killed carbon would keep the next one from starting.
        drop(fs::remove_file(root.join("carbon-cache-a.pid")));
        let mut process = Process::start("carbon-cache", command);
        let Ports { text, pickle, query, .. } = self.ports;
        let is_up = await_ports(&mut process, &[text, pickle, query]);
        let log = process.output();
        self.carbon = Some(process);
        if is_up { Ok(()) } else { Err(log) }
    }

    fn start_web(&mut self) {
        let root = self.folder.path();
        fs::copy(venv::database_template(), root.join("graphite.db"))
            .expect("the template was built with the environment");
        let path = std::env::join_paths([root.join("conf"), venv::stub_folder()])
            .expect("temporary folders have no colon in their path");
        let mut command = venv::command("gunicorn");
        command
            .args(["--workers", "1", "--threads", "4", "--log-level", "warning", "--bind"])
            .arg(format!("127.0.0.1:{}", self.ports.web))
            .arg("--error-logfile")
            .arg(self.log("web"))
            .arg("graphite.wsgi:application")
            .env("PYTHONPATH", path)
            .env("GRAPHITE_SETTINGS_MODULE", "local_settings")
            .env("DJANGO_SETTINGS_MODULE", "graphite.settings");
        let mut process = Process::start("graphite-web", command);
        let is_up = await_ports(&mut process, &[self.ports.web]);
        let log = process.output();
        self.web = Some(process);
        assert!(is_up, "graphite-web did not come up:\n{log}{}", tail(&self.log("web")));
    }

    fn whisper_folder(&self) -> PathBuf {
        self.folder.path().join("whisper")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join("log").join(name).with_extension("out")
    }
}

/// True once every port accepts; false if the process ends first or the bound passes.
fn await_ports(process: &mut Process, wanted: &[u16]) -> bool {
    let accepts = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
    wait::try_until(START_BOUND, || {
        if process.exited().is_some() {
            return Some(false);
        }
        wanted.iter().all(accepts).then_some(true)
    })
    .unwrap_or(false)
}

fn collect_names(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the whisper folder is readable") {
        let entry = entry.expect("the whisper folder is readable");
        let name = entry.file_name().into_string().expect("names in these tests are UTF-8");
        if entry.file_type().expect("the entry was just listed").is_dir() {
            collect_names(&entry.path(), &format!("{prefix}{name}."), names);
        } else if let Some(stem) = name.strip_suffix(".wsp") {
            names.push(format!("{prefix}{stem}"));
        }
    }
}

fn carbon_settings(root: &Path, ports: Ports, cache: Cache) -> String {
    let root = root.display();
    let limit = |limit: Option<u32>| limit.map_or_else(|| "inf".to_owned(), |it| it.to_string());
    let (points_max, updates_max) = (limit(cache.points_max), limit(cache.updates_per_s_max));
    let Ports { text, pickle, query, .. } = ports;
    format!(
        "[cache]
STORAGE_DIR = {root}
LOCAL_DATA_DIR = {root}/whisper/
CONF_DIR = {root}/conf/
LOG_DIR = {root}/log/
PID_DIR = {root}/
WHITELISTS_DIR = {root}/lists/
DATABASE = whisper
USER =
ENABLE_LOGROTATION = False
MAX_CACHE_SIZE = {points_max}
MAX_UPDATES_PER_SECOND = {updates_max}
MAX_CREATES_PER_MINUTE = inf
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {text}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
ENABLE_UDP_LISTENER = False
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
USE_FLOW_CONTROL = True
LOG_UPDATES = False
LOG_CREATES = False
LOG_CACHE_HITS = False
WHISPER_FALLOCATE_CREATE = False
CARBON_METRIC_INTERVAL = 0
ENABLE_TAGS = False
"
    )
}

/// graphite-web's settings module with everything under `root`; `query` is carbon's cache port.
pub(crate) fn django_settings(root: &Path, database: &Path, query: u16) -> String {
    let root = root.display();
    let database = database.display();
    format!(
        "SECRET_KEY = 'loopback-test-only'
TIME_ZONE = 'UTC'
ALLOWED_HOSTS = ['*']
CONF_DIR = '{root}/conf'
STORAGE_DIR = '{root}'
LOG_DIR = '{root}/log'
WHISPER_DIR = '{root}/whisper'
INDEX_FILE = '{root}/index'
STATIC_ROOT = '{root}/static'
CARBONLINK_HOSTS = ['127.0.0.1:{query}']
CARBONLINK_TIMEOUT = 2.0
CLUSTER_SERVERS = []
DEFAULT_CACHE_DURATION = 0
LOG_ROTATION = False
DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': '{database}'}}}}
"
    )
}
