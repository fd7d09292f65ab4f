//! The accounts of all backends, by name.
//!
//! Cold and shared: exporters register themselves as they start, and the coordinator, which knows
//! them by name alone, enters what expired and reads the differences. Nothing on the data plane
//! touches it.

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::Arc;

use dashmap::DashMap;
use floe_storage::Expired;

use super::accounts::{BackendAccounts, ExpiryCause, Reading, Told};

/// Locks of the map: backends are few, and their numbers are atomics beside it.
const SHARDS: usize = 2;

/// Accounts by backend name.
#[derive(Debug)]
pub struct AccountRegistry {
    backends: DashMap<String, Arc<BackendAccounts>>,
    told: Told,
}

impl Default for AccountRegistry {
    fn default() -> Self {
        // The default amount depends on the affinity of the thread that makes the map.
        let backends =
            DashMap::with_capacity_and_hasher_and_shard_amount(0, RandomState::new(), SHARDS);
        Self { backends, told: Told::All }
    }
}

impl AccountRegistry {
    /// A registry that tells only some accounts.
    #[must_use]
    pub fn telling(told: Told) -> Self {
        Self { told, ..Self::default() }
    }

    /// The accounts of a backend; made at first, with `start_s` (s since the epoch) as the time of
    /// the last flush.
    pub fn account(&self, backend: &str, start_s: u64) -> Arc<BackendAccounts> {
        if let Some(known) = self.backends.get(backend) {
            return Arc::clone(&known);
        }
        let fresh = || Arc::new(BackendAccounts::new(backend, start_s));
        Arc::clone(&self.backends.entry(backend.to_owned()).or_insert_with(fresh))
    }

    /// What every backend's accounts gained since the last call with the same `bases`, as names
    /// below `<prefixStats>.floe.`. Of a backend that is not configured any more: only what it
    /// gained.
    pub fn differences(
        &self,
        bases: &mut BTreeMap<String, Reading>,
        is_configured: impl Fn(&str) -> bool,
    ) -> Vec<(String, u64)> {
        let mut entries = Vec::new();
        for account in &self.backends {
            let (backend, now) = (account.key(), account.read());
            let base = bases.insert(backend.clone(), now).unwrap_or_default();
            let is_told = is_configured(backend);
            let named = |(word, number)| (format!("backend.{backend}.{word}"), number);
            let since = now.since(&base, self.told).into_iter();
            entries.extend(since.filter(|(_, number)| is_told || *number != 0).map(named));
        }
        entries
    }

    /// Whether this process delivers, so that its accounts say what became of every link.
    pub(crate) fn knows_deliveries(&self) -> bool {
        self.told == Told::All
    }

    /// Enters what left a backend's queue undelivered.
    pub fn add_expired(&self, backend: &str, expired: &Expired, cause: ExpiryCause) {
        if let Some(accounts) = self.backends.get(backend) {
            accounts.add_expired(expired, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::Count;
    use super::*;

    #[test]
    fn a_backend_has_one_account_and_strangers_have_none() {
        let registry = AccountRegistry::default();
        let account = registry.account("a", 7);
        let expired = Expired { segments: 2, rows: 30, ..Expired::default() };
        registry.add_expired("a", &expired, ExpiryCause::DiskFull);
        registry.add_expired("b", &expired, ExpiryCause::Caps);
        let mut bases = BTreeMap::new();
        let rows = |entries: Vec<(String, u64)>| {
            entries.into_iter().filter(|(_, number)| *number != 0).collect::<Vec<_>>()
        };
        let first = rows(registry.differences(&mut bases, |name| name == "a"));
        let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
        let of_a = ["segments_expired", "rows_expired", "rows_expired_disk_full"];
        assert_eq!(names, of_a.map(|word| format!("backend.a.{word}")));
        assert!(rows(registry.differences(&mut bases, |name| name == "a")).is_empty());
        assert!(
            registry.differences(&mut bases, |_| false).is_empty(),
            "nothing gained, nothing told"
        );
        assert_eq!(registry.account("a", 9).count(Count::RowsExpired), 30);
        assert_eq!(account.link().last_flush_s, 7);
        assert_eq!(registry.account("b", 9).count(Count::RowsExpired), 0);
    }
}
