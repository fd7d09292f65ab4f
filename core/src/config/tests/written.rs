//! Settings written as TOML read back as the same settings, and the table of keys knows every key.

use std::collections::BTreeSet;

use super::*;
use crate::config::{annotated_defaults, keys, to_toml};

/// A `config.js` for every setting, each another value than its default.
const ALL: &str = "{
    servers: [ { server: './servers/udp', address: '127.0.0.1', port: 1 }
             , { server: './servers/tcp', port: 2 }
             , { server: './servers/tcp', address: '::1', port: 3 }
             , { server: './servers/tcp', socket: '/s \"x\"', socket_mod: '0751' } ],
    mgmt_address: '127.0.0.2', mgmt_port: 4, flushInterval: 5, percentThreshold: [90, 99.9, -12.5],
    histogram: [ { metric: 'r', bins: [0.01, 10, 'inf'] }, { metric: '', bins: [] } ],
    calculatedTimerMetrics: ['mean', 'upper_percent'], prefixStats: 'p\\u00e9\\n', keyNameSanitize: false,
    deleteCounters: true, deleteTimers: true, deleteSets: true, deleteGauges: true, gaugesMaxTTL: 7,
    flush_counts: false,
    graphite: { legacyNamespace: false, globalPrefix: 'g', prefixCounter: 'c', prefixTimer: 't'
              , prefixGauge: '', prefixSet: 's', globalSuffix: 'x' },
    graphiteHost: '::1', graphiteProtocol: 'pickle', graphitePicklePort: 8,
    backends: ['./backends/graphite', './backends/console', './backends/repeater'],
    console: { prettyprint: true }, repeater: [ { host: 'h', port: 9 }, { host: '::1', port: 10 } ],
    repeaterProtocol: 'tcp', keyFlush: { interval: 11, percent: 12.5, log: '/k' },
    log: { backend: 'syslog', application: 'a', level: 'LOG_ERR', format: 'json' },
    debug: true, dumpMessages: true, title: 'T', healthStatus: 'down', automaticConfigReload: false,
    floe: { books: true, spool: { path: '/p', archive_age: '90m', archive_bytes: '3MiB' }
          , ingest: { mode: 'recvmmsg', workers: 2, cpus: [1, 0], receive_buffer: '1MiB' }
          , streams: { connections_max: 5, line_bytes_max: 100, idle: '1m' }
          , backends: [ { name: 'b', address: 'h:1', protocol: 'text', ack: 'written'
                        , backlog_age: '2h', backlog_bytes: '1MiB'
                        , graphite: { legacyNamespace: true, flush_counts: true } } ] },
}";

fn assert_written(settings: &Settings) {
    let text = to_toml(settings);
    assert_eq!(toml(&text).settings, *settings, "{text}");
}

#[test]
fn every_setting_is_written_and_read_back() {
    let loaded = config_js(ALL);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_written(&loaded.settings);
    for text in ["{}", "{ title: false }", "{ server: 'tcp' }", "{ address_ipv6: true }"] {
        assert_written(&config_js(text).settings);
    }
    assert_written(&without_file().settings);
}

#[test]
fn the_annotated_defaults_are_those_of_no_file() {
    let text = annotated_defaults();
    let loaded = toml(&text);
    assert_eq!(loaded.settings, without_file().settings, "{text}");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    for path in keys::paths() {
        let name = path.rsplit('.').next().unwrap();
        let is_named = text.lines().any(|line| {
            let line = line.trim_start_matches("# ");
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(" =") || rest.starts_with(':'))
        });
        assert!(is_named, "{path} in\n{text}");
    }
}

/// The readers note each key they take; an unknown one is answered with the nearest.
#[test]
fn the_table_knows_every_key_that_is_read_and_no_other() {
    let known: BTreeSet<&str> = keys::paths().into_iter().collect();
    assert_eq!(known.len(), keys::paths().len(), "each key once");
    let mut written: BTreeSet<String> = BTreeSet::new();
    let mut table = String::new();
    for line in to_toml(&config_js(ALL).settings).lines() {
        if let Some(header) = line.strip_prefix("[[") {
            table = format!("{}[].", header.trim_end_matches(']'));
        } else if let Some(header) = line.strip_prefix('[') {
            table = format!("{}.", header.trim_end_matches(']'));
        } else if let Some((key, _)) = line.split_once(" = ") {
            written.insert(format!("{table}{key}"));
        }
    }
    for path in &written {
        let path = path.strip_prefix("servers[].").unwrap_or(path);
        let path = path.strip_prefix("backends.").unwrap_or(path);
        let path = if path == "graphite.flush_counts" { "flush_counts" } else { path };
        assert!(known.contains(path), "{path} is missing in the table");
    }
    // What only a config.js has, or what stands for others.
    let of_the_reference = [
        "address_ipv6",
        "servers",
        "histogram",
        "deleteIdleStats",
        "graphiteHost",
        "graphitePort",
        "graphitePicklePort",
        "graphiteProtocol",
        "backends",
        "backends[].graphite",
        "ingest",
        "repeater[].host",
        "repeater[].port",
    ];
    for path in known {
        let is_written = written
            .iter()
            .any(|written| written == path || written.strip_prefix("servers[].") == Some(path));
        assert!(is_written || of_the_reference.contains(&path), "{path} is read by nobody");
    }
}
