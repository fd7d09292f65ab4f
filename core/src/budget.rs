//! The budgets of series: how many names there may be, in all and below a prefix.
//!
//! Stands between a worker's table and the coordinator's catalogue, which both ask the one `Ledger` of
//! the daemon before they make a series; a series that is known is never asked for, so that the way
//! of a value pays nothing. A worker that meets a name asks `admit`; the coordinator, who alone knows
//! which series there are, asks `enter`, tells what has left, and puts the counts right after each
//! flip. Between two flips a worker's count errs on the safe side: a name that is new at two workers
//! counts twice.
//!
//! Beyond a budget a name that is new is *folded*: its values go to `<prefix>.__overflow__`, of the
//! same kind, so that totals stay right. Gauges are dropped, for a sum of gauges is no gauge. What
//! exists goes on: its hash stands in a filter (`known`) that says so to workers who have not met it.
//!
//! Names are counted and their bytes with them, for a name may have 4,096: the budget of bytes is
//! `SERIES_KEY_BYTES_MEAN` a series. Everything here is memory of a fixed size.

/// Which names a worker may take for existing ones.
mod known;
/// Which prefix a name is counted under.
mod prefix;

pub use self::known::filter_bytes;
pub use self::prefix::{PrefixPattern, Prefixes};

use self::known::Known;
use self::prefix::PrefixCounts;
use crate::books::Cause;
use crate::limits::{
    CHUNKS_PER_GENERATION_MAX, GATHERED_SHARE, GATHERED_VALUES_MAX, INTERVALS_WAITING_BYTES_MAX,
    KEY_BYTES_MAX, OVERFLOW_SERIES_MAX, SERIES_KEY_BYTES_MEAN, SERIES_PER_SHARD_MAX,
};
use crate::sample::Kind;
use crate::series::pool::Chunk;
use crate::sync::{AtomicUsize, Ordering};

/// The last component of a name that stands for all beyond a budget.
pub const OVERFLOW: &[u8] = b"__overflow__";

/// Generations of a worker's values that there are at once, in halves: the open one, the one that the
/// open interval has got, and half of one more that questions between two ticks may add.
pub const GENERATIONS_HALVES: usize = 5;

/// Member tables are counted at this, for a table has room for up to twice its members, and is copied
/// when it grows.
pub const SET_GENERATIONS: usize = 4;

/// What the daemon may hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budgets {
    /// Series of all kinds at once; `None` = as many as shards hold.
    pub series_max: Option<usize>,
    /// Bytes of timer values and gauge operations, over all workers and generations; `None` = no
    /// budget but that of each shard.
    pub timer_bytes_max: Option<usize>,
    /// Bytes of set members, over all workers and generations.
    pub set_bytes_max: Option<usize>,
    /// Bytes of closed intervals that wait for the disk.
    pub waiting_bytes_max: Option<usize>,
    /// Names below a prefix.
    pub prefixes: Prefixes,
}

/// The counts behind the budgets of series; one per daemon, shared by workers and coordinator.
///
/// Counts are relaxed: a few names more or less near a limit is what the coordinator settles.
#[derive(Debug)]
pub struct Ledger {
    series_max: usize,
    key_bytes_max: usize,
    chunks_per_generation: usize,
    set_bytes_per_generation: usize,
    values_bytes_half: usize,
    waiting_bytes_max: usize,
    gathered_values_max: usize,
    prefixes: Prefixes,
    /// What workers have let in and the coordinator has put right.
    live: Counts,
    /// What the catalogues hold; the coordinator alone writes it.
    entered: Counts,
    prefix_counts: PrefixCounts,
    known: Option<Known>,
}

#[derive(Debug, Default)]
struct Counts {
    series: AtomicUsize,
    key_bytes: AtomicUsize,
    overflows: AtomicUsize,
}

fn load(count: &AtomicUsize) -> usize {
    count.load(Ordering::Relaxed)
}

fn add(count: &AtomicUsize, more: usize) {
    count.fetch_add(more, Ordering::Relaxed);
}

/// Takes away from a count that its caller alone writes.
fn take(count: &AtomicUsize, less: usize) {
    count.store(load(count).saturating_sub(less), Ordering::Relaxed);
}

impl Default for Ledger {
    /// Without budgets but those of each shard: for tests and benchmarks of one shard.
    fn default() -> Self {
        Self::new(&Budgets::default(), 1)
    }
}

