//! The accounts of one backend: written by its thread, read by it and by the coordinator.
//!
//! A point is in exactly one place: written and acknowledged, or refused with a cause. Both are
//! counted when the segment leaves the queue, so that a resend counts nothing twice. Every number
//! grows only; what a reader sees of several may be one segment apart.

use std::sync::atomic::{AtomicU64, Ordering};

use floe_storage::Expired;

use super::departures::Departures;
use super::name_filter::{PointTally, Refusal};
use super::source::{Delivered, Leave};

/// Numbers of one backend that only grow.
#[derive(Debug, Default)]
pub struct BackendAccounts {
    /// The backend's name.
    name: String,
    counts: [AtomicU64; Count::ALL.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    link: [AtomicU64; Link::COUNT],
    /// Rows that have left the queue and are being sent, by a backend that sends once at the most.
    rows_in_flight: AtomicU64,
    /// Links that leave the queue by the exporter's hand.
    departures: Departures,
}

/// What is counted per backend. A closed list: it names points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Count {
    /// Segment parts acknowledged, weakly or not.
    SegmentsAcknowledged = 0,
    /// Points in them.
    PointsAcknowledged = 1,
    /// Bytes of their payloads.
    BytesAcknowledged = 2,
    /// Attempts at a segment after the first one.
    SegmentsResent = 3,
    /// Segments taken for delivered without a clean close; part of the acknowledged.
    SegmentsWeak = 4,
    /// Damaged segments put into quarantine.
    SegmentsQuarantined = 5,
    /// Rows known to be lost with them.
    RowsQuarantined = 6,
    /// Segments that expired before they were delivered.
    SegmentsExpired = 7,
    /// Rows in them.
    RowsExpired = 8,
    /// Attempts that failed, for whatever cause.
    ConnectionErrors = 9,
    /// Points whose name had to be made harmless; part of the acknowledged.
    PointsCleaned = 10,
    /// Rows acknowledged: left the queue for the backend.
    RowsAcknowledged = 11,
    /// Rows of attempts after the first one: no part of any sum.
    RowsResent = 12,
    /// Quarantined segments that do not even tell how many rows they had.
    SegmentsUnreadable = 13,
    /// Segments of a backend that sends once at the most, broken off: who knows how much arrived.
    SegmentsUnconfirmed = 14,
    /// Rows in them.
    RowsUnconfirmed = 15,
    /// Of the rows expired: older than the queue may be.
    RowsExpiredAge = 16,
    /// Of the rows expired: the queue had more bytes than it may.
    RowsExpiredBytes = 17,
    /// Of the rows expired: given up for the newest interval on a full disk.
    RowsExpiredDiskFull = 18,
    /// Rows acknowledged that were never in the queue: sent from memory. Part of the acknowledged, or
    /// of the unconfirmed.
    RowsFromMemory = 19,
}

/// Why segments left a queue undelivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryCause {
    /// The caps of the queue: its age, or its bytes, as [`Expired`] says.
    Caps,
    /// The disk is full.
    DiskFull,
}

impl Count {
    /// All counts, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::SegmentsAcknowledged,
        Self::PointsAcknowledged,
        Self::BytesAcknowledged,
        Self::SegmentsResent,
        Self::SegmentsWeak,
        Self::SegmentsQuarantined,
        Self::RowsQuarantined,
        Self::SegmentsExpired,
        Self::RowsExpired,
        Self::ConnectionErrors,
        Self::PointsCleaned,
        Self::RowsAcknowledged,
        Self::RowsResent,
        Self::SegmentsUnreadable,
        Self::SegmentsUnconfirmed,
        Self::RowsUnconfirmed,
        Self::RowsExpiredAge,
        Self::RowsExpiredBytes,
        Self::RowsExpiredDiskFull,
        Self::RowsFromMemory,
    ];

    /// The word used in points and docs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SegmentsAcknowledged => "segments_acknowledged",
            Self::PointsAcknowledged => "points_acknowledged",
            Self::BytesAcknowledged => "bytes_acknowledged",
            Self::SegmentsResent => "segments_resent",
            Self::SegmentsWeak => "segments_weak",
            Self::SegmentsQuarantined => "segments_quarantined",
            Self::RowsQuarantined => "rows_quarantined",
            Self::SegmentsExpired => "segments_expired",
            Self::RowsExpired => "rows_expired",
            Self::ConnectionErrors => "connection_errors",
            Self::PointsCleaned => "points_cleaned",
            Self::RowsAcknowledged => "rows_acknowledged",
            Self::RowsResent => "rows_resent",
            Self::SegmentsUnreadable => "segments_unreadable",
            Self::SegmentsUnconfirmed => "segments_unconfirmed",
            Self::RowsUnconfirmed => "rows_unconfirmed",
            Self::RowsExpiredAge => "rows_expired_age",
            Self::RowsExpiredBytes => "rows_expired_bytes",
            Self::RowsExpiredDiskFull => "rows_expired_disk_full",
            Self::RowsFromMemory => "rows_from_memory",
        }
    }
}

