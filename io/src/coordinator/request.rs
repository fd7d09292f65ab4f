//! What other threads ask of the coordinator, between two ticks.
//!
//! Requests wait in a bounded channel and are answered one at a time, in order; a tick that is due
//! goes first. Whoever wants an answer sends the channel for it along.

use crossbeam_channel::Sender;
use floe_storage::SpoolError;

use super::reload::Reload;

/// Requests that may wait; whoever asks when it is full waits too.
pub const REQUESTS_MAX: usize = 64;

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
}
