//! Whether an injection holds: the sender's count, the kernel's and what carbons have, held against
//! each other and against what floe says of itself.

use serde::{Deserialize, Serialize};

use super::fault::{Allowed, Fault};
use super::sender::Sender;
use super::world::{BACKENDS, Tally};

/// One fault that was done once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Injection {
    /// Its name.
    pub(crate) fault: String,
    /// Lane, and place in its order.
    pub(crate) place: (u32, u32),
    /// Datagrams of the witness that were sent.
    pub(crate) sent: u64,
    /// Of these, most that a carbon does not have.
    pub(crate) lost: u64,
    /// Most that it may lack.
    pub(crate) allowed: u64,
    /// What the kernel dropped at the socket.
    pub(crate) dropped: u64,
    /// What the kernel refused because nobody listened.
    pub(crate) refused: u64,
    /// What lay in sockets when they were closed.
    pub(crate) left: u64,
    /// How long it took, ms.
    pub(crate) took_ms: u64,
    /// What does not hold.
    pub(crate) failures: Vec<String>,
}

impl Injection {
    /// One that could not even be judged.
    pub(crate) fn failed(fault: &Fault, place: (u32, u32), took_ms: u64, reason: String) -> Self {
        Self {
            fault: fault.name.to_owned(),
            place,
            sent: 0,
            lost: 0,
            allowed: 0,
            dropped: 0,
            refused: 0,
            left: 0,
            took_ms,
            failures: vec![reason],
        }
    }
}

/// What happened between two tallies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Datagrams of the witness.
    pub(crate) sent: u64,
    /// Datagrams of others.
    pub(crate) others: u64,
    /// Datagrams that the kernel says were read, refused, dropped.
    pub(crate) read: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
    /// The rest of what was sent: it lay in sockets when they were closed.
    pub(crate) left: u64,
    /// Datagrams of the witness that each carbon lacks; negative where it has more than was sent.
    pub(crate) lost: [i64; 2],
    /// floe's own figures of the same.
    pub(crate) told_read: u64,
    pub(crate) told_dropped: u64,
    pub(crate) told_left: u64,
}

impl Change {
    /// From `before` to `after`.
    pub(crate) fn between(before: &Tally, after: &Tally) -> Self {
        let kernel = after.kernel.since(before.kernel);
        let (sent, others) = (after.sent - before.sent, after.others - before.others);
        let told = |name: &str| after.books.count(name).saturating_sub(before.books.count(name));
        let lost = [0, 1].map(|index| {
            let delivered = after.delivered[index] - before.delivered[index];
            sent.cast_signed() - delivered.cast_signed()
        });
        Self {
            sent,
            others,
            read: kernel.read,
            refused: kernel.refused,
            dropped: kernel.dropped,
            left: (sent + others).saturating_sub(kernel.sum()),
            lost,
            told_read: told("datagrams_received"),
            told_dropped: told("datagrams_dropped.kernel"),
            told_left: told("datagrams_dropped.unread"),
        }
    }

    /// Most that a carbon lacks.
    pub(crate) fn most_lost(&self) -> u64 {
        self.lost.into_iter().max().and_then(|lost| u64::try_from(lost).ok()).unwrap_or(0)
    }

    /// How much may be lost.
    pub(crate) fn allowed(&self, allowed: Allowed, sender: &Sender) -> u64 {
        match allowed {
            Allowed::Nothing => 0,
            Allowed::Dropped => self.dropped,
            Allowed::Crash { from_ms, to_ms }
            | Allowed::PowerCut { from_ms, to_ms }
            | Allowed::Drain { from_ms, to_ms } => sender.sent_between(from_ms, to_ms),
            Allowed::Destroyed(datagrams) => datagrams,
        }
    }

