//! What lies between the daemon and carbon `a`: nothing, a peer that may vanish, or a name server.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::world::{mount, umount};

#[path = "../../tests/support/name_server.rs"]
mod name_server;
#[path = "../../tests/support/peers.rs"]
mod peers;

use name_server::{NameServer, RESOLVER};
use peers::Peers;

/// The name of carbon `a` where it has one.
const NAME: &str = "carbon-a.floe.test";

/// Where carbon `a` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// Beside the daemon.
    #[default]
    Here,
    /// At an address that may vanish.
    Away,
    /// Behind a name.
    Named,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Network {
    /// The address that carbon `a` listens at.
    pub(crate) host: String,
    /// What the daemon is told of it.
    pub(crate) name: String,
    peers: Option<Peers>,
    name_server: Option<NameServer>,
    /// What a file of ours lies over.
    covered: Vec<PathBuf>,
}

impl Network {
    /// Everything is there and answers at first; files lie in `folder`.
    ///
    /// # Errors
    /// When the network is not our own.
    pub(crate) fn make(whereabouts: Whereabouts, folder: &Path) -> anyhow::Result<Self> {
        let here = "127.0.0.1".to_owned();
        let mut network = Self {
            host: here.clone(),
            name: here,
            peers: None,
            name_server: None,
            covered: Vec::new(),
        };
        match whereabouts {
            Whereabouts::Here => {}
            Whereabouts::Away => {
                let peers = Peers::new(1).map_err(|error| anyhow!(error))?;
                peers.appear().map_err(|error| anyhow!(error))?;
                network.host.clone_from(&peers.addresses()[0]);
                network.name.clone_from(&network.host);
                network.peers = Some(peers);
            }
            Whereabouts::Named => {
                network.cover("/etc/resolv.conf", &folder.join("resolv.conf"), RESOLVER)?;
                network.cover("/etc/hosts", &folder.join("hosts"), "127.0.0.1 localhost\n")?;
                let server = NameServer::start().context("a name server of our own")?;
                server.set(true);
                network.name = NAME.to_owned();
                network.name_server = Some(server);
            }
        }
        Ok(network)
    }

    /// Carbon `a` vanishes, or is there.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn set_peer(&self, is_there: bool) -> anyhow::Result<()> {
        let peers = self.peers.as_ref().context("carbon a has no address of its own")?;
        let result = if is_there { peers.appear() } else { peers.vanish() };
        result.map_err(|error| anyhow!(error))
    }

    /// The name server.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn name_server(&self) -> anyhow::Result<&NameServer> {
        self.name_server.as_ref().context("carbon a has no name")
    }

    /// Lays `text` over `place`, for this lane alone.
    fn cover(&mut self, place: &str, file: &Path, text: &str) -> anyhow::Result<()> {
        std::fs::write(file, text)?;
        let file = file.to_str().context("a folder with a plain name")?;
        mount(&["--bind", file], Path::new(place))?;
        self.covered.push(PathBuf::from(place));
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for place in &self.covered {
            // What is left goes with the lane's own mounts.
            umount(place).ok();
        }
    }
}
