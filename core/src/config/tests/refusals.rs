//! Texts that are refused: each message says what, which value, where, and what to do.

use super::*;

/// A TOML text and the whole sentence that refuses it.
const WRONG_VALUES: &[(&str, &str)] = &[
    (
        "\npercentThreshold = [90, 120]",
        "percentThreshold[1] must be a percentage within -100..=100 and not 0, found 120 (line 2)",
    ),
    (
        "percentThreshold = 0",
        "percentThreshold must be a percentage within -100..=100 and not 0, found 0 (line 1)",
    ),
    (
        "percentThreshold = \"ninety\"",
        "percentThreshold must be a percentage within -100..=100 and not 0, found \"ninety\" (line 1)",
    ),
    (
        "percentThreshold = nan",
        "percentThreshold must be a percentage within -100..=100 and not 0, found NaN (line 1)",
    ),
    ("port = 65536", "port must be a whole number within 0..=65535, found 65536 (line 1)"),
    ("port = -1", "port must be a whole number within 0..=65535, found -1 (line 1)"),
    ("port = \"8125\"", "port must be a whole number within 0..=65535, found \"8125\" (line 1)"),
    (
        "flushInterval = 0",
        "flushInterval must be a whole number within 1..=2147483647, found 0 (line 1)",
    ),
    (
        "flushInterval = 1.5",
        "flushInterval must be a whole number within 1..=2147483647, found 1.5 (line 1)",
    ),
    ("debug = 1", "debug must be true or false, found 1 (line 1)"),
    ("debug = 2020-01-01", "debug must be true or false, found the date 2020-01-01 (line 1)"),
    ("prefixStats = 1", "prefixStats must be a text in quotes, found 1 (line 1)"),
    (
        "address = \"example.org\"",
        "address must be an IP address like \"127.0.0.1\" or \"::\", found \"example.org\" (line 1)",
    ),
    (
        "gaugesMaxTTL = 0",
        "gaugesMaxTTL must be a whole number within 1..=4294967295, found 0 (line 1)",
    ),
    ("graphite = 1", "graphite must be a table of keys, found 1 (line 1)"),
    (
        "[graphite]\nlegacyNamespace = \"false\"",
        "graphite.legacyNamespace must be true or false, found \"false\" (line 2)",
    ),
    (
        "graphiteProtocol = \"udp\"",
        "graphiteProtocol must be \"text\" or \"pickle\", found \"udp\" (line 1)",
    ),
    (
        "graphiteHost = \"a:2003\"",
        "graphiteHost must be a host name or an IP address without a port, found \"a:2003\" (line 1)",
    ),
    (
        "histogram = [{ metric = \"a\", bins = [\"x\"] }]",
        "histogram[0].bins[0] must be a number or \"inf\", found \"x\" (line 1)",
    ),
    (
        "histogram = [{ bins = [1] }]",
        "histogram[0] needs the key metric, for example metric = \"\" for every key (line 1)",
    ),
    (
        "calculatedTimerMetrics = \"mean\"",
        "calculatedTimerMetrics must be a list of names like \"mean\" or \"upper_percent\", found \"mean\" (line 1)",
    ),
    (
        "[ingest]\nworkers = 65",
        "ingest.workers must be a whole number within 1..=64, found 65 (line 2)",
    ),
    (
        "[ingest]\ncpus = []",
        "ingest.cpus must be CPU numbers within 0..=1023 like [0, 1] or \"0-3,5\", found a list (line 2)",
    ),
    (
        "[ingest]\nmode = \"uring\"",
        "ingest.mode must be \"auto\" or \"io_uring\" or \"recvmmsg\", found \"uring\" (line 2)",
    ),
    (
        "[ingest]\nsteering = \"round\"",
        "ingest.steering must be \"hash\" or \"random\" or \"cpu\", found \"round\" (line 2)",
    ),
    ("[ingest]\nudp_gro = 1", "ingest.udp_gro must be true or false, found 1 (line 2)"),
    (
        "[ingest]\nreceive_buffer = 1",
        "ingest.receive_buffer must be bytes or a size like \"64MiB\" or \"1GiB\" within 4KiB..=1048572KiB, found 1 (line 2)",
    ),
    (
        "workers = 1\n[ingest]\nworkers = 1",
        "workers and ingest.workers set the same thing, keep one of them (line 3)",
    ),
    (
        "[spool]\narchive_age = 6",
        "spool.archive_age must be a duration with its unit like \"30s\" or \"6h\", found 6 (line 2)",
    ),
    (
        "[spool]\narchive_age = \"6x\"",
        "spool.archive_age must be a whole number with a unit of ms, s, m, h, d, found \"6x\" (line 2)",
    ),
    ("[spool]\npath = \"\"", "spool.path must be the path of a directory, found \"\" (line 2)"),
];

