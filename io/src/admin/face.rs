//! What the console shows without asking anybody: health, the configuration, the backends' links.
//!
//! Shared by all connections, the daemon and the coordinator; so `health` and `config` answer though
//! the coordinator is busy. A reload puts a new `Description` in place of the old one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use floe_core::config::settings::{Health, IdleSettings, Settings};

use crate::export::accounts::LinkState;
use crate::export::registry::AccountRegistry;
use crate::top::TopView;
use crate::top::report::Report;

/// What the console says of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The file's entries and what the start adds to them: `key` or `key > sub`, and the value.
    entries: Vec<(String, String)>,
    /// Entries that the first flush adds.
    flushed_entries: Vec<(String, String)>,
    /// Graphite backends, in configured order.
    backends: Vec<String>,
    has_console_backend: bool,
    are_books_shown: bool,
}

/// What the console knows by itself.
#[derive(Debug)]
pub struct Face {
    start_s: u64,
    is_healthy: AtomicBool,
    has_flushed: Arc<AtomicBool>,
    accounts: Arc<AccountRegistry>,
    description: RwLock<Arc<Description>>,
    /// Who brings most.
    top: Option<Arc<TopView>>,
}

impl Description {
    /// Describes `settings`, whose file had the entries `listing`.
    ///
    /// # Source
    /// The reference daemon writes defaults into the configuration it shows: `stats.js`.
    #[must_use]
    pub fn new(settings: &Settings, listing: &[(String, String)]) -> Self {
        let mut entries = listing.to_vec();
        let idle = settings.idle;
        set(&mut entries, "gaugesMaxTTL", idle.gauges_max_ttl.to_string());
        add(&mut entries, "deleteIdleStats", "false");
        let deletes_idle =
            entries.iter().any(|(key, value)| key == "deleteIdleStats" && is_true(value));
        if deletes_idle {
            for (key, switch) in switches(idle) {
                add(&mut entries, key, if switch { "true" } else { "false" });
            }
        }
        set(&mut entries, "flushInterval", settings.flush_interval_ms.to_string());
        let flushed = switches(idle).into_iter().filter(|(key, _)| !has(&entries, key));
        let flushed_entries =
            flushed.map(|(key, switch)| (key.to_owned(), switch.to_string())).collect();
        Self {
            flushed_entries,
            entries,
            backends: settings.backends.iter().map(|backend| backend.name.clone()).collect(),
            has_console_backend: settings.console_backend.is_some(),
            are_books_shown: settings.books,
        }
    }
}

