//! The open interval: sealed generations come in, rows go out.
//!
//! The coordinator flips the shards at a tick, and at any other moment it likes; each sealed
//! generation is added here. At a tick the interval closes: the reference daemon's own counters are
//! entered, statistics are computed, rows are built, and the idle switches decide which series stay
//! (docs/references.md S6 and S8). Time is handed in.

/// Which series exist.
pub mod catalogue;
mod deletion;
/// The open interval for a successor.
pub mod handed;
mod rows;
mod timer_values;
/// What it holds at one moment.
pub mod view;

use self::catalogue::Catalogue;
use self::deletion::delete;
use self::rows::RowsBuilder;
use self::view::{NumberView, TimerSoFar, TimerView, View};
use crate::books::Page;
use crate::budget::Ledger;
use crate::config::settings::Settings;
use crate::limits::VIEW_VALUES_MAX;
use crate::name::KeyHasher;
use crate::row::Rows;
use crate::sample::Kind;
use crate::series::gauge::{self, GaugeOperation};
use crate::series::pool::{Chain, ChunkHomes, HomeQueue};
use crate::series::set::{SetHomes, SetMembers};
use crate::shard::{Mark, SealedValue, ShardReader};
use crate::statistics::{Statistics, TIMERS_AT_ONCE};
use crate::sync::Arc;

/// Counters that the reference daemon never deletes: their names hold one of these anywhere.
const PROTECTED_COUNTERS: [&[u8]; 3] =
    [b"packets_received", b"metrics_received", b"bad_lines_seen"];

#[derive(Debug, Default)]
struct GaugeState {
    value: Option<f64>,
    /// Flushes left before the gauge leaves; `None` = it has no time to live.
    flushes_left: Option<u32>,
}

#[derive(Debug, Default)]
struct SetState {
    members: Option<Box<SetMembers>>,
    /// Worker whose table it is.
    home: usize,
}

/// The reference daemon's own counters below `prefixStats`, in its order.
const OWN_COUNTERS: [&str; 3] = ["bad_lines_seen", "packets_received", "metrics_received"];

/// Kinds of series that can be deleted on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletable {
    /// Counters.
    Counters,
    /// Timers.
    Timers,
    /// Gauges.
    Gauges,
}

/// What the daemon adds to the books at a tick, below `<prefixStats>.floe.`.
#[derive(Clone, Debug, Default)]
pub struct BookEntries(pub Vec<(String, f64)>);

/// The open interval and everything known about its series.
#[derive(Debug)]
pub struct Interval {
    settings: Settings,
    /// Length of the intervals after the open one, ms.
    next_flush_interval_ms: u64,
    counters: Catalogue<f64>,
    timers: Catalogue<Vec<Chain>>,
    gauges: Catalogue<GaugeState>,
    sets: Catalogue<SetState>,
    /// Gauge operations of the flip that is being collected: index, operation.
    operations: Vec<(usize, GaugeOperation)>,
    statistics: Statistics,
    page: Page,
    /// What the page had counted when an own counter was deleted: it begins anew there.
    own_bases: [u64; OWN_COUNTERS.len()],
    chunk_homes: ChunkHomes,
    set_homes: SetHomes,
    previous_timestamp_s: Option<u64>,
    pages_unbalanced: u64,
    /// Parts of an earlier interval, whose memory the next close uses.
    spare: Vec<Rows>,
    /// The budgets of series.
    ledger: Arc<Ledger>,
    /// Bytes of timer values and set members that it holds, at the most.
    held_bytes: usize,
}

impl Interval {
    /// An interval fed by `readers`, index = worker index.
    #[must_use]
    pub fn new(settings: Settings, hasher: &KeyHasher, readers: &[ShardReader]) -> Self {
        let homes: Vec<HomeQueue> = readers.iter().map(ShardReader::chunks_home).collect();
        let ledger = readers.first().map(|reader| Arc::clone(reader.ledger())).unwrap_or_default();
        let statistics = statistics(&settings, &ledger);
        let within = |kind| (Arc::clone(&ledger), kind, hasher.clone());
        let mut counters = catalogue(within(Kind::Counter));
        for name in OWN_COUNTERS {
            counters.index(&own_key(&settings, name));
        }
        counters.settle();
        Self {
            counters,
            timers: catalogue(within(Kind::Timer)),
            gauges: catalogue(within(Kind::Gauge)),
            sets: catalogue(within(Kind::Set)),
            operations: Vec::new(),
            statistics,
            page: Page::default(),
            own_bases: [0; OWN_COUNTERS.len()],
            chunk_homes: ChunkHomes::new(homes),
            set_homes: SetHomes::new(readers.iter().map(ShardReader::sets_home)),
            previous_timestamp_s: None,
            pages_unbalanced: 0,
            spare: Vec::new(),
            held_bytes: 0,
            ledger,
            next_flush_interval_ms: settings.flush_interval_ms,
            settings,
        }
    }

