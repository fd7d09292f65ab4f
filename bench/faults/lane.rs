//! One lane: a world, and faults done to it in turn until the time is over.
//!
//! A lane is a process of its own, so that it may have a network of its own. It says what it did on
//! its standard output, a JSON object a line.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use floe_bench::random::Random;
use floe_io::clock::{duration_ns, monotonic_ns};

use super::fault::{Fault, Scene};
use super::judge::{Change, Injection};
use super::kernel::memory_bytes;
use super::world::{Settings, Site, World};
use crate::compare::probe::pause;

/// First port of the world that goes on, and of those that faults have for themselves.
const BASES: [u16; 2] = [8_125, 9_125];

/// A short round's length: longer ones have longer faults.
const SHORT: Duration = Duration::from_secs(300);

/// After a fault that could not even begin.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Longest faults, in those of a short round.
const SCALE_MAX: u64 = 6;

/// What a lane does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its number.
    pub(crate) lane: u32,
    /// Lanes in all.
    pub(crate) lanes: u32,
    /// Begin of all chance.
    pub(crate) seed: u64,
    /// No fault begins later.
    pub(crate) duration: Duration,
    /// The faults.
    pub(crate) faults: Vec<Fault>,
    /// Where it lives.
    pub(crate) site: Site,
}

/// Runs it to its end.
///
/// # Errors
/// When not even a world can be made, or nobody reads what it says.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    let end_ns = monotonic_ns() + duration_ns(plan.duration);
    let mut random = Random::new(plan.seed ^ (u64::from(plan.lane) + 1) << 32);
    let mut world = None;
    for (place, fault) in (0_u32..).zip(order(plan).into_iter().cycle()) {
        if end_ns <= monotonic_ns() {
            break;
        }
        let injection = inject(plan, fault, place, &mut world, &mut random);
        if injection.sent == 0 {
            // Not even a world: another try at once would end the same way.
            pause(AFTER_FAILURE);
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&injection)?).context("nobody listens")?;
        out.flush()?;
    }
    Ok(())
}

/// Its faults: the same random order in each lane, each begins at another place.
fn order(plan: &Plan) -> Vec<&Fault> {
    let count = plan.faults.len();
    let order = Random::new(plan.seed).permutation(u32::try_from(count).unwrap_or(0));
    let mut order: Vec<&Fault> =
        order.into_iter().map(|index| &plan.faults[index as usize]).collect();
    order.rotate_left(count * plan.lane as usize / plan.lanes.max(1) as usize);
    order
}

/// Does `fault` once; a world in which something did not hold is left, and the next one is new.
fn inject(
    plan: &Plan,
    fault: &Fault,
    place: u32,
    standing: &mut Option<World>,
    random: &mut Random,
) -> Injection {
    let begin_ns = monotonic_ns();
    let place = (plan.lane, place);
    let mut own = None;
    let result = (|| {
        let world = match fault.own_world {
            Some(settings) => {
                own.insert(World::start(&plan.site, settings(random), BASES[1], random)?)
            }
            None => match standing {
                Some(world) => world,
                None => standing.insert(World::start(
                    &plan.site,
                    Settings::default(),
                    BASES[0],
                    random,
                )?),
            },
        };
        let scale = u32::try_from((plan.duration.as_secs() / SHORT.as_secs()).clamp(1, SCALE_MAX))?;
        once(fault, place, &mut Scene { world, random, scale })
    })();
    let took_ms = (monotonic_ns() - begin_ns) / 1_000_000;
    let mut injection = match result {
        Ok(injection) => Injection { took_ms, ..injection },
        Err(error) => Injection::failed(fault, place, took_ms, format!("{error:#}")),
    };
    if !injection.failures.is_empty() {
        if let Some(world) = own.as_ref().or(standing.as_ref()) {
            injection.failures.extend(keep_log(plan, place, fault, world));
        }
        *standing = None;
    }
    injection
}

fn once(fault: &Fault, place: (u32, u32), scene: &mut Scene<'_>) -> anyhow::Result<Injection> {
    let before = scene.world.tally()?;
    let outcome = (fault.body)(scene)?;
    let after = scene.world.settle()?;
    scene.world.ensure_alive(after.pid)?;
    let change = Change::between(&before, &after);
    let allowed = change.allowed(outcome.allowed, &scene.world.sender);
    let mut failures = outcome.failures;
    failures.extend(change.failures(outcome.allowed, allowed, scene.world.site.is_isolated));
    for later in outcome.later {
        failures.extend(later(scene.world)?);
    }
    failures.extend(scene.world.wrongs());
    failures.extend(scene.world.bugs());
    failures.extend(after.books.broken.iter().map(|name| format!("books: {name} does not hold")));
    // The kernel's own figure of the most it ever had.
    let peak = memory_bytes(after.pid, "VmHWM")?;
    if let Some(ceiling) = scene.world.ceiling_bytes()
        && ceiling + ceiling / 10 < peak
    {
        failures.push(format!("{peak} bytes of memory, and floe's ceiling is {ceiling}"));
    }
    let broken = after.books.count("accounting_broken");
    if 0 < broken {
        failures.push(format!("floe counts {broken} broken identities"));
    }
    Ok(Injection {
        fault: fault.name.to_owned(),
        place,
        sent: change.sent,
        lost: change.most_lost(),
        allowed,
        dropped: change.dropped,
        refused: change.refused,
        left: change.left,
        took_ms: 0,
        failures,
    })
}

/// Copies the daemon's log to where it outlives the world; returns a line that says where.
fn keep_log(plan: &Plan, place: (u32, u32), fault: &Fault, world: &World) -> Option<String> {
    let name = format!("floe-faults-{}-{}-{}-{}.log", plan.seed, place.0, place.1, fault.name);
    let to = std::env::temp_dir().join(name);
    std::fs::copy(world.path("log"), &to).ok()?;
    Some(format!("log: {}", to.display()))
}
