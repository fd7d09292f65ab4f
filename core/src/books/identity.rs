//! The identities of the books: which counts must add up to which.
//!
//! Written once, over counts by name: the coordinator checks them at every flush, and `floe books`
//! prints them, from a running daemon as from the totals of a segment. docs/books.md says what each
//! count is. An identity that does not hold is a bug of ours, or somebody took files out of a queue.
//!
//! The counts are those of one moment: what waits, is open or pending is among them.

use std::collections::BTreeMap;
use std::fmt;

/// How the two sides of an identity compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are equal.
    Equal,
    /// The left side is at most the right one.
    AtMost,
}

/// One identity with the counts of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it is about: `values`, `rows`, `backend.a`.
    pub name: String,
    /// Counts of the left side, by name; those of a backend by what follows its name.
    pub left: Vec<(String, u64)>,
    /// How they compare.
    pub relation: Relation,
    /// Counts of the right side, by name.
    pub right: Vec<(String, u64)>,
}

impl Identity {
    /// Sum of the left side.
    #[must_use]
    pub fn left_sum(&self) -> u64 {
        sum(&self.left)
    }

    /// Sum of the right side.
    #[must_use]
    pub fn right_sum(&self) -> u64 {
        sum(&self.right)
    }

    /// Whether the books balance here.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.relation {
            Relation::Equal => self.left_sum() == self.right_sum(),
            Relation::AtMost => self.left_sum() <= self.right_sum(),
        }
    }
}

impl fmt::Display for Identity {
    /// `values_accepted 10 = values_recorded 9 + values_dropped 1`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |terms: &[(String, u64)]| {
            let terms = terms.iter().map(|(name, count)| format!("{name} {count}"));
            terms.collect::<Vec<_>>().join(" + ")
        };
        let relation = match self.relation {
            Relation::Equal => "=",
            Relation::AtMost => "<=",
        };
        write!(formatter, "{} {relation} {}", side(&self.left), side(&self.right))
    }
}

/// All identities of `counts`, those that hold and those that do not. One whose amounts of the moment
/// are not known is left out: a queue that is not ours to look into, for instance.
#[must_use]
pub fn identities(counts: &BTreeMap<String, u64>) -> Vec<Identity> {
    let books = Counts(counts);
    let mut all = vec![
        books.identity(
            "lines",
            &["lines_received"],
            Relation::AtMost,
            &["values_accepted", "values_rejected.*"],
        ),
        books.equal("values", &["values_accepted"], &["values_recorded", "values_dropped.*"]),
    ];
    if counts.contains_key("values_open") {
        let right = [
            "values_spooled",
            "values_waiting",
            "values_open",
            "values_shipped",
            "values_unspooled.*",
        ];
        all.push(books.equal("values_in_segments", &["values_recorded"], &right));
    }
    if counts.contains_key("rows_waiting") {
        let right = ["rows_spooled", "rows_waiting", "rows_shipped", "rows_dropped.*"];
        all.push(books.equal("rows", &["rows_snapshotted"], &right));
    }
    for backend in books.backends_with_queue() {
        let prefix = format!("backend.{backend}.");
        let named = |words: &[&str]| words.iter().map(|word| format!("{prefix}{word}")).collect();
        let left: Vec<String> = named(&["rows_spooled", "rows_found", "rows_from_memory"]);
        let right: Vec<String> = named(&[
            "rows_acknowledged",
            "rows_pending",
            "rows_in_flight",
            "rows_expired",
            "rows_quarantined",
            "rows_unconfirmed",
            "rows_untold",
        ]);
        let mut identity = books.equal(&format!("backend.{backend}"), &left, &right);
        for (name, _) in identity.left.iter_mut().chain(&mut identity.right) {
            name.drain(..prefix.len());
        }
        all.push(identity);
    }
    all
}

/// Corrects the books of a queue by what lies in it: `rows_pending` rows of `backend`.
///
/// Between the last word about a queue and now, links may have gone: acknowledged, expired or put
/// away, and nobody left to say which (`rows_untold`). Or there are rows of which the books know
/// nothing: of an older floe, or of a commit that was cut short (`rows_found`).
pub fn settle_queue(counts: &mut BTreeMap<String, u64>, backend: &str, rows_pending: u64) {
    let of = |counts: &BTreeMap<String, u64>, word: &str| {
        counts.get(&format!("backend.{backend}.{word}")).copied().unwrap_or(0)
    };
    let owed = ["rows_spooled", "rows_found", "rows_from_memory"];
    let owed: u64 = owed.iter().map(|word| of(counts, word)).sum();
    let gone = [
        "rows_acknowledged",
        "rows_in_flight",
        "rows_expired",
        "rows_quarantined",
        "rows_unconfirmed",
        "rows_untold",
    ];
    let gone: u64 = gone.iter().map(|word| of(counts, word)).sum();
    let accounted = gone + rows_pending;
    let mut add = |word: &str, rows: u64| {
        *counts.entry(format!("backend.{backend}.{word}")).or_default() += rows;
    };
    add("rows_found", accounted.saturating_sub(owed));
    add("rows_untold", owed.saturating_sub(accounted));
    counts.insert(format!("backend.{backend}.rows_pending"), rows_pending);
}

/// Prefix of the reading of the kernel's counter of one socket, by the socket's cookie: that of a
/// socket which outlives the daemon, so that the next one knows what has been counted.
pub const SOCKET_READING: &str = "socket_reading.";

