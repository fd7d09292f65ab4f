//! Other settings for a coordinator that runs.

use floe_storage::{Abandoned, SpoolError, SpoolOptions};
use tracing::warn;

use super::{Coordinator, SideBooks};
use floe_core::config::settings::Settings;

/// What a reload hands to the coordinator.
#[derive(Debug)]
pub struct Reload {
    /// The settings as they shall be; what cannot change is as it was.
    pub settings: Settings,
    /// The spool's part of them.
    pub spool: SpoolOptions,
    /// The side paths as they are now.
    pub side: SideBooks,
}

impl Coordinator {
    /// Goes on with other settings.
    ///
    /// The flip comes first: gauges of the open interval are applied under the switches under which
    /// they came, and every worker has passed the head of a batch when this is answered, so that
    /// it has taken what its inbox held.
    ///
    /// # Errors
    /// The spool's; all else is applied then, and the queues are as they were.
    pub(super) fn reload(&mut self, reload: Reload) -> Result<(), SpoolError> {
        self.flip();
        let Reload { settings, spool, side } = reload;
        self.grid.set_interval(settings.flush_interval_ms);
        self.parts.interval.apply(settings.clone());
        self.parts.settings = settings;
        self.parts.side = side;
        let before = self.parts.spool.backends().to_vec();
        let abandoned = self.parts.spool.apply(spool)?;
        let added = self.parts.spool.backends().iter().map(|backend| backend.name.clone());
        let is_added = |name: &String| before.iter().all(|known| known.name != *name);
        for name in added.filter(is_added).collect::<Vec<_>>() {
            self.open_queue(&name);
        }
        for Abandoned { backend, segments } in abandoned {
            warn!(backend, segments, "queue without a backend left where it is");
        }
        Ok(())
    }
}