fn switches(idle: IdleSettings) -> [(&'static str, bool); 4] {
    [
        ("deleteCounters", idle.delete_counters),
        ("deleteTimers", idle.delete_timers),
        ("deleteSets", idle.delete_sets),
        ("deleteGauges", idle.delete_gauges),
    ]
}

fn has(entries: &[(String, String)], key: &str) -> bool {
    entries.iter().any(|(known, _)| known == key)
}

fn add(entries: &mut Vec<(String, String)>, key: &str, value: &str) {
    if !has(entries, key) {
        entries.push((key.to_owned(), value.to_owned()));
    }
}

fn set(entries: &mut Vec<(String, String)>, key: &str, value: String) {
    match entries.iter_mut().find(|(known, _)| known == key) {
        Some((_, known)) => *known = value,
        None => entries.push((key.to_owned(), value)),
    }
}

/// Whether JavaScript takes the value that this is the text of for true.
fn is_true(value: &str) -> bool {
    !matches!(value, "" | "0" | "false" | "null" | "undefined" | "NaN")
}

impl Face {
    /// The face of a daemon that started at `start_s`, s since the epoch; `has_flushed` is set by
    /// the coordinator at its first tick.
    #[must_use]
    pub fn new(
        start_s: u64,
        health: Health,
        description: Description,
        accounts: Arc<AccountRegistry>,
        has_flushed: Arc<AtomicBool>,
    ) -> Self {
        Self {
            start_s,
            is_healthy: AtomicBool::new(health == Health::Up),
            has_flushed,
            accounts,
            description: RwLock::new(Arc::new(description)),
            top: None,
        }
    }

    /// The same that shows who brings most.
    #[must_use]
    pub fn showing(self, top: Arc<TopView>) -> Self {
        Self { top: Some(top), ..self }
    }

    /// What is shown of that.
    pub(super) fn top(&self) -> Option<Report> {
        self.top.as_ref().map(|top| top.report())
    }

    /// Goes on as healthy or not.
    pub fn set_health(&self, health: Health) {
        self.health(Some(health == Health::Up));
    }

    /// Shows another configuration from now on. Health stays as it was set.
    pub fn describe(&self, description: Description) {
        *self.description.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(description);
    }

    /// When the daemon started, s since the epoch.
    pub(super) fn start_s(&self) -> u64 {
        self.start_s
    }

    /// The health, after setting it to `to` if that is given.
    pub(super) fn health(&self, to: Option<bool>) -> bool {
        if let Some(is_healthy) = to {
            self.is_healthy.store(is_healthy, Ordering::Relaxed);
        }
        self.is_healthy.load(Ordering::Relaxed)
    }

    /// `key: value` entries of the configuration as it is shown now.
    pub(super) fn configuration(&self) -> Vec<(String, String)> {
        let description = self.description();
        let mut entries = description.entries.clone();
        if self.has_flushed.load(Ordering::Relaxed) {
            entries.extend_from_slice(&description.flushed_entries);
        }
        entries
    }

    /// Graphite backends and their links, in configured order.
    pub(super) fn links(&self) -> Vec<(String, LinkState)> {
        let description = self.description();
        let each = description
            .backends
            .iter()
            .map(|backend| (backend.clone(), self.accounts.account(backend, self.start_s).link()));
        each.collect()
    }

    pub(super) fn has_console_backend(&self) -> bool {
        self.description().has_console_backend
    }

    pub(super) fn are_books_shown(&self) -> bool {
        self.description().are_books_shown
    }

    fn description(&self) -> Arc<Description> {
        Arc::clone(&self.description.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use floe_core::config::{self, Environment, Source};

    use super::*;

    fn shown(text: &str, has_flushed: bool) -> String {
        let loaded = config::read(text, Source::ConfigJs, &Environment::default()).unwrap();
        let description = Description::new(&loaded.settings, &loaded.listing);
        let flushed = Arc::new(AtomicBool::new(has_flushed));
        let accounts = Arc::new(AccountRegistry::default());
        let face = Face::new(5, Health::Up, description, accounts, flushed);
        let entries = face.configuration();
        let lines = entries.iter().map(|(key, value)| format!("{key}: {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_start_adds_what_the_reference_daemon_adds() {
        let text = "{ title: 'x', port: 1 }";
        assert_eq!(
            shown(text, false),
            "title: x\nport: 1\ngaugesMaxTTL: 1\ndeleteIdleStats: false\nflushInterval: 10000"
        );
        assert_eq!(
            shown(text, true),
            "title: x\nport: 1\ngaugesMaxTTL: 1\ndeleteIdleStats: false\nflushInterval: 10000\ndeleteCounters: false\ndeleteTimers: false\ndeleteSets: false\ndeleteGauges: false"
        );
    }

    #[test]
    fn what_the_file_says_keeps_its_place() {
        let text = "{ flushInterval: '2500', gaugesMaxTTL: 0, deleteGauges: false, deleteIdleStats: true }";
        let expected = "flushInterval: 2500\ngaugesMaxTTL: 1\ndeleteGauges: false\ndeleteIdleStats: true\ndeleteCounters: true\ndeleteTimers: true\ndeleteSets: true";
        assert_eq!(shown(text, false), expected);
        assert_eq!(shown(text, true), expected);
    }

    #[test]
    fn another_description_is_shown_at_once_and_leaves_the_health() {
        let settings = config::without_file().settings;
        let accounts = Arc::new(AccountRegistry::default());
        let face = Face::new(5, Health::Down, Description::default(), accounts, Arc::default());
        assert!(!face.health(None) && face.health(Some(true)));
        let entry = |value: &str| vec![("title".to_owned(), value.to_owned())];
        for title in ["one", "two"] {
            face.describe(Description::new(&settings, &entry(title)));
            assert_eq!(face.configuration()[0], entry(title)[0]);
        }
        assert!(face.health(None));
        assert_eq!(face.links().len(), settings.backends.len());
    }
}
