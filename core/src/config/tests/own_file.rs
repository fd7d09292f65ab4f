//! Our own TOML file: the reference's keys under strict rules, and ours.

use super::super::settings::{
    Acknowledgement, BacklogOrder, IngestMode, LegacyNamespace, Listener, LogBackend, Protocol,
    Redelivery, RepeaterProtocol, Steering, StreamListener,
};
use super::*;

/// The file the README promises.
const EXAMPLE: &str = r#"
port = 8125
mgmt_port = 8126
flushInterval = 1000
percentThreshold = [90, 99]

[spool]
path = "spool"
archive_age = "6h"
archive_bytes = "1GiB"

[[backends]]
name = "a"
address = "127.0.0.1:2003"
protocol = "text"            # or "pickle"

[[backends]]
name = "b"
address = "127.0.0.1:2104"
protocol = "pickle"
[backends.graphite]          # the reference's `graphite` block, for this backend
legacyNamespace = false
globalPrefix = "stats"
"#;

#[test]
fn the_example_is_understood() {
    let loaded = toml(EXAMPLE);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    let listener = Listener { address: "::".into(), port: 8125, is_dual_stack_default: true };
    assert_eq!(settings.listeners, [listener]);
    assert_eq!(settings.mgmt_port, 8126);
    assert_eq!(settings.mgmt_address.as_deref(), Some("127.0.0.1"));
    assert_eq!(settings.flush_interval_ms, 1_000);
    assert_eq!(settings.spool.path.as_deref(), Some(Path::new("spool")));
    assert_eq!(settings.spool.archive_age_ms, 21_600_000);
    assert_eq!(settings.spool.archive_bytes, 1 << 30);
    assert!(settings.books);
    let [a, b] = settings.backends.as_slice() else { panic!("two backends") };
    assert_eq!((a.name.as_str(), a.address.as_str()), ("a", "127.0.0.1:2003"));
    assert_eq!((a.protocol, a.namespace.legacy), (Protocol::Text, LegacyNamespace::Legacy));
    assert_eq!((a.backlog_age_ms, a.backlog_bytes), (21_600_000, 8 << 30));
    assert_eq!((b.protocol, b.namespace.legacy), (Protocol::Pickle, LegacyNamespace::New));
    assert_eq!(b.namespace.global_prefix, "stats");
}

#[test]
fn thresholds_of_both_files_have_one_name() {
    assert_eq!(
        suffixes(&toml("percentThreshold = [90.0, 99.9, -12.5]")),
        ["90", "99_9", "top12_5"]
    );
    assert_eq!(suffixes(&toml("percentThreshold = 1_0")), ["10"]);
    assert_eq!(suffixes(&toml("percentThreshold = [100, -100]")), ["100", "top100"]);
}

#[test]
fn port_zero_is_any_free_one() {
    let settings = toml("port = 0\nmgmt_port = 0\naddress = \"127.0.0.1\"").settings;
    assert_eq!((settings.listeners[0].port, settings.mgmt_port), (0, 0));
    assert!(!settings.listeners[0].is_dual_stack_default);
}

#[test]
fn address_families_can_be_named() {
    let listener = |text| toml(text).settings.listeners.remove(0);
    let v6 = listener("address_ipv6 = true");
    assert_eq!((v6.address.as_str(), v6.is_dual_stack_default), ("::", false));
    let v4 = listener("address_ipv6 = false");
    assert_eq!((v4.address.as_str(), v4.is_dual_stack_default), ("0.0.0.0", false));
    let several = toml("[[servers]]\nport = 1\n[[servers]]\naddress = \"::1\"\n").settings;
    assert_eq!(several.listeners.len(), 2);
    assert!(several.listeners[0].is_dual_stack_default);
}

#[test]
fn ingest_is_a_table() {
    let text =
        "[ingest]\nmode = \"io_uring\"\nworkers = 4\ncpus = [3, 1]\nreceive_buffer = \"8MiB\"";
    let ingest = toml(text).settings.ingest;
    assert_eq!(ingest.mode, IngestMode::IoUring);
    assert_eq!(ingest.workers, Some(4));
    assert_eq!(ingest.cpus, Some(vec![3, 1]));
    assert_eq!(ingest.receive_buffer_bytes, Some(8 << 20));
    assert_eq!((ingest.steering, ingest.udp_gro), (Steering::Hash, false));
    let steering =
        |word| toml(&format!("[ingest]\nsteering = \"{word}\"")).settings.ingest.steering;
    assert_eq!(
        ["hash", "random", "cpu"].map(steering),
        [Steering::Hash, Steering::Random, Steering::Cpu]
    );
    assert!(toml("[ingest]\nudp_gro = true").settings.ingest.udp_gro);
    let word = toml("ingest = \"recvmmsg\"\n").settings.ingest;
    assert_eq!(word.mode, IngestMode::Recvmmsg);
    assert_eq!(toml("[ingest]\ncpus = \"0-3,5\"").settings.ingest.cpus, Some(vec![0, 1, 2, 3, 5]));
}

#[test]
fn modes_have_the_words_of_the_command_line() {
    assert_eq!(ingest_mode("auto"), Some(IngestMode::Auto));
    assert_eq!(ingest_mode("io_uring"), Some(IngestMode::IoUring));
    assert_eq!(ingest_mode("recvmmsg"), Some(IngestMode::Recvmmsg));
    assert_eq!(ingest_mode("uring"), None);
}