#[test]
fn toml_refuses_wrong_values_with_their_range() {
    for (text, message) in WRONG_VALUES {
        assert_eq!(refusal(text, Source::Toml), *message, "{text}");
    }
}

#[test]
fn toml_refuses_unknown_keys_and_names_the_nearest() {
    for (text, message) in [
        ("flush_interval = 1", "unknown key flush_interval, did you mean flushInterval? (line 1)"),
        ("prot = 1", "unknown key prot, did you mean port? (line 1)"),
        ("\n[spool]\nmax = 1", "unknown key spool.max, remove it (line 3)"),
        ("xyz_unheard_of = 1", "unknown key xyz_unheard_of, remove it (line 1)"),
        (
            "[[backends]]\nname = \"a\"\naddress = \"h:1\"\nprotocoll = \"text\"",
            "unknown key backends[0].protocoll, did you mean backends[0].protocol? (line 4)",
        ),
        (
            "[[backends]]\nname = \"a\"\naddress = \"h:1\"\n[backends.graphite]\nglobalPrefx = \"x\"",
            "unknown key backends[0].graphite.globalPrefx, did you mean backends[0].graphite.globalPrefix? (line 5)",
        ),
        // The key that is then missing is the one that was meant.
        (
            "[[backends]]\nnmae = \"a\"\naddress = \"h:1\"",
            "unknown key backends[0].nmae, did you mean backends[0].name? (line 2)",
        ),
        (
            "[[backends]]\nname = \"a\"\nadress = \"h:1\"",
            "unknown key backends[0].adress, did you mean backends[0].address? (line 3)",
        ),
        (
            "[[histogram]]\nmetrc = \"a\"\nbins = [1]",
            "unknown key histogram[0].metrc, did you mean histogram[0].metric? (line 2)",
        ),
        ("b_far = 1\na_near = 2", "unknown key b_far, remove it (line 1)"),
    ] {
        assert_eq!(refusal(text, Source::Toml), message, "{text}");
    }
}

#[test]
fn a_backend_needs_a_name_and_an_address_of_its_own() {
    let of = |keys: &str| refusal(&format!("[[backends]]\n{keys}"), Source::Toml);
    assert_eq!(
        of("address = \"h:1\""),
        "backends[0] needs the key name, for example name = \"graphite\" (line 1)"
    );
    assert!(of("name = \"a\"").contains("backends[0] needs the key address"));
    for name in ["", "A", "a b", "a/b", "ä", "..", &"a".repeat(65)] {
        let message = of(&format!("name = \"{name}\"\naddress = \"h:1\""));
        assert!(message.contains("1 to 64 characters of a-z, 0-9, _ and -"), "{name}: {message}");
    }
    for name in ["tmp", "archive", "quarantine"] {
        let message = of(&format!("name = \"{name}\"\naddress = \"h:1\""));
        assert!(message.contains("must be another name than"), "{name}: {message}");
    }
    for address in ["", "h", "h:", ":1", "h:0", "h:65536", "h:+1", "::1:2003", "[x]:1", "a b:1"] {
        let message = of(&format!("name = \"a\"\naddress = \"{address}\""));
        assert!(message.contains("must be host:port"), "{address}: {message}");
    }
    let twice =
        of("name = \"a\"\naddress = \"h:1\"\n[[backends]]\nname = \"a\"\naddress = \"h:2\"");
    assert_eq!(twice, "backend name a is used twice, give each backend its own (line 4)");
}

