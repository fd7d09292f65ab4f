//! Places at which a test lets the process abort: the steps of a segment's life between which a kill
//! leaves the disk in different states.
//!
//! Only in builds with debug assertions, and only where `FLOE_CRASH_AT` names a point
//! (`linked-first`, or `linked-first:3` for the third time it is reached); in a release build
//! `reach` is empty and the variable is never read
//! (docs/decisions/020-faults-in-debug-builds.md).

/// One place; the word is what `FLOE_CRASH_AT` names it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// The file in `tmp/` is there and empty.
    TmpCreated,
    /// It has its bytes.
    TmpWritten,
    /// They are on the disk.
    TmpSynced,
    /// One more directory has its link: passed once for each.
    LinkedFirst,
    /// All directories have theirs.
    LinkedAll,
    /// The names in `tmp/` are gone.
    TmpUnlinked,
    /// All directories are on the disk: the commit holds from here on.
    DirsSynced,
    /// Half of the points are with the peer's kernel, or the first chunk is.
    SentHalf,
    /// All of them, and our half of the connection is closed.
    SentAll,
    /// The peer has closed: it has read everything.
    FinReceived,
    /// The link in the queue is gone: acknowledged.
    AckedUnlinked,
    /// The link in the queue is gone: expired.
    ExpireUnlinked,
}

impl CrashPoint {
    /// All points, in the order in which a segment meets them.
    pub const ALL: [Self; 12] = [
        Self::TmpCreated,
        Self::TmpWritten,
        Self::TmpSynced,
        Self::LinkedFirst,
        Self::LinkedAll,
        Self::TmpUnlinked,
        Self::DirsSynced,
        Self::SentHalf,
        Self::SentAll,
        Self::FinReceived,
        Self::AckedUnlinked,
        Self::ExpireUnlinked,
    ];

    /// Its name in `FLOE_CRASH_AT`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::TmpCreated => "tmp-created",
            Self::TmpWritten => "tmp-written",
            Self::TmpSynced => "tmp-synced",
            Self::LinkedFirst => "linked-first",
            Self::LinkedAll => "linked-all",
            Self::TmpUnlinked => "tmp-unlinked",
            Self::DirsSynced => "dirs-synced",
            Self::SentHalf => "sent-half",
            Self::SentAll => "sent-all",
            Self::FinReceived => "fin-received",
            Self::AckedUnlinked => "acked-unlinked",
            Self::ExpireUnlinked => "expire-unlinked",
        }
    }

    /// Ends the process as a kill would, if this is the point and the time that was asked for.
    #[cfg(debug_assertions)]
    pub fn reach(self) {
        armed::reach(self);
    }

    /// Nothing: a release build has no crash points.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub const fn reach(self) {}
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::CrashPoint;

    struct Armed {
        word: String,
        /// Times it is still to be passed unharmed, and this one.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn reach(point: CrashPoint) {
        let armed = ARMED.get_or_init(|| parse(&std::env::var("FLOE_CRASH_AT").ok()?));
        let Some(armed) = armed.as_ref().filter(|armed| armed.word == point.word()) else {
            return;
        };
        if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            std::process::abort();
        }
    }

    fn parse(text: &str) -> Option<Armed> {
        let (word, times) = text.split_once(':').unwrap_or((text, "1"));
        Some(Armed { word: word.to_owned(), left: AtomicU64::new(times.parse().ok()?) })
    }
}
