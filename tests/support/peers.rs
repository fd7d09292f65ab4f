//! Peers that are there and vanish: packets to them then go nowhere, and nobody says so.
//!
//! For a network of one's own alone (`unshare --net`). A peer is a route of loopback rather than the
//! address of a device: without it the kernel still has a way to it, to a device that drops what is not for
//! this host. Also part of the campaign of faults.

use std::process::Command;

/// The address that whoever talks to peers has.
const OURS: &str = "10.77.0.1";

/// Some peers.
#[derive(Debug)]
pub(crate) struct Peers {
    addresses: Vec<String>,
}

impl Peers {
    /// So many peers, all of them vanished.
    pub(crate) fn new(count: usize) -> Result<Self, String> {
        let own = format!("{OURS}/32");
        // Another one's of before may be there: `replace` minds nothing.
        ip(&["address", "replace", &own, "dev", "lo"])?;
        ip(&["route", "replace", "10.77.0.0/16", "dev", "lo", "src", OURS])?;
        Ok(Self { addresses: (1..=count).map(|number| format!("10.77.1.{number}")).collect() })
    }

    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// They are there: who listens at their addresses is reached.
    pub(crate) fn appear(&self) -> Result<(), String> {
        self.change("replace")
    }

    pub(crate) fn vanish(&self) -> Result<(), String> {
        self.change("del")
    }

    fn change(&self, what: &str) -> Result<(), String> {
        self.addresses.iter().try_for_each(|address| {
            ip(&["route", what, "local", address, "dev", "lo", "table", "local", "src", OURS])
        })
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {words:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
