//! The reference daemon's own file: every key, with JavaScript's leniency.

use super::super::settings::{
    Acknowledgement, Bin, ConsoleBackendSettings, Health, Histogram, IngestMode, KeyFlushSettings,
    LegacyNamespace, Listener, LogBackend, LogFormat, LogLevel, LogSettings, Protocol,
    RepeaterProtocol, RepeaterSettings, Steering, StreamLimits, StreamListener, Title,
};
use super::*;

/// In the manner of the reference's example: comments, bare keys, leading commas, a trailing one.
const FULL: &str = r#"/*
Keys of a large site.  { not: "a config" }
*/
{
  graphitePort: 2003 // 'plaintext'
, graphiteHost: "graphite.example.com"
, port: '8130'
, address: "10.1.2.3"
, mgmt_port: "8131", mgmt_address: '10.1.2.3'
, backends: [ "./backends/graphite" ]
, flushInterval: "2500"   /* ms */
, percentThreshold: [90, "99.9", -12.5,]
, flush_counts: false
, deleteIdleStats: true, deleteGauges: false, deleteSets: 0
, gaugesMaxTTL: 3
, prefixStats: 'sd'
, keyNameSanitize: false
, calculatedTimerMetrics: ['count', "upper_percent"]
, histogram: [ { metric: 'render', bins: [ 0.01, 10, '100', 'inf' ] }
             , { metric: '', bins: [] } ]
, graphite: {
    legacyNamespace: false
  , globalPrefix: ""
  , prefixCounter: "c", prefixTimer: "t", prefixGauge: "g", prefixSet: "s"
  , globalSuffix: "web01",
  }
, debug: true,
}
"#;

#[test]
fn every_key_of_the_reference_is_honoured() {
    let loaded = config_js(FULL);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    let listener =
        Listener { address: "10.1.2.3".into(), port: 8130, is_dual_stack_default: false };
    assert_eq!(settings.listeners, [listener]);
    assert_eq!(settings.mgmt_address.as_deref(), Some("10.1.2.3"));
    assert_eq!(settings.mgmt_port, 8131);
    assert_eq!(settings.flush_interval_ms, 2_500);
    let percents: Vec<_> = settings.thresholds.iter().map(|threshold| threshold.percent).collect();
    assert_eq!(percents, [90.0, 99.9, -12.5]);
    assert_eq!(settings.prefix_stats, "sd");
    assert!(!settings.key_name_sanitize);
    assert!(settings.debug);
    assert!(!settings.books);
    assert_eq!(settings.calculated_timer_metrics, ["count", "upper_percent"]);
    let idle = settings.idle;
    assert!(idle.delete_counters && idle.delete_timers && !idle.delete_sets && !idle.delete_gauges);
    assert_eq!(idle.gauges_max_ttl, 3);
    assert_eq!(settings.backends.len(), 1);
    let backend = &settings.backends[0];
    assert_eq!(
        (backend.name.as_str(), backend.address.as_str()),
        ("graphite", "graphite.example.com:2003")
    );
    assert_eq!(backend.protocol, Protocol::Text);
    assert_eq!(backend.acknowledgement, Acknowledgement::Fin);
    assert_eq!(backend.namespace, settings.namespace);
    let namespace = &settings.namespace;
    assert_eq!(namespace.legacy, LegacyNamespace::New);
    assert_eq!(namespace.global_prefix, "");
    assert_eq!(namespace.prefix_counter, "c");
    assert_eq!(namespace.prefix_timer, "t");
    assert_eq!(namespace.prefix_gauge, "g");
    assert_eq!(namespace.prefix_set, "s");
    assert_eq!(namespace.global_suffix, "web01");
    assert!(!namespace.flush_counts);
}

#[test]
fn histogram_bins_bear_their_text() {
    let bin = |limit, name: &str| Bin { limit, name: name.into() };
    let bins = vec![
        bin(0.01, "bin_0_01"),
        bin(10.0, "bin_10"),
        bin(100.0, "bin_100"),
        bin(f64::INFINITY, "bin_inf"),
    ];
    let expected = [
        Histogram { metric: "render".into(), bins },
        Histogram { metric: String::new(), bins: Vec::new() },
    ];
    assert_eq!(config_js(FULL).settings.histograms, expected);
}

