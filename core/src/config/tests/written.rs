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
          , ingest: { mode: 'recvmmsg', workers: 2, cpus: [1, 0], receive_buffer: '1MiB'
                    , steering: 'cpu', udp_gro: true }
          , streams: { connections_max: 5, line_bytes_max: 100, idle: '1m' }
          , series: { max: 7, prefix_max: 3, prefixes: [ { prefix: 'a.*', max: 2 }, { prefix: '\"', max: 1 } ] }
          , memory: { limit: '3GiB', over_limit: 'warn', timer_bytes_max: '5MiB', set_bytes_max: 2000000 }
          , top: { senders: 'all', examples: false }
          , backends: [ { name: 'b', address: 'h:1', protocol: 'text', ack: 'written'
                        , order: 'newest', redelivery: 'never', stall: '45s'
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
        let is_named = text
            .lines()
            .any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")));
        assert!(is_named, "{path} in\n{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}

/// Whoever takes a `#` away gets a file that is read.
#[test]
fn the_examples_of_the_annotated_defaults_are_read() {
    for (table, lines) in keys::examples() {
        let header = match (table, table.strip_suffix("[]")) {
            ("", _) => String::new(),
            (_, Some(list)) => format!("[[{list}]]\n"),
            (table, None) => format!("[{table}]\n"),
        };
        toml(&format!("{header}{}\n", lines.join("\n")));
    }
}

/// The readers note each key they ask for, in both languages.
#[test]
fn the_table_knows_every_key_that_is_read_and_no_other() {
    let known: BTreeSet<String> = keys::paths().into_iter().map(str::to_owned).collect();
    assert_eq!(known.len(), keys::paths().len(), "each key once");
    let mut notes = Notes::default();
    read_with(ALL, Source::ConfigJs, &environment(), &mut notes).unwrap();
    let text = to_toml(&config_js(ALL).settings);
    read_with(&text, Source::Toml, &environment(), &mut notes).unwrap();
    let read: BTreeSet<String> = notes.keys.iter().filter_map(|path| named(path)).collect();
    let difference: Vec<_> = read.symmetric_difference(&known).collect();
    assert!(difference.is_empty(), "in the readers or in the table alone: {difference:?}");
}

/// The key by which the table has `path`: without the number in a list, the block of our own keys, and
/// the second place that some keys have.
fn named(path: &str) -> Option<String> {
    let path = path.strip_prefix("floe.").unwrap_or(path);
    let mut name = String::new();
    for (index, part) in path.split('[').enumerate() {
        let part = if index == 0 { part } else { part.split_once(']')?.1 };
        name.push_str(if index == 0 { "" } else { "[]" });
        name.push_str(part);
    }
    let name = name.strip_prefix("servers[].").unwrap_or(&name);
    let is_second = (name.starts_with("backends[].graphite."))
        || ["floe", "workers", "cpus", "graphite.flush_counts"].contains(&name)
        || ["graphite", "streams", "console", "keyFlush", "spool", "log"].contains(&name)
        || ["series", "memory", "top"].contains(&name)
        || name.starts_with("series.prefixes[].");
    (!is_second).then(|| name.to_owned())
}

/// Numbers and names that JavaScript takes and TOML's numbers cannot say.
#[test]
fn odd_thresholds_and_bins_are_written_as_texts() {
    for (text, written) in [
        (
            "{ percentThreshold: [90, '90.0', 150, 0, '-1e-3', '0x1F', 1e300] }",
            "percentThreshold = \
            [90, \"90.0\", \"150\", \"0\", \"-1e-3\", \"0x1F\", \"1e+300\"]",
        ),
        (
            "{ histogram: [{ metric: 'a', bins: ['0.10', 1e21, -0.5, 'inf', '08'] }] }",
            "bins = \
            [\"0.10\", 1e+21, -0.5, \"inf\", \"08\"]",
        ),
    ] {
        let settings = config_js(text).settings;
        assert!(to_toml(&settings).lines().any(|line| line == written), "{}", to_toml(&settings));
        assert_written(&settings);
    }
}

#[test]
fn every_recorded_configuration_is_written_and_read_back() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut count = 0;
    for entry in std::fs::read_dir(golden).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = file.get("cases").or_else(|| file.get("situations"));
        for case in cases.and_then(|cases| cases.as_array()).into_iter().flatten() {
            if !case["config"].is_object() {
                continue;
            }
            // Ports are filled in when a case is played.
            let mut text = case["config"].to_string().replace("\"$ABSENT\"", "null");
            for place in ["$PORT2", "$PORT", "$MGMT", "$CARBON", "$SINK"] {
                text = text.replace(&format!("\"{place}\""), "8125");
            }
            match read(&text, Source::ConfigJs, &environment()) {
                Ok(loaded) => assert_written(&loaded.settings),
                // Some are about modules and a log that nobody has.
                Err(error) => {
                    let is_meant = text.contains("/nowhere") || text.contains("\"papyrus\"");
                    assert!(is_meant, "{error}: {text}");
                }
            }
            count += 1;
        }
    }
    assert!(200 < count, "the recorded cases were read, {count} of them");
}
