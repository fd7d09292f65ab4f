//! The user's wish to end early: Ctrl-C (SIGINT) or SIGTERM.
//!
//! Made by `run` once there is something to report, asked by whatever loops or waits: `sender`, `socket`,
//! `probe`, `replay`, `settle` and the search. Before it is made a signal ends the process as it always
//! does; the first signal after that ends the run, and the second one the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Longest wait before somebody who waits asks again.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(50);

/// What ended a run early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt = 2,
    Terminate = 15,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
        }
    }

    /// The exit status: 128 and the number of the signal, as shells have it.
    pub(crate) fn status(self) -> u8 {
        128 + self as u8
    }
}

/// Whether the run is to end; clones share the wish.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Number of the first signal, 0 before it.
    signal: Arc<AtomicUsize>,
}

impl Stop {
    /// Takes the two signals from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn on_signals() -> Result<Stop> {
        let (stop, is_first_over) = (Stop::default(), Arc::new(AtomicBool::new(false)));
        for (number, signal) in [(SIGINT, Signal::Interrupt), (SIGTERM, Signal::Terminate)] {
            // Run in this order: the first signal finds the flag down and raises it.
            let over = || Arc::clone(&is_first_over);
            flag::register_conditional_shutdown(number, signal.status().into(), over())
                .and_then(|_| {
                    flag::register_usize(number, Arc::clone(&stop.signal), signal as usize)
                })
                .and_then(|_| flag::register(number, over()))
                .with_context(|| format!("cannot take {}", signal.name()))?;
        }
        Ok(stop)
    }

    pub(crate) fn signal(&self) -> Option<Signal> {
        // Relaxed: a number on its own, no other memory depends on it.
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number if number == Signal::Terminate as usize => Some(Signal::Terminate),
            _ => Some(Signal::Interrupt),
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.signal().is_some()
    }

    /// As a signal does.
    #[cfg(test)]
    pub(crate) fn ask(&self) {
        self.signal.store(Signal::Interrupt as usize, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_that_of_the_shells() {
        assert_eq!([Signal::Interrupt.status(), Signal::Terminate.status()], [130, 143]);
        assert_eq!([SIGINT, SIGTERM], [Signal::Interrupt as i32, Signal::Terminate as i32]);
    }

    #[test]
    fn clones_share_the_wish() {
        let stop = Stop::default();
        let other = stop.clone();
        assert!(!other.is_asked());
        stop.ask();
        assert_eq!(other.signal(), Some(Signal::Interrupt));
    }
}
