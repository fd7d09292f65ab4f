//! Claim: whatever the clocks do, intervals of a second and more never use a timestamp twice, over
//! restarts too, but after a step back that was followed; one is followed only when it was long and
//! lasted; however long nobody looked, one flush comes of it; and flushes go on. Method: any sequence
//! of passing time, steps, pauses, stops and starts, on a simulated clock.

use proptest::prelude::*;

use super::super::grid::Grid;
use crate::clock::Now;

/// Between two looks of the coordinator, ms.
const LOOK_MS: u64 = 1_000;
/// Two intervals, and what a start waits for a spool that is ahead.
const STEP_BACK_INTERVALS: u64 = 2;
const AHEAD_MS_MAX: u64 = 60_000;

#[derive(Clone, Debug)]
enum Event {
    /// Time passes under the coordinator's eyes.
    Pass { ms: u64 },
    /// Nobody looks meanwhile: SIGSTOP, or a machine that stands still.
    Pause { ms: u64 },
    /// The clock is set; the monotonic one goes on.
    Step { ms: i64 },
    /// A stop, whose partial interval is spooled, or a kill; and a start some time later.
    Restart { is_kill: bool, ms: u64 },
    /// Another interval is asked for.
    Interval { ms: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..90_000_u64).prop_map(|ms| Event::Pass { ms }),
        2 => (0..7_200_000_u64).prop_map(|ms| Event::Pause { ms }),
        2 => (-7_200_000..7_200_000_i64).prop_map(|ms| Event::Step { ms }),
        1 => (-90_000..90_000_i64).prop_map(|ms| Event::Step { ms }),
        2 => (any::<bool>(), 0..30_000_u64).prop_map(|(is_kill, ms)| Event::Restart { is_kill, ms }),
        1 => interval_ms().prop_map(|ms| Event::Interval { ms }),
    ]
}

fn interval_ms() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1_000), Just(10_000), Just(60_000), 1_000..20_000_u64]
}

/// A coordinator of nothing but a grid, and what it has used.
struct Simulated {
    grid: Grid,
    interval_ms: u64,
    now: Now,
    /// Of the newest commit: what the spool remembers.
    last_s: Option<u64>,
    flushes: u64,
    /// Highest wall clock that this run has seen, and since when the clock is too far behind it.
    latest_ms: u64,
    behind_since_ms: Option<u64>,
}

impl Simulated {
    fn new(interval_ms: u64) -> Self {
        let now = Now { wall_ms: 1_700_000_000_123, monotonic_ms: 5_000 };
        Self {
            grid: Grid::new(interval_ms, None, now.wall_ms),
            interval_ms,
            now,
            last_s: None,
            flushes: 0,
            latest_ms: now.wall_ms,
            behind_since_ms: None,
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.monotonic_ms += ms;
    }

    fn use_timestamp(&mut self, timestamp_s: u64) {
        assert!(self.last_s < Some(timestamp_s), "{timestamp_s} after {:?}", self.last_s);
        self.last_s = Some(timestamp_s);
        self.flushes += 1;
    }

    /// As the coordinator does it.
    fn look(&mut self) {
        let Now { wall_ms, monotonic_ms } = self.now;
        self.latest_ms = self.latest_ms.max(wall_ms);
        let is_behind = STEP_BACK_INTERVALS * self.interval_ms < self.latest_ms - wall_ms;
        if !is_behind {
            self.behind_since_ms = None;
        }
        if self.grid.is_step_back(self.now) {
            assert!(is_behind);
            let since_ms = self.behind_since_ms.expect("it was behind at an earlier look");
            assert!(STEP_BACK_INTERVALS * self.interval_ms <= monotonic_ms - since_ms);
            self.follow();
        } else if is_behind {
            self.behind_since_ms.get_or_insert(monotonic_ms);
        }
        if let Some(tick) = self.grid.take_due(wall_ms) {
            assert!(tick.timestamp_s * 1_000 <= wall_ms + 500, "a tick is not in the future");
            self.use_timestamp(tick.timestamp_s);
            self.interval_ms = self.next_interval_ms();
        }
        assert_eq!(self.grid.take_due(wall_ms), None, "one flush, however late it is");
    }

    fn next_interval_ms(&self) -> u64 {
        self.grid.next_interval_ms()
    }

    fn follow(&mut self) {
        self.grid.follow(self.now.wall_ms);
        self.last_s = None;
        self.latest_ms = self.now.wall_ms;
        self.behind_since_ms = None;
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / LOOK_MS {
            self.advance(LOOK_MS);
            self.look();
        }
    }

    fn restart(&mut self, is_kill: bool, ms: u64) {
        if !is_kill {
            let tick = self.grid.take_partial(self.now.wall_ms);
            self.use_timestamp(tick.timestamp_s);
        }
        self.advance(ms);
        let wall_ms = self.now.wall_ms;
        self.interval_ms = self.next_interval_ms();
        self.grid = Grid::new(self.interval_ms, self.last_s, wall_ms);
        if self.grid.has_followed_at_start() {
            let ahead_ms = (self.last_s.expect("behind something") * 1_000 + 500) - wall_ms;
            let step_ms = STEP_BACK_INTERVALS * self.interval_ms;
            assert!(AHEAD_MS_MAX.max(step_ms) < ahead_ms + self.interval_ms);
            self.last_s = None;
        }
        self.latest_ms = wall_ms;
        self.behind_since_ms = None;
    }

    fn play(&mut self, event: &Event) {
        match *event {
            Event::Pass { ms } => self.pass(ms),
            Event::Pause { ms } => {
                self.advance(ms);
                self.look();
            }
            Event::Step { ms } => {
                self.now.wall_ms = self.now.wall_ms.checked_add_signed(ms).expect("far from 0");
                self.look();
            }
            Event::Restart { is_kill, ms } => self.restart(is_kill, ms),
            Event::Interval { ms } => self.grid.set_interval(ms),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn timestamps_grow_whatever_the_clocks_do(
        interval_ms in interval_ms(),
        events in prop::collection::vec(event(), 1..24),
    ) {
        let mut simulated = Simulated::new(interval_ms);
        for event in &events {
            simulated.play(event);
        }
        // However it was left: a clock that now goes on steadily has flushes again.
        let flushes = simulated.flushes;
        let longest_ms = simulated.interval_ms.max(simulated.next_interval_ms());
        simulated.pass(AHEAD_MS_MAX + 6 * longest_ms);
        prop_assert!(flushes < simulated.flushes);
    }
}