#[test]
fn an_empty_file_is_the_reference_without_configuration() {
    let loaded = config_js("{}");
    let expected = Settings {
        listeners: vec![Listener {
            address: "0.0.0.0".into(),
            port: 8125,
            is_dual_stack_default: false,
        }],
        mgmt_address: None,
        books: false,
        log: LogSettings { backend: LogBackend::Stdout, ..without_file().settings.log },
        title: Title::Reference,
        ..without_file().settings
    };
    assert_eq!(loaded, Loaded { settings: expected, warnings: Vec::new(), listing: Vec::new() });
}

#[test]
fn values_that_are_false_count_as_absent_where_the_reference_says_or() {
    let text = "{ port: 0, mgmt_port: 0, mgmt_address: '', address: '', flushInterval: 0,
        percentThreshold: 0, graphiteHost: '', graphitePort: null, histogram: false }";
    let (loaded, empty) = (config_js(text), config_js("{}"));
    assert_eq!((loaded.settings, loaded.warnings), (empty.settings, empty.warnings));
}

#[test]
fn thresholds_are_named_by_their_text() {
    let of = |value: &str| {
        let loaded = config_js(&format!("{{ percentThreshold: {value} }}"));
        suffixes(&loaded).join(" ")
    };
    assert_eq!(of("75"), "75");
    assert_eq!(of("'95'"), "95");
    assert_eq!(of("90.0"), "90");
    assert_eq!(of("'90.0'"), "90_0");
    assert_eq!(of("[99.9, 50.5, -90, -12.5, 1e2]"), "99_9 50_5 top90 top12_5 100");
    assert_eq!(of("[150, 0, -200]"), "150 0 top200");
    assert_eq!(of("[]"), "");
}

#[test]
fn a_threshold_given_twice_counts_once_and_is_named() {
    let loaded = config_js("{ percentThreshold: [90, 99, 90.0] }");
    assert_eq!(suffixes(&loaded), ["90", "99"]);
    let warning = "percentThreshold[2] is a threshold given before, ignored (line 1)";
    assert_eq!(loaded.warnings, [warning]);
}

#[test]
fn the_last_of_equal_keys_wins() {
    let loaded = config_js(
        "{ port: 1, 'port': 2\n, \"port\": 3, graphite: {globalSuffix: 'a'},
        graphite: {legacyNamespace: false} }",
    );
    assert_eq!(loaded.settings.listeners[0].port, 3);
    assert_eq!(loaded.settings.namespace.legacy, LegacyNamespace::New);
    assert_eq!(loaded.settings.namespace.global_suffix, "");
}

#[test]
fn several_servers_listen_each_by_its_kind() {
    let loaded = config_js(
        "{ servers: [
            { server: './servers/udp', address: '127.0.0.1', port: '8125' },
            { server: './servers/tcp', address: '127.0.0.1', port: 8126 },
            { server: 'statsd/servers/udp.js', address_ipv6: true, port: 8127 },
            { address: '::1' },
            { server: './servers/tcp', port: 8129 },
            { server: './servers/tcp', socket: '/tmp/s', port: 8128, socket_mod: '0770' },
            { server: './servers/tcp.js', socket: 's', socket_mod: 511 },
        ] }",
    );
    let listener = |address: &str, port| Listener {
        address: address.into(),
        port,
        is_dual_stack_default: false,
    };
    let expected = [listener("127.0.0.1", 8125), listener("::", 8127), listener("::1", 8125)];
    assert_eq!(loaded.settings.listeners, expected);
    let tcp = |address: Option<&str>, port| StreamListener::Tcp {
        address: address.map(str::to_owned),
        port,
    };
    let unix = |path: &str, mode| StreamListener::Unix { path: path.into(), mode: Some(mode) };
    let expected =
        [tcp(Some("127.0.0.1"), 8126), tcp(None, 8129), unix("/tmp/s", 0o770), unix("s", 0o777)];
    assert_eq!(loaded.settings.streams, expected);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn keys_of_another_kind_of_server_are_named() {
    let loaded = config_js(
        "{ servers: [{ socket: '/tmp/s' }, { server: './servers/tcp', socket_mod: '0700' }] }",
    );
    let warnings = [
        "servers[0].socket has no effect on a UDP server",
        "servers[1].socket_mod has no effect without socket",
    ];
    assert_eq!(loaded.warnings, warnings);
}

