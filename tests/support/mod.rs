//! What the end-to-end tests share: the built binary as a process, a Graphite of its own, a carbon
//! that records, and the clients of other people.
//!
//! Every process started here dies with the test (on drop, and by the kernel if the test is
//! killed), every file lies in a temporary folder or under `target/`, every port is free or 0.
//! Nothing here knows floe's crates: the tests see what a user sees.

#![allow(dead_code, reason = "each test binary includes this module and uses its own part of it")]
#![allow(unused_imports, reason = "each test binary uses its own part of the re-exports")]

/// Bounded waiting, the one place with a clock.
pub(crate) mod wait;
/// Free ports below the ephemeral range.
pub(crate) mod ports;
/// Child processes that cannot outlive the test.
pub(crate) mod process;
/// The floe binary, from start to exit code.
pub(crate) mod daemon;
/// `floe books`, the archive, and the kernel's own figures.
pub(crate) mod books;
/// floe's own TOML as the tests need it.
pub(crate) mod settings;
/// A carbon that records what it is sent, text or pickle.
pub(crate) mod carbon;
/// A carbon that fails as it is told to.
pub(crate) mod faulty_carbon;
/// A wall clock of the test's making.
pub(crate) mod clock_shim;
/// A cgroup with a limit of memory.
pub(crate) mod memory_cgroup;
/// A client of the admin console.
pub(crate) mod console;
/// More than a daemon of small budgets may keep.
pub(crate) mod flood;
/// File systems of a test's own.
pub(crate) mod mount;
/// A machine of a test's own under a real systemd.
pub(crate) mod systemd;
/// A network of a test's own.
pub(crate) mod network;
/// Peers that come and go in it.
pub(crate) mod peers;
/// A name server in it that answers or does not.
pub(crate) mod name_server;
/// The Python environment under `target/`.
pub(crate) mod venv;
/// carbon-cache and graphite-web, and their read side.
pub(crate) mod graphite;
/// The statsd clients of other people.
pub(crate) mod clients;
/// The reference daemon and its helper scripts.
pub(crate) mod reference;
/// The load generator's binary.
pub(crate) mod loadgen;
/// Recorded situations: what is done to a daemon, and what was seen.
pub(crate) mod situation;
/// Packages from npm under `target/`.
pub(crate) mod npm;
/// Bytes in hexadecimal.
pub(crate) mod hex;
/// Plays a situation on a daemon.
pub(crate) mod player;
/// What differs between two plays.
pub(crate) mod difference;
/// A `config.js` as people write it.
pub(crate) mod config_js;
