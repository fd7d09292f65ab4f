//! File systems of a test's own: small ones, read-only ones, ones on a file that can be copied.
//!
//! They need root. Where a test is not root it says so, and which other test covers the claim.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this process may mount; says on standard error what is not tried where it may not.
pub(crate) fn is_possible(instead: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let is_possible = is_root && Mount::tmpfs(&std::env::temp_dir(), None).is_ok();
    if !is_possible {
        say(&format!("NOT TRIED: file systems of our own need root and mount(2); {instead}"));
    }
    is_possible
}

/// Tells whoever runs the test.
#[expect(clippy::print_stderr, reason = "a test that tries less than it could has to say so")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A mounted file system; dropped, it is unmounted.
#[derive(Debug)]
pub(crate) struct Mount {
    at: PathBuf,
    /// Made for it, and removed with it.
    is_own_folder: bool,
}

impl Mount {
    /// A tmpfs of `mib` MiB in a fresh folder below `parent`, or one to try whether it can be had.
    pub(crate) fn tmpfs(parent: &Path, mib: Option<u32>) -> Result<Self, String> {
        let at = parent.join(format!("floe-mount-{}", std::process::id()));
        let at = if mib.is_some() { parent.join("small") } else { at };
        std::fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        let options = format!("size={}m,mode=700", mib.unwrap_or(1));
        run("mount", &["-t", "tmpfs", "-o", &options, "floe-test", text(&at)])?;
        Ok(Self { at, is_own_folder: true })
    }

    /// A file with an ext4 on it, mounted at the fresh folder `at`.
    pub(crate) fn image(file: &Path, at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        run("mount", &["-t", "ext4", "-o", "loop", text(file), text(at)])?;
        Ok(Self { at: at.to_owned(), is_own_folder: true })
    }

    /// Lays the folder `at` over itself, so that it can be made read-only.
    pub(crate) fn over_itself(at: &Path) -> Result<Self, String> {
        run("mount", &["--bind", text(at), text(at)])?;
        Ok(Self { at: at.to_owned(), is_own_folder: false })
    }

    pub(crate) fn read_only(&self) -> Result<(), String> {
        run("mount", &["-o", "remount,bind,ro", text(&self.at)])
    }

    pub(crate) fn writable(&self) -> Result<(), String> {
        run("mount", &["-o", "remount,bind,rw", text(&self.at)])
    }

    pub(crate) fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: whoever still looks into it keeps it for as long as that.
        drop(run("umount", &["--lazy", text(&self.at)]));
        if self.is_own_folder {
            drop(std::fs::remove_dir(&self.at));
        }
    }
}

/// Runs a command of the system to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