    /// Adds what the workers have sealed. Every reader must have acknowledged: gauge operations of
    /// one flip are applied in the order of time over all workers.
    pub fn collect(&mut self, readers: &mut [ShardReader]) {
        for (worker, reader) in readers.iter_mut().enumerate() {
            self.counters.make_room(reader.series_of(Kind::Counter));
            self.timers.make_room(reader.series_of(Kind::Timer));
            self.gauges.make_room(reader.series_of(Kind::Gauge));
            self.sets.make_room(reader.series_of(Kind::Set));
            let page = reader.collect_marked(|mark, key, value| self.add(worker, mark, key, value));
            if let Some(page) = page {
                // Books that do not balance are a bug: counted, never fatal.
                self.pages_unbalanced += u64::from(!page.is_balanced());
                self.page.add(&page);
            }
        }
        self.apply_gauges();
        for (name, count) in self.own_counts() {
            if count != 0.0 {
                // One that was deleted is back with its next count.
                self.counters.index(&own_key(&self.settings, name));
            }
        }
        self.counters.settle_by_name();
        self.timers.settle_by_name();
        self.gauges.settle_by_name();
        self.chunk_homes.send();
        self.set_homes.send();
        self.settle_budgets(readers);
    }

    /// Tells the budgets what there is.
    fn settle_budgets(&self, readers: &[ShardReader]) {
        let held = readers.iter().map(ShardReader::held);
        let (series, key_bytes) = held.fold((0, 0), |(series, bytes), (more, more_bytes)| {
            (series.max(more), bytes.max(more_bytes))
        });
        self.ledger.settle(series, key_bytes);
        if self.ledger.is_filter_stale() {
            self.ledger.refill_filter(|insert| {
                let timers_and_counters = self.counters.hashes().chain(self.timers.hashes());
                let all = timers_and_counters.chain(self.gauges.hashes()).chain(self.sets.hashes());
                all.for_each(|(kind, hash)| insert(kind, hash));
            });
        }
    }

