//! The report of a replay.

use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::json;

use super::{float, interrupted_json, write_interrupted};
use crate::replay::Replayed;
use crate::run::Outcome;
use crate::stop::Signal;
use crate::target::Target;

/// Everything that is known at the end of a replay.
#[derive(Debug)]
pub(crate) struct ReplayReport<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) replayed: &'a Replayed,
    /// Datagrams of the capture that were to be sent.
    pub(crate) payloads: u64,
    /// Packets of other kinds or ports.
    pub(crate) skipped: u64,
    pub(crate) interrupted: Option<Signal>,
}

impl ReplayReport<'_> {
    pub(crate) fn outcome(&self) -> Outcome {
        match self.interrupted {
            Some(signal) => Outcome::Interrupted(signal),
            None => super::outcome_of_refused(self.replayed.refused, &Target::Udp(self.target))
                .unwrap_or(Outcome::Good),
        }
    }

    pub(crate) fn write(&self, out: &mut impl Write, is_json: bool) -> io::Result<()> {
        let Replayed { datagrams, bytes, elapsed, refused } = self.replayed;
        let seconds = elapsed.as_secs_f64();
        if is_json {
            let value = json!({
                "verdict": if self.interrupted.is_some() { "interrupted" } else { "not checked" },
                "interrupted_by": interrupted_json(self.interrupted),
                "target": Target::Udp(self.target).to_string(),
                "datagrams": datagrams,
                "captured_datagrams": self.payloads,
                "bytes": bytes,
                "skipped_packets": self.skipped,
                "refused_sends": refused.total(),
                "refused_by_cause": refused.to_json(),
                "elapsed_s": seconds,
                "datagrams_per_s": if 0.0 < seconds { float(*datagrams) / seconds } else { 0.0 },
            });
            return writeln!(out, "{value:#}");
        }
        write_interrupted(out, self.interrupted)?;
        let of = self.payloads;
        writeln!(
            out,
            "replayed   {datagrams} of {of} datagrams, {bytes} bytes, in {seconds:.3} s"
        )?;
        if 0 < refused.total() {
            writeln!(out, "refused    {} sends: {refused}", refused.total())?;
        }
        writeln!(out, "left out   {} packets of other kinds or ports", self.skipped)
    }
}
