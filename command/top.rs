//! `floe top`: who brings most, from the running daemon, at once.

use std::io::{self, Write};

use anyhow::{Context as _, anyhow};
use floe_io::admin::control;
use floe_io::top::report::Report;
use serde_json::{Value, json};

use super::arguments::BooksArguments;
use super::{Failure, configuration, spool_place};

pub(super) fn run(arguments: &BooksArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = configuration::load(arguments.config.as_deref())?.settings;
    let spool = spool_place::to_read(arguments.spool.as_deref(), settings.spool.path.as_deref())?;
    let report = control::ask_top(&spool).map_err(|error| {
        let place = spool.display();
        let absent = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        if absent.contains(&error.kind()) {
            return Failure::failed(anyhow!("no daemon runs on {place}; top asks a running one"));
        }
        Failure::failed(anyhow!(error).context(format!("cannot ask the daemon of {place}")))
    })?;
    let written =
        if arguments.json { writeln!(out, "{:#}", json(&report)) } else { write!(out, "{report}") };
    written.context("cannot print").map_err(Failure::failed)
}

fn json(report: &Report) -> Value {
    let lists = ["prefixes", "names", "senders"].map(|thing| {
        let orders = ["lines", "new", "bad"].map(|order| {
            let entries = report.entries.iter().filter(|each| each.of == thing && each.by == order);
            let entries = entries.map(|entry| {
                json!({
                    "what": entry.what,
                    "count": entry.count,
                    "error": entry.error,
                    "example": entry.example,
                })
            });
            (order.to_owned(), Value::Array(entries.collect()))
        });
        (thing.to_owned(), Value::Object(orders.into_iter().collect()))
    });
    let mut object = serde_json::Map::from_iter(lists);
    for (name, count) in [
        ("seconds", report.seconds),
        ("sampled_datagrams", report.datagrams),
        ("sampled_lines", report.lines),
        ("new_names", report.new),
        ("bad_lines", report.bad),
        ("samples_left_out", report.left_out),
    ] {
        object.insert(name.to_owned(), json!(count));
    }
    object.insert("sampling".to_owned(), json!(report.senders));
    Value::Object(object)
}
