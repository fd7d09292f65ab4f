//! Who may have a slot: the budgets are asked for names that have none, and for those that find no room
//! there is the slot of a series that stands for them.
//!
//! All of it is off the way of a name that is known.

use super::{Table, TableReader};
use crate::books::Cause;
use crate::budget::{Ledger, OVERFLOW};
use crate::name::KeyHasher;
use crate::sample::Kind;
use crate::shard::index::Place;
use crate::shard::slot::{Head, Slot};
use crate::sync::Arc;

impl Table {
    /// Asks for room for a series that has no slot.
    ///
    /// # Errors
    /// The budget that is spent.
    #[cold]
    pub(super) fn admit(&self, head: Head, key: &[u8]) -> Result<(), Cause> {
        let (ledger, (series, key_bytes)) = (self.slots.ledger(), self.slots.held());
        if ledger.shard_series_max() <= series || ledger.shard_key_bytes_max() < key_bytes {
            return Err(Cause::SeriesLimit);
        }
        let Some(kind) = head.kind() else { return Ok(()) };
        ledger.admit(kind, head.hash(), key)
    }

    /// The slot that stands for `key` and all others beyond its budget; `None` where there is none: for
    /// a gauge, or another `cause`.
    ///
    /// That of its prefix, or where there are too many prefixes that of all.
    #[cold]
    pub(in crate::shard) fn overflow_slot(
        &mut self,
        hasher: &KeyHasher,
        kind: Kind,
        key: &[u8],
        cause: Cause,
    ) -> Option<&Slot> {
        let is_budget = matches!(cause, Cause::SeriesLimit | Cause::PrefixLimit);
        if kind == Kind::Gauge || !is_budget {
            return None;
        }
        let mut name = std::mem::take(&mut self.overflow_name);
        self.slots.ledger().overflow_name(key, &mut name);
        let place = self.overflow_place(hasher, kind, &name);
        let place = place.or_else(|| self.overflow_place(hasher, kind, OVERFLOW));
        self.overflow_name = name;
        place.map(|place| self.slots.slot(place))
    }

    fn overflow_place(&mut self, hasher: &KeyHasher, kind: Kind, name: &[u8]) -> Option<Place> {
        let head = Head::of(hasher.key(name), kind, name);
        if let Some(place) = self.find(head, name) {
            return Some(place);
        }
        let may_be = self.slots.ledger().admit_overflow(kind, head.hash(), name);
        may_be.then(|| self.insert(head, name).ok()).flatten()
    }

    /// Whether idle slots should leave sooner.
    pub(in crate::shard) fn is_crowded(&self) -> bool {
        let (series, key_bytes) = self.slots.held();
        self.slots.ledger().is_crowded(series, key_bytes)
    }
}

impl TableReader {
    /// Series of all kinds and bytes of boxed keys that the worker has, about.
    pub(in crate::shard) fn held(&self) -> (usize, usize) {
        self.slots.held()
    }

    /// Who is asked for new series.
    pub(in crate::shard) fn ledger(&self) -> &Arc<Ledger> {
        self.slots.ledger()
    }
}