impl Ledger {
    /// The ledger of a daemon of so many workers.
    #[must_use]
    pub fn new(budgets: &Budgets, workers: usize) -> Self {
        let workers = workers.max(1);
        let series_max = budgets.series_max.unwrap_or(usize::MAX);
        let share = |bytes: Option<usize>, default: usize, parts: usize| {
            bytes.map_or(default, |bytes| bytes / parts / workers)
        };
        let chunk_bytes = share(budgets.timer_bytes_max, usize::MAX, 1) / GENERATIONS_HALVES * 2;
        Self {
            series_max,
            key_bytes_max: series_max.saturating_mul(SERIES_KEY_BYTES_MEAN),
            chunks_per_generation: (chunk_bytes / size_of::<Chunk>())
                .min(CHUNKS_PER_GENERATION_MAX),
            set_bytes_per_generation: share(budgets.set_bytes_max, usize::MAX, SET_GENERATIONS),
            waiting_bytes_max: budgets.waiting_bytes_max.unwrap_or(INTERVALS_WAITING_BYTES_MAX),
            gathered_values_max: budgets
                .timer_bytes_max
                .map_or(GATHERED_VALUES_MAX, gathered_values_max),
            values_bytes_half: {
                let of = |bytes: Option<usize>| bytes.unwrap_or(usize::MAX / 4);
                // Of one generation, which is what may be asked for beside those of the ticks.
                (of(budgets.timer_bytes_max) / GENERATIONS_HALVES)
                    .min(of(budgets.set_bytes_max) / SET_GENERATIONS / 2)
            },
            prefixes: budgets.prefixes.clone(),
            live: Counts::default(),
            entered: Counts::default(),
            prefix_counts: PrefixCounts::new(budgets.prefixes.is_empty()),
            known: budgets.series_max.map(Known::new),
        }
    }

    /// Chunks one worker may lend out per generation.
    #[must_use]
    pub fn chunks_per_generation(&self) -> usize {
        self.chunks_per_generation
    }

    /// Bytes of set members of one worker per generation.
    #[must_use]
    pub fn set_bytes_per_generation(&self) -> usize {
        self.set_bytes_per_generation
    }

    /// Values of one timer whose statistics are computed exactly.
    #[must_use]
    pub fn gathered_values_max(&self) -> usize {
        self.gathered_values_max
    }

    /// Bytes of closed intervals that may wait for the disk.
    #[must_use]
    pub fn waiting_bytes_max(&self) -> usize {
        self.waiting_bytes_max
    }

    /// Half of what values may take over all workers and generations, bytes.
    #[must_use]
    pub fn values_bytes_half(&self) -> usize {
        self.values_bytes_half
    }

    /// Series that a shard may hold: all there may be, and some that the filter let in by mistake.
    #[must_use]
    pub fn shard_series_max(&self) -> usize {
        shard_series_max(self.series_max)
    }

    /// Bytes of keys that a shard may hold in boxes of their own.
    #[must_use]
    pub fn shard_key_bytes_max(&self) -> usize {
        self.key_bytes_max.saturating_add(self.key_bytes_max / 8)
    }

    /// Whether a shard should let idle slots go sooner.
    #[must_use]
    pub fn is_crowded(&self, series: usize, key_bytes: usize) -> bool {
        self.series_max - self.series_max / 4 < series
            || self.key_bytes_max - self.key_bytes_max / 4 < key_bytes
    }

    /// A worker met a name that it does not know. `hash`: its low half is enough.
    ///
    /// # Errors
    /// The budget that has no room for it.
    #[cold]
    pub fn admit(&self, kind: Kind, hash: u32, key: &[u8]) -> Result<(), Cause> {
        let Some(known) = &self.known else { return Ok(()) };
        let prefix = self.prefixes.of(key);
        let count = prefix.and_then(|prefix| self.prefix_counts.of(prefix.name));
        let cause = if self.series_max <= load(&self.live.series)
            || self.key_bytes_max < load(&self.live.key_bytes) + key.len()
        {
            Cause::SeriesLimit
        } else if let (Some(prefix), Some(count)) = (prefix, count)
            && prefix.names_max <= load(&count.live)
        {
            Cause::PrefixLimit
        } else {
            add(&self.live.series, 1);
            add(&self.live.key_bytes, key.len());
            if let Some(count) = count {
                add(&count.live, 1);
            }
            return Ok(());
        };
        if known.has(kind, hash) { Ok(()) } else { Err(cause) }
    }

    /// Whether a worker may make the series that stands for others.
    pub fn admit_overflow(&self, kind: Kind, hash: u32, name: &[u8]) -> bool {
        if name == OVERFLOW || self.known.as_ref().is_none_or(|known| known.has(kind, hash)) {
            return true;
        }
        let has_room = load(&self.live.overflows) < OVERFLOW_SERIES_MAX;
        add(&self.live.overflows, usize::from(has_room));
        has_room
    }

    /// Writes the name that stands for `key` beyond its budget: that of the configured prefix it
    /// belongs to, else of its first component; without either, of all.
    pub fn overflow_name(&self, key: &[u8], name: &mut Vec<u8>) {
        name.clear();
        let first = || key.iter().position(|byte| matches!(byte, b'.' | b';'));
        let prefix = match self.prefixes.of(key) {
            Some(prefix) => prefix.name,
            None => match first().filter(|&end| key.get(end) == Some(&b'.')) {
                Some(end) => &key[..end],
                None => b"",
            },
        };
        if !prefix.is_empty() && prefix.len() + 1 + OVERFLOW.len() <= KEY_BYTES_MAX {
            name.extend_from_slice(prefix);
            name.push(b'.');
        }
        name.extend_from_slice(OVERFLOW);
    }