#[test]
fn top_level_keys_beside_servers_are_named() {
    let loaded = config_js("{ servers: [{}], port: 9999 }");
    assert_eq!(loaded.settings.listeners[0].port, 8125);
    assert_eq!(loaded.warnings, ["port has no effect beside servers"]);
    let loaded = config_js("{ servers: [{}], port: 9999, address: '127.0.0.1' }");
    assert_eq!(loaded.warnings, ["address, port have no effect beside servers"]);
}

#[test]
fn the_unspecified_address_follows_address_ipv6() {
    for (text, address) in [
        ("{ address_ipv6: true }", "::"),
        ("{ address_ipv6: false }", "0.0.0.0"),
        ("{ address: '::1', address_ipv6: true }", "::1"),
        ("{ address: 'localhost' }", "127.0.0.1"),
        ("{ address: 'localhost', address_ipv6: 1 }", "::1"),
    ] {
        let listener = &config_js(text).settings.listeners[0];
        assert_eq!(listener.address, address, "{text}");
        assert!(!listener.is_dual_stack_default, "{text}");
    }
}

#[test]
fn every_key_beside_metrics_is_understood() {
    let loaded = config_js(
        "{ backends: ['./backends/graphite', './backends/console', './backends/repeater']
         , repeater: [ { host: '10.8.3.214', port: 8125 }, { host: '::1', port: '81' } ]
         , repeaterProtocol: 'udp6'
         , keyFlush: { interval: 1000, percent: 50, log: '/tmp/x' }
         , log: { backend: 'syslog', application: 'sd', level: 'LOG_ERR', format: 'json' }
         , console: { prettyprint: true }, dumpMessages: true, title: 'statsd-1'
         , automaticConfigReload: false, healthStatus: 'down'
         , floe: { streams: { connections_max: 7, line_bytes_max: '1KiB', idle: '5m' } } }",
    );
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    assert_eq!(settings.console_backend, Some(ConsoleBackendSettings { is_pretty: true }));
    let targets = vec!["10.8.3.214:8125".to_owned(), "[::1]:81".to_owned()];
    let repeater = RepeaterSettings { targets, protocol: RepeaterProtocol::Udp6 };
    assert_eq!(settings.repeater, Some(repeater));
    let log = Some("/tmp/x".into());
    let key_flush = KeyFlushSettings { interval_ms: 1_000, percent: 50.0, log };
    assert_eq!(settings.key_flush, Some(key_flush));
    let log = LogSettings {
        backend: LogBackend::Syslog,
        application: "sd".into(),
        level: LogLevel::Error,
        format: LogFormat::Json,
    };
    assert_eq!(settings.log, log);
    assert_eq!(settings.title, Title::Text("statsd-1".into()));
    assert_eq!(settings.health, Health::Down);
    assert!(settings.dump_messages && !settings.automatic_config_reload);
    let limits = StreamLimits { connections_max: 7, line_bytes_max: 1_024, idle_ms: 300_000 };
    assert_eq!(settings.stream_limits, limits);
}

#[test]
fn modules_work_only_where_backends_names_them() {
    let settings = config_js("{ graphiteHost: 'h', backends: ['./backends/console'] }").settings;
    assert_eq!(settings.console_backend, Some(ConsoleBackendSettings { is_pretty: false }));
    assert!(settings.backends.is_empty(), "graphite is not named");
    let loaded =
        config_js("{ repeater: [{ host: 'h', port: 1 }], console: { prettyprint: true } }");
    assert_eq!((loaded.settings.repeater, loaded.settings.console_backend), (None, None));
    let warning = "repeater has no effect: \"./backends/repeater\" is not in backends";
    assert_eq!(loaded.warnings, [warning]);
    let loaded = config_js("{ backends: ['./backends/repeater'], repeaterProtocol: 'sctp' }");
    assert_eq!(loaded.settings.repeater, None);
    let warnings = [
        "repeaterProtocol must be \"udp4\" or \"udp6\" or \"tcp\", found \"sctp\" (line 1); udp4 is \
         used, as the reference does",
        "the repeater has no target: set repeater",
    ];
    assert_eq!(loaded.warnings, warnings);
}

