//! The reference daemon, statsd from npm in the version that the tests pin: installed once under
//! `target/reference` by the ordinary npm client. Without Node.js or npm it does not take part.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::json;

use super::Site;
use super::daemon::{Daemon, free_port};

const PACKAGE: &str = include_str!("../../tests/recorder/package.json");
const PACKAGE_LOCK: &str = include_str!("../../tests/recorder/package-lock.json");

/// Its version, installed if need be; or why it cannot take part.
pub(super) fn find() -> Result<String, String> {
    let told = |error: anyhow::Error| format!("{error:#}");
    let node = Command::new("node").arg("--version").output();
    let node = node.map_err(|_| "node is not on the PATH".to_owned())?;
    let folder = folder().map_err(told)?;
    install(&folder).map_err(told)?;
    let manifest = fs::read_to_string(script(&folder).with_file_name("package.json"));
    let manifest = manifest.map_err(|error| format!("{}: {error}", folder.display()))?;
    let manifest: serde_json::Value =
        serde_json::from_str(&manifest).map_err(|error| error.to_string())?;
    let version = manifest["version"].as_str().unwrap_or("unknown");
    Ok(format!("{version}, Node {}", String::from_utf8_lossy(&node.stdout).trim()))
}

/// Starts it from a `config.js`.
pub(super) fn start(site: &Site) -> anyhow::Result<Daemon> {
    let folder = tempfile::tempdir()?;
    let port = free_port()?;
    let mgmt = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut config = json!({
        "port": port,
        "address": "127.0.0.1",
        "mgmt_port": mgmt,
        "mgmt_address": "127.0.0.1",
        "flushInterval": site.flush_interval_ms,
        "percentThreshold": [90],
        "backends": [],
    });
    if let Some(graphite) = site.graphite_port {
        config["backends"] = json!(["./backends/graphite"]);
        config["graphiteHost"] = json!("127.0.0.1");
        config["graphitePort"] = json!(graphite);
    }
    let path = folder.path().join("config.js");
    fs::write(&path, config.to_string())?;
    let mut command = Command::new("node");
    command.arg("--no-deprecation").arg(script(&self::folder()?)).arg(path);
    Daemon::start(command, folder, port, &site.receiver_cpus)
}

fn script(folder: &Path) -> PathBuf {
    folder.join("node_modules/statsd/stats.js")
}

/// `reference` in cargo's target folder, where the tests have it, too.
fn folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the kernel does not tell which program we are")?;
    let profile = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let target = profile.and_then(Path::parent).context("a program of cargo's lies in target/")?;
    Ok(target.join("reference"))
}

/// Installs what the lock file says unless the stamp says that it is there; the tests do the same.
fn install(folder: &Path) -> anyhow::Result<()> {
    let wanted = format!("{PACKAGE}{PACKAGE_LOCK}");
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("package.json"), PACKAGE)?;
    fs::write(folder.join("package-lock.json"), PACKAGE_LOCK)?;
    let mut command = Command::new("npm");
    command.current_dir(folder).args(["ci", "--omit=optional", "--ignore-scripts"]);
    command.args(["--no-audit", "--no-fund"]).stdin(Stdio::null());
    let output = command.output().context("npm is not on the PATH")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("npm ci failed: {}", text.lines().next_back().unwrap_or_default());
    }
    fs::write(stamp, wanted)?;
    Ok(())
}
