//! Names for Graphite: from a series' key to the name a point carries.
//!
//! Stands between the rows of a segment and `point`. A name is
//! `prefix.` + name part of the key + `.derived` + `.globalSuffix` + `;tag=value...`:
//! the key is cut at its first `;`, so that suffixes come before the tags. Everything that does not
//! depend on the key is built once, when the namespace is made; a name costs three copies.
//!
//! Source: the reference daemon's `backends/graphite.js` (docs/references.md S7). As
//! there, the name part of the key is cleaned here too, which only shows with
//! `keyNameSanitize: false`; tags go out as they came. What no Carbon may ever see is not decided
//! here but by the output buffers of the exporter.

use crate::config::settings::{LegacyNamespace, NamespaceSettings};
use crate::line::key::{append_clean, is_clean};

/// The names of one backend: everything about them that is the same for all keys.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// `stats.`: before a counter's key, for its rate.
    pub(crate) rate: Affixes,
    /// `stats_counts.`: before a counter's key, for its count; `None` without `flush_counts`.
    pub(crate) count: Option<Affixes>,
    /// `stats.timers.`; the tail is the global suffix only.
    pub(crate) timer: Affixes,
    /// `stats.gauges.`.
    pub(crate) gauge: Affixes,
    /// `stats.sets.` and `.count`.
    pub(crate) set: Affixes,
    /// `stats.`: before `<prefixStats>.` of the daemon's own names.
    internal_head: Vec<u8>,
    /// Before `<prefixStats>.numStats`: empty in the legacy namespace.
    num_stats_head: Vec<u8>,
    /// `.globalSuffix`, or nothing.
    suffix: Vec<u8>,
}

/// What stands before and behind the name part of a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Affixes {
    /// Prefixes with their dots.
    pub(crate) head: Vec<u8>,
    /// Derived name and global suffix, each with its leading dot.
    pub(crate) tail: Vec<u8>,
}

/// The five names of the reference daemon's carbon link, in the order it sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphiteStatsNames {
    /// `graphiteStats.calculationtime`: ms spent making the points.
    pub calculation_time: Vec<u8>,
    /// `graphiteStats.last_exception`: seconds since the epoch, 0 = none yet.
    pub last_exception: Vec<u8>,
    /// `graphiteStats.last_flush`: seconds since the epoch.
    pub last_flush: Vec<u8>,
    /// `graphiteStats.flush_time`: ms the previous send took.
    pub flush_time: Vec<u8>,
    /// `graphiteStats.flush_length`: bytes of the previous payload.
    pub flush_length: Vec<u8>,
}

impl Namespace {
    /// Prepares the names that `settings` describes.
    #[must_use]
    pub fn new(settings: &NamespaceSettings) -> Self {
        let mut suffix = Vec::new();
        if !settings.global_suffix.is_empty() {
            suffix.push(b'.');
            suffix.extend_from_slice(settings.global_suffix.as_bytes());
        }
        let affixes = |head: &[&str], derived: &str| {
            let mut affixes = Affixes { head: dotted(head), tail: derived.as_bytes().to_vec() };
            affixes.tail.extend_from_slice(&suffix);
            affixes
        };
        let mut namespace = match settings.legacy {
            LegacyNamespace::Legacy => Self {
                rate: affixes(&["stats"], ""),
                count: Some(affixes(&["stats_counts"], "")),
                timer: affixes(&["stats", "timers"], ""),
                gauge: affixes(&["stats", "gauges"], ""),
                set: affixes(&["stats", "sets"], ".count"),
                internal_head: dotted(&["stats"]),
                num_stats_head: Vec::new(),
                suffix: Vec::new(),
            },
            LegacyNamespace::New => {
                let global = settings.global_prefix.as_str();
                Self {
                    rate: affixes(&[global, &settings.prefix_counter], ".rate"),
                    count: Some(affixes(&[global, &settings.prefix_counter], ".count")),
                    timer: affixes(&[global, &settings.prefix_timer], ""),
                    gauge: affixes(&[global, &settings.prefix_gauge], ""),
                    set: affixes(&[global, &settings.prefix_set], ".count"),
                    internal_head: dotted(&[global]),
                    num_stats_head: dotted(&[global]),
                    suffix: Vec::new(),
                }
            }
        };
        if !settings.flush_counts {
            namespace.count = None;
        }
        namespace.suffix = suffix;
        namespace
    }

    /// Puts `stats.<prefix_stats>.<name>` and the suffix into `out`, replacing what it held: a name
    /// of the daemon's own (`processing_time`, `floe.datagrams_received`).
    pub fn internal_name(&self, prefix_stats: &str, name: &[u8], out: &mut Vec<u8>) {
        self.name_below(&self.internal_head, prefix_stats, name, out);
    }

    /// Puts the name of the number of series into `out`, replacing what it held: the one name that
    /// lacks `stats.` in the legacy namespace.
    pub fn num_stats_name(&self, prefix_stats: &str, out: &mut Vec<u8>) {
        self.name_below(&self.num_stats_head, prefix_stats, b"numStats", out);
    }

    /// The names under which an exporter reports on its own link.
    #[must_use]
    pub fn graphite_stats_names(&self, prefix_stats: &str) -> GraphiteStatsNames {
        let name = |name: &[u8]| {
            let mut out = Vec::new();
            self.internal_name(prefix_stats, name, &mut out);
            out
        };
        GraphiteStatsNames {
            calculation_time: name(b"graphiteStats.calculationtime"),
            last_exception: name(b"graphiteStats.last_exception"),
            last_flush: name(b"graphiteStats.last_flush"),
            flush_time: name(b"graphiteStats.flush_time"),
            flush_length: name(b"graphiteStats.flush_length"),
        }
    }

