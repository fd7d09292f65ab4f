//! Sends that were refused, by cause.
//!
//! Counted by `socket`, added up by `fleet`, `probe` and `replay`, told by `report`. A refusal is the
//! answer to a datagram that left before: that one is lost.

use std::fmt;
use std::io;

use serde_json::{Value, json};

/// How many sends were refused, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Nobody has a socket at the port (`ECONNREFUSED`).
    pub(crate) closed_port: u64,
    /// There is no way to the host (`EHOSTUNREACH`, `ENETUNREACH`, `EHOSTDOWN`).
    pub(crate) unreachable: u64,
}

impl Refused {
    /// The count of what `error` says; none where it is no refusal.
    pub(crate) fn of(&mut self, error: &io::Error) -> Option<&mut u64> {
        match error.raw_os_error()? {
            libc::ECONNREFUSED => Some(&mut self.closed_port),
            libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN => Some(&mut self.unreachable),
            _ => None,
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.closed_port + self.unreachable
    }

    pub(crate) fn add(&mut self, other: Refused) {
        self.closed_port += other.closed_port;
        self.unreachable += other.unreachable;
    }

    /// By cause, for programs.
    pub(crate) fn to_json(self) -> Value {
        json!({"closed_port": self.closed_port, "unreachable": self.unreachable})
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = [
            (self.closed_port, "nobody listens at the port"),
            (self.unreachable, "the host cannot be reached"),
        ];
        let mut mark = "";
        for (count, cause) in causes.into_iter().filter(|(count, _)| 0 < *count) {
            write!(out, "{mark}{cause} ({count})")?;
            mark = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_count_and_words() {
        let mut refused = Refused::default();
        for number in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH] {
            *refused.of(&io::Error::from_raw_os_error(number)).unwrap() += 1;
        }
        assert!(refused.of(&io::Error::from_raw_os_error(libc::EMSGSIZE)).is_none());
        refused.add(Refused { closed_port: 10, unreachable: 0 });
        assert_eq!((refused.total(), refused.closed_port), (13, 11));
        let words = "nobody listens at the port (11), the host cannot be reached (2)";
        assert_eq!(refused.to_string(), words);
        assert_eq!(Refused { closed_port: 0, ..refused }.to_string(), &words[33..]);
    }
}
