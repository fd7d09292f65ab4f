//! No text makes the reader panic or hang, and what it accepts is usable. Method: random texts of
//! any characters, and random rows of the words that such files are made of.

use proptest::prelude::*;

use super::*;

/// Words of both languages, so that rows of them get past the first letter.
const WORDS: [&str; 56] = [
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    ";",
    "=",
    ".",
    "+",
    "-",
    "*",
    "/",
    "!",
    "||",
    "??",
    "\n",
    "// c\n",
    "/* c */",
    "/*",
    "'",
    "\"",
    "'a.b'",
    "\"90\"",
    "`t`",
    "0",
    "1",
    "-5.5",
    "1e400",
    "0x1F",
    "true",
    "null",
    "undefined",
    "port",
    "servers",
    "graphite",
    "backends",
    "percentThreshold",
    "histogram",
    "floe",
    "spool",
    "require('os').hostname()",
    ".split('.')",
    "process.env.PORT",
    "'a'.replace(/a/g, 'bb')",
    "[[backends]]\n",
    "[spool]\n",
    "name = \"a\"\n",
    "\u{2028}",
    "ä",
    "\\",
    "{ port: 1 }",
    "\"\"\"",
    "#",
];

fn is_usable(settings: &Settings) -> bool {
    let listener_parses = |text: &str| text.parse::<std::net::IpAddr>().is_ok();
    !(settings.listeners.is_empty() && settings.streams.is_empty())
        && settings.listeners.iter().all(|listener| listener_parses(&listener.address))
        && settings.flush_interval_ms >= 1
        && settings.idle.gauges_max_ttl >= 1
        && settings.thresholds.iter().all(|threshold| threshold.percent.is_finite())
        && settings.backends.iter().all(|backend| !backend.name.is_empty())
}

fn reads_or_refuses(text: &str) -> Result<(), TestCaseError> {
    for source in [Source::ConfigJs, Source::Toml] {
        match read(text, source, &environment()) {
            Ok(loaded) => {
                prop_assert!(is_usable(&loaded.settings));
                prop_assert!(describe(&loaded.settings).ends_with('\n'));
                let written = to_toml(&loaded.settings);
                let again = read(&written, Source::Toml, &Environment::default());
                let settings = again.map(|again| again.settings).map_err(|error| error.to_string());
                prop_assert_eq!(settings, Ok(loaded.settings), "{}", written);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        reads_or_refuses(&text)?;
    }

    #[test]
    fn any_row_of_words_is_read_or_refused(
        row in prop::collection::vec(prop::sample::select(WORDS.as_slice()), 0..40),
    ) {
        reads_or_refuses(&row.concat())?;
        reads_or_refuses(&format!("{{ prefixStats: {} }}", row.concat()))?;
    }

    #[test]
    fn any_value_of_any_key_is_read_or_refused(
        key in prop::sample::select(vec![
            "port", "address", "servers", "percentThreshold", "flushInterval", "histogram", "graphite",
            "backends", "floe", "spool", "ingest", "cpus", "gaugesMaxTTL", "graphiteHost", "log",
            "keyFlush", "console", "calculatedTimerMetrics", "legacyNamespace", "server", "socket",
            "socket_mod", "streams", "repeater", "repeaterProtocol", "title", "healthStatus", "level",
            "backend", "application", "format", "interval", "percent", "idle", "connections_max",
            "prettyprint", "dumpMessages", "automaticConfigReload", "mgmt_port", "mgmt_address", "host",
        ]),
        value in prop::sample::select(vec![
            "0", "-1", "1.5", "1e300", "\"\"", "\"x\"", "\"0\"", "true", "false", "[]", "[0]", "[[]]",
            "[\"x\", 1]", "[\"1\", -0.0]", "\"9999999999999999999d\"", "\"a\\u0000b\"", "\"tcp\"",
            "\"0777\"", "\"1h\"", "\"a\\nb\\r\\\"c'\\\\\"", "[\"./backends/repeater\"]", "\"::1\"", "511",
            "{}", "[{}]", "{\"host\": \"h\", \"port\": 1}", "1e21", "\"down\"", "\"LOG_ERR\"",
        ]),
    ) {
        for nested in ["floe", "graphite", "spool", "log", "keyFlush", "streams", "console"] {
            reads_or_refuses(&format!("{{ {key}: {value}, {nested}: {{ {key}: {value} }} }}"))?;
            reads_or_refuses(&format!("[{nested}]\n{key} = {value}\n"))?;
        }
        for list in ["servers", "repeater", "histogram", "backends"] {
            reads_or_refuses(&format!("{{ {list}: [{{ server: 'tcp', socket: '/s', {key}: {value} }}] }}"))?;
            reads_or_refuses(&format!("[[{list}]]\n{key} = {value}\n"))?;
        }
        reads_or_refuses(&format!("{key} = {value}\n"))?;
    }

    #[test]
    fn a_plain_value_passes_through_the_rewriting(text in "\\PC{0,40}", number in any::<u32>()) {
        let quoted = serde_json::Value::from(text.as_str());
        let written = format!("{{ /* ' */ prefixStats: {quoted}, percentThreshold: {number} // \"\n}}");
        let loaded = config_js(&written);
        prop_assert_eq!(loaded.settings.prefix_stats, text);
        if number != 0 {
            prop_assert_eq!(&loaded.settings.thresholds[0].suffix, &number.to_string());
        }
    }
}