#[test]
fn servers_and_backends_that_floe_has_not_are_refused_with_what_it_has() {
    for (text, message) in [
        (
            "{ servers: [] }",
            "no server is configured; add { server: './servers/udp', port: 8125 } to servers",
        ),
        (
            "{ servers: [{}, { server: './servers/http' }] }",
            "servers[1].server must be \"./servers/udp\", or \"./servers/tcp\" with a port or, for a \
             Unix socket, socket, found \"./servers/http\" (line 1)",
        ),
        (
            "{\n backends: ['./backends/graphite', 'statsd-influxdb-backend'] }",
            "backends[1] must be a backend that floe has, found \"statsd-influxdb-backend\": there are \
             \"./backends/graphite\" (text or pickle, also several by backends in a floe block), \
             \"./backends/console\" and \"./backends/repeater\"; other modules are JavaScript, which is \
             not executed (line 2)",
        ),
        (
            "{ server: 'tcp', socket: '/s', socket_mod: '0888' }",
            "socket_mod must be permissions, as octal digits in quotes like \"0770\", found \"0888\" \
             (line 1)",
        ),
        (
            "{ log: { backend: 'papertrail' } }",
            "log.backend must be \"stdout\" or \"stderr\" or \"syslog\" or \"journald\", found \
             \"papertrail\" (line 1)",
        ),
        (
            "{ backends: ['./backends/repeater'], repeater: [{ host: 'a b', port: 1 }] }",
            "repeater[0].host must be a host name or an IP address without a port, found \"a b\" (line 1)",
        ),
        (
            "{ keyFlush: { interval: 1, percent: 101 } }",
            "keyFlush.percent must be a percentage above 0, at most 100, found 101 (line 1)",
        ),
        ("{ title: {} }", "title must be a text or false, found a table (line 1)"),
        ("{ title: 'a\\u0000b' }", "title must be a text or false, found \"a\\0b\" (line 1)"),
        (
            "{ floe: { streams: { connections_max: 0 } } }",
            "floe.streams.connections_max must be a whole number within 1..=65536, found 0 (line 1)",
        ),
    ] {
        assert_eq!(refusal(text, Source::ConfigJs), message, "{text}");
    }
    let long = format!("{{ server: 'tcp', socket: '/{}' }}", "s".repeat(107));
    assert!(
        refusal(&long, Source::ConfigJs).contains("socket must be a path of at most 107 bytes")
    );
}

#[test]
fn config_js_refuses_what_the_reference_could_not_use() {
    for (text, message) in [
        ("{ port: 'x' }", "port must be a whole number within 1..=65535, found \"x\" (line 1)"),
        ("{ port: 70000 }", "port must be a whole number within 1..=65535, found 70000 (line 1)"),
        (
            "{\n flushInterval: -5 }",
            "flushInterval must be a whole number within 1..=2147483647, found -5 (line 2)",
        ),
        (
            "{ percentThreshold: ['a'] }",
            "percentThreshold[0] must be a percentage within -100..=100 and not 0, found \"a\" (line 1)",
        ),
        (
            "{ backends: [{}] }",
            "backends[0] must be the name of a backend like \"./backends/graphite\", found a table (line 1)",
        ),
        ("{ floe: { books: 'yes' } }", "floe.books must be true or false, found \"yes\" (line 1)"),
        ("{ floe: 1 }", "floe must be a table of keys, found 1 (line 1)"),
    ] {
        assert_eq!(refusal(text, Source::ConfigJs), message, "{text}");
    }
}

