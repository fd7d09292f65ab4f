//! The load generator's binary, which cargo builds for the workspace but names only to its own
//! package.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where it lies, built if need be.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let floe = Path::new(env!("CARGO_BIN_EXE_floe"));
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "floe-loadgen"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs, for it runs this test");
        assert!(built.success(), "loadgen builds");
        floe.with_file_name("loadgen")
    })
}