/// Which accounts a process tells: each number has one teller, or two values would meet in one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// All: ingest and export are one process.
    #[default]
    All,
    /// What expired: the ingest half, which applies the retention.
    Retention,
    /// All else: the export half.
    Delivery,
}

impl Told {
    fn includes(self, count: Count) -> bool {
        let is_of_retention = matches!(
            count,
            Count::SegmentsExpired
                | Count::RowsExpired
                | Count::RowsExpiredAge
                | Count::RowsExpiredBytes
                | Count::RowsExpiredDiskFull
        );
        match self {
            Self::All => true,
            Self::Retention => is_of_retention,
            Self::Delivery => !is_of_retention,
        }
    }
}

/// What the reference daemon tells of its carbon link.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Link {
    LastFlushS = 0,
    LastExceptionS = 1,
    FlushTimeMs = 2,
    FlushLengthBytes = 3,
}

impl Link {
    const COUNT: usize = 4;
}

/// The carbon link as the reference daemon's console and `graphiteStats` show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Last segment delivered, seconds since the epoch; the start before the first one.
    pub last_flush_s: u64,
    /// Last failure, seconds since the epoch; 0 = none yet.
    pub last_exception_s: u64,
    /// How long the last delivery took, ms.
    pub flush_time_ms: u64,
    /// Length of the last payload, bytes.
    pub flush_length_bytes: u64,
}

/// All numbers of a backend at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub(crate) counts: [u64; Count::ALL.len()],
    pub(crate) refused: [u64; Refusal::ALL.len()],
    /// An amount of the moment: no part of any difference.
    pub(crate) rows_in_flight: u64,
}

impl BackendAccounts {
    pub(crate) fn new(name: &str, start_s: u64) -> Self {
        let accounts = Self { name: name.to_owned(), ..Self::default() };
        accounts.set(Link::LastFlushS, start_s);
        accounts
    }