#[test]
fn broken_files_are_refused_where_they_break() {
    for (text, place) in [
        ("{ port: 1\n  debug: true }", "(line 2, column 3)"),
        ("{ port: 1\n, debug true }", "(line 2, column 9)"),
        ("{ /* ä */ a: 'x' ]", "(line 1, column 18)"),
        ("{ a: require('os').hostname()\n, /* b */ b: ] }", "(line 2, column 14)"),
        ("{\n a: [ 1", "close the bracket that opens here (line 2, column 5)"),
        (" // nothing", "config.js holds no settings (line 1, column 12)"),
        ("{ a: 1 }\n}", "(line 2, column 1)"),
        ("{ a: 1 } x", "(line 1, column 10)"),
        ("{ a: 'x", "(line 1, column 6)"),
        ("{ a: 1 } /* b", "(line 1, column 10)"),
        ("", "(line 1, column 1)"),
    ] {
        let message = refusal(text, Source::ConfigJs);
        assert!(message.ends_with(place), "{text}: {message}");
    }
    for (text, place) in
        [("a = ", "(line 1, column 5)"), ("port = 1\nport = 2", "(line 2, column 1)")]
    {
        let message = refusal(text, Source::Toml);
        assert!(message.ends_with(place), "{text}: {message}");
    }
}

#[test]
fn another_kind_of_file_is_told_from_a_config_js() {
    for text in ["port = 8125\nmgmt_port = 1", "[spool]\npath = 'x'", "[1]", "'x'", "<html>"] {
        let message = refusal(text, Source::ConfigJs);
        assert!(message.starts_with("config.js must be one object"), "{text}: {message}");
    }
}

#[test]
fn long_texts_are_refused_before_they_are_read() {
    let text = " ".repeat(CONFIG_BYTES_MAX + 1);
    for source in [Source::ConfigJs, Source::Toml] {
        let error = read(&text, source, &environment()).unwrap_err();
        assert_eq!(error, ConfigError::TooLong { bytes: CONFIG_BYTES_MAX + 1 });
    }
    assert!(read(&text[1..], Source::Toml, &environment()).is_ok());
}

#[test]
fn lists_have_a_longest_length() {
    let thresholds = |count: usize| {
        let percents: Vec<_> = (1..=count).map(|index| format!("{}", index as f64 / 8.0)).collect();
        format!("percentThreshold = [{}]", percents.join(", "))
    };
    assert_eq!(toml(&thresholds(256)).settings.thresholds.len(), 256);
    let message = refusal(&thresholds(257), Source::Toml);
    assert!(message.contains("must be a list of at most 256 percentages"), "{message}");

    let backends = |count: usize| {
        let table = |index| format!("[[backends]]\nname = \"b{index}\"\naddress = \"h:1\"\n");
        (0..count).map(table).collect::<String>()
    };
    assert_eq!(toml(&backends(64)).settings.backends.len(), 64);
    let message = refusal(&backends(65), Source::Toml);
    assert!(message.contains("backends[64] must be one of at most 64 backends"), "{message}");
}

#[test]
fn long_values_are_shortened_in_messages() {
    let message = refusal(&format!("{{ port: '{}' }}", "x".repeat(10_000)), Source::ConfigJs);
    assert!(message.len() < 200, "{message}");
    assert!(message.contains("xxx...\""));
}

#[test]
fn r5_what_is_refused_is_shown_shortened() {
    let long = "1x".repeat(2_000);
    let environment = Environment::default();
    let said = |text: &str, source| {
        read(text, source, &environment).expect_err("it is refused").to_string()
    };
    for (text, source) in [
        (format!("{{ port: {long} }}"), Source::ConfigJs),
        (format!("{{ port: '{long}' }}"), Source::ConfigJs),
        (format!("{{ : {long}"), Source::ConfigJs),
        (format!("port = \"{long}\""), Source::Toml),
        (format!("{long} = 1"), Source::Toml),
        (format!("[{long}]"), Source::Toml),
    ] {
        let said = said(&text, source);
        assert!(said.len() < 500, "{} bytes: {said}", said.len());
    }
}
