//! What other threads ask of the coordinator, between two ticks.
//!
//! Requests wait in a bounded channel and are answered in order; a tick that is due goes first.
//! Whoever wants an answer sends a channel of one place for it along.

use crossbeam_channel::Sender;
use floe_core::interval::Deletable;
use floe_core::interval::view::{NumberView, TimerView};
use floe_storage::SpoolError;

use super::hand_over::Hold;
use super::reload::Reload;

/// Requests that may wait; whoever asks when it is full waits too.
pub const REQUESTS_MAX: usize = 64;

/// Deleted keys, index = argument.
pub type Deleted = Vec<Vec<Box<[u8]>>>;

/// One request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Request {
    /// Drain and end.
    Stop,
    /// Go on with other settings; answered when they hold.
    Reload(Box<Reload>, Sender<Result<(), SpoolError>>),
    /// A configuration was refused: for the books.
    CountRefusedReload,
    /// All counters with what they have gathered since the last flush.
    Counters(Sender<NumberView>),
    /// All gauges.
    Gauges(Sender<NumberView>),
    /// All timers with their values since the last flush.
    Timers(Sender<TimerView>),
    /// Take series out at once.
    Delete {
        /// Of which kind.
        kind: Deletable,
        /// Names, and `NAME.*` for all below a name.
        names: Vec<Vec<u8>>,
        /// Who asks.
        asker: Sender<Deleted>,
    },
    /// What was counted since the start.
    Stats(Sender<Stats>),
    /// Commit nothing for a while: a successor opens the spool.
    Hold(Hold),
}

impl Request {
    /// Whether the answer depends on what has come in so far.
    pub(super) fn wants_the_newest(&self) -> bool {
        !matches!(self, Self::Stop | Self::Reload(..) | Self::CountRefusedReload | Self::Hold(_))
    }
}

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// When the newest datagram or line came, s since the epoch; `None` = nothing has come yet.
    pub newest_input_s: Option<u64>,
    /// Values refused: the reference's `bad_lines_seen`.
    pub values_rejected: u64,
    /// floe's books of the whole spool, names as below `<prefixStats>.floe.`.
    pub books: Vec<(String, u64)>,
}
