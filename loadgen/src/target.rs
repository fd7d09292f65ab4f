//! Where a workload goes: UDP, TCP, or a Unix socket of either kind.
//!
//! Read from `--target` by `cli`, opened by `socket`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

/// Where the daemon under test listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    UnixStream(PathBuf),
    UnixDatagram(PathBuf),
}

impl Target {
    /// Reads `HOST:PORT` or `udp:HOST:PORT`, `tcp:HOST:PORT`, `unix:PATH`, `unixgram:PATH`.
    ///
    /// # Errors
    /// One sentence where the text names no address.
    pub(crate) fn read(text: &str) -> Result<Target, String> {
        let (word, rest) = text.split_once(':').unwrap_or(("", text));
        match word {
            "udp" => address(rest).map(Target::Udp),
            "tcp" => address(rest).map(Target::Tcp),
            "unix" | "unixgram" if rest.is_empty() => Err(format!("{text:?} has no path")),
            "unix" => Ok(Target::UnixStream(PathBuf::from(rest))),
            "unixgram" => Ok(Target::UnixDatagram(PathBuf::from(rest))),
            _ => address(text).map(Target::Udp),
        }
    }

    /// Whether bytes have no borders but their line feeds, and wait where the daemon is slow.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Target::Tcp(_) | Target::UnixStream(_))
    }

    /// What one send is called.
    pub(crate) fn unit(&self) -> &'static str {
        if self.is_stream() { "writes" } else { "datagrams" }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Udp(address) => write!(out, "udp:{address}"),
            Target::Tcp(address) => write!(out, "tcp:{address}"),
            Target::UnixStream(path) => write!(out, "unix:{}", path.display()),
            Target::UnixDatagram(path) => write!(out, "unixgram:{}", path.display()),
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => format!("{text:?} is no HOST:PORT"),
        _ => format!("{text:?}: {error}"),
    })?;
    found.next().ok_or_else(|| format!("{text:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown() {
        for (text, shown, is_stream) in [
            ("127.0.0.1:8125", "udp:127.0.0.1:8125", false),
            ("[::1]:8125", "udp:[::1]:8125", false),
            ("udp:127.0.0.1:1", "udp:127.0.0.1:1", false),
            ("tcp:[::1]:8125", "tcp:[::1]:8125", true),
            ("unix:/tmp/a:b", "unix:/tmp/a:b", true),
            ("unixgram:/tmp/a", "unixgram:/tmp/a", false),
        ] {
            let target = Target::read(text).unwrap();
            assert_eq!((target.to_string().as_str(), target.is_stream()), (shown, is_stream));
        }
    }

    #[test]
    fn what_names_no_address_is_refused() {
        for wrong in ["", "x", "127.0.0.1", "tcp:", "unix:", "unixgram:", "udp:127.0.0.1"] {
            assert!(Target::read(wrong).is_err(), "{wrong:?}");
        }
    }
}
