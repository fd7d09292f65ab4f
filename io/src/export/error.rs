//! Why a segment was not delivered: whose fault it is, and whether trying again can help.

use std::io;
use std::net::SocketAddr;

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This machine: its disk, its memory, its settings, or a stop.
    Local,
    /// The program at the other end.
    Backend,
    /// What lies between, name resolution included.
    Network,
}

/// A segment was not delivered; it stays in the spool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The host has no address.
    #[error("cannot resolve {address}: {source}; check the address and the name server")]
    Resolve {
        /// `host:port` as configured.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect to {peer}: {source}; is carbon running there?")]
    Connect {
        /// The address tried last.
        peer: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke while we wrote, or before the peer had closed.
    #[error("connection to {peer} broke after {sent_bytes} bytes: {source}")]
    Broken {
        /// The peer.
        peer: SocketAddr,
        /// Bytes the kernel had taken.
        sent_bytes: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The peer closed before it had everything.
    #[error("{peer} closed after {sent_bytes} bytes were sent, before it had read them all")]
    ClosedEarly {
        /// The peer.
        peer: SocketAddr,
        /// Bytes the kernel had taken.
        sent_bytes: u64,
    },
    /// The peer's kernel took nothing for too long.
    #[error("{peer} took no byte for {waited_ms} ms, after {sent_bytes} bytes")]
    Stalled {
        /// The peer.
        peer: SocketAddr,
        /// Bytes the kernel had taken.
        sent_bytes: u64,
        /// How long we waited, ms.
        waited_ms: u64,
    },
    /// The peer's kernel has everything, but the peer neither closed nor broke the connection.
    #[error(
        "{peer} has {sent_bytes} bytes but did not close for {waited_ms} ms; a relay that never \
         closes needs ack = \"written\""
    )]
    NotClosed {
        /// The peer.
        peer: SocketAddr,
        /// Bytes the kernel had taken.
        sent_bytes: u64,
        /// How long we waited, ms.
        waited_ms: u64,
    },
    /// No socket could be made or asked.
    #[error("cannot {operation}: {source}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The segment could not be read; not damaged, which would end in quarantine.
    #[error("cannot read segment {segment}: {source}")]
    Read {
        /// File name.
        segment: String,
        /// Why not.
        source: floe_storage::SegmentError,
    },
    /// The queue could not be listed, or a segment not removed from it.
    #[error("cannot {operation} {path}: {source}")]
    Spool {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The time given to the stop is over.
    #[error("stopped before the segment was delivered")]
    Stopped,
}

impl ExportError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected,
        };
        match self {
            Self::Socket { .. } | Self::Read { .. } | Self::Spool { .. } | Self::Stopped => {
                Fault::Local
            }
            Self::ClosedEarly { .. } | Self::Stalled { .. } | Self::NotClosed { .. } => {
                Fault::Backend
            }
            Self::Resolve { .. } => Fault::Network,
            Self::Connect { source, .. } | Self::Broken { source, .. } => match source.kind() {
                // The last is what a half-close says after a reset.
                BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset
                | NotConnected => Fault::Backend,
                _ => Fault::Network,
            },
        }
    }

    /// Whether the same segment can be delivered later without a change of settings.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { source, .. } => source.kind() != io::ErrorKind::InvalidInput,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(kind: io::ErrorKind) -> ExportError {
        ExportError::Connect { peer: ([127, 0, 0, 1], 2003).into(), source: kind.into() }
    }

    #[test]
    fn errors_tell_whose_fault_they_are() {
        assert_eq!(connect(io::ErrorKind::ConnectionRefused).fault(), Fault::Backend);
        assert_eq!(connect(io::ErrorKind::NotConnected).fault(), Fault::Backend);
        assert_eq!(connect(io::ErrorKind::NetworkUnreachable).fault(), Fault::Network);
        assert_eq!(connect(io::ErrorKind::TimedOut).fault(), Fault::Network);
        assert_eq!(ExportError::Stopped.fault(), Fault::Local);
    }

    #[test]
    fn address_without_port_is_not_worth_another_try() {
        let resolve = |kind: io::ErrorKind| ExportError::Resolve {
            address: "graphite".into(),
            source: kind.into(),
        };
        assert!(!resolve(io::ErrorKind::InvalidInput).is_retryable());
        assert!(resolve(io::ErrorKind::Other).is_retryable());
        assert!(connect(io::ErrorKind::ConnectionRefused).is_retryable());
    }
}