    fn name_below(&self, head: &[u8], prefix_stats: &str, name: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(head);
        out.extend_from_slice(prefix_stats.as_bytes());
        out.push(b'.');
        out.extend_from_slice(name);
        out.extend_from_slice(&self.suffix);
    }
}

/// The parts joined with dots, a dot behind the last; empty parts are left out with theirs.
fn dotted(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        out.extend_from_slice(part.as_bytes());
        out.push(b'.');
    }
    out
}

/// Bytes that the name part of a key keeps: those of a clean key but the `;` that ends it.
const IS_KEPT: [bool; 256] = {
    let mut kept = [false; 256];
    let mut byte = 0_u8;
    loop {
        kept[byte as usize] = is_clean(byte) && byte != b';';
        if byte == u8::MAX {
            break;
        }
        byte += 1;
    }
    kept
};

/// Appends the name part of `key`, cleaned, to `out` and returns the tags with their leading `;`.
#[inline]
pub(crate) fn push_name_part<'k>(key: &'k [u8], out: &mut Vec<u8>) -> &'k [u8] {
    let clean = key.iter().position(|&byte| !IS_KEPT[usize::from(byte)]).unwrap_or(key.len());
    out.extend_from_slice(&key[..clean]);
    let rest = &key[clean..];
    if rest.is_empty() || rest[0] == b';' {
        return rest;
    }
    let split = memchr::memchr(b';', rest).unwrap_or(rest.len());
    // A run of white space is one `_`, also across the cut above: nothing before it is white.
    append_clean(&rest[..split], out);
    &rest[split..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_part(key: &str) -> (String, String) {
        let mut out = Vec::new();
        let tags = push_name_part(key.as_bytes(), &mut out);
        (String::from_utf8(out).unwrap(), String::from_utf8(tags.to_vec()).unwrap())
    }

    fn internal(settings: &NamespaceSettings, prefix_stats: &str, name: &str) -> String {
        let mut out = b"left over".to_vec();
        Namespace::new(settings).internal_name(prefix_stats, name.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn num_stats(settings: &NamespaceSettings, prefix_stats: &str) -> String {
        let mut out = Vec::new();
        Namespace::new(settings).num_stats_name(prefix_stats, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn key_is_cut_at_its_first_semicolon() {
        assert_eq!(name_part("a.b"), ("a.b".into(), String::new()));
        assert_eq!(name_part("n;env=prod;host=a"), ("n".into(), ";env=prod;host=a".into()));
        assert_eq!(name_part(";x=y"), (String::new(), ";x=y".into()));
        assert_eq!(name_part(""), (String::new(), String::new()));
    }

    #[test]
    fn raw_name_part_is_cleaned_and_raw_tags_are_not() {
        assert_eq!(name_part("a b/c").0, "a_b-c");
        assert_eq!(name_part("a \t\u{a0}\u{feff}b").0, "a_b");
        assert_eq!(name_part(" a  ").0, "_a_");
        assert_eq!(name_part("x!y").0, "xy");
        assert_eq!(name_part("caf\u{e9}").0, "caf");
        assert_eq!(name_part("a\u{85}b").0, "ab");
        assert_eq!(name_part("a b;x/y=z !"), ("a_b".into(), ";x/y=z !".into()));
    }

    #[test]
    fn invalid_utf8_in_a_raw_name_part_is_left_out() {
        let mut out = Vec::new();
        let tags = push_name_part(b"a\xff\xc3b;k=v", &mut out);
        assert_eq!((out.as_slice(), tags), (&b"ab"[..], &b";k=v"[..]));
    }

    #[test]
    fn number_of_series_lacks_the_prefix_in_the_legacy_namespace_only() {
        let mut settings = NamespaceSettings::default();
        assert_eq!(num_stats(&settings, "metrics-host7"), "metrics-host7.numStats");
        assert_eq!(
            internal(&settings, "metrics-host7", "processing_time"),
            "stats.metrics-host7.processing_time"
        );
        settings.legacy = LegacyNamespace::New;
        settings.global_prefix = "top".into();
        assert_eq!(num_stats(&settings, "sd.h7"), "top.sd.h7.numStats");
        assert_eq!(internal(&settings, "sd.h7", "processing_time"), "top.sd.h7.processing_time");
    }

    #[test]
    fn empty_prefix_is_left_out_with_its_dot() {
        let settings = NamespaceSettings {
            legacy: LegacyNamespace::New,
            global_prefix: String::new(),
            prefix_counter: String::new(),
            ..NamespaceSettings::default()
        };
        let namespace = Namespace::new(&settings);
        assert_eq!(namespace.rate.head, b"");
        assert_eq!(namespace.timer.head, b"timers.");
        assert_eq!(num_stats(&settings, "statsd"), "statsd.numStats");
    }

    #[test]
    fn suffix_ends_the_names_of_the_carbon_link() {
        let settings =
            NamespaceSettings { global_suffix: "web01.dc2".into(), ..NamespaceSettings::default() };
        let names = Namespace::new(&settings).graphite_stats_names("statsd");
        assert_eq!(
            [
                names.calculation_time,
                names.last_exception,
                names.last_flush,
                names.flush_time,
                names.flush_length,
            ]
            .map(|name| String::from_utf8(name).unwrap()),
            [
                "stats.statsd.graphiteStats.calculationtime.web01.dc2",
                "stats.statsd.graphiteStats.last_exception.web01.dc2",
                "stats.statsd.graphiteStats.last_flush.web01.dc2",
                "stats.statsd.graphiteStats.flush_time.web01.dc2",
                "stats.statsd.graphiteStats.flush_length.web01.dc2",
            ]
        );
        assert_eq!(num_stats(&settings, "statsd"), "statsd.numStats.web01.dc2");
    }
}