/// Whether the count `name` is an amount of the moment, which falls too; all others only grow.
#[must_use]
pub fn is_of_the_moment(name: &str) -> bool {
    if name.starts_with(SOCKET_READING) {
        return true;
    }
    let word = name.rsplit('.').next().unwrap_or_default();
    let words = [
        "values_open",
        "values_waiting",
        "rows_waiting",
        "rows_pending",
        "rows_in_flight",
        "waiting_bytes",
        "spool_degraded",
    ];
    words.contains(&word)
}

fn sum(terms: &[(String, u64)]) -> u64 {
    terms.iter().map(|(_, count)| count).sum()
}

struct Counts<'a>(&'a BTreeMap<String, u64>);

impl Counts<'_> {
    fn equal<S: AsRef<str>>(&self, name: &str, left: &[S], right: &[S]) -> Identity {
        self.identity(name, left, Relation::Equal, right)
    }

    fn identity<S: AsRef<str>>(
        &self,
        name: &str,
        left: &[S],
        relation: Relation,
        right: &[S],
    ) -> Identity {
        let side = |terms: &[S]| terms.iter().map(|term| self.term(term.as_ref())).collect();
        Identity { name: name.to_owned(), left: side(left), relation, right: side(right) }
    }

    /// A count, 0 where there is none; `x.*` is the sum of all that start with `x.`, called `x`.
    fn term(&self, term: &str) -> (String, u64) {
        let Some(group) = term.strip_suffix(".*") else {
            return (term.to_owned(), self.0.get(term).copied().unwrap_or(0));
        };
        let below = self
            .0
            .iter()
            .filter(|(name, _)| name.strip_prefix(group).is_some_and(|rest| rest.starts_with('.')));
        (group.to_owned(), below.map(|(_, count)| count).sum())
    }

    /// Backends whose pending rows are known.
    fn backends_with_queue(&self) -> Vec<&str> {
        let names = self
            .0
            .keys()
            .filter_map(|name| name.strip_prefix("backend.")?.strip_suffix(".rows_pending"));
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(entries: &[(&str, u64)]) -> BTreeMap<String, u64> {
        entries.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn broken(counts: &BTreeMap<String, u64>) -> Vec<String> {
        let all = identities(counts).into_iter().filter(|identity| !identity.holds());
        all.map(|identity| identity.name).collect()
    }

    fn balanced() -> BTreeMap<String, u64> {
        counts(&[
            ("lines_received", 14),
            ("values_accepted", 13),
            ("values_rejected.syntax", 1),
            ("values_rejected.rate", 1),
            ("values_recorded", 11),
            ("values_dropped.series_limit", 2),
            ("values_spooled", 4),
            ("values_waiting", 2),
            ("values_open", 1),
            ("values_shipped", 3),
            ("values_unspooled.disk_full", 1),
            ("rows_snapshotted", 13),
            ("rows_spooled", 6),
            ("rows_waiting", 2),
            ("rows_shipped", 4),
            ("rows_dropped.io_error", 1),
            ("backend.a.rows_spooled", 9),
            ("backend.a.rows_found", 1),
            ("backend.a.rows_from_memory", 2),
            ("backend.a.rows_acknowledged", 5),
            ("backend.a.rows_pending", 1),
            ("backend.a.rows_in_flight", 1),
            ("backend.a.rows_expired", 1),
            ("backend.a.rows_quarantined", 1),
            ("backend.a.rows_unconfirmed", 2),
            ("backend.a.rows_untold", 1),
        ])
    }

    #[test]
    fn balanced_books_hold_and_every_count_off_by_one_is_seen() {
        assert_eq!(broken(&balanced()), [""; 0]);
        for name in balanced().into_keys().filter(|name| name != "lines_received") {
            let mut off = balanced();
            *off.get_mut(&name).unwrap() += 1;
            let is_rejected = name.starts_with("values_rejected");
            assert_eq!(broken(&off).is_empty(), is_rejected, "{name}");
        }
        let mut off = balanced();
        off.insert("lines_received".to_owned(), 16);
        assert_eq!(broken(&off), ["lines"]);
    }

    #[test]
    fn an_identity_shows_both_sides() {
        let identity = &identities(&balanced())[1];
        assert_eq!(
            identity.to_string(),
            "values_accepted 13 = values_recorded 11 + values_dropped 2"
        );
        assert_eq!((identity.left_sum(), identity.right_sum()), (13, 13));
    }

    #[test]
    fn what_is_not_known_is_not_judged() {
        let known = counts(&[("rows_snapshotted", 7), ("backend.a.rows_spooled", 3)]);
        let names: Vec<_> = identities(&known).into_iter().map(|identity| identity.name).collect();
        assert_eq!(names, ["lines", "values"]);
    }

    #[test]
    fn a_queue_is_settled_whatever_lies_in_it() {
        for (rows_pending, found, untold) in [(0, 1, 2), (1, 1, 1), (5, 5, 1)] {
            let mut books = balanced();
            settle_queue(&mut books, "a", rows_pending);
            assert_eq!(broken(&books), [""; 0]);
            assert_eq!(books["backend.a.rows_pending"], rows_pending);
            assert_eq!(books["backend.a.rows_found"], found, "{rows_pending}");
            assert_eq!(books["backend.a.rows_untold"], untold, "{rows_pending}");
        }
        let mut books = BTreeMap::new();
        settle_queue(&mut books, "b.c", 4);
        assert_eq!(books["backend.b.c.rows_found"], 4);
        assert_eq!(broken(&books), [""; 0]);
    }

    #[test]
    fn amounts_of_the_moment_are_told_from_counters() {
        assert!(is_of_the_moment("backend.a.rows_pending") && is_of_the_moment("values_open"));
        assert!(!is_of_the_moment("rows_spooled") && !is_of_the_moment("host.softnet_dropped"));
    }
}
