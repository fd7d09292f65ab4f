//! How often one site of the program may write into the log.
//!
//! Sites that bad input can reach count and sum up by themselves, once per interval. This is the
//! backstop behind all of them: nobody outside can fill a disk through a site that forgot to.

use std::collections::HashMap;

use floe_core::limits::{LOG_SITE_LINES_MAX, LOG_SITE_NS};
use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

use super::record::Record;

/// What each site has written lately.
#[derive(Debug, Default)]
pub(super) struct Sites {
    windows: HashMap<Identifier, Window>,
}

/// [`LOG_SITE_NS`] of one site, from its first line on.
#[derive(Debug)]
struct Window {
    site: &'static Metadata<'static>,
    started_ns: u64,
    lines: u64,
}

impl Window {
    fn left_out(&self) -> u64 {
        self.lines.saturating_sub(LOG_SITE_LINES_MAX)
    }

    /// Says what was left out.
    fn told(&self) -> Option<Record> {
        let site =
            format!("{}:{}", self.site.file().unwrap_or("?"), self.site.line().unwrap_or_default());
        let left_out = self.left_out();
        let record = || {
            let record = Record::new(Level::WARN, "log lines left out: too many of one kind");
            record.with("lines", left_out).with("site", site)
        };
        (left_out != 0).then(record)
    }
}

impl Sites {
    /// Whether `site` may write a line now.
    pub(super) fn admit(&mut self, site: &'static Metadata<'static>, now_ns: u64) -> bool {
        let window = Window { site, started_ns: now_ns, lines: 0 };
        let window = self.windows.entry(site.callsite()).or_insert(window);
        window.lines += 1;
        window.lines <= LOG_SITE_LINES_MAX
    }

    /// Closes the windows that are over, and gives a line for each that left something out.
    pub(super) fn take_over(&mut self, now_ns: u64) -> Vec<Record> {
        let is_over = |window: &Window| window.started_ns + LOG_SITE_NS <= now_ns;
        let over = self.windows.extract_if(|_, window| is_over(window));
        over.filter_map(|(_, window)| window.told()).collect()
    }

    /// Closes all of them.
    pub(super) fn take_all(&mut self) -> Vec<Record> {
        self.windows.drain().filter_map(|(_, window)| window.told()).collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite as _;
    use tracing::callsite::DefaultCallsite;

    use super::*;

    fn site() -> &'static Metadata<'static> {
        static SITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
        static METADATA: Metadata<'static> = tracing::metadata! {
            name: "site",
            target: "tests",
            level: Level::INFO,
            fields: &[],
            callsite: &SITE,
            kind: tracing::metadata::Kind::EVENT,
        };
        SITE.metadata()
    }

    #[test]
    fn a_site_that_talks_too_much_is_summed_up() {
        let mut sites = Sites::default();
        let written = (0..1_000).filter(|_| sites.admit(site(), 5)).count();
        assert_eq!(written as u64, LOG_SITE_LINES_MAX);
        assert!(sites.take_over(4 + LOG_SITE_NS).is_empty(), "not over yet");
        let told = sites.take_over(5 + LOG_SITE_NS);
        assert_eq!(told.len(), 1);
        let text = told[0].text(false);
        assert!(text.contains(&format!("lines={} ", 1_000 - LOG_SITE_LINES_MAX)), "{text}");
        assert!(text.contains("command/log/sites.rs:"), "{text}");
        assert!(sites.admit(site(), 5 + LOG_SITE_NS), "a new window");
        assert!(sites.take_all().is_empty(), "nothing was left out in it");
    }
}
