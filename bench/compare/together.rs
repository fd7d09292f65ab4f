//! Target 5: two workers fed from memory against each alone, and beside them two processes that do the
//! same, for what the machine itself leaves to two.

use floe_bench::NAMES_SMALL;
use floe_bench::datagrams::Datagrams;
use floe_bench::feeding::{Fed, feed_together, longest_cpu_ns, wall_ns, warm};
use floe_bench::pipeline::Pipeline;
use floe_io::cpu;

use super::feeds::Pool;
use super::memory_fed::count;
use super::processes::{self, Process};
use super::spread::Spread;
use super::target::{Bound, Target};

/// Pairs of one worker and two in a round of target 5.
const PAIRS: u32 = 40;

/// Measures the target.
pub(crate) fn measure(rounds: u32) -> Vec<Target> {
    let bound = (Bound::AtLeast(1.95), "×");
    let what = ["two workers from memory: lines/s of one, wall clock", "and by CPU time"];
    let cpus = cpu::inherited().unwrap_or_default();
    let [.., first, second] = cpus[..] else {
        return what.map(|what| Target::new(5, what, bound, None).note("needs two CPUs")).into();
    };
    let cpus = [first, second];
    let mut threads = Threads::new();
    let mut processes = cpus.map(Process::start);
    let (mut of_threads, mut of_processes) = (Vec::new(), Vec::new());
    // By turns of some pairs: both in the same good and bad moments of the machine.
    for _ in 0..rounds {
        of_threads.extend((0..PAIRS).map(|_| threads.pair(&cpus)));
        if let [Ok(first), Ok(second)] = &mut processes {
            of_processes.extend((0..PAIRS).map_while(|_| processes::pair([first, second]).ok()));
        }
    }
    let pairs = format!("the bounds hold the median with 99 %, of {} pairs", of_threads.len());
    let [by_wall, by_cpu] = spreads(&of_threads);
    let [beside_wall, beside_cpu] = spreads(&of_processes).map(|ratio| match ratio {
        Some(_) => Target::new(5, "two processes", bound, ratio).found(),
        None => "not measured".to_owned(),
    });
    let row = |what: &str, ratio| Target::new(5, what, bound, ratio).throughout();
    vec![
        row(what[0], by_wall).note(format!(
            "{pairs}; wall clock needs both CPUs idle; two processes, which share nothing: {beside_wall}"
        )),
        row(what[1], by_cpu).note(format!(
            "what threads cost each other; two processes: {beside_cpu}; bench shard/threads has 1 to N"
        )),
    ]
}

/// Two workers of target 5.
struct Threads {
    datagrams: Datagrams,
    pipelines: [Pipeline; 2],
}

impl Threads {
    fn new() -> Self {
        let datagrams = Pool::Packed.make();
        let pipelines = [(); 2].map(|()| warm(NAMES_SMALL, &datagrams));
        Self { datagrams, pipelines }
    }

    /// Each alone, then both together.
    fn pair(&mut self, cpus: &[usize; 2]) -> [f64; 2] {
        let Self { datagrams, pipelines } = self;
        let mut alone = |at| feed_together(&mut pipelines[at..=at], datagrams, &cpus[at..=at]);
        let one = [alone(0), alone(1)].concat();
        gained(&one, &feed_together(pipelines, datagrams, cpus))
    }
}

/// How much more two did together than one alone, by the clock and by CPU time.
pub(super) fn gained(alone: &[Fed], together: &[Fed]) -> [f64; 2] {
    [wall_ns as fn(&[Fed]) -> u64, longest_cpu_ns].map(|time_ns| {
        let one: u64 = alone.iter().map(|fed| time_ns(std::slice::from_ref(fed))).sum();
        count(one) / count(time_ns(together))
    })
}

fn spreads(ratios: &[[f64; 2]]) -> [Option<Spread>; 2] {
    [0, 1].map(|at| Spread::of_median(ratios.iter().map(|ratio| ratio[at])))
}
