//! Target 10: what the daemon does while nothing comes, with default settings.

use std::time::Duration;

use floe_io::cpu;

use super::probe::{ThreadState, pause, threads};
use super::say;
use super::spread::Spread;
use super::table::figure;
use super::target::{Bound, Target};
use crate::contestants::floe::{Ingest, Launch};
use crate::contestants::{Running, Site};

/// Interval of a daemon with default settings, ms.
const DEFAULT_INTERVAL_MS: u32 = 10_000;

/// What is left to it after its start.
const SETTLE: Duration = Duration::from_secs(2);

/// Watches the daemon for `time`.
pub(crate) fn measure(site: &Site, time: Duration) -> Vec<Target> {
    match watched(site, time) {
        Ok((before, after)) => told(&before, &after, time),
        Err(error) => {
            say(&format!("target 10: {error:#}"));
            vec![
                Target::new(10, "idle", (Bound::AtMost(20.0), "/s"), None)
                    .note(format!("{error:#}")),
            ]
        }
    }
}

type Watched = (Vec<ThreadState>, Vec<ThreadState>);

fn watched(site: &Site, time: Duration) -> anyhow::Result<Watched> {
    let receiver_cpus = cpu::inherited()?;
    let site = Site { receiver_cpus, flush_interval_ms: DEFAULT_INTERVAL_MS, ..site.clone() };
    let running = Running::floe(&site, Launch { ingest: Ingest::IoUring, workers: None })?;
    pause(SETTLE);
    let before = threads(running.pid)?;
    pause(time);
    Ok((before, threads(running.pid)?))
}

#[expect(clippy::cast_precision_loss, reason = "figures far below 2^53")]
fn told(before: &[ThreadState], after: &[ThreadState], time: Duration) -> Vec<Target> {
    let seconds = time.as_secs_f64();
    let grown = |thread: &ThreadState, of: fn(&ThreadState) -> u64| {
        let old = before.iter().find(|old| old.id == thread.id).map_or(0, of);
        of(thread).saturating_sub(old) as f64
    };
    let switches = |thread: &ThreadState| grown(thread, |thread| thread.switches);
    let cpu_ns: f64 = after.iter().map(|thread| grown(thread, |thread| thread.cpu_ns)).sum();
    let mut awake: Vec<&ThreadState> =
        after.iter().filter(|thread| 0.0 < switches(thread)).collect();
    awake.sort_by(|one, other| switches(other).total_cmp(&switches(one)));
    let names = awake
        .iter()
        .take(4)
        .map(|thread| format!("{} {}/s", thread.name, figure(switches(thread) / seconds)));
    let total: f64 = after.iter().map(switches).sum();
    vec![
        Target::new(
            10,
            &format!("context switches of all threads, idle for {} s", time.as_secs()),
            (Bound::AtMost(20.0), "/s"),
            Spread::of([total / seconds]),
        )
        .note(names.collect::<Vec<_>>().join(", ")),
        Target::new(
            10,
            "CPU of all threads meanwhile",
            (Bound::AtMost(0.2), "%"),
            Spread::of([cpu_ns / seconds / 1e7]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::target::Verdict;

    fn thread(id: u32, switches: u64, cpu_ns: u64) -> ThreadState {
        ThreadState { id, name: format!("t{id}"), cpu_ns, delay_ns: 0, switches }
    }

    #[test]
    fn switches_and_cpu_time_of_all_threads_add_up() {
        let before = [thread(1, 100, 1_000), thread(2, 5, 0)];
        // Thread 3 began meanwhile.
        let after = [thread(1, 150, 5_001_000), thread(2, 5, 0), thread(3, 60, 10_000_000)];
        let rows = told(&before, &after, Duration::from_secs(10));
        let medians = rows.iter().map(|row| row.measured.unwrap().median);
        assert_eq!(medians.collect::<Vec<_>>(), [11.0, 0.15]);
        assert_eq!(rows[0].note, "t3 6/s, t1 5/s");
        assert!(rows.iter().all(|row| row.verdict == Verdict::Holds));
    }
}
