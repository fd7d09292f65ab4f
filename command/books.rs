//! `floe books`: does everything add up, and where did it go.
//!
//! A daemon that runs on the spool is asked; otherwise the newest segment tells the totals, and the
//! queues what has left them since. Exit code 1 if an identity does not hold.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use floe_core::books::identity::{Identity, Relation, identities, settle_queue};
use floe_io::admin::control;
use floe_io::host;
use floe_storage::history;
use serde_json::{Map, Value, json};

use super::arguments::BooksArguments;
use super::escaped::Escaped;
use super::{Failure, configuration, spool_place};

/// What is said of a count of the host that nobody could read.
const NOT_AVAILABLE: &str = "not available";

/// Prefix of the counts of the host.
const HOST: &str = "host.";

/// The books, and where they are from.
struct Books {
    counts: BTreeMap<String, u64>,
    /// The segment that carried them; `None` = the running daemon told.
    segment: Option<String>,
}

pub(super) fn run(arguments: &BooksArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = configuration::load(arguments.config.as_deref())?.settings;
    let spool = spool_place::to_read(arguments.spool.as_deref(), settings.spool.path.as_deref())?;
    let books = Books::read(&spool)?;
    let identities = identities(&books.counts);
    let written = if arguments.json {
        writeln!(out, "{:#}", books.json(&spool, &identities))
    } else {
        books.print(&spool, &identities, out)
    };
    written.map_err(Failure::failed)?;
    let broken = identities.iter().filter(|identity| !identity.holds()).count();
    if broken != 0 {
        out.flush().map_err(Failure::failed)?;
        return Err(Failure::failed(anyhow!("{broken} identities of the books do not hold")));
    }
    Ok(())
}

impl Books {
    fn read(spool: &Path) -> Result<Self, Failure> {
        let answer = control::ask_books(spool)
            .with_context(|| format!("cannot ask the daemon of {}", spool.display()))
            .map_err(Failure::failed)?;
        if let Some(counts) = answer {
            return Ok(Self { counts, segment: None });
        }
        Self::of_spool(spool)
            .with_context(|| format!("cannot read the books of {}", spool.display()))
            .map_err(Failure::failed)
    }

    fn of_spool(spool: &Path) -> anyhow::Result<Self> {
        let totals = history::newest_totals(spool)?
            .ok_or_else(|| anyhow!("no segment carries them; nothing was spooled yet"))?;
        let mut counts = totals.counts;
        // What was under way then has arrived or broken off since; who knew is gone.
        counts.retain(|name, _| !name.ends_with(".rows_in_flight"));
        for queue in history::queues(spool)? {
            // The queue of a backend that was left out is nobody's.
            if counts.contains_key(&format!("backend.{}.rows_pending", queue.backend)) {
                settle_queue(&mut counts, &queue.backend, queue.rows);
            }
        }
        Ok(Self { counts, segment: Some(totals.segment.to_string()) })
    }

    /// Counts of the host in the order of the list; `None` = not available.
    fn host(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        let of = |name| self.counts.get(&format!("{HOST}{name}")).copied();
        host::COUNTS.iter().map(move |(name, _)| (*name, of(name)))
    }

    /// All other counts.
    fn own(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.counts.iter().filter(|(name, _)| !name.starts_with(HOST))
    }

    fn print(&self, spool: &Path, identities: &[Identity], out: &mut dyn Write) -> io::Result<()> {
        let spool = Escaped(spool.display());
        match &self.segment {
            None => writeln!(out, "books of {spool}, told by the running daemon")?,
            Some(segment) => writeln!(out, "books of {spool}, as segment {segment} left them")?,
        }
        writeln!(out, "\nidentities")?;
        for identity in identities {
            let verdict = if identity.holds() { "holds " } else { "BROKEN" };
            writeln!(out, "  {verdict}  {}: {}", Escaped(&identity.name), Escaped(identity))?;
        }
        writeln!(out, "\ncounts")?;
        let width = self.own().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, count) in self.own() {
            // A name is made of words of ours and of names of backends, which are plain.
            writeln!(out, "  {:width$}  {count}", Escaped(name).to_string())?;
        }
        writeln!(out, "\nhost")?;
        for (name, count) in self.host() {
            let count = count.map_or(NOT_AVAILABLE.to_owned(), |count| count.to_string());
            writeln!(out, "  {name:width$}  {count}")?;
        }
        Ok(())
    }

    fn json(&self, spool: &Path, identities: &[Identity]) -> Value {
        let side = |terms: &[(String, u64)]| -> Map<String, Value> {
            terms.iter().map(|(name, count)| (name.clone(), json!(count))).collect()
        };
        let identities = identities.iter().map(|identity| {
            json!({
                "name": identity.name,
                "left": side(&identity.left),
                "relation": match identity.relation { Relation::Equal => "=", Relation::AtMost => "<=" },
                "right": side(&identity.right),
                "holds": identity.holds(),
            })
        });
        let own = self.own().map(|(name, count)| (name.clone(), json!(count)));
        let host = self.host().map(|(name, count)| (name.to_owned(), json!(count)));
        json!({
            "spool": spool.display().to_string(),
            "source": if self.segment.is_some() { "spool" } else { "daemon" },
            "segment": self.segment,
            "identities": identities.collect::<Vec<_>>(),
            "counts": own.collect::<Map<_, _>>(),
            "host": host.collect::<Map<_, _>>(),
        })
    }
}
