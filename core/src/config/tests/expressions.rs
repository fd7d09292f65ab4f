//! Expressions in a `config.js`: what each comes to, and the frame a file may have.

use super::*;

/// What `expression` makes of `prefixStats`, which takes any text.
fn text_of(expression: &str) -> String {
    config_js(&format!("{{ prefixStats: {expression}, debug: true }}")).settings.prefix_stats
}

fn fault_of(expression: &str) -> String {
    refusal(&format!("{{ prefixStats: {expression} }}"), Source::ConfigJs)
}

#[test]
fn host_name_and_its_parts() {
    assert_eq!(text_of("require('os').hostname()"), "web-7.dc2.example");
    assert_eq!(text_of("require(\"os\").hostname().split('.')[0]"), "web-7");
    assert_eq!(text_of("require('os').hostname().split('.')[1].toUpperCase()"), "DC2");
    assert_eq!(text_of("require('os').hostname().replace(/\\./g, '_')"), "web-7_dc2_example");
    assert_eq!(text_of("require('os').hostname().replace('.', '_')"), "web-7_dc2.example");
    assert_eq!(
        text_of("require('os').hostname().split('.').reverse().join('.')"),
        "example.dc2.web-7"
    );
    assert_eq!(text_of("require('os').hostname().split('.').shift()"), "web-7");
}

#[test]
fn environment_variables_and_their_defaults() {
    assert_eq!(text_of("process.env.GRAPHITE"), "carbon.lan");
    assert_eq!(text_of("process.env['GRAPHITE']"), "carbon.lan");
    assert_eq!(text_of("process['env'].GRAPHITE || 'x'"), "carbon.lan");
    assert_eq!(text_of("process.env.ABSENT || 'x'"), "x");
    assert_eq!(text_of("process.env.EMPTY || process.env.ABSENT || \"y\""), "y");
    assert_eq!(text_of("process.env.EMPTY ?? 'x'"), "");
    assert_eq!(text_of("process.env.ABSENT ?? 'x'"), "x");
    assert_eq!(text_of("(process.env.ABSENT || require('os').hostname()).split('.')[0]"), "web-7");
}

#[test]
fn an_unset_variable_counts_as_an_absent_key() {
    assert_eq!(text_of("process.env.ABSENT"), "statsd");
    assert_eq!(text_of("undefined"), "statsd");
    assert_eq!(text_of("'a.b'.split('.')[2]"), "statsd");
}

#[test]
fn texts_and_numbers_are_joined() {
    assert_eq!(text_of("'a' + \"b\" + 1 + 2.50"), "ab12.5");
    assert_eq!(text_of("1 + 2 + 'x'"), "3x");
    assert_eq!(text_of("('st' /* in parts */ + // two\n 'ats')"), "stats");
    assert_eq!(text_of("'p.' + require('os').hostname().split('.')[0]"), "p.web-7");
    assert_eq!(text_of("`tick`"), "tick");
    assert_eq!(text_of("'x' + undefined"), "xundefined");
    assert_eq!(text_of("(((('x'))))"), "x");
}

#[test]
fn numbers_are_worked_out() {
    let interval = |expression: &str| {
        config_js(&format!("{{ flushInterval: {expression} }}")).settings.flush_interval_ms
    };
    assert_eq!(interval("10 * 1000"), 10_000);
    assert_eq!(interval("2 + 3 * 4 - 10 / 5"), 12);
    assert_eq!(interval("1e4"), 10_000);
    assert_eq!(interval("0x10"), 16);
    assert_eq!(interval("10_000"), 10_000);
    assert_eq!(interval("+process.env.PORT"), 9_125);
    assert_eq!(interval("parseInt(process.env.PORT, 10) || 7"), 9_125);
    assert_eq!(interval("parseInt(process.env.ABSENT) || 7"), 7);
    assert_eq!(interval("Number(process.env.PORT) - -1"), 9_126);
    assert_eq!(interval("process.env.PORT"), 9_125);
    assert_eq!(interval("parseInt('12.7s')"), 12);
}

#[test]
fn negative_numbers_and_flags_are_values() {
    assert_eq!(suffixes(&config_js("{ percentThreshold: [ -5, - 10 ] }")), ["top5", "top10"]);
    assert!(!config_js("{ debug: !true }").settings.debug);
    assert!(config_js("{ debug: !!process.env.PORT }").settings.debug);
}

#[test]
fn expressions_stand_anywhere_a_value_does() {
    let loaded = config_js(
        "{ servers: [ { port: 8000 + 1 }, { port: process.env.PORT } ]
         , graphite: { globalSuffix: require('os').hostname().split('.')[0] } }",
    );
    let ports: Vec<_> = loaded.settings.listeners.iter().map(|listener| listener.port).collect();
    assert_eq!(ports, [8001, 9125]);
    assert_eq!(loaded.settings.namespace.global_suffix, "web-7");
}

#[test]
fn what_stands_around_the_object_is_taken_off() {
    let plain = config_js("{ port: 9 }");
    for text in [
        "{ port: 9 };",
        "({ port: 9 })",
        "(({ port: 9 }));",
        "config = { port: 9 };;\n",
        "module.exports = { port: 9 }",
        "var config = { port: 9 };",
        "\u{feff}{ port: 9 }",
        "// head\r\n{ port: 9 } // foot",
        "{ 'port': 9, }",
    ] {
        assert_eq!(config_js(text), plain, "{text}");
    }
}

#[test]
fn strings_keep_what_looks_like_code() {
    assert_eq!(text_of("\"process.env.X || 'y' // z\""), "process.env.X || 'y' // z");
    assert_eq!(text_of("'a\\u2028\\'\"\\\\'"), "a\u{2028}'\"\\");
}

#[test]
fn other_expressions_are_refused_with_what_is_read() {
    for expression in [
        "host",
        "require('fs').readFileSync('/etc/passwd')",
        "require('os')",
        "process",
        "process.env",
        "process.exit(1)",
        "'a'.split('.')",
        "'a' ? 'b'",
        "function () { return 1 }",
        "() => 1",
        "eval('1')",
        "'a'.repeat(9)",
        "'a'.replace(/[a]/, 'b')",
        "'a'.replace('a', '$&')",
        "new Date()",
        "1 +",
        "(1",
    ] {
        let message = fault_of(expression);
        assert!(message.contains("config.js is read as data"), "{expression}: {message}");
        assert!(message.contains("(line 1, column "), "{expression}: {message}");
    }
    for number in ["018", "08.5", "0_7"] {
        assert!(fault_of(number).contains(&format!("{number} is not a number")), "{number}");
    }
    assert_eq!(text_of("0770 + 0o1 + 00"), "505", "octal digits, as JavaScript reads them");
    assert!(fault_of("'a' 'b'").contains("expected a comma"));
}

#[test]
fn growing_texts_and_deep_nesting_end() {
    let mut expression = "'a'".to_owned();
    for _ in 0..40 {
        expression.push_str(".replace(/a/g, 'aa')");
    }
    assert!(fault_of(&expression).contains("makes a text over"));
    assert!(fault_of(&"(".repeat(5_000)).contains("nested too deeply"));
    assert!(fault_of(&"[".repeat(5_000)).contains("nested too deeply"));
    assert_eq!(text_of(&format!("{}'x'", "!".repeat(5_000))), "true");
}
