//! Waits until every witness explains what was sent, or the time is over.
//!
//! After `sender`: points arrive an interval later, so the books are compared again and again. The wait ends
//! early once all witnesses agree; a confirmation time then goes on watching for what must not come any
//! more, such as an interval delivered twice under another timestamp. It ends at once where the user
//! wants to.

use std::time::Duration;

use crate::clock::{self, Stopwatch};
use crate::graphite::Graphite;
use crate::ledger::{Comparison, Sent, Terms, compare};
use crate::sink::Sink;
use crate::stop::{ASK_EVERY, Stop};

/// Between two comparisons.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Somebody who saw points.
#[derive(Debug)]
pub(crate) enum Witness {
    Sink(Sink),
    /// Asked for points since `from`, seconds since 1970.
    Graphite {
        graphite: Graphite,
        from: i64,
    },
}

/// What one witness says; the error is its text where it does not answer.
pub(crate) type Statement = (String, Result<Comparison, String>);

impl Witness {
    fn name(&self) -> String {
        match self {
            Witness::Sink(sink) => format!("{} sink", sink.protocol().name()),
            Witness::Graphite { .. } => "graphite".to_owned(),
        }
    }

    fn state(&self, terms: &Terms, sent: &Sent) -> Statement {
        let comparison = match self {
            Witness::Sink(sink) => Ok(compare(terms, sent, &sink.received())),
            Witness::Graphite { graphite, from } => graphite
                // A little beyond now: the end of the open interval may lie ahead.
                .read(terms, *from, clock::unix_seconds() + 60)
                .map(|received| compare(terms, sent, &received))
                .map_err(|error| format!("{error:#}")),
        };
        (self.name(), comparison)
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// At most this long for the books to balance.
    pub(crate) settle: Duration,
    /// And then this long for them to stay so.
    pub(crate) confirm: Duration,
}

/// Compares until all agree or the time is over; gives the last statements.
pub(crate) fn settle(
    witnesses: &[Witness],
    terms: &Terms,
    sent: &Sent,
    patience: Patience,
    stop: &Stop,
) -> Vec<Statement> {
    let stopwatch = Stopwatch::start();
    loop {
        let statements = state_all(witnesses, terms, sent);
        if is_explained(&statements) {
            if patience.confirm.is_zero() {
                return statements;
            }
            let confirmed = stopwatch.elapsed() + patience.confirm;
            while !stop.is_asked() && stopwatch.elapsed() < confirmed {
                clock::pause(ASK_EVERY.min(confirmed.saturating_sub(stopwatch.elapsed())));
            }
            return state_all(witnesses, terms, sent);
        }
        if patience.settle <= stopwatch.elapsed() || stop.is_asked() {
            return statements;
        }
        clock::pause(LOOK_EVERY);
    }
}

/// True where every witness explains everything.
pub(crate) fn is_explained(statements: &[Statement]) -> bool {
    statements.iter().all(|(_, comparison)| matches!(comparison, Ok(one) if one.is_explained()))
}

fn state_all(witnesses: &[Witness], terms: &Terms, sent: &Sent) -> Vec<Statement> {
    witnesses.iter().map(|witness| witness.state(terms, sent)).collect()
}

#[cfg(test)]
mod tests;
