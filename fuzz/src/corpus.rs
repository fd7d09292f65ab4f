//! Files of inputs: `corpus/<target>/<name>`, one input each, the bytes as they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where the kept inputs of `target` lie.
#[must_use]
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The kept inputs of `target` with their names, in the order of these.
///
/// # Errors
/// The folder cannot be read.
pub fn read(target: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let folder = folder(target);
    let mut inputs = Vec::new();
    let entries = fs::read_dir(&folder).with_context(|| format!("corpus {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inputs.push((name, fs::read(&path).with_context(|| path.display().to_string())?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Writes down what failed; returns the file.
///
/// # Errors
/// The kernel's.
pub fn save_failure(folder: &Path, target: &str, seed: u64, input: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join(format!("{target}-seed-{seed}"));
    fs::write(&path, input)?;
    Ok(path)
}
