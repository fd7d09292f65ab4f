//! Unchanged clients, an unchanged `config.js`, an unchanged Graphite: what the clients of other
//! people send is what the render API and the whisper files show, on both ingest paths.
//!
//! Each client sends one workload under its own prefix. An interval may end between two datagrams,
//! so totals are compared over all intervals: counters, timer counts and set sizes by their sum,
//! gauges by their last value.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use support::clients::{self, workload};
use support::daemon::{Ingest, Launch};
use support::graphite::{Graphite, READ_BOUND, Series};
use support::{ports, wait};

mod support;

#[test]
fn points_of_real_clients_reach_graphite_on_io_uring() {
    points_of_real_clients_reach_graphite(Ingest::IoUring);
}

#[test]
fn points_of_real_clients_reach_graphite_on_recvmmsg() {
    points_of_real_clients_reach_graphite(Ingest::Recvmmsg);
}

fn points_of_real_clients_reach_graphite(ingest: Ingest) {
    let graphite = Graphite::start("1s:1h");
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let (port, mgmt_port) = (ports::free(), ports::free());
    let config = format!(
        "{{\n  graphitePort: {}\n, graphiteHost: \"127.0.0.1\"\n, port: {port}\n\
         , mgmt_port: {mgmt_port}\n, flushInterval: 1000\n\
         , backends: [ \"./backends/graphite\" ]\n}}\n",
        graphite.text_port()
    );
    let daemon =
        Launch::under(folder.path(), ingest).config("config.js", &config).start_on(mgmt_port);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    clients::send_with_pypi_statsd(to, "pypi");
    clients::send_with_hot_shots(to, "npm");
    clients::send_with_cadence(to, "crate");
    clients::send_with_datadog(to, "datadog");
    clients::send_with_node_statsd(to, "nodestatsd");
    clients::send_with_statsd_client(to, "statsdclient");
    clients::send_with_shell(to, "shell");
    for prefix in ["pypi", "npm", "crate", "datadog", "nodestatsd", "statsdclient", "shell"] {
        for expected in expectations(prefix) {
            expected.await_in("render", |target| graphite.render(target, 10));
            expected.await_in("whisper", |target| graphite.whisper(target));
        }
    }
    drop(daemon);
}

/// One series and what its points add up to.
struct Expected {
    path: String,
    reduce: fn(&Series) -> f64,
    value: f64,
}

fn expectations(prefix: &str) -> Vec<Expected> {
    let latency = format!("stats.timers.{prefix}.latency");
    let expect = |path: String, reduce: fn(&Series) -> f64, value| Expected { path, reduce, value };
    vec![
        expect(format!("stats_counts.{prefix}.hits"), total, workload::HITS),
        // The rate per second of a one-second interval is the count.
        expect(format!("stats.{prefix}.hits"), total, workload::HITS),
        expect(format!("stats.gauges.{prefix}.level"), last, workload::LEVEL),
        expect(format!("{latency}.count"), total, 3.0),
        expect(format!("{latency}.sum"), total, workload::LATENCY_MS.iter().sum()),
        expect(format!("{latency}.upper"), largest, workload::LATENCY_MS[2]),
        expect(format!("stats.sets.{prefix}.users.count"), total, workload::USERS),
    ]
}

impl Expected {
    /// Waits until the value is there, then asks once more: nothing may be added to it.
    fn await_in(&self, reader: &str, read: impl Fn(&str) -> Series) {
        let is_there = || (self.value <= (self.reduce)(&read(&self.path))).then_some(());
        let arrived = wait::try_until(READ_BOUND, is_there);
        let series = read(&self.path);
        let found = (self.reduce)(&series);
        assert!(
            arrived.is_some() && found == self.value,
            "{reader}: {} shows {found}, sent {}: {series:?}",
            self.path,
            self.value
        );
        assert!(
            series.keys().all(|time| time.abs_diff(wait::wall().as_secs()) < MINUTES_10.as_secs()),
            "{reader}: timestamps of {} are not of this run: {series:?}",
            self.path
        );
    }
}

const MINUTES_10: Duration = Duration::from_secs(600);

fn total(series: &Series) -> f64 {
    series.values().sum()
}

fn last(series: &Series) -> f64 {
    series.last_key_value().map_or(f64::NEG_INFINITY, |(_, value)| *value)
}

fn largest(series: &Series) -> f64 {
    series.values().copied().fold(f64::NEG_INFINITY, f64::max)
}
