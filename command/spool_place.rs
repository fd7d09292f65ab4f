//! Where the spool is: flag, configuration, `$STATE_DIRECTORY`, `/var/lib/floe`, home.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use rustix::fs::{Access, access};

use super::Failure;

/// Where a daemon with the rights for it keeps its state.
const SYSTEM_PLACE: &str = "/var/lib/floe";

/// The places in order of preference, for a spool that was not named.
fn unnamed_places() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    // The service manager may list several, with colons.
    let state = variable("STATE_DIRECTORY").and_then(|value| std::env::split_paths(&value).next());
    let home_state = variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local").join("state")));
    let home = home_state.map(|directory| directory.join("floe"));
    state.into_iter().chain([PathBuf::from(SYSTEM_PLACE)]).chain(home).collect()
}

/// The spool of a daemon that starts.
pub(super) fn to_write(flag: Option<&Path>, configured: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = flag.or(configured) {
        return Ok(named.to_owned());
    }
    let places = unnamed_places();
    let usable = places.iter().find(|place| can_be_written(place));
    usable.cloned().ok_or_else(|| {
        Failure::refused(anyhow!("no place for the spool among {places:?}; set --spool"))
    })
}

/// The spool a query reads: the first that is there.
pub(super) fn to_read(flag: Option<&Path>, configured: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = flag.or(configured) {
        return Ok(named.to_owned());
    }
    let places = unnamed_places();
    let present = places.iter().find(|place| place.join("archive").is_dir());
    present
        .cloned()
        .ok_or_else(|| Failure::failed(anyhow!("no spool found among {places:?}; set --spool")))
}

/// Whether the directory is there and ours, or can be made.
fn can_be_written(place: &Path) -> bool {
    let existing = place.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|ancestor| access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}
