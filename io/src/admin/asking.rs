//! How a connection asks the coordinator, without waiting for longer than the console is open.

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::coordinator::request::Request;

/// Ends every wait of every connection when the console closes: nothing is ever sent, and the other
/// end is dropped.
pub(super) type Closing = Receiver<std::convert::Infallible>;

/// The way to the coordinator, and the permits for views: each is a copy of a million series.
#[derive(Debug)]
pub(super) struct Asking {
    requests: Sender<Request>,
    closing: Closing,
    permits: Receiver<()>,
    returned: Sender<()>,
}

/// Allows its owner to hold one view; goes back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Sender<()>);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // There are as many places as permits.
        self.0.try_send(()).ok();
    }
}

impl Asking {
    /// Asks by `requests` until `closing` ends; `views_max` views may be held at once.
    pub(super) fn new(requests: Sender<Request>, closing: Closing, views_max: usize) -> Self {
        let (returned, permits) = bounded(views_max);
        for _ in 0..views_max {
            returned.try_send(()).ok();
        }
        Self { requests, closing, permits, returned }
    }

    /// Asks and waits for the answer; `None` if the console closes or nobody is left to answer.
    pub(super) fn ask<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Option<T> {
        let (asker, answer) = bounded(1);
        select! {
            send(self.requests, request(asker)) -> sent => sent.ok()?,
            recv(self.closing) -> _ => return None,
        }
        select! {
            recv(answer) -> answer => answer.ok(),
            recv(self.closing) -> _ => None,
        }
    }

    /// Waits for a permit; `None` if the console closes.
    pub(super) fn permit(&self) -> Option<Permit<'_>> {
        select! {
            recv(self.permits) -> permit => permit.ok().map(|()| Permit(&self.returned)),
            recv(self.closing) -> _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::request::Stats;

    #[test]
    fn permits_come_back_and_whoever_waits_is_let_go_at_the_end() {
        let (requests, _received) = bounded(1);
        let (open, closing) = bounded(0);
        let asking = Asking::new(requests, closing, 2);
        let (first, second) = (asking.permit().unwrap(), asking.permit().unwrap());
        assert!(asking.permits.is_empty());
        drop(first);
        let third = asking.permit().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| asking.permit().is_none());
            let unanswered = scope.spawn(|| asking.ask(Request::Stats).is_none());
            drop(open);
            assert!(waiting.join().unwrap() && unanswered.join().unwrap());
        });
        drop((second, third));
        assert_eq!(asking.permits.len(), 2);
    }

    #[test]
    fn nobody_left_to_answer_is_no_answer() {
        let (requests, received) = bounded(1);
        let (_open, closing) = bounded(0);
        let asking = Asking::new(requests, closing, 1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                match received.recv() {
                    Ok(Request::Stats(asker)) => drop(asker.send(Stats::default())),
                    other => panic!("{other:?}"),
                }
                // The next question is thrown away with its channel.
                drop(received.recv());
            });
            assert_eq!(asking.ask(Request::Stats), Some(Stats::default()));
            assert_eq!(asking.ask(Request::Stats), None);
        });
        assert_eq!(asking.ask(Request::Stats), None);
    }
}
