//! Every key: what it does, and when a reload applies it.
//!
//! The one table behind `docs/configuration.md` and `floe config --defaults`. Defaults are those of
//! the settings themselves, printed by `to_toml`; a key that has none there says so in words.
//! `tests/written.rs` holds it against the readers: no key is missing, none is left over.

use std::fmt::Write as _;

use super::to_toml::{Document, document};
use super::without_file;

/// When a changed value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reload {
    /// As soon as the file is read.
    AtOnce,
    /// From the next flush on.
    NextFlush,
    /// At the next start.
    Restart,
}

impl Reload {
    const fn word(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::NextFlush => "next flush",
            Self::Restart => "restart",
        }
    }
}

/// A chapter of the page.
struct Chapter {
    title: &'static str,
    about: &'static str,
    keys: &'static [Key],
}

/// One key.
struct Key {
    /// With the tables it stands in: `spool.path`, `backends[].name`.
    path: &'static str,
    /// What stands for the default where the settings have no value of their own.
    absent: &'static str,
    /// What it does, its unit and range, where the reference differs, who should change it.
    effect: &'static str,
    reload: Reload,
}

const fn key(
    path: &'static str,
    absent: &'static str,
    effect: &'static str,
    reload: Reload,
) -> Key {
    Key { path, absent, effect, reload }
}

use Reload::{AtOnce, NextFlush, Restart};

