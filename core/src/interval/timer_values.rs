//! The raw values of the open interval's timers, for what prints them before they are closed.

use super::Interval;
use crate::flush_text::TimerValues;
use crate::inspect::LIST_ENTRIES_SHOWN;

impl Interval {
    /// The timers with their smallest values, as many as a list shows, in the order of first sight.
    ///
    /// Beyond its exact budget a timer's values are in a sketch: those kept exactly are shown.
    ///
    /// # Cost
    /// A copy and a partial sort of every value: only where somebody prints them.
    pub fn sorted_timers(&mut self) -> Vec<TimerValues> {
        let mut timers = Vec::with_capacity(self.timers.len());
        self.timers.for_each(|key, chains| {
            let chunks = chains.iter().flat_map(|chain| chain.chunks());
            let mut lowest: Vec<f64> = chunks.flat_map(|chunk| chunk.values()).collect();
            let total = lowest.len();
            lowest.sort_unstable_by(f64::total_cmp);
            lowest.truncate(LIST_ENTRIES_SHOWN);
            timers.push(TimerValues { key: key.to_vec(), lowest, total });
        });
        timers
    }
}
