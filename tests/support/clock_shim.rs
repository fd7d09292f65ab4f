//! A daemon under a wall clock of the test's making: a few lines of C, built by the compiler that
//! Rust's own linker needs, and loaded before the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::daemon::Launch;
use super::{process, wait};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock_shim.c");

/// The clock of one daemon.
pub(crate) struct ClockShim {
    library: PathBuf,
    offset: PathBuf,
}

impl ClockShim {
    /// Builds it under `folder`; the clock is right at first.
    pub(crate) fn under(folder: &Path) -> Self {
        let library = folder.join("clock_shim.so");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(SOURCE);
        process::run("cc", &mut compile);
        let shim = Self { library, offset: folder.join("clock_offset") };
        shim.set(0);
        shim
    }

    /// Sets the clock off by `seconds`, at once: a reader sees the old or the new number.
    pub(crate) fn set(&self, seconds: i64) {
        let fresh = self.offset.with_extension("new");
        fs::write(&fresh, seconds.to_string()).expect("the test's folder is writable");
        fs::rename(&fresh, &self.offset).expect("both are in one folder");
    }

    /// Whole seconds of the daemon's clock.
    pub(crate) fn seconds(&self) -> u64 {
        let text = fs::read_to_string(&self.offset).expect("it is there from the start");
        let offset: i64 = text.parse().expect("a number was written");
        wait::wall().as_secs().checked_add_signed(offset).expect("far from 1970")
    }

    /// Puts a daemon under this clock.
    pub(crate) fn over(&self, launch: Launch) -> Launch {
        launch.environment("LD_PRELOAD", &self.library).environment("CLOCK_SHIM_FILE", &self.offset)
    }
}