const CHAPTERS: [Chapter; 8] = [
    Chapter {
        title: "Where lines come in",
        about: "",
        keys: &[
            key(
                "port",
                "",
                "port of the one server, 1 to 65535; in TOML 0 takes any free one, which `--ready-file` tells",
                Restart,
            ),
            key(
                "address",
                "see right",
                "IP address or `localhost`. Absent: `0.0.0.0` with a `config.js`; in TOML and without a file `::` for both families, `0.0.0.0` where IPv6 is off. Of a TCP server: every address of both families",
                Restart,
            ),
            key(
                "address_ipv6",
                "false",
                "without `address`: true listens on `::`; decides what `localhost` is",
                Restart,
            ),
            key(
                "server",
                "`./servers/udp`",
                "`udp`, or `tcp` for lines over connections; a path to the reference's module means the same",
                Restart,
            ),
            key(
                "socket",
                "none",
                "of a `tcp` server: path of a Unix socket, which goes before `port`. A socket that nobody answers at is taken over",
                Restart,
            ),
            key(
                "socket_mod",
                "what the umask leaves",
                "permissions of that socket: octal digits in quotes, or a number as `fs.chmod` takes it. The reference crashes on it",
                Restart,
            ),
            key(
                "servers",
                "none",
                "list of tables with the keys above, at most 32 of each kind; the keys at the top then have no effect, and are named",
                Restart,
            ),
            key(
                "streams.connections_max",
                "",
                "connections of all stream servers at once, 1 to 65536; a further one is closed and counted. Bounded by `ulimit -n` less 256",
                Restart,
            ),
            key(
                "streams.line_bytes_max",
                "",
                "longest unfinished line of a connection, 64 B to 65535 B; a longer one is dropped whole, and counted",
                Restart,
            ),
            key(
                "streams.idle",
                "",
                "a connection that is silent for so long is closed; `0ms` = never. Peers that are gone are found within two minutes by keep-alive",
                Restart,
            ),
            key(
                "mgmt_port",
                "",
                "the admin console; with a `config.js` 0 means the default, in TOML any free one",
                Restart,
            ),
            key(
                "mgmt_address",
                "",
                "IP address, `localhost`, or `*` for every address of both families, which is the default with a `config.js`",
                Restart,
            ),
        ],
    },
    Chapter {
        title: "What is computed",
        about: "",
        keys: &[
            key(
                "flushInterval",
                "",
                "ms, 1 to 2147483647. Flushes lie on its wall-clock multiples. The reference reads it at its start alone",
                NextFlush,
            ),
            key(
                "percentThreshold",
                "",
                "a number or a list of at most 256; negative = from the top. A text gives the name too: `\"99.90\"` is `99_90`. Numbers of TOML: within -100..=100 and not 0. Entries of one name count once",
                NextFlush,
            ),
            key(
                "histogram",
                "none",
                "list of `{ metric, bins }`; the first entry whose `metric` occurs in the key decides; `\"inf\"` takes the rest",
                NextFlush,
            ),
            key(
                "histogram[].metric",
                "required",
                "text that must occur in the key; empty matches every key",
                NextFlush,
            ),
            key(
                "histogram[].bins",
                "required",
                "limits, ascending; a text gives the name too; empty = no histogram",
                NextFlush,
            ),
            key(
                "calculatedTimerMetrics",
                "",
                "list of derived names to keep, `upper_percent` for every threshold; empty keeps all",
                NextFlush,
            ),
            key("keyNameSanitize", "", "cleans keys as [protocol.md](protocol.md) says", AtOnce),
            key("deleteIdleStats", "false", "default of the four below", AtOnce),
            key(
                "deleteCounters",
                "",
                "an idle counter is not sent. The daemon's own three always are",
                AtOnce,
            ),
            key("deleteTimers", "", "an idle timer is not sent", AtOnce),
            key("deleteSets", "", "an idle set is not sent", AtOnce),
            key(
                "deleteGauges",
                "",
                "a gauge leaves `gaugesMaxTTL` flushes after its last update",
                AtOnce,
            ),
            key(
                "gaugesMaxTTL",
                "",
                "with `deleteGauges`: flushes a gauge is sent in after its last update, at least 1",
                AtOnce,
            ),
            key(
                "prefixStats",
                "",
                "name of the daemon's own series. A reload keeps what was counted; the old names stay, as in the reference",
                AtOnce,
            ),
        ],
    },
    Chapter {
        title: "How points are named",
        about: "The block `graphite` counts for `floe query` and is the default of every backend; a backend's own `graphite` block changes single keys. The reference reads it at its start alone.",
        keys: &[
            key(
                "graphite.legacyNamespace",
                "",
                "true: `stats.K`, `stats_counts.K`; false: `stats.counters.K.rate`",
                AtOnce,
            ),
            key(
                "graphite.globalPrefix",
                "",
                "new namespace only; empty is left out with its dot",
                AtOnce,
            ),
            key("graphite.prefixCounter", "", "new namespace only", AtOnce),
            key("graphite.prefixTimer", "", "new namespace only", AtOnce),
            key("graphite.prefixGauge", "", "new namespace only", AtOnce),
            key("graphite.prefixSet", "", "new namespace only", AtOnce),
            key(
                "graphite.globalSuffix",
                "",
                "last component of every name, before the tags",
                AtOnce,
            ),
            key(
                "flush_counts",
                "",
                "sends counts of counters beside their rates. At the top; in TOML also in a `graphite` block",
                AtOnce,
            ),
        ],
    },
    Chapter {
        title: "Where points go",
        about: "At most 64 backends of Graphite. Each receives everything. Without any, intervals are kept in the archive only. One that a reload leaves out keeps its queue in the spool.",
        keys: &[
            key("graphiteHost", "none", "makes a backend called `graphite`", AtOnce),
            key("graphitePort", "2003", "its port for text, 1 to 65535", AtOnce),
            key("graphitePicklePort", "2004", "its port for pickle, 1 to 65535", AtOnce),
            key(
                "graphiteProtocol",
                "`text`",
                "or `pickle`; with a `config.js` anything else counts as text, with a warning",
                AtOnce,
            ),
            key(
                "backends",
                "`[\"./backends/graphite\"]`",
                "in a `config.js` a list of modules: `./backends/graphite`, `./backends/console`, `./backends/repeater`; another one is refused, for modules are JavaScript. In TOML, and in a `floe` block, a list of tables:",
                AtOnce,
            ),
            key(
                "backends[].name",
                "required",
                "1 to 64 of `a-z 0-9 _ -`, its directory in the spool; not `tmp`, `archive`, `quarantine`",
                AtOnce,
            ),
            key(
                "backends[].address",
                "required",
                "`host:port`, an IPv6 address in brackets; resolved again at each connect",
                AtOnce,
            ),
            key("backends[].protocol", "`text`", "or `pickle`", AtOnce),
            key(
                "backends[].ack",
                "`fin`",
                "`fin`: delivered when the backend has closed after us; `written`: when its kernel has everything, for relays that keep connections open",
                AtOnce,
            ),
            key("backends[].backlog_age", "`6h`", "oldest segment kept for it", AtOnce),
            key(
                "backends[].backlog_bytes",
                "`8GiB`",
                "most bytes kept for it, 4 KiB to 1 PiB",
                AtOnce,
            ),
            key("backends[].graphite", "the block at the top", "names for this backend", AtOnce),
        ],
    },
    Chapter {
        title: "Beside Graphite",
        about: "With a `config.js` the console and the repeater work when `backends` names their modules; in TOML when their keys are there.",
        keys: &[
            key(
                "console.prettyprint",
                "false",
                "the console backend prints each flush to standard output; true: coloured, and deeper",
                AtOnce,
            ),
            key(
                "repeater",
                "none",
                "list of `{ host, port }`, at most 16: every datagram is sent on to each, as it came. What a target does not take is dropped for it alone, and counted",
                AtOnce,
            ),
            key("repeater[].host", "required", "name or IP address", AtOnce),
            key("repeater[].port", "required", "1 to 65535", AtOnce),
            key(
                "repeaterProtocol",
                "`udp4`",
                "or `udp6`, or `tcp`: one connection each, a newline behind each datagram",
                AtOnce,
            ),
            key(
                "keyFlush.interval",
                "0",
                "ms, to 2147483647: how often the most frequent keys are written; 0 = never",
                AtOnce,
            ),
            key(
                "keyFlush.percent",
                "100",
                "part of the keys that is written, above 0, at most 100",
                AtOnce,
            ),
            key("keyFlush.log", "standard output", "file to append to", AtOnce),
        ],
    },
    Chapter {
        title: "The spool",
        about: "",
        keys: &[
            key(
                "spool.path",
                "see right",
                "directory; a relative one counts from where the daemon is started. Absent: the first of `$STATE_DIRECTORY`, `/var/lib/floe`, `$XDG_STATE_HOME/floe` or `~/.local/state/floe` that can be written",
                Restart,
            ),
            key("spool.archive_age", "", "oldest segment of the archive", AtOnce),
            key("spool.archive_bytes", "", "most bytes of the archive, to 1 PiB", AtOnce),
        ],
    },
    Chapter {
        title: "Workers",
        about: "For those who measure: the defaults suit a machine that floe has for itself.",
        keys: &[
            key("ingest", "`auto`", "a word, or a table with the keys below", Restart),
            key(
                "ingest.mode",
                "",
                "`auto`: io_uring, and `recvmmsg` where it is refused; `io_uring`: or fail; `recvmmsg`",
                Restart,
            ),
            key(
                "ingest.workers",
                "one per CPU, at most 8",
                "1 to 64; with `cpus` as many as the list has. Also at the top",
                Restart,
            ),
            key(
                "ingest.cpus",
                "those inherited",
                "`[0, 1]` or `\"0-3,5\"`: what workers are pinned to, in their order; more workers than CPUs share them in turn. Also at the top",
                Restart,
            ),
            key(
                "ingest.receive_buffer",
                "`8MiB`",
                "asked of the kernel per socket, 4 KiB to 1 GiB; it grants at most `net.core.rmem_max`",
                Restart,
            ),
        ],
    },
    Chapter {
        title: "The process",
        about: "",
        keys: &[
            key(
                "books",
                "",
                "floe's own books as points, and at the end of the console's `stats`, see [protocol.md](protocol.md). False with a `config.js` that does not ask for them",
                AtOnce,
            ),
            key(
                "log.backend",
                "",
                "`stdout` (with a `config.js` the default), `stderr` (where that is the journal, the journal), `syslog`, `journald`",
                AtOnce,
            ),
            key(
                "log.application",
                "",
                "name in syslog and journal, at most 48 printable characters without blanks and colons; in a `config.js` others are replaced, with a warning",
                AtOnce,
            ),
            key(
                "log.level",
                "",
                "least important level that is logged: `error`, `warn`, `info`, `debug`, or syslog's `LOG_ERR`, `LOG_WARNING`, `LOG_INFO`, `LOG_DEBUG` and the others. `RUST_LOG` wins. Another word is an error, in a `config.js` a warning. To the reference it is a level for lines without one",
                AtOnce,
            ),
            key(
                "log.format",
                "",
                "`text`, or `json`: an object per line. Not known to the reference, which does not mind",
                AtOnce,
            ),
            key("debug", "", "the log at level `debug`", AtOnce),
            key(
                "dumpMessages",
                "",
                "every line received is logged, escaped; what the log is too slow for is left out, and its number told",
                AtOnce,
            ),
            key(
                "title",
                "",
                "what process listings show: a text, as far as the command line has room; false: nothing is changed; true: `statsd` and the arguments, which is the default with a `config.js`",
                AtOnce,
            ),
            key(
                "healthStatus",
                "",
                "what the console answers to `health` until it is told otherwise: `up` or `down`. A reload changes it only where the file has changed it. The reference ignores it",
                AtOnce,
            ),
            key(
                "automaticConfigReload",
                "",
                "whether a changed file is read again by itself; SIGHUP reads it in any case",
                AtOnce,
            ),
        ],
    },
];

