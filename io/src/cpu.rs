//! Which CPUs the workers are pinned to.
//!
//! A process started in a cgroup cpuset or by `taskset` may use only the CPUs of the mask it
//! inherited, so the plan is made from that mask and never from `0..n`. Read once at start, before
//! any thread is pinned: a pinned thread sees only its own CPU. Limits: `WORKERS_MAX` workers.
//! This module does not place interrupts or memory.

use std::num::NonZero;

use floe_core::limits::{WORKERS_DEFAULT_MAX, WORKERS_MAX};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Why workers cannot be placed as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// A configured CPU is outside the inherited mask.
    #[error(
        "cannot pin a worker to cpu {cpu}; set cpus to some of those allowed: {}",
        list(allowed)
    )]
    CpuNotAllowed {
        /// The configured CPU.
        cpu: usize,
        /// The CPUs of the inherited mask.
        allowed: Vec<usize>,
    },
    /// The configured list of CPUs is empty.
    #[error("the list of cpus is empty; leave it out to use those this process may use")]
    NoCpus,
    /// The number of workers is 0 or over the limit.
    #[error("workers must be within 1..={WORKERS_MAX}, found {found}")]
    WorkerCount {
        /// The number asked for.
        found: usize,
    },
    /// The kernel did not tell the mask.
    #[error("cannot read the cpu mask of this process: {0}")]
    Mask(#[source] rustix::io::Errno),
}

/// As the setting has it: `0,1,5`.
pub(crate) fn list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The CPUs this thread may run on, ascending.
///
/// # Errors
/// [`PlanError::Mask`] if the kernel refuses; not seen in practice below 1,024 CPUs.
pub fn inherited() -> Result<Vec<usize>, PlanError> {
    let mask = sched_getaffinity(None).map_err(PlanError::Mask)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect())
}

/// Pins the calling thread to `cpu`.
///
/// # Errors
/// The kernel's, when `cpu` is not (or no longer) in the cpuset.
pub fn pin(cpu: usize) -> rustix::io::Result<()> {
    if CpuSet::MAX_CPU <= cpu {
        return Err(rustix::io::Errno::INVAL);
    }
    let mut mask = CpuSet::new();
    mask.set(cpu);
    sched_setaffinity(None, &mask)
}

/// The CPU of each worker, index = worker index; its length is the number of workers.
///
/// `workers`: as configured; `None` = one per configured CPU, or `min(available parallelism, 8)`,
/// which respects the CPU quota of the cgroup. `cpus`: as configured, in worker order; `None` = the
/// inherited mask. With more workers than CPUs the list is gone through again.
///
/// # Errors
/// [`PlanError`], where the settings ask for what this process may not have.
pub fn plan(workers: Option<usize>, cpus: Option<&[usize]>) -> Result<Vec<usize>, PlanError> {
    let parallelism = std::thread::available_parallelism().map_or(1, NonZero::get);
    plan_within(workers, cpus, &inherited()?, parallelism)
}

fn plan_within(
    workers: Option<usize>,
    cpus: Option<&[usize]>,
    inherited: &[usize],
    parallelism: usize,
) -> Result<Vec<usize>, PlanError> {
    let chosen = cpus.unwrap_or(inherited);
    if chosen.is_empty() {
        return Err(PlanError::NoCpus);
    }
    if let Some(&cpu) = chosen.iter().find(|cpu| !inherited.contains(cpu)) {
        return Err(PlanError::CpuNotAllowed { cpu, allowed: inherited.to_vec() });
    }
    let count = match (workers, cpus) {
        (Some(count), _) => count,
        (None, Some(cpus)) => cpus.len(),
        (None, None) => parallelism.min(inherited.len()).min(WORKERS_DEFAULT_MAX),
    };
    if count == 0 || WORKERS_MAX < count {
        return Err(PlanError::WorkerCount { found: count });
    }
    Ok(chosen.iter().copied().cycle().take(count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_plan_uses_inherited_cpus_alone() {
        let plan = plan(None, None).unwrap();
        let inherited = inherited().unwrap();
        assert!(!plan.is_empty() && plan.len() <= WORKERS_DEFAULT_MAX);
        assert!(plan.iter().all(|cpu| inherited.contains(cpu)));
    }

    #[test]
    fn default_plan_takes_the_first_cpus_of_the_mask_up_to_the_quota() {
        assert_eq!(plan_within(None, None, &[2, 5, 7], 3).unwrap(), [2, 5, 7]);
        assert_eq!(plan_within(None, None, &[2, 5, 7], 2).unwrap(), [2, 5]);
        let many: Vec<usize> = (0..64).collect();
        assert_eq!(plan_within(None, None, &many, 64).unwrap(), many[..WORKERS_DEFAULT_MAX]);
    }

    #[test]
    fn configured_cpus_set_order_and_number_of_workers() {
        assert_eq!(plan_within(None, Some(&[7, 2]), &[2, 5, 7], 3).unwrap(), [7, 2]);
        assert_eq!(plan_within(Some(1), Some(&[7, 2]), &[2, 5, 7], 3).unwrap(), [7]);
    }

    #[test]
    fn more_workers_than_cpus_share_them_in_turn() {
        assert_eq!(plan_within(Some(5), None, &[2, 5], 2).unwrap(), [2, 5, 2, 5, 2]);
    }

    #[test]
    fn cpu_outside_the_mask_is_refused_by_name() {
        let error = plan_within(None, Some(&[2, 3]), &[2, 5], 2).unwrap_err();
        assert_eq!(error, PlanError::CpuNotAllowed { cpu: 3, allowed: vec![2, 5] });
        assert_eq!(
            error.to_string(),
            "cannot pin a worker to cpu 3; set cpus to some of those allowed: 2,5"
        );
    }

    #[test]
    fn impossible_numbers_of_workers_are_refused() {
        for found in [0, WORKERS_MAX + 1] {
            let error = plan_within(Some(found), None, &[0], 1).unwrap_err();
            assert_eq!(error, PlanError::WorkerCount { found });
        }
        assert_eq!(plan_within(Some(WORKERS_MAX), None, &[0], 1).unwrap().len(), WORKERS_MAX);
        assert_eq!(plan_within(None, Some(&[]), &[0], 1).unwrap_err(), PlanError::NoCpus);
    }

    #[test]
    fn pinned_thread_sees_its_cpu_alone() {
        let cpu = *inherited().unwrap().last().unwrap();
        let seen = std::thread::spawn(move || {
            pin(cpu).unwrap();
            inherited().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [cpu]);
        assert_eq!(pin(CpuSet::MAX_CPU), Err(rustix::io::Errno::INVAL));
    }
}