    /// What does not hold of it; `most` may be lost, and figures of the kernel are ours alone where
    /// `is_isolated`.
    pub(crate) fn failures(&self, allowed: Allowed, most: u64, is_isolated: bool) -> Vec<String> {
        let mut failures = Vec::new();
        let mut want = |holds: bool, text: String| {
            if !holds {
                failures.push(text);
            }
        };
        for (lost, name) in self.lost.iter().zip(BACKENDS) {
            let is_destroyed = matches!(allowed, Allowed::Destroyed(_)) && name != BACKENDS[0];
            let most = if is_destroyed { 0 } else { most.cast_signed() };
            want(*lost <= most, format!("carbon {name} lacks {lost} of {}, {most} may", self.sent));
            want(0 <= *lost, format!("carbon {name} has {} that nobody sent", -lost));
        }
        if !is_isolated {
            return failures;
        }
        let Self { read, dropped, left, told_read, told_dropped, told_left, .. } = *self;
        let kernel = read + self.refused + dropped;
        want(
            kernel <= self.sent + self.others,
            format!("the kernel counts {kernel} of {}", self.sent + self.others),
        );
        let exact = |name: &str, told: u64, kernel: u64| {
            (told == kernel, format!("floe tells {name} {told}, the kernel {kernel}"))
        };
        let checks = match allowed {
            // The open interval's own books went with it.
            Allowed::Crash { .. } | Allowed::PowerCut { .. } | Allowed::Destroyed(_) => {
                vec![(
                    told_read <= read,
                    format!("floe tells received {told_read}, the kernel {read}"),
                )]
            }
            _ => vec![
                // At the end of its drain floe takes out what it counts as unread.
                exact("received or unread", told_read + told_left, read + left),
                exact("dropped by the socket", told_dropped, dropped),
            ],
        };
        checks.into_iter().for_each(|(holds, text)| want(holds, text));
        // Who lost the witness's datagrams is known where nobody else sent.
        if self.others == 0 {
            let lost = self.most_lost();
            let causes = dropped + self.refused + left + read.saturating_sub(told_read);
            match allowed {
                Allowed::Crash { .. } => {
                    let had = self.sent.saturating_sub(lost);
                    want(
                        had == told_read,
                        format!("floe's books say received {told_read}, carbon has {had}"),
                    );
                }
                // A segment is sent as soon as it is seen, and on the disk a moment later.
                Allowed::PowerCut { .. } => {
                    let had = self.sent.saturating_sub(lost);
                    want(
                        told_read <= had,
                        format!("floe's books say received {told_read}, carbon has {had}"),
                    );
                }
                Allowed::Destroyed(_) => {}
                _ => want(
                    lost == causes,
                    format!("lost {lost}, but dropped, refused and unread are {causes}"),
                ),
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: Change = Change {
        sent: 100,
        others: 0,
        read: 90,
        refused: 0,
        dropped: 10,
        left: 0,
        lost: [10, 10],
        told_read: 90,
        told_dropped: 10,
        told_left: 0,
    };

    #[test]
    fn loss_that_the_kernel_explains_holds_where_it_may() {
        assert_eq!(CHANGE.failures(Allowed::Dropped, 10, true), Vec::<String>::new());
        let failures = CHANGE.failures(Allowed::Nothing, 0, true);
        assert_eq!(failures.len(), 2, "{failures:?}");
    }

    #[test]
    fn figure_of_floe_that_is_not_the_kernels_does_not_hold() {
        let change = Change { told_read: 91, ..CHANGE };
        let failures = change.failures(Allowed::Dropped, 10, true);
        assert_eq!(failures, ["floe tells received or unread 91, the kernel 90"]);
        assert!(change.failures(Allowed::Dropped, 10, false).is_empty());
    }

    #[test]
    fn what_is_taken_out_at_the_end_of_a_drain_is_unread() {
        let change = Change { told_read: 86, told_left: 4, lost: [14, 14], ..CHANGE };
        let allowed = Allowed::Drain { from_ms: 0, to_ms: 9 };
        assert_eq!(change.failures(allowed, 20, true), Vec::<String>::new());
        let change = Change { told_left: 3, ..change };
        assert_eq!(change.failures(allowed, 20, true).len(), 1);
    }

    #[test]
    fn more_than_was_sent_does_not_hold() {
        let change = Change { lost: [10, -1], ..CHANGE };
        let failures = change.failures(Allowed::Dropped, 10, true);
        assert_eq!(failures, ["carbon b has 1 that nobody sent"]);
    }

    #[test]
    fn after_a_crash_carbon_has_what_the_books_say() {
        let allowed = Allowed::Crash { from_ms: 0, to_ms: 9 };
        let change = Change { dropped: 0, read: 100, ..CHANGE };
        assert!(change.failures(allowed, 20, true).is_empty());
        let change = Change { told_read: 95, ..change };
        assert_eq!(change.failures(allowed, 20, true).len(), 1);
        assert_eq!(change.failures(allowed, 5, true).len(), 3);
    }

    #[test]
    fn after_a_power_cut_carbon_has_what_the_books_say_or_more() {
        let allowed = Allowed::PowerCut { from_ms: 0, to_ms: 9 };
        let change = Change { dropped: 0, read: 100, ..CHANGE };
        assert!(change.failures(allowed, 20, true).is_empty());
        assert!(Change { told_read: 80, ..change }.failures(allowed, 20, true).is_empty());
        assert_eq!(Change { told_read: 95, ..change }.failures(allowed, 20, true).len(), 1);
    }

    #[test]
    fn segments_destroyed_cost_carbon_a_alone() {
        let change = Change { dropped: 0, read: 100, lost: [10, 0], ..CHANGE };
        assert!(change.failures(Allowed::Destroyed(10), 10, true).is_empty());
        let change = Change { lost: [0, 10], ..change };
        assert_eq!(change.failures(Allowed::Destroyed(10), 10, true).len(), 1);
    }
}