#[test]
fn a_title_may_be_kept_and_an_unknown_health_is_up() {
    assert_eq!(config_js("{ title: false }").settings.title, Title::Unchanged);
    assert_eq!(config_js("{ title: '' }").settings.title, Title::Unchanged);
    assert_eq!(config_js("{ title: 0 }").settings.title, Title::Unchanged);
    assert_eq!(config_js("{ title: 5 }").settings.title, Title::Text("5".into()));
    let loaded = config_js("{ healthStatus: 'sideways' }");
    assert_eq!(loaded.settings.health, Health::Up);
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn permissions_of_a_socket_are_octal_digits_or_a_number_as_chmod_takes_it() {
    for (value, mode, warnings) in [
        ("'0770'", 0o770, 0),
        ("'770'", 0o770, 0),
        ("'0o770'", 0o770, 0),
        ("0770", 0o770, 0),
        ("0o770", 0o770, 0),
        ("504", 0o770, 0),
        ("parseInt('770', 10)", 0o1402, 1),
        ("770", 0o1402, 1),
        ("'1777'", 0o1777, 0),
    ] {
        let loaded = config_js(&format!("{{ server: 'tcp', socket: '/s', socket_mod: {value} }}"));
        let expected = StreamListener::Unix { path: "/s".into(), mode: Some(mode) };
        assert_eq!(loaded.settings.streams, [expected], "{value}");
        assert_eq!(loaded.warnings.len(), warnings, "{value}: {:?}", loaded.warnings);
    }
    let loaded = config_js("{ server: 'tcp', socket: '/s', socket_mod: 770 }");
    let warning =
        "socket_mod 770 is 1402 in octal digits; in quotes, \"770\" is taken as octal (line 1)";
    assert_eq!(loaded.warnings, [warning]);
    for value in ["'+770'", "'rwx'", "'7 7'", "10000", "-1", "'17777'", "[]"] {
        let text = format!("{{ server: 'tcp', socket: '/s', socket_mod: {value} }}");
        let message = refusal(&text, Source::ConfigJs);
        assert!(message.starts_with("socket_mod must be permissions"), "{value}: {message}");
    }
}

/// The reference looks at level and application for syslog alone: no start may fail for them.
#[test]
fn a_log_that_the_reference_would_not_mind_starts() {
    let log = |text: &str| config_js(&format!("{{ log: {{ {text} }} }}"));
    for (word, level) in [
        ("LOG_CRIT", LogLevel::Error),
        ("LOG_WARNING", LogLevel::Warn),
        ("log_notice", LogLevel::Info),
        ("warning", LogLevel::Warn),
        ("DEBUG", LogLevel::Debug),
    ] {
        let loaded = log(&format!("level: '{word}'"));
        assert_eq!((loaded.settings.log.level, loaded.warnings.len()), (level, 0), "{word}");
    }
    let loaded = log("level: 'LOG_LOUD', application: 'my stats: \u{e4}'");
    assert_eq!(loaded.settings.log.level, LogLevel::Info);
    assert_eq!(loaded.settings.log.application, "my_stats___");
    let warnings = [
        "log.application must be 1 to 48 printable characters without blanks and colons, found \
         \"my stats: \u{e4}\" (line 1); my_stats___ is used",
        "log.level must be a level like \"LOG_WARNING\", or error, warn, info, debug, found \
         \"LOG_LOUD\" (line 1); info is used",
    ];
    assert_eq!(loaded.warnings, warnings);
    for (text, part) in [
        ("[log]\nlevel = \"LOG_LOUD\"", "log.level must be a level"),
        ("[log]\napplication = \"a b\"", "log.application must be 1 to 48"),
        ("[log]\napplication = \"\"", "log.application must be 1 to 48"),
        ("[log]\nbackend = \"\"", "log.backend must be \"stdout\" or"),
    ] {
        let message = refusal(text, Source::Toml);
        assert!(message.starts_with(part), "{text}: {message}");
    }
}

#[test]
fn the_listing_is_that_of_the_reference_in_the_order_of_the_file() {
    let loaded = config_js(
        "{ port: 8125, graphite: { legacyNamespace: false, x: { y: 1 } }
         , percentThreshold: [90, '95'], title: null, debug: false, prefixStats: 'a\\n\\u001bb'
         , histogram: [{ metric: '', bins: [] }], odd: [['a', null, ['b']]] }",
    );
    let expected = [
        ("port", "8125"),
        ("graphite > legacyNamespace", "false"),
        ("graphite > x", "[object Object]"),
        ("percentThreshold > 0", "90"),
        ("percentThreshold > 1", "95"),
        ("debug", "false"),
        ("prefixStats", "a\\n\\u{1b}b"),
        ("histogram > 0", "[object Object]"),
        ("odd > 0", "a,,b"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(loaded.listing, expected);
}

#[test]
fn keys_at_their_defaults_need_no_word() {
    let loaded = config_js(
        "{ repeater: [], repeaterProtocol: 'udp4', keyFlush: { interval: 0, percent: 100 }
         , log: { backend: 'stdout', application: 'statsd', level: 'LOG_INFO' }
         , console: { prettyprint: false }, dumpMessages: false
         , automaticConfigReload: true, healthStatus: 'up' }",
    );
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn unknown_keys_are_one_warning_each_and_change_nothing() {
    let loaded = config_js(
        "{ somethingElse: { x: [1, null, 'y'] }\n, flushinterval: 5\n, graphite: { globalsuffix: 1 } }",
    );
    let warnings = [
        "unknown key graphite.globalsuffix ignored, did you mean graphite.globalSuffix? (line 3)",
        "unknown key somethingElse ignored (line 1)",
        "unknown key flushinterval ignored, did you mean flushInterval? (line 2)",
    ];
    assert_eq!(loaded.warnings, warnings);
    assert_eq!(loaded.settings, config_js("{}").settings);
}

#[test]
fn very_many_unknown_keys_are_summed_up() {
    let keys: String = (0..1_000).map(|key| format!("unheard{key}: 1,")).collect();
    let warnings = config_js(&format!("{{ {keys} }}")).warnings;
    assert_eq!(warnings.len(), 51);
    assert_eq!(warnings[50], "950 more unknown keys ignored");
}

#[test]
fn graphite_needs_its_host_and_its_place_among_the_backends() {
    let backends = |text| config_js(text).settings.backends;
    assert!(backends("{ graphitePort: 2003 }").is_empty());
    assert!(backends("{ graphiteHost: 'g', backends: ['./backends/console'] }").is_empty());
    assert!(backends("{ graphiteHost: 'g', backends: [] }").is_empty());
    assert_eq!(backends("{ graphiteHost: 'g' }")[0].address, "g:2003");
    let pickle = &backends("{ graphiteHost: '::1', graphiteProtocol: 'pickle' }")[0];
    assert_eq!((pickle.protocol, pickle.address.as_str()), (Protocol::Pickle, "[::1]:2004"));
    let both = &backends(
        "{ graphiteHost: 'g', graphiteProtocol: 'pickle', graphitePicklePort: '24', graphitePort: 23 }",
    )[0];
    assert_eq!(both.address, "g:24");
}

#[test]
fn an_unknown_graphite_protocol_is_text_as_in_the_reference() {
    let loaded = config_js("{ graphiteHost: 'g', graphiteProtocol: 'Pickle' }");
    assert_eq!(loaded.settings.backends[0].protocol, Protocol::Text);
    assert!(loaded.warnings[0].contains("must be \"text\" or \"pickle\", found \"Pickle\""));
}

#[test]
fn a_lifetime_that_is_not_whole_counts_as_one() {
    for value in ["2.5", "'x'", "0", "-1", "true"] {
        let loaded = config_js(&format!("{{ gaugesMaxTTL: {value} }}"));
        assert_eq!(loaded.settings.idle.gauges_max_ttl, 1, "{value}");
        assert_eq!(loaded.warnings.len(), 1, "{value}");
    }
    assert_eq!(config_js("{ gaugesMaxTTL: 1 }").warnings, Vec::<String>::new());
}

#[test]
fn a_legacy_namespace_that_is_no_boolean_is_judged_and_named() {
    for (value, legacy) in [
        ("1", LegacyNamespace::Legacy),
        ("'true'", LegacyNamespace::Legacy),
        ("0", LegacyNamespace::New),
        ("'false'", LegacyNamespace::New),
    ] {
        let loaded = config_js(&format!("{{ graphite: {{ legacyNamespace: {value} }} }}"));
        assert_eq!(loaded.settings.namespace.legacy, legacy, "{value}");
        assert!(loaded.warnings[0].starts_with("graphite.legacyNamespace must be true or false"));
    }
}

#[test]
fn our_own_block_takes_our_own_keys() {
    let loaded = config_js(
        "{ graphiteHost: 'g', floe: { books: true, workers: 2, cpus: '0-1', ingest: 'recvmmsg'
         , spool: { path: 'spool', archive_age: '30m', archive_bytes: '64MiB' }
         , backends: [{ name: 'b', address: '[::1]:2104', protocol: 'pickle', ack: 'written'
                      , backlog_age: '1h', backlog_bytes: '1GiB'
                      , graphite: { legacyNamespace: false, flush_counts: false } }] } }",
    );
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    assert!(settings.books);
    assert_eq!(settings.ingest.mode, IngestMode::Recvmmsg);
    assert_eq!(settings.ingest.workers, Some(2));
    assert_eq!(settings.ingest.cpus, Some(vec![0, 1]));
    assert_eq!(settings.spool.path.as_deref(), Some(Path::new("spool")));
    assert_eq!(settings.spool.archive_age_ms, 1_800_000);
    assert_eq!(settings.spool.archive_bytes, 64 << 20);
    let names: Vec<_> = settings.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["graphite", "b"]);
    let own = &settings.backends[1];
    assert_eq!(own.acknowledgement, Acknowledgement::Written);
    assert_eq!((own.backlog_age_ms, own.backlog_bytes), (3_600_000, 1 << 30));
    assert_eq!(own.namespace.legacy, LegacyNamespace::New);
    assert!(!own.namespace.flush_counts && settings.namespace.flush_counts);
}

