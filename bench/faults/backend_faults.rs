//! Faults of a backend: whatever carbon `a` does, it has everything in the end, and carbon `b` does
//! not notice.

use std::time::Duration;

use floe_io::clock::wall_ms;

use super::carbon::Mode;
use super::fault::{Allowed, Fault, Need, Outcome, Scene};
use super::network::Whereabouts;
use super::world::Settings;
use crate::compare::probe::pause;

/// Most connection attempts a second at a backend that fails: one every 0.2 s, and the first.
const ATTEMPTS_PER_S: u64 = 5;

/// All of them.
pub(super) const FAULTS: [Fault; 10] = [
    fault("backend_down", "a backend does not listen", |scene| during(scene, Mode::Refuse)),
    fault("backend_stalled", "a backend accepts and never reads", |scene| {
        during(scene, Mode::Stall)
    }),
    fault("backend_reset", "a backend resets each connection after some bytes", |scene| {
        let bytes = 1 + scene.random.below(5_000);
        during(scene, Mode::ResetAfter(bytes))
    }),
    fault("backend_slow", "a backend reads a byte a second", |scene| during(scene, Mode::Trickle)),
    fault(
        "backend_half_closed",
        "a backend closes its half before it has read anything",
        |scene| during(scene, Mode::HalfClose),
    ),
    fault("backend_closes_early", "a backend closes after some bytes", |scene| {
        let bytes = 1 + scene.random.below(5_000);
        during(scene, Mode::CloseAfter(bytes))
    }),
    fault("backend_talks", "a backend sends what nobody asked for", |scene| {
        during(scene, Mode::Talk)
    }),
    fault("backend_flaps", "a backend changes its mind all the time", flaps),
    Fault {
        need: Need::Network,
        own_world: Some(|_| Settings { carbon_a: Whereabouts::Away, ..Settings::default() }),
        ..fault("backend_vanishes", "packets to a backend go nowhere for a while", vanishes)
    },
    Fault {
        need: Need::Network,
        own_world: Some(|_| Settings { carbon_a: Whereabouts::Named, ..Settings::default() }),
        ..fault(
            "names_hang",
            "the name server of a backend answers nothing for a while",
            names_hang,
        )
    },
];

const fn fault(
    name: &'static str,
    what: &'static str,
    body: fn(&mut Scene<'_>) -> anyhow::Result<Outcome>,
) -> Fault {
    Fault {
        name,
        what,
        allows: "nothing; the other backend is on time",
        need: Need::None,
        own_world: None,
        body,
    }
}

/// Carbon `a` does so for a while.
fn during(scene: &mut Scene<'_>, mode: Mode) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let begin_ms = wall_ms();
    let before = scene.world.carbons[0].connections();
    scene.world.carbons[0].behave(mode)?;
    pause(scene.spell(1_200, 3_500));
    let attempts = scene.world.carbons[0].connections() - before;
    scene.world.carbons[0].behave(Mode::Serve)?;
    let most = ((wall_ms() - begin_ms) / 1_000 + 2) * ATTEMPTS_PER_S;
    Ok(Outcome::new(Allowed::Nothing)
        .ensure(
            mode == Mode::Talk || attempts <= most,
            format!("{attempts} attempts, {most} may be"),
        )
        .b_is_on_time_from(begin_ms))
}

fn flaps(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let begin_ms = wall_ms();
    let end_ms = begin_ms + u64::try_from(scene.spell(1_500, 4_000).as_millis())?;
    while wall_ms() < end_ms {
        let bytes = scene.random.below(3_000);
        let modes = [
            Mode::Refuse,
            Mode::Stall,
            Mode::ResetAfter(bytes),
            Mode::Trickle,
            Mode::HalfClose,
            Mode::CloseAfter(bytes),
            Mode::Talk,
            Mode::Serve,
        ];
        scene.world.carbons[0].behave(modes[scene.random.below(8) as usize])?;
        pause(Duration::from_millis(100 + u64::from(scene.random.below(500))));
    }
    scene.world.carbons[0].behave(Mode::Serve)?;
    Ok(Outcome::new(Allowed::Nothing).b_is_on_time_from(begin_ms))
}

/// Carbon `a` vanishes, with a connection open or without, and is back.
fn vanishes(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let begin_ms = wall_ms();
    // By chance it is being written to.
    let holds = scene.random.below(2) == 0;
    scene.world.carbons[0].behave(if holds { Mode::Stall } else { Mode::Serve })?;
    pause(scene.spell(200, 1_200));
    scene.world.network.set_peer(false)?;
    scene.world.carbons[0].behave(Mode::Serve)?;
    pause(scene.spell(1_200, 3_500));
    scene.world.network.set_peer(true)?;
    Ok(Outcome::new(Allowed::Nothing).b_is_on_time_from(begin_ms))
}

/// The last good address serves on.
fn names_hang(scene: &mut Scene<'_>) -> anyhow::Result<Outcome> {
    scene.warm_up();
    let begin_ms = wall_ms();
    let asked = scene.world.network.name_server()?.asked();
    scene.world.network.name_server()?.set(false);
    pause(scene.spell(1_500, 6_500));
    let is_asked = asked < scene.world.network.name_server()?.asked();
    scene.world.network.name_server()?.set(true);
    Ok(Outcome::new(Allowed::Nothing)
        .ensure(is_asked, "nobody asked for the name")
        .b_is_on_time_from(begin_ms))
}
