//! What other threads are told between two ticks.
//!
//! Whoever asks wants to see what was sent before the question. So all requests that wait are
//! answered after the workers have flipped twice: a worker answers the first flip at the head of a
//! batch that takes what lay in its sockets, and the second one behind it. One pair of flips serves
//! however many requests there are, in their order; none where the open interval holds half of what
//! values may take, for each flip would add to it. Somebody who asks and goes away harms nobody:
//! the answer is thrown away.

use crossbeam_channel::Sender;

use super::Coordinator;
use super::request::{Request, Stats};

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request.
    GoOn,
    /// The drain.
    Drain,
    /// Nothing: a successor has the interval.
    End,
}

impl Coordinator {
    /// Answers `requests`; says what comes then.
    pub(super) fn answer(&mut self, requests: Vec<Request>) -> Then {
        if requests.iter().any(|request| matches!(request, Request::Stop)) {
            return Then::Drain;
        }
        // Where the memory for values is half used, what came since the last flip stays with the workers.
        let has_room = !self.parts.interval.is_half_full();
        if has_room && requests.iter().any(Request::wants_the_newest) {
            for _ in 0..2 {
                self.flip();
            }
        }
        for request in requests {
            match request {
                Request::Hold(hold) => {
                    if self.hold(&hold) == Then::End {
                        return Then::End;
                    }
                }
                request => self.answer_one(request),
            }
        }
        Then::GoOn
    }

    fn answer_one(&mut self, request: Request) {
        match request {
            Request::Stop | Request::Hold(_) => {}
            Request::Reload(reload, asker) => {
                self.counts.reloads_applied += 1;
                let answer = self.reload(*reload);
                tell(&asker, answer);
            }
            Request::CountRefusedReload => self.counts.reloads_refused += 1,
            Request::Counters(asker) => tell(&asker, self.parts.interval.counters()),
            Request::Gauges(asker) => tell(&asker, self.parts.interval.gauges()),
            Request::Timers(asker) => tell(&asker, self.parts.interval.timers()),
            Request::Delete { kind, names, asker } => {
                tell(&asker, self.parts.interval.delete(kind, &names));
            }
            Request::Stats(asker) => {
                let stats = self.stats();
                tell(&asker, stats);
            }
        }
    }

    fn stats(&mut self) -> Stats {
        let open = self.parts.interval.page().values_rejected_total();
        Stats {
            newest_input_s: self.newest_input_ms.map(|ms| (ms + 500) / 1_000),
            values_rejected: self.closed.values_rejected_total() + open,
            books: self.totals().into_iter().collect(),
        }
    }
}

fn tell<T>(asker: &Sender<T>, answer: T) {
    asker.try_send(answer).ok();
}