    /// The budgets that it keeps.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Whether it holds so much of the budgets of values that nobody should ask for a flip before the
    /// next tick.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.ledger.values_bytes_half() <= self.held_bytes
    }

    fn add(&mut self, worker: usize, mark: &mut Mark, key: &[u8], value: SealedValue) {
        let is_folded = match value {
            SealedValue::Counter(amount) => {
                let (total, is_folded) = self.counters.state_marked(mark, key);
                *total += amount;
                is_folded
            }
            SealedValue::Timer(chain) => {
                self.held_bytes += chain.bytes();
                let (chains, is_folded) = self.timers.state_marked(mark, key);
                chains.push(chain);
                is_folded
            }
            SealedValue::Gauge(mut chain) => {
                let index = self.gauges.index_marked(mark, key);
                if let Some(index) = index {
                    let operations = gauge::operations(&chain);
                    self.operations.extend(operations.into_iter().map(|each| (index, each)));
                }
                while let Some(chunk) = chain.pop() {
                    self.chunk_homes.put(chunk);
                }
                // A sum of gauges says nothing.
                self.page.series_dropped += u64::from(index.is_none());
                false
            }
            SealedValue::Set(members) => {
                let (state, is_folded) = self.sets.state_marked(mark, key);
                self.held_bytes += members.bytes();
                match &mut state.members {
                    Some(known) => {
                        known.merge(&members);
                        self.set_homes.put(worker, members);
                    }
                    None => {
                        state.home = worker;
                        state.members = Some(members);
                    }
                }
                is_folded
            }
        };
        self.page.series_folded += u64::from(is_folded);
    }

    /// Applies the operations of one flip: per gauge in the order of time, equal times in the order
    /// of the workers.
    fn apply_gauges(&mut self) {
        self.operations.sort_by_key(|(index, operation)| (*index, operation.time_ns));
        let flushes_left =
            self.settings.idle.delete_gauges.then_some(self.settings.idle.gauges_max_ttl);
        for (index, operation) in self.operations.drain(..) {
            let gauge = self.gauges.state_at(index);
            gauge.value = Some(operation.apply(gauge.value));
            gauge.flushes_left = flushes_left;
        }
    }

    /// Goes on with other settings: nothing of the open interval is lost.
    ///
    /// Switches hold at once; what is computed at a close is computed by these settings from the
    /// next one on; the open interval keeps its length, and the ones after it have the new one.
    /// What was counted under an old `prefixStats` stays there, and is counted from 0 under a new
    /// one.
    pub fn apply(&mut self, settings: Settings) {
        let is_renamed = self.settings.prefix_stats != settings.prefix_stats;
        if is_renamed {
            self.enter_own_counters();
        }
        self.statistics = statistics(&settings, &self.ledger);
        if !settings.idle.delete_gauges {
            // The reference forgets the lifetimes too.
            self.gauges.for_each(|_, gauge| gauge.flushes_left = None);
        }
        self.next_flush_interval_ms = settings.flush_interval_ms;
        let flush_interval_ms = self.settings.flush_interval_ms;
        self.settings = Settings { flush_interval_ms, ..settings };
        if is_renamed {
            self.enter_own_counters();
        }
    }

    /// The books of the open interval so far.
    #[must_use]
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// Counters with what they have gathered since the last flush, the own ones included.
    #[must_use]
    pub fn counters(&self) -> NumberView {
        let own = self.own_counts().map(|(name, count)| (own_key(&self.settings, name), count));
        let live = |key: &[u8], total: f64| match own.iter().find(|(own, _)| *own == key) {
            Some((_, count)) => total + count,
            None => total,
        };
        View::of(|| self.counters.iter().map(|(key, total)| (key, live(key, *total))))
    }

    /// Gauges as they stand.
    #[must_use]
    pub fn gauges(&self) -> NumberView {
        View::of(|| self.gauges.iter().map(|(key, gauge)| (key, gauge.value.unwrap_or(0.0))))
    }

    /// Timers with what has come in since the last flush.
    #[must_use]
    pub fn timers(&self) -> TimerView {
        View::of(|| {
            let mut room = VIEW_VALUES_MAX;
            self.timers.iter().map(move |(key, chains)| (key, TimerSoFar::of(chains, &mut room)))
        })
    }

    /// Takes series out for good, with what they have gathered; their next value makes them anew.
    ///
    /// # Shape
    /// `arguments`: names, and `NAME.*` for all that start with `NAME.`. Returns the keys deleted per
    /// argument. An own counter counts from 0 again.
    pub fn delete(&mut self, kind: Deletable, arguments: &[Vec<u8>]) -> Vec<Vec<Box<[u8]>>> {
        match kind {
            Deletable::Counters => {
                let own = self.own_totals();
                let keys = OWN_COUNTERS.map(|name| own_key(&self.settings, name));
                let bases = &mut self.own_bases;
                delete(&mut self.counters, arguments, |key, _| {
                    for ((own_key, base), total) in keys.iter().zip(&mut *bases).zip(own) {
                        if own_key == key {
                            *base = total;
                        }
                    }
                })
            }
            Deletable::Timers => {
                let homes = &mut self.chunk_homes;
                let deleted = delete(&mut self.timers, arguments, |_, chains| {
                    for mut chain in chains.drain(..) {
                        while let Some(chunk) = chain.pop() {
                            homes.put(chunk);
                        }
                    }
                });
                homes.send();
                deleted
            }
            Deletable::Gauges => delete(&mut self.gauges, arguments, |_, _| {}),
        }
    }

    /// Pages that did not balance since the start; anything but 0 is a bug.
    #[must_use]
    pub fn pages_unbalanced(&self) -> u64 {
        self.pages_unbalanced
    }

    /// Closes the interval at `timestamp_s` and opens the next one.
    ///
    /// # Shape and units
    /// `timestamp_s`: seconds since the epoch, the end of the interval on its grid. `books`: entries
    /// beside the page's. Returns the parts of the interval, at least one; `processing_time_ms` is
    /// left 0 for the caller, who has a clock.
    /// # Source
    /// Reference semantics: `stats.js`, `flushMetrics`; `lib/process_metrics.js`.
    pub fn close(&mut self, timestamp_s: u64, books: &BookEntries) -> Vec<Rows> {
        self.enter_own_series(timestamp_s);
        let spare = std::mem::take(&mut self.spare);
        let mut rows = RowsBuilder::new(&self.settings, timestamp_s, spare);
        // Taken, not read: a second pass over a million entries costs as much as this one.
        self.counters.for_each(|key, total| rows.push_counter(key, std::mem::take(total)));
        let (statistics, homes) = (&mut self.statistics, &mut self.chunk_homes);
        let values_max = self.ledger.gathered_values_max();
        self.timers.for_each_group(TIMERS_AT_ONCE, |timers| {
            // Large ones one by one: what is gathered lies in memory a second time.
            let values = timers.iter().flat_map(|timer| &timer.state).map(Chain::values_kept);
            let size = if values.sum::<usize>() <= values_max { TIMERS_AT_ONCE } else { 1 };
            for timers in timers.chunks_mut(size) {
                rows.push_timers(timers, statistics, homes);
            }
        });
        self.gauges.for_each(|key, gauge| rows.push_gauge(key, gauge.value.unwrap_or(0.0)));
        self.sets.for_each(|key, set| {
            rows.push_set(key, set.members.as_ref().map_or(0, |members| members.count()));
        });
        let entries = self.page.entries().map(|(name, count)| {
            #[expect(clippy::cast_precision_loss, reason = "points are doubles; exact to 2^53")]
            (name, count as f64)
        });
        let parts = rows.finish(entries.chain(books.0.iter().cloned()));
        self.reset();
        self.previous_timestamp_s = Some(timestamp_s);
        parts
    }

    /// Takes back the parts of a closed interval that nobody needs any more: the next close builds its
    /// own in their memory, part by part.
    pub fn reuse(&mut self, parts: Vec<Rows>) {
        self.spare = parts;
    }

    /// The reference daemon's own series: three counters and, from the second flush on, a gauge.
    fn enter_own_series(&mut self, timestamp_s: u64) {
        self.enter_own_counters();
        if let Some(previous_s) = self.previous_timestamp_s {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let lag = timestamp_s.saturating_sub(previous_s) as f64
                - self.settings.flush_interval_ms as f64 / 1_000.0;
            let gauge = self.gauges.state(&own_key(&self.settings, "timestamp_lag"));
            gauge.value = Some(lag);
            gauge.flushes_left = None;
        }
    }

    /// Adds what the open page has counted to the own counters, once.
    fn enter_own_counters(&mut self) {
        for (name, count) in self.own_counts() {
            *self.counters.state(&own_key(&self.settings, name)) += count;
        }
        self.counters.settle();
        self.own_bases = self.own_totals();
    }

    /// The own counters' names and what the open page adds to them.
    fn own_counts(&self) -> [(&'static str, f64); OWN_COUNTERS.len()] {
        let totals = self.own_totals();
        std::array::from_fn(|index| {
            let count = totals[index].saturating_sub(self.own_bases[index]);
            #[expect(clippy::cast_precision_loss, reason = "counters are doubles; exact to 2^53")]
            (OWN_COUNTERS[index], count as f64)
        })
    }

    /// What the open page has counted, in the order of [`OWN_COUNTERS`].
    fn own_totals(&self) -> [u64; OWN_COUNTERS.len()] {
        let page = &self.page;
        [page.values_rejected_total(), page.packets_received(), page.lines_received]
    }

    /// What the reference daemon does when its backends have taken a flush.
    fn reset(&mut self) {
        let idle = self.settings.idle;
        self.settings.flush_interval_ms = self.next_flush_interval_ms;
        self.page = Page::default();
        self.held_bytes = 0;
        self.own_bases = [0; OWN_COUNTERS.len()];
        if idle.delete_counters {
            self.counters.retain(|key, _| is_protected(key));
        }
        if idle.delete_timers {
            self.timers.retain(|_, _| false);
        }
        let homes = &mut self.set_homes;
        self.sets.retain(|_, set| {
            if let Some(members) = set.members.take() {
                homes.put(set.home, members);
            }
            !idle.delete_sets
        });
        self.gauges.retain(|_, gauge| {
            let Some(left) = &mut gauge.flushes_left else { return true };
            *left = left.saturating_sub(1);
            0 < *left
        });
        self.chunk_homes.send();
        self.set_homes.send();
    }
}

fn statistics(settings: &Settings, ledger: &Ledger) -> Statistics {
    let statistics = Statistics::new(&settings.thresholds, &settings.histograms);
    statistics.gathering(ledger.gathered_values_max())
}

fn catalogue<S: Default>((ledger, kind, hasher): (Arc<Ledger>, Kind, KeyHasher)) -> Catalogue<S> {
    Catalogue::within(ledger, kind, hasher)
}

/// Key of an own series.
fn own_key(settings: &Settings, name: &str) -> Vec<u8> {
    format!("{}.{name}", settings.prefix_stats).into_bytes()
}

fn is_protected(key: &[u8]) -> bool {
    PROTECTED_COUNTERS.iter().any(|word| memchr::memmem::find(key, word).is_some())
}

#[cfg(test)]
mod tests;