    /// The prefix that a name is counted under, else its first component; a name of one, itself.
    #[must_use]
    pub fn prefix_of<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        match self.prefixes.of(key) {
            Some(prefix) => prefix.name,
            None => {
                let end = key.iter().position(|byte| matches!(byte, b'.' | b';'));
                &key[..end.unwrap_or(key.len())]
            }
        }
    }

    /// The coordinator meets a name that no catalogue has; whether it may have it.
    pub(crate) fn enter(&self, kind: Kind, hash: u32, key: &[u8]) -> bool {
        if self.known.is_none() {
            return true;
        }
        if is_overflow(key) {
            let has_room = key == OVERFLOW || load(&self.entered.overflows) < OVERFLOW_SERIES_MAX;
            if has_room {
                self.enter_always(kind, hash, key);
            }
            return has_room;
        }
        let prefix = self.prefixes.of(key);
        let count = prefix.and_then(|prefix| self.prefix_counts.of(prefix.name));
        let is_full = self.series_max <= load(&self.entered.series)
            || self.key_bytes_max < load(&self.entered.key_bytes) + key.len()
            || prefix
                .zip(count)
                .is_some_and(|(prefix, count)| prefix.names_max <= load(&count.entered));
        if !is_full {
            self.enter_always(kind, hash, key);
        }
        !is_full
    }

    /// The same for a name that is there whatever the budgets say: one of the daemon's own.
    pub(crate) fn enter_always(&self, kind: Kind, hash: u32, key: &[u8]) {
        let Some(known) = &self.known else { return };
        known.insert(kind, hash);
        if is_overflow(key) {
            return add(&self.entered.overflows, 1);
        }
        add(&self.entered.series, 1);
        add(&self.entered.key_bytes, key.len());
        if let Some(prefix) = self.prefixes.of(key)
            && let Some(count) = self.prefix_counts.of(prefix.name)
        {
            add(&count.entered, 1);
        }
    }

    /// A series has left its catalogue.
    pub(crate) fn leave(&self, key: &[u8]) {
        if self.known.is_none() {
            return;
        }
        if is_overflow(key) {
            return take(&self.entered.overflows, 1);
        }
        take(&self.entered.series, 1);
        take(&self.entered.key_bytes, key.len());
        if let Some(prefix) = self.prefixes.of(key)
            && let Some(count) = self.prefix_counts.of(prefix.name)
        {
            take(&count.entered, 1);
        }
    }

    /// Puts the workers' counts right: what the catalogues hold, or what the fullest shard does where
    /// that is more, for what has left a catalogue keeps its slot for a while.
    pub(crate) fn settle(&self, shard_series: usize, shard_key_bytes: usize) {
        let series = load(&self.entered.series).max(shard_series);
        self.live.series.store(series, Ordering::Relaxed);
        let key_bytes = load(&self.entered.key_bytes).max(shard_key_bytes);
        self.live.key_bytes.store(key_bytes, Ordering::Relaxed);
        let overflows = load(&self.entered.overflows);
        self.live.overflows.store(overflows, Ordering::Relaxed);
        self.prefix_counts.settle();
    }

    /// Whether the filter holds so many names that are gone that it should be filled anew.
    pub(crate) fn is_filter_stale(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.is_stale(load(&self.entered.series)))
    }

    /// Fills the filter anew with what `visit` tells: every series there is.
    pub(crate) fn refill_filter(&self, visit: impl FnOnce(&mut dyn FnMut(Kind, u32))) {
        if let Some(known) = &self.known {
            known.refill(visit);
        }
    }

    /// Whether the catalogues have this name of this kind, as far as the filter can tell: it takes one
    /// name in some hundreds for known that is not. `None` without budgets.
    #[must_use]
    pub fn is_known(&self, kind: Kind, hash: u32) -> Option<bool> {
        self.known.as_ref().map(|known| known.has(kind, hash))
    }

    /// Series that the catalogues hold.
    #[must_use]
    pub fn series(&self) -> usize {
        load(&self.entered.series)
    }
}

/// Values of one timer whose statistics are computed exactly, where all timers have so many bytes.
#[must_use]
pub fn gathered_values_max(timer_bytes_max: usize) -> usize {
    (timer_bytes_max / GATHERED_SHARE).min(GATHERED_VALUES_MAX)
}

/// Series that a shard may hold under a budget of `series_max`.
#[must_use]
pub fn shard_series_max(series_max: usize) -> usize {
    series_max
        .saturating_add(series_max / 8)
        .saturating_add(2 * OVERFLOW_SERIES_MAX)
        .min(SERIES_PER_SHARD_MAX)
}

/// Whether this name stands for others.
fn is_overflow(key: &[u8]) -> bool {
    let before = key.strip_suffix(OVERFLOW);
    before.is_some_and(|before| before.is_empty() || before.ends_with(b"."))
}

#[cfg(test)]
mod tests;
