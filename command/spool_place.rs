//! Where the spool is: flag, configuration, `$STATE_DIRECTORY`, `/var/lib/floe`, home.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use rustix::fs::{Access, access};

use super::Failure;

/// Where a daemon with the rights for it keeps its state.
const SYSTEM_PLACE: &str = "/var/lib/floe";

/// The places in order of preference, for a spool that was not named.
fn unnamed_places() -> Vec<PathBuf> {
    places_of(|name| std::env::var_os(name), Path::new(SYSTEM_PLACE))
}

fn places_of(environment: impl Fn(&str) -> Option<OsString>, system: &Path) -> Vec<PathBuf> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    // The service manager may list several, with colons.
    let state = variable("STATE_DIRECTORY").and_then(|value| std::env::split_paths(&value).next());
    let home_state = variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".local").join("state")));
    let home = home_state.map(|directory| directory.join("floe"));
    state.into_iter().chain([system.to_owned()]).chain(home).collect()
}

/// The spool of a daemon that starts.
pub(super) fn to_write(flag: Option<&Path>, configured: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = flag.or(configured) {
        return Ok(named.to_owned());
    }
    first_writable(&unnamed_places())
}

fn first_writable(places: &[PathBuf]) -> Result<PathBuf, Failure> {
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
    first_present(&unnamed_places())
}

fn first_present(places: &[PathBuf]) -> Result<PathBuf, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of an environment, with `/system` for the directory of the machine.
    fn places(variables: &[(&str, &str)]) -> Vec<PathBuf> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        places_of(environment, Path::new("/system"))
    }

    #[test]
    fn flag_goes_before_configuration() {
        let (flag, configured) = (Path::new("/flag"), Path::new("/configured"));
        for place in [to_write, to_read] {
            assert_eq!(place(Some(flag), Some(configured)).unwrap(), flag);
            assert_eq!(place(None, Some(configured)).unwrap(), configured);
        }
    }

    #[test]
    fn places_stand_in_the_order_of_the_manual() {
        let all = [("HOME", "/home/ann"), ("XDG_STATE_HOME", "/xdg"), ("STATE_DIRECTORY", "/a:/b")];
        assert_eq!(places(&all), ["/a", "/system", "/xdg/floe"].map(PathBuf::from));
        let home = [("HOME", "/home/ann"), ("XDG_STATE_HOME", ""), ("STATE_DIRECTORY", "")];
        assert_eq!(places(&home), ["/system", "/home/ann/.local/state/floe"].map(PathBuf::from));
        assert_eq!(places(&[]), ["/system"].map(PathBuf::from));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        // Nothing can be made below a file, whoever asks.
        let (refused, home) = (file.join("spool"), folder.path().join("not").join("yet"));
        assert_eq!(first_writable(&[refused.clone(), home.clone()]).unwrap(), home);
        let failure = first_writable(&[refused]).unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(failure.to_string().ends_with("; set --spool"), "{failure}");
    }

    #[test]
    fn a_query_reads_the_first_place_that_has_an_archive() {
        let folder = tempfile::tempdir().unwrap();
        let [empty, used] = ["empty", "used"].map(|name| folder.path().join(name));
        std::fs::create_dir_all(used.join("archive")).unwrap();
        std::fs::create_dir(&empty).unwrap();
        assert_eq!(first_present(&[empty.clone(), used.clone()]).unwrap(), used);
        assert_eq!(first_present(&[empty]).unwrap_err().code, 1);
    }
}