    /// The backend's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One count.
    #[must_use]
    pub fn count(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Points refused for `cause`.
    #[must_use]
    pub fn refused(&self, cause: Refusal) -> u64 {
        self.refused[cause as usize].load(Ordering::Relaxed)
    }

    /// The carbon link.
    #[must_use]
    pub fn link(&self) -> LinkState {
        let link = |link: Link| self.link[link as usize].load(Ordering::Relaxed);
        LinkState {
            last_flush_s: link(Link::LastFlushS),
            last_exception_s: link(Link::LastExceptionS),
            flush_time_ms: link(Link::FlushTimeMs),
            flush_length_bytes: link(Link::FlushLengthBytes),
        }
    }

    /// What left this backend's queue undelivered: told by whoever applies the retention.
    pub fn add_expired(&self, expired: &Expired, cause: ExpiryCause) {
        let Expired { segments, rows, rows_too_old, .. } = *expired;
        self.add(Count::SegmentsExpired, segments);
        self.add(Count::RowsExpired, rows);
        match cause {
            ExpiryCause::Caps => {
                self.add(Count::RowsExpiredAge, rows_too_old);
                self.add(Count::RowsExpiredBytes, rows - rows_too_old);
            }
            ExpiryCause::DiskFull => self.add(Count::RowsExpiredDiskFull, rows),
        }
    }

    /// Rows have left the queue and are about to be sent, for the only time.
    pub(crate) fn begin_flight(&self, rows: u64) {
        self.rows_in_flight.fetch_add(rows, Ordering::Relaxed);
    }

    /// What became of them is counted by whoever calls this.
    pub(crate) fn end_flight(&self, rows: u64) {
        self.rows_in_flight.fetch_sub(rows, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, count: Count, number: u64) {
        self.counts[count as usize].fetch_add(number, Ordering::Relaxed);
    }

    /// Counts a delivered segment as it leaves; one that is gone is in the books already.
    pub(crate) fn add_left(&self, left: Leave, delivered: &Delivered) {
        if left == Leave::Gone {
            return;
        }
        let Delivered { rows, bytes, tally, is_weak } = delivered;
        self.add(Count::SegmentsAcknowledged, 1);
        self.add(Count::RowsAcknowledged, *rows);
        self.add(Count::RowsFromMemory, if left == Leave::FromMemory { *rows } else { 0 });
        self.add(Count::BytesAcknowledged, *bytes);
        self.add(Count::SegmentsWeak, u64::from(*is_weak));
        self.add_tally(tally);
    }

    pub(crate) fn add_tally(&self, tally: &PointTally) {
        self.add(Count::PointsAcknowledged, tally.written);
        self.add(Count::PointsCleaned, tally.cleaned);
        for (total, number) in self.refused.iter().zip(tally.refused) {
            total.fetch_add(number, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_delivered(&self, now_s: u64, took_ms: u64, bytes: u64) {
        self.set(Link::LastFlushS, now_s);
        self.set(Link::FlushTimeMs, took_ms);
        self.set(Link::FlushLengthBytes, bytes);
    }

    pub(crate) fn set_failed(&self, now_s: u64) {
        self.set(Link::LastExceptionS, now_s);
        self.add(Count::ConnectionErrors, 1);
    }

    /// Lets a link leave the queue and counts it: `work` does both.
    pub(crate) fn settle<T>(&self, work: impl FnOnce() -> T) -> T {
        self.departures.settle(work)
    }

    /// What `look` finds in queue and counts while no link is on its way out; `None` if one always
    /// was. Waits for nobody.
    pub(crate) fn look_quietly<T>(&self, look: impl FnMut() -> T) -> Option<T> {
        self.departures.look_quietly(look)
    }

    pub(crate) fn read(&self) -> Reading {
        Reading {
            counts: Count::ALL.map(|count| self.count(count)),
            refused: Refusal::ALL.map(|cause| self.refused(cause)),
            rows_in_flight: self.rows_in_flight.load(Ordering::Relaxed),
        }
    }

    fn set(&self, link: Link, value: u64) {
        self.link[link as usize].store(value, Ordering::Relaxed);
    }
}

impl Reading {
    /// Names below `<prefixStats>.floe.backend.<name>.` and what was added since `base`.
    pub(crate) fn since(&self, base: &Self, told: Told) -> Vec<(String, u64)> {
        let counts = Count::ALL.into_iter().filter(|count| told.includes(*count));
        let counted = counts.map(|count| {
            let at = count as usize;
            (count.word().to_owned(), self.counts[at].saturating_sub(base.counts[at]))
        });
        let causes = Refusal::ALL.into_iter().filter(|_| told != Told::Retention);
        let refused = causes.map(|cause| {
            let at = cause as usize;
            let name = format!("points_refused.{}", cause.word());
            (name, self.refused[at].saturating_sub(base.refused[at]))
        });
        counted.chain(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_at_their_numbers() {
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index);
        }
        for (index, cause) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }

    #[test]
    fn differences_are_those_since_the_base() {
        let accounts = BackendAccounts::new("main", 5);
        let expired =
            |segments, rows, rows_too_old| Expired { segments, rows, rows_too_old, bytes: 0 };
        accounts.add_expired(&expired(2, 30, 30), ExpiryCause::Caps);
        let base = accounts.read();
        accounts.add_expired(&expired(1, 10, 0), ExpiryCause::DiskFull);
        accounts.add_expired(&expired(1, 9, 2), ExpiryCause::Caps);
        accounts.add_tally(&PointTally { written: 7, cleaned: 1, refused: [0, 0, 4, 0] });
        let changed = |told| {
            let mut all = accounts.read().since(&base, told);
            all.retain(|(_, number)| *number != 0);
            all
        };
        assert_eq!(
            changed(Told::All),
            [
                ("points_acknowledged".to_owned(), 7),
                ("segments_expired".to_owned(), 2),
                ("rows_expired".to_owned(), 19),
                ("points_cleaned".to_owned(), 1),
                ("rows_expired_age".to_owned(), 2),
                ("rows_expired_bytes".to_owned(), 7),
                ("rows_expired_disk_full".to_owned(), 10),
                ("points_refused.not_finite".to_owned(), 4),
            ]
        );
        assert_eq!(accounts.link().last_flush_s, 5);
    }

    #[test]
    fn a_look_that_meets_an_acknowledgement_is_taken_again() {
        let accounts = BackendAccounts::new("main", 5);
        let mut looks = 0;
        let quiet = accounts.look_quietly(|| {
            looks += 1;
            if looks == 1 {
                accounts.settle(|| accounts.add(Count::RowsAcknowledged, 3));
            }
            accounts.count(Count::RowsAcknowledged)
        });
        assert_eq!((looks, quiet), (2, Some(3)));
        let never = accounts.settle(|| accounts.look_quietly(|| ()));
        assert_eq!(never, None, "one is on its way out all the time");
        assert_eq!(accounts.look_quietly(|| ()), Some(()));
    }

    #[test]
    fn of_two_processes_each_number_has_one_teller() {
        let reading = BackendAccounts::new("main", 5).read();
        let names = |told| -> Vec<String> {
            reading.since(&reading, told).into_iter().map(|(name, _)| name).collect()
        };
        let mut both = [names(Told::Retention), names(Told::Delivery)].concat();
        assert_eq!(
            names(Told::Retention),
            [
                "segments_expired",
                "rows_expired",
                "rows_expired_age",
                "rows_expired_bytes",
                "rows_expired_disk_full"
            ]
        );
        let mut all = names(Told::All);
        both.sort_unstable();
        all.sort_unstable();
        assert_eq!(both, all);
    }
}