#[test]
fn our_own_block_takes_the_switches_of_ingest() {
    let loaded = config_js("{ floe: { ingest: { steering: 'random', udp_gro: true } } }");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let ingest = loaded.settings.ingest;
    assert_eq!((ingest.steering, ingest.udp_gro), (Steering::Random, true));
}

#[test]
fn an_unknown_key_of_our_own_block_is_a_warning_too() {
    let loaded = config_js("{ floe: { boks: true, spool: { pth: 'x' } } }");
    let warnings = [
        "unknown key floe.spool.pth ignored, did you mean floe.spool.path? (line 1)",
        "unknown key floe.boks ignored, did you mean floe.books? (line 1)",
    ];
    assert_eq!(loaded.warnings, warnings);
}

#[test]
fn without_a_file_we_listen_on_both_families_and_keep_books() {
    let Loaded { settings, warnings, .. } = without_file();
    let listener = Listener { address: "::".into(), port: 8125, is_dual_stack_default: true };
    assert_eq!(settings.listeners, [listener]);
    assert_eq!(settings.mgmt_address.as_deref(), Some("127.0.0.1"));
    assert!(settings.books && settings.backends.is_empty() && warnings.is_empty());
    assert_eq!(toml("").settings, settings);
}

#[test]
fn the_language_goes_by_the_name_of_the_file() {
    for (path, source) in [
        ("config.js", Source::ConfigJs),
        ("/etc/statsd/localConfig.json5", Source::ConfigJs),
        ("config", Source::ConfigJs),
        ("floe.toml", Source::Toml),
        ("FLOE.TOML", Source::Toml),
    ] {
        assert_eq!(Source::of(Path::new(path)), source, "{path}");
    }
}
