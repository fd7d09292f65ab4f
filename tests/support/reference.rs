//! The reference daemon, statsd from npm in the version that `recorder/package-lock.json` pins:
//! installed once under `target/` by the ordinary npm client, never committed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::npm;

const PACKAGE: &str = include_str!("../recorder/package.json");
const PACKAGE_LOCK: &str = include_str!("../recorder/package-lock.json");

/// The package's folder: `stats.js`, `utils/` and the rest.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let files = [("package.json", PACKAGE), ("package-lock.json", PACKAGE_LOCK)];
        npm::folder("reference", &files).join("node_modules").join("statsd")
    })
}

/// The daemon from `config`, a path to a `config.js`.
pub(crate) fn daemon(config: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg("--no-deprecation").arg(folder().join("stats.js")).arg(config);
    command
}

/// A helper script that ships with the reference, such as `check_statsd_health`.
pub(crate) fn script(name: &str) -> PathBuf {
    folder().join("utils").join(name)
}

/// The version that is installed.
pub(crate) fn version() -> String {
    let lock: serde_json::Value =
        serde_json::from_str(PACKAGE_LOCK).expect("the committed lock file is JSON");
    lock["packages"]["node_modules/statsd"]["version"].as_str().expect("a version").to_owned()
}
