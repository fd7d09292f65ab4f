//! Claim: the books of a spool balance after any history:
//! committed = acknowledged + waiting + expired, for every backend, in rows; and no segment is in a
//! queue that was not committed, or twice. A backend that is left out keeps what it had, and gets
//! nothing until it is back. What a look into a queue tells is what lies in it and what left by another
//! hand.
//! Method: random histories of commits, acknowledgements, retention, relief, other backends and
//! restarts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::collections::HashMap;
use std::path::Path;

use floe_storage::{Queue, QueueState, Retired, Spool, SpoolOptions};
use proptest::prelude::*;
use support::{options, parts, segments};

const BACKENDS: [&str; 2] = ["a", "b"];
const ROWS_PER_PART: u64 = 5;
const START_S: u64 = 1_700_000_000;

#[derive(Clone, Debug)]
enum Step {
    Commit {
        step_s: u64,
        part_count: u32,
    },
    Acknowledge {
        backend: usize,
        count: usize,
    },
    Retain {
        later_s: u64,
    },
    Relieve {
        bytes: u64,
    },
    /// Go on with these backends, while running.
    Apply {
        are_configured: [bool; BACKENDS.len()],
    },
    Restart,
    /// Look into the queues, as the books do; other steps meet queues that were not looked into.
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..20_u64, 1..3_u32)
            .prop_map(|(step_s, part_count)| Step::Commit { step_s, part_count }),
        3 => (0..BACKENDS.len(), 1..4_usize)
            .prop_map(|(backend, count)| Step::Acknowledge { backend, count }),
        2 => (0..60_u64).prop_map(|later_s| Step::Retain { later_s }),
        1 => (0..3_000_u64).prop_map(|bytes| Step::Relieve { bytes }),
        2 => any::<[bool; BACKENDS.len()]>()
            .prop_map(|are_configured| Step::Apply { are_configured }),
        1 => Just(Step::Restart),
        2 => Just(Step::Look),
    ]
}

/// Caps small enough to be met within a few steps.
fn tight(path: &Path, are_configured: [bool; BACKENDS.len()]) -> SpoolOptions {
    let mut options = options(path, &BACKENDS);
    options.archive_age_ms = 40_000;
    options.archive_bytes = 4_000;
    options.backends[0].backlog_age_ms = 50_000;
    options.backends[1].backlog_bytes = 5_000;
    let mut configured = are_configured.into_iter();
    options.backends.retain(|_| configured.next() == Some(true));
    options
}

#[derive(Default)]
struct Books {
    committed: HashMap<String, u64>,
    acknowledged: HashMap<String, u64>,
    expired: HashMap<String, u64>,
    /// Acknowledged since the spool has had the queue.
    left: HashMap<String, u64>,
}

impl Books {
    fn retire(&mut self, retired: &Retired) {
        assert!(retired.error.is_none(), "{:?}", retired.error);
        for (backend, expired) in &retired.backends {
            assert_eq!(expired.rows, expired.segments * ROWS_PER_PART);
            *self.expired.entry(backend.clone()).or_default() += expired.rows;
        }
    }

    fn check(&self, path: &Path) {
        for backend in BACKENDS {
            let waiting = segments(&path.join("backends").join(backend)).len() as u64;
            let of = |books: &HashMap<String, u64>| books.get(backend).copied().unwrap_or(0);
            let accounted = of(&self.acknowledged) + of(&self.expired) + waiting * ROWS_PER_PART;
            assert_eq!(of(&self.committed), accounted, "backend {backend}");
        }
    }
}

impl Books {
    /// A queue tells what lies in it and what left by another hand.
    fn look(&self, path: &Path, spool: &mut Spool, are_configured: [bool; BACKENDS.len()]) {
        for (backend, is_configured) in BACKENDS.into_iter().zip(are_configured) {
            let waiting = segments(&path.join("backends").join(backend)).len() as u64;
            let expected = is_configured.then(|| QueueState {
                rows_pending: waiting * ROWS_PER_PART,
                rows_left: self.left.get(backend).copied().unwrap_or(0),
                rows_unannounced: 0,
            });
            assert_eq!(spool.queue_state(backend), expected, "backend {backend}");
        }
    }
}

fn acknowledge(path: &Path, backend: &str, count: usize) -> u64 {
    let queue = Queue::open(path, backend).unwrap();
    let mut names = Vec::new();
    queue.list(&mut names).unwrap();
    names.truncate(count);
    for name in &names {
        assert!(queue.acknowledge(name).unwrap());
    }
    names.len() as u64 * ROWS_PER_PART
}

fn play(steps: &[Step]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut are_configured = [true; BACKENDS.len()];
    let mut spool = Spool::open(tight(path, are_configured)).unwrap().0;
    let mut books = Books::default();
    let mut now_s = START_S;
    for step in steps {
        match *step {
            Step::Commit { step_s, part_count } => {
                now_s += step_s;
                let committed = spool.commit(&parts(now_s, part_count)).unwrap();
                for (backend, _) in BACKENDS.iter().zip(are_configured).filter(|(_, is)| *is) {
                    *books.committed.entry((*backend).to_owned()).or_default() += committed.rows;
                }
            }
            Step::Acknowledge { backend, count } => {
                let rows = acknowledge(path, BACKENDS[backend], count);
                *books.acknowledged.entry(BACKENDS[backend].to_owned()).or_default() += rows;
                *books.left.entry(BACKENDS[backend].to_owned()).or_default() += rows;
            }
            Step::Retain { later_s } => {
                books.retire(&spool.retain(now_s + later_s));
                let archive = segments(&path.join("archive"));
                assert!(archive.is_empty() || archive.len() * 700 <= 4_000 || archive.len() == 1);
            }
            Step::Relieve { bytes } => books.retire(&spool.relieve(bytes)),
            Step::Apply { are_configured: wanted } => {
                let left = spool.apply(tight(path, wanted)).unwrap();
                let ends = |at: usize| are_configured[at] && !wanted[at];
                let places = (0..BACKENDS.len()).filter(|at| ends(*at)).filter_map(|at| {
                    let segments = segments(&path.join("backends").join(BACKENDS[at])).len();
                    (segments != 0).then(|| (BACKENDS[at].to_owned(), segments as u64))
                });
                let said = left.into_iter().map(|queue| (queue.backend, queue.segments));
                assert_eq!(said.collect::<HashMap<_, _>>(), places.collect::<HashMap<_, _>>());
                for at in (0..BACKENDS.len()).filter(|at| !are_configured[*at] || !wanted[*at]) {
                    books.left.remove(BACKENDS[at]);
                }
                are_configured = wanted;
            }
            Step::Restart => {
                let newest = spool.newest_timestamp_s();
                drop(spool);
                let (opened, report) = Spool::open(tight(path, are_configured)).unwrap();
                assert_eq!((report.failed, report.quarantined.len()), (0, 0));
                assert_eq!(opened.newest_timestamp_s(), newest);
                spool = opened;
                books.left.clear();
            }
            Step::Look => books.look(path, &mut spool, are_configured),
        }
        books.check(path);
    }
    books.look(path, &mut spool, are_configured);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_keeps_the_books_balanced(steps in prop::collection::vec(step(), 1..24)) {
        play(&steps);
    }
}
