//! Packages from npm, pinned by a committed lock file and installed once under `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{process, venv};

/// The folder `target/name` with `files` in it, `package.json` and `package-lock.json` among them, and
/// what these ask for installed beside them.
pub(crate) fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = venv::target_folder().join(name);
    let wanted = files.iter().map(|(_, text)| *text).collect::<String>();
    venv::once(&folder, &wanted, |folder| install(folder, files));
    folder
}

fn install(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).expect("target/ is writable");
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("target/ is writable");
    }
    let mut command = Command::new("npm");
    command.current_dir(folder).args(["ci", "--omit=optional", "--ignore-scripts"]);
    command.args(["--no-audit", "--no-fund"]);
    process::run("npm ci (the tests need Node.js and npm)", &mut command);
}