#[test]
fn a_backend_inherits_the_top_level_names() {
    let settings = toml(
        "flush_counts = false
        [graphite]
        legacyNamespace = false
        globalSuffix = \"x\"
        prefixCounter = \"c\"
        [[backends]]
        name = \"plain\"
        address = \"h:1\"
        [[backends]]
        name = \"other\"
        address = \"h:2\"
        ack = \"written\"
        order = \"newest\"
        redelivery = \"never\"
        stall = \"2m\"
        backlog_age = \"90s\"
        backlog_bytes = 1048576
        [backends.graphite]
        globalSuffix = \"\"
        flush_counts = true",
    )
    .settings;
    assert_eq!(settings.backends[0].namespace, settings.namespace);
    let other = &settings.backends[1];
    assert_eq!(other.namespace.global_suffix, "");
    assert_eq!(other.namespace.prefix_counter, "c");
    assert_eq!(other.namespace.legacy, LegacyNamespace::New);
    assert!(other.namespace.flush_counts && !settings.namespace.flush_counts);
    assert_eq!(other.acknowledgement, Acknowledgement::Written);
    assert_eq!((other.backlog_age_ms, other.backlog_bytes), (90_000, 1 << 20));
    assert_eq!((other.order, other.redelivery), (BacklogOrder::NewestFirst, Redelivery::Never));
    assert_eq!(other.stall_ms, 120_000);
    let plain = &settings.backends[0];
    assert_eq!((plain.order, plain.redelivery), (BacklogOrder::OldestFirst, Redelivery::Always));
    assert_eq!(plain.stall_ms, 30_000);
}

#[test]
fn the_graphite_host_family_works_beside_our_backends() {
    let text = "graphiteHost = \"g\"\ngraphiteProtocol = \"pickle\"\ngraphitePicklePort = 24\n";
    let settings = toml(text).settings;
    assert_eq!(settings.backends[0].address, "g:24");
    let both = toml(&format!("{text}[[backends]]\nname = \"a\"\naddress = \"h:1\"")).settings;
    let names: Vec<_> = both.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["graphite", "a"]);
}

#[test]
fn every_key_of_the_reference_keeps_its_name() {
    let loaded = toml(
        "flushInterval = 10000
        flush_counts = true
        deleteIdleStats = true
        deleteCounters = false
        gaugesMaxTTL = 5
        prefixStats = \"\"
        keyNameSanitize = false
        calculatedTimerMetrics = [\"mean\"]
        histogram = [{ metric = \"\", bins = [0.5, \"inf\"] }]
        backends = [\"./backends/graphite\"]
        graphiteHost = \"g\"
        debug = true
        books = false
        repeaterProtocol = \"udp4\"
        [keyFlush]
        interval = 0
        percent = 100",
    );
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    assert!(settings.idle.delete_timers && !settings.idle.delete_counters);
    assert_eq!(settings.idle.gauges_max_ttl, 5);
    assert_eq!(settings.prefix_stats, "");
    assert_eq!(settings.histograms[0].bins[0].name, "bin_0_5");
    assert_eq!(settings.backends.len(), 1);
    assert!(settings.debug && !settings.books && !settings.key_name_sanitize);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_matter() {
    let plain = toml("port = 1\ndebug = true\n");
    assert_eq!(toml("\u{feff}port = 1\r\ndebug = true\r\n"), plain);
}

#[test]
fn toml_has_the_reference_s_modules_by_their_blocks() {
    let loaded = toml(
        "title = \"x\"
        repeaterProtocol = \"tcp\"
        repeater = [{ host = \"a\", port = 1 }]
        [[servers]]
        [[servers]]
        server = \"tcp\"
        port = 0
        [[servers]]
        server = \"tcp\"
        socket = \"/s\"
        [streams]
        idle = \"0ms\"
        [console]
        prettyprint = true
        [keyFlush]
        interval = 5
        [log]
        backend = \"journald\"",
    );
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let settings = loaded.settings;
    assert_eq!(settings.listeners.len(), 1);
    let tcp = StreamListener::Tcp { address: None, port: 0 };
    assert_eq!(settings.streams, [tcp, StreamListener::Unix { path: "/s".into(), mode: None }]);
    assert_eq!(settings.stream_limits.idle_ms, 0);
    let repeater = settings.repeater.unwrap();
    assert_eq!(
        (repeater.targets, repeater.protocol),
        (vec!["a:1".to_owned()], RepeaterProtocol::Tcp)
    );
    assert!(settings.console_backend.unwrap().is_pretty);
    let key_flush = settings.key_flush.unwrap();
    assert_eq!((key_flush.interval_ms, key_flush.percent, key_flush.log), (5, 100.0, None));
    assert_eq!(settings.log.backend, LogBackend::Journald);
}

#[test]
fn the_listing_of_our_own_file_keeps_its_order_too() {
    let loaded = toml(
        "port = 1\ndebug = false\nbackends = []\n[graphite]\nprefixTimer = \"t\"\n\
         globalSuffix = \"\\u001b[2J\"\n[[servers]]\nport = 0\n[console]\n\
         [[servers]]\nport = 2\n[[histogram]]\nmetric = \"\"\nbins = [1]",
    );
    let expected = [
        ("port", "1"),
        ("debug", "false"),
        ("graphite > prefixTimer", "t"),
        ("graphite > globalSuffix", "\\u{1b}[2J"),
        ("servers > 0", "[object Object]"),
        ("servers > 1", "[object Object]"),
        ("histogram > 0", "[object Object]"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(loaded.listing, expected);
}

#[test]
fn servers_have_a_most() {
    let servers =
        |kind: &str, count: usize| format!("[[servers]]\nserver = \"{kind}\"\n").repeat(count);
    for kind in ["udp", "tcp"] {
        assert!(read(&servers(kind, 32), Source::Toml, &environment()).is_ok());
        let message = refusal(&servers(kind, 33), Source::Toml);
        assert!(message.starts_with("servers[32] must be one of at most 32 "), "{message}");
    }
}
