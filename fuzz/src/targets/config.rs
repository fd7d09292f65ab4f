//! Configurations: any text is read or refused, by both readers, in bounded memory.

use floe_core::config::{self, Environment, Source, describe, to_toml};

use super::{Reader, Target, claim, equal};
use crate::counting::allocated_bytes;
use crate::mutate::Grammar;

pub(super) const TARGET: Target = Target {
    name: "config",
    about: "config.js and TOML are read or refused; what is read can be written and read again",
    grammar: Grammar {
        words: &[
            "{",
            "}",
            "[",
            "]",
            "(",
            ")",
            ",",
            ":",
            ";",
            "'",
            "\"",
            "`",
            "\\",
            "//",
            "/*",
            "*/",
            "+",
            "||",
            "??",
            "?",
            "=",
            "!",
            "\n",
            "require('os').hostname()",
            ".split('.')[0]",
            "process.env.PORT",
            ".replace(/a/g, 'bb')",
            ".toUpperCase()",
            "undefined",
            "null",
            "true",
            "1e400",
            "port: ",
            "backends: ",
            "floe: {",
            "servers: [",
            "graphite: {",
            "percentThreshold: [90]",
            "[[backends]]",
            "[spool]\n",
            "name = \"a\"\n",
            "address = ",
            "\u{2028}",
            "\"\"\"",
            "module.exports = ",
            "var a = ",
        ],
        delimiters: b"{}[](),:;'\"\n=",
    },
    reader: || Box::new(Configurations),
};

/// What reading may allocate in all: a fixed part, and so much per byte of text.
const ALLOCATED_BYTES_MAX: usize = 8 << 20;
const ALLOCATED_PER_BYTE_MAX: usize = 4_096;

struct Configurations;

fn environment() -> Environment {
    let variables = [("PORT", "8125"), ("HOME", "/root")];
    Environment {
        host_name: "node.example.org".to_owned(),
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

impl Reader for Configurations {
    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        let environment = environment();
        for source in [Source::ConfigJs, Source::Toml] {
            let before = allocated_bytes();
            let read = config::read(&text, source, &environment);
            let allocated = allocated_bytes() - before;
            let bound = ALLOCATED_BYTES_MAX + text.len() * ALLOCATED_PER_BYTE_MAX;
            claim(allocated <= bound, || format!("{allocated} bytes allocated, not {bound}"))?;
            match read {
                Ok(loaded) => {
                    let settings = &loaded.settings;
                    let is_listening =
                        !(settings.listeners.is_empty() && settings.streams.is_empty());
                    claim(is_listening, || "settings that listen nowhere".to_owned())?;
                    claim(describe(settings).ends_with('\n'), || {
                        "described without end".to_owned()
                    })?;
                    let written = to_toml(settings);
                    let again = config::read(&written, Source::Toml, &Environment::default());
                    let again =
                        again.map(|again| again.settings).map_err(|error| error.to_string());
                    equal("read again", &again, &Ok(loaded.settings))?;
                }
                Err(error) => {
                    let said = error.to_string();
                    claim(!said.is_empty(), || "refused without a word".to_owned())?;
                    claim(said.len() < 4_096, || format!("refused in {} bytes", said.len()))?;
                }
            }
        }
        Ok(())
    }
}
