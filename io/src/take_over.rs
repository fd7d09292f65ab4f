//! One daemon takes over from another of the same user, without losing a datagram or the open interval.
//!
//! The successor asks over the predecessor's control socket. What they say to each other:
//!
//! | from | says | then |
//! |---|---|---|
//! | successor | `take-over PROTOCOL FORM HALVES PID` | |
//! | predecessor | the offer: its sockets, with their descriptors; the secret of its hashes | goes on as ever |
//! | successor | which of them it keeps, once it has bound what else it needs | |
//! | predecessor | that it holds: nothing is committed or delivered any more; the spool's lock | still receives |
//! | successor | that it is ready: the spool is open, nothing but threads is missing | |
//! | predecessor | that its workers have stopped, with the open connections | **the point of no return** |
//! | successor | | reads the sockets |
//! | predecessor | the open interval and its books | |
//! | successor | that it has taken them | commits and delivers from now on |
//! | predecessor | | ends with code 0 |
//!
//! Until the point of no return either may give up, and the predecessor goes on as if nothing had been:
//! at most its ticks were late, for as long as it held. Behind it a successor that is lost loses what *it* has received; the
//! predecessor still has the interval so far, spools it, and ends with code 1.
//!
//! Nothing is read by two at once and nothing is left unread in between: datagrams wait in the sockets,
//! which both hold, for as long as it takes to stop one set of threads and to start another.

use std::io;

use serde::{Deserialize, Serialize};

use crate::coordinator::hand_over::HandedBooks;
use crate::daemon::Halves;

/// What the successor sees.
pub mod predecessor;
/// What the predecessor sees.
pub mod successor;
mod wire;

pub use self::predecessor::Predecessor;
pub use self::successor::Successor;

/// Number of the protocol: another one for every change of it.
pub const PROTOCOL: u32 = 1;

/// Why one daemon does not take over from another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeOverError {
    /// The daemon belongs to somebody else.
    #[error(
        "cannot take over from process {pid}: it runs as user {theirs}, this is user {ours}; \
         start as its user"
    )]
    OtherUser {
        /// Its process.
        pid: i32,
        /// Its user.
        theirs: u32,
        /// Our user.
        ours: u32,
    },
    /// It does not understand the question.
    #[error("the daemon that runs there does not know how to hand over; stop it, then start floe")]
    Unknown,
    /// It has said why not.
    #[error("cannot take over from process {pid}: {why}; it goes on as before")]
    Refused {
        /// Its process.
        pid: u32,
        /// Its words.
        why: String,
    },
    /// The connection between the two broke, or somebody took too long.
    #[error("cannot take over, {at}: {source}")]
    Connection {
        /// What was under way.
        at: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// The open interval that came is not one.
    #[error("cannot take over: {0}; the other daemon spools its interval")]
    Interval(#[from] floe_core::interval::handed::HandedError),
}

/// What the predecessor has.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Offer {
    version: String,
    pid: u32,
    secret: [u64; 4],
    /// Sockets that receive; their descriptors follow, and behind them that of the admin port.
    sockets: usize,
    has_admin: bool,
    /// Whether the service manager holds sockets of them too.
    is_managed: bool,
}

/// What the predecessor answers: one of it, or a refusal.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Answer<T> {
    Yes(T),
    No(String),
}

/// Places in the offer of the sockets that the successor goes on with.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Kept {
    sockets: Vec<usize>,
}

/// The open connections: their descriptors follow, then the beginnings of lines.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Stopped {
    connections: Vec<ConnectionState>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct ConnectionState {
    rest_bytes: usize,
    is_skipping: bool,
}

/// The books; the interval follows where there is one.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct State {
    has_interval: bool,
    books: HandedBooks,
}

/// A plain step: `ready`, `taken`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
enum Step {
    Ready,
    Taken,
}

/// The word for the halves of a daemon in the question.
fn halves_word(halves: Halves) -> &'static str {
    match halves {
        Halves::Both => "both",
        Halves::Ingest => "ingest",
        Halves::Export => "export",
    }
}
