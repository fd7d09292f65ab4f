//! The names Graphite sees: the reference daemon's two namespaces.
//!
//! Used by `ledger` to find a key's points and by `graphite` to ask for them.

use crate::workload::Kind;

/// How the daemon under test names its points.
#[derive(Debug, Clone)]
pub(crate) struct Naming {
    /// `graphite.legacyNamespace`.
    pub(crate) is_legacy: bool,
    /// `prefixStats`: of the daemon's own statistics.
    pub(crate) stats_prefix: String,
    /// `graphite.globalPrefix`: new namespace only.
    pub(crate) global_prefix: String,
    /// `graphite.globalSuffix`.
    pub(crate) global_suffix: Option<String>,
}

impl Naming {
    /// What stands before the key, its last dot included.
    pub(crate) fn prefix(&self, kind: Kind) -> String {
        let folder = match kind {
            Kind::Counter if self.is_legacy => return "stats_counts.".to_owned(),
            Kind::Counter => "counters",
            Kind::Timer => "timers",
            Kind::Gauge => "gauges",
            Kind::Set => "sets",
        };
        if self.is_legacy {
            format!("stats.{folder}.")
        } else if self.global_prefix.is_empty() {
            format!("{folder}.")
        } else {
            format!("{}.{folder}.", self.global_prefix)
        }
    }

    /// The whole name; `derived` is the timer's derived value and ignored for the other kinds.
    pub(crate) fn name(&self, kind: Kind, base: &str, derived: &str, tags: Option<&str>) -> String {
        let mut name = self.prefix(kind);
        name.push_str(base);
        let last = match kind {
            Kind::Counter if self.is_legacy => "",
            Kind::Counter | Kind::Set => "count",
            Kind::Timer => derived,
            Kind::Gauge => "",
        };
        for part in [last, self.global_suffix.as_deref().unwrap_or("")] {
            if !part.is_empty() {
                name.push('.');
                name.push_str(part);
            }
        }
        if let Some(tags) = tags {
            name.push(';');
            name.push_str(tags);
        }
        name
    }

    /// The count of one of the daemon's own counters, such as `bad_lines_seen`.
    pub(crate) fn own_counter(&self, counter: &str) -> String {
        let base = format!("{}.{counter}", self.stats_prefix);
        self.name(Kind::Counter, &base, "", None)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn legacy() -> Naming {
        Naming {
            is_legacy: true,
            stats_prefix: "statsd".to_owned(),
            global_prefix: "stats".to_owned(),
            global_suffix: None,
        }
    }

    #[test]
    fn legacy_names_are_those_of_the_reference() {
        let naming = legacy();
        assert_eq!(naming.name(Kind::Counter, "a.b", "", None), "stats_counts.a.b");
        assert_eq!(naming.name(Kind::Timer, "a.b", "count", None), "stats.timers.a.b.count");
        assert_eq!(naming.name(Kind::Gauge, "a.b", "", None), "stats.gauges.a.b");
        assert_eq!(naming.name(Kind::Set, "a.b", "", None), "stats.sets.a.b.count");
        assert_eq!(naming.own_counter("bad_lines_seen"), "stats_counts.statsd.bad_lines_seen");
    }

    #[test]
    fn new_names_are_those_of_the_reference() {
        let naming = Naming { is_legacy: false, ..legacy() };
        assert_eq!(naming.name(Kind::Counter, "a.b", "", None), "stats.counters.a.b.count");
        assert_eq!(naming.name(Kind::Timer, "a.b", "sum", None), "stats.timers.a.b.sum");
        assert_eq!(naming.name(Kind::Gauge, "a.b", "", None), "stats.gauges.a.b");
        assert_eq!(naming.name(Kind::Set, "a.b", "", None), "stats.sets.a.b.count");
        let own = naming.own_counter("bad_lines_seen");
        assert_eq!(own, "stats.counters.statsd.bad_lines_seen.count");
        let bare = Naming { global_prefix: String::new(), ..naming };
        assert_eq!(bare.name(Kind::Gauge, "a", "", None), "gauges.a");
    }

    #[test]
    fn the_suffix_stands_before_the_tags() {
        let naming = Naming { global_suffix: Some("h1".to_owned()), ..legacy() };
        let name = naming.name(Kind::Timer, "n", "mean_90", Some("env=prod"));
        assert_eq!(name, "stats.timers.n.mean_90.h1;env=prod");
    }
}