/// What the page begins with.
const HEAD: &str = "# Configuration

This page is generated from `core/src/config/keys.rs` and the settings' own defaults: `floe config --markdown > docs/configuration.md`. `floe check FILE` prints every setting as floe understood it, and is the last word.

A file whose name ends in `.toml` is floe's own language; every other file is a `config.js` of the reference daemon. `floe config --defaults` prints a TOML file with every key and what it does; `floe config --from config.js` prints the TOML that means the same.

| | `config.js` | TOML |
|---|---|---|
| types | as lenient as JavaScript: numbers in quotes, truthiness | strict |
| unknown key | one warning each | error, with the nearest known name |
| own keys (`books`, `spool`, `ingest`, `streams`, `backends` as tables) | in a block `floe: { ... }`, read strictly | at the top |

Flags win over the environment, that over the file, that over the default: `--spool` (`FLOE_SPOOL`), `--ingest` (`FLOE_INGEST`), `--workers` (`FLOE_WORKERS`), `--cpus` (`FLOE_CPUS`). A variable that is empty counts as not set. `RUST_LOG` sets the level of the log.

A duration is a whole number with a unit of `ms`, `s`, `m`, `h`, `d`; a size is bytes, or a whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `KB`, `MB`, `GB`, `TB`.

A running daemon reads its file again on SIGHUP and when it has changed ([operations/reload.md](operations/reload.md)). The column *reload* says when a change holds: at once, from the next flush on, or at the next start.
";

