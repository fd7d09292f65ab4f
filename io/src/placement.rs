//! Where the threads beside the workers run, so that none of them takes a worker's time.
//!
//! A worker that does not run for some milliseconds loses datagrams, and a flush of a million series
//! is half a second of work. With more CPUs than workers all other threads get the CPUs that no
//! worker has. Where there are none they share, and stand behind: `SCHED_BATCH`, so that waking up
//! never takes the CPU from a worker, and `BESIDE_NICE`, so that a worker with work comes first and
//! the flush still gets its part of a CPU that workers never leave (docs/decisions/007-placement.md
//! has the figures).
//!
//! Done once, from outside, when everything runs: the kernel lists our threads, those of the workers
//! are known, and each other one is placed by its id. Threads that come later are started by placed
//! ones and inherit it. Neither way needs a privilege; a policy, a nice value or a mask that somebody
//! chose for this process is kept where it is further back already.

use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::sys::{self, Schedule};

/// Nice value of the threads that share the workers' CPUs. A thread at 10 gets a tenth of a CPU that a
/// worker never leaves, a third of what 5 would get it, and delays the worker by one tick of the
/// kernel's clock at a time.
pub const BESIDE_NICE: i32 = 10;

/// Looks at the list of threads at the most: each finds those started during the one before.
const LOOKS_MAX: u32 = 8;

/// Policies of the kernel as `/proc` numbers them.
const POLICY_OTHER: u32 = 0;

/// Where the threads beside the workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On these CPUs, ascending, which no worker has.
    Apart(Vec<usize>),
    /// On the CPUs of the workers, behind them.
    Behind,
}

impl Placement {
    /// The placement beside workers on `workers`, of a process that may use `allowed`.
    #[must_use]
    pub fn beside(workers: &[usize], allowed: &[usize]) -> Self {
        let free: Vec<usize> =
            allowed.iter().copied().filter(|cpu| !workers.contains(cpu)).collect();
        if free.is_empty() { Self::Behind } else { Self::Apart(free) }
    }

    /// Places every thread of this process but `workers`; returns how many.
    ///
    /// # Errors
    /// The first refusal; the threads that were not refused are placed.
    pub fn take(&self, workers: &[Pid]) -> std::io::Result<usize> {
        let mut placed: Vec<Pid> = Vec::new();
        let mut result = Ok(());
        for _ in 0..LOOKS_MAX {
            let mut is_complete = true;
            for thread in threads_of_process()? {
                if workers.contains(&thread) || placed.contains(&thread) {
                    continue;
                }
                is_complete = false;
                placed.push(thread);
                match self.place(thread) {
                    // It has ended meanwhile.
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(error) => result = result.and(Err(error.into())),
                }
            }
            if is_complete {
                break;
            }
        }
        result.map(|()| placed.len())
    }

    fn place(&self, thread: Pid) -> Result<(), Errno> {
        match self {
            Self::Apart(cpus) => {
                let mut mask = CpuSet::new();
                cpus.iter().for_each(|cpu| mask.set(*cpu));
                sched_setaffinity(Some(thread), &mask)
            }
            Self::Behind => {
                let nice = getpriority_process(Some(thread))?.max(BESIDE_NICE);
                match policy_of(thread) {
                    Some(POLICY_OTHER) => sys::set_schedule(thread, Schedule::Batch { nice }),
                    // Somebody has chosen: real time for one who knows why, or idle.
                    Some(_) => Ok(()),
                    None => Err(Errno::SRCH),
                }
            }
        }
    }
}

fn threads_of_process() -> std::io::Result<Vec<Pid>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        threads.extend(id.and_then(Pid::from_raw));
    }
    Ok(threads)
}

/// The scheduling policy of a thread of this process, as the kernel numbers it.
fn policy_of(thread: Pid) -> Option<u32> {
    let path = Path::new("/proc/self/task").join(thread.as_raw_nonzero().to_string()).join("stat");
    policy_in(&std::fs::read_to_string(path).ok()?)
}

/// Field 41 of `stat` (proc_pid_stat(5)). The name in field 2 may hold blanks and brackets.
fn policy_in(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(41 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use rustix::thread::gettid;

    use super::*;
    use crate::cpu;

    #[test]
    fn cpus_without_a_worker_are_for_the_others() {
        let beside = Placement::beside;
        assert_eq!(beside(&[0, 1], &[0, 1, 2, 5]), Placement::Apart(vec![2, 5]));
        assert_eq!(beside(&[5, 5], &[0, 5]), Placement::Apart(vec![0]));
        assert_eq!(beside(&[0, 1], &[0, 1]), Placement::Behind);
        assert_eq!(beside(&[3, 3, 3], &[3]), Placement::Behind);
    }

    #[test]
    fn policy_is_found_behind_any_name() {
        let stat = |name: &str, policy: u32| {
            let before: String = (4..41).map(|field| format!(" {field}")).collect();
            format!("7 ({name}) S{before} {policy} 42 43")
        };
        assert_eq!(policy_in(&stat("ingest-0", 0)), Some(0));
        assert_eq!(policy_in(&stat("a) b (c)", 3)), Some(3));
        assert_eq!(policy_in("7 (cut"), None);
        assert_eq!(policy_of(gettid()), Some(POLICY_OTHER));
    }

    /// Threads of this test process that run other tests are left alone: one is placed by itself.
    #[test]
    fn thread_behind_is_nicer_and_batched_and_its_children_with_it() {
        let (told, seen) = bounded(1);
        let child = move || told.send(gettid()).unwrap();
        let parent = std::thread::spawn(move || {
            Placement::Behind.place(gettid()).unwrap();
            // Placed again it stays where it is.
            Placement::Behind.place(gettid()).unwrap();
            let of = |thread| (policy_of(thread), getpriority_process(Some(thread)).unwrap());
            let own = of(gettid());
            let of_child = std::thread::spawn(move || {
                child();
                of(gettid())
            });
            (own, of_child.join().unwrap())
        });
        let behind = (Some(3), BESIDE_NICE);
        assert_eq!(parent.join().unwrap(), (behind, behind));
        let ended = seen.recv().unwrap();
        // The kernel may take a moment to forget a thread that was joined.
        while Path::new("/proc/self/task").join(ended.as_raw_nonzero().to_string()).exists() {
            std::thread::yield_now();
        }
        assert_eq!(Placement::Behind.place(ended), Err(Errno::SRCH));
    }

    #[test]
    fn thread_that_is_further_back_stays_there() {
        let nice = std::thread::spawn(|| {
            sys::set_schedule(gettid(), Schedule::Batch { nice: 19 }).unwrap();
            Placement::Behind.place(gettid()).unwrap();
            getpriority_process(Some(gettid())).unwrap()
        });
        assert_eq!(nice.join().unwrap(), 19);
    }

    #[test]
    fn thread_apart_sees_its_cpus_alone() {
        let cpu = *cpu::inherited().unwrap().last().unwrap();
        let seen = std::thread::spawn(move || {
            Placement::Apart(vec![cpu]).place(gettid()).unwrap();
            cpu::inherited().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [cpu]);
    }
}
