//! The Python environment of the tests: carbon, whisper, graphite-web and the PyPI client
//! `statsd`, pinned by `requirements.txt` beside this file, built once under `target/`.
//!
//! A file lock lets parallel test processes build it once; a stamp holding the requirements says
//! that it is complete, so an interrupted build is repeated and a changed pin rebuilds. Rendering
//! JSON imports `cairocffi`, which wants the C library: where that is absent an empty module takes
//! its place, which is enough for all but pictures.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::process;

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The folder of the environment, complete.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(build)
}

/// `bin/name` of the environment as a command with a clean Python environment.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(folder().join("bin").join(name));
    command.env_remove("PYTHONHOME").env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", stub_folder());
    command
}

/// Where the stand-in for `cairocffi` lies; empty where the real one works.
pub(crate) fn stub_folder() -> PathBuf {
    folder().join("stub")
}

/// A Django database with graphite-web's tables, to be copied.
pub(crate) fn database_template() -> PathBuf {
    folder().join("graphite.db")
}

/// cargo's target folder.
pub(crate) fn target_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the tmp folder lies in target/")
}

/// Runs `build` in `folder` unless its stamp already says `wanted`; one process at a time.
pub(crate) fn once(folder: &Path, wanted: &str, build: impl FnOnce(&Path)) {
    let lock = File::create(folder.with_extension("lock")).expect("target/ is writable");
    lock.lock().expect("a lock file of ours can be locked");
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).expect("an incomplete build can be removed");
    }
    build(folder);
    fs::write(stamp, wanted).expect("target/ is writable");
}

fn build() -> PathBuf {
    let folder = target_folder().join("graphite-venv");
    once(&folder, REQUIREMENTS, |folder| {
        create(folder);
        install(folder);
        stub_cairo(folder);
        create_database(folder);
    });
    folder
}

fn create(folder: &Path) {
    let output = Command::new("python3")
        .args(["-m", "venv"])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "cannot run python3 ({error}); the end-to-end tests need a real Graphite: \
                    apt-get install python3 python3-venv"
            )
        });
    assert!(
        output.status.success(),
        "python3 -m venv failed; on Debian and Ubuntu it is a package of its own: \
         apt-get install python3-venv\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn install(folder: &Path) {
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).expect("target/ is writable");
    process::run(
        "pip install (carbon, whisper, graphite-web)",
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements),
    );
}

fn stub_cairo(folder: &Path) {
    let stub = folder.join("stub");
    fs::create_dir_all(&stub).expect("target/ is writable");
    let works = Command::new(folder.join("bin/python"))
        .args(["-c", "import cairocffi"])
        .stdin(Stdio::null())
        .output()
        .expect("the environment's python was just installed")
        .status
        .success();
    if !works {
        let text = "# Stands in for cairocffi where libcairo is absent: JSON needs no pictures.\n";
        fs::write(stub.join("cairocffi.py"), text).expect("target/ is writable");
    }
}

/// The tables are made once here and copied by each Graphite, which saves seconds per test.
fn create_database(folder: &Path) {
    let settings = folder.join("template");
    fs::create_dir_all(settings.join("log")).expect("target/ is writable");
    let text = super::graphite::django_settings(&settings, &folder.join("graphite.db"), 0);
    fs::write(settings.join("local_settings.py"), text).expect("target/ is writable");
    let path = std::env::join_paths([settings, folder.join("stub")])
        .expect("cargo's target folder has no colon in its path");
    process::run(
        "django-admin migrate",
        Command::new(folder.join("bin/django-admin"))
            .args(["migrate", "--run-syncdb", "-v", "0"])
            .env("PYTHONPATH", path)
            .env("GRAPHITE_SETTINGS_MODULE", "local_settings")
            .env("DJANGO_SETTINGS_MODULE", "graphite.settings"),
    );
}