/// What it ends with.
const TAIL: &str = "
## A `config.js` with all of it

```js
// statsd
{
  graphiteHost: 'graphite.example.net',
  port: 8125,
  flushInterval: 10 * 1000,
  percentThreshold: [90, 99.9],
  deleteIdleStats: true,
  backends: ['./backends/graphite', './backends/console'],
  keyFlush: { interval: 60000 },
  graphite: { globalSuffix: require('os').hostname().split('.')[0] },
  floe: { books: true, spool: { path: '/var/lib/floe' } },
  colour: 'red',
}
```

On a host called `vm`:

```console
$ floe check config.js
";

/// The page `docs/configuration.md`; `check` is what `floe check` prints of the example.
#[must_use]
pub fn markdown(check: &str) -> String {
    let defaults = document(&without_file().settings);
    let mut page = HEAD.to_owned();
    for Chapter { title, about, keys } in &CHAPTERS {
        write!(page, "\n## {title}\n\n").expect("writing into a String cannot fail");
        if !about.is_empty() {
            write!(page, "{about}\n\n").expect("writing into a String cannot fail");
        }
        page.push_str("| key | default | effect | reload |\n|---|---|---|---|\n");
        for Key { path, absent, effect, reload } in *keys {
            let default = match defaults.value(path) {
                Some(value) if absent.is_empty() => format!("`{value}`"),
                _ => (*absent).to_owned(),
            };
            writeln!(page, "| `{path}` | {default} | {effect} | {} |", reload.word())
                .expect("writing into a String cannot fail");
        }
    }
    page.push_str(TAIL);
    page.push_str(check);
    page.push_str("```\n");
    page
}

/// The example of the page, a `config.js`.
#[must_use]
pub fn example() -> &'static str {
    let start = TAIL.find("// statsd").expect("the example stands in TAIL");
    let end = TAIL.find("```\n\nOn a host").expect("the example ends in TAIL");
    &TAIL[start..end]
}

/// A TOML file of every key: those that have a default with it, the others behind a `#`, each with
/// what it does. It reads as the settings of no file at all.
#[must_use]
pub fn annotated_defaults() -> String {
    let defaults = document(&without_file().settings);
    let mut text = "# Every key of floe with its default. A key behind a # has none of its own.\n\
        # What holds from when on after a change of this file: docs/configuration.md.\n"
        .to_owned();
    // Keys at the top stand before the first table.
    for is_in_table in [false, true] {
        let mut open = "";
        for Chapter { keys, .. } in &CHAPTERS {
            for key in keys.iter().filter(|key| is_table_key(key.path) == is_in_table) {
                write_default(&mut text, &defaults, key, &mut open);
            }
        }
    }
    text
}

fn is_table_key(path: &str) -> bool {
    path.contains('.') || path.contains("[]")
}

fn write_default(text: &mut String, defaults: &Document, key: &Key, open: &mut &'static str) {
    let Key { path, absent, effect, reload } = key;
    let value = defaults.value(path);
    let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
    if !table.is_empty() && *open != table {
        *open = table;
        let header = match table.strip_suffix("[]") {
            Some(list) => format!("# [[{list}]]"),
            // A table whose presence means something is left to the reader.
            None if defaults.tables.iter().any(|(header, _)| header == table) => {
                format!("[{table}]")
            }
            None => format!("# [{table}]"),
        };
        write!(text, "\n{header}\n").expect("writing into a String cannot fail");
    }
    writeln!(text, "\n# {effect} (reload: {})", reload.word())
        .expect("writing into a String cannot fail");
    match value {
        Some(value) => writeln!(text, "{name} = {value}"),
        None => writeln!(text, "# {name}: {}", absent.replace('`', "")),
    }
    .expect("writing into a String cannot fail");
}

#[cfg(test)]
pub(super) fn paths() -> Vec<&'static str> {
    CHAPTERS.iter().flat_map(|chapter| chapter.keys).map(|key| key.path).collect()
}
