//! Every key: what it does, who should change it, and when a reload applies it.
//!
//! The one table (`points`, `process`) behind `docs/configuration.md` and `floe config --defaults`. Defaults are those of
//! the settings themselves, printed by `to_toml`; a key that has none there says so in words.
//! `tests/written.rs` holds it against the readers: no key is missing, none is left over.

/// Keys of statistics, names and backends.
mod points;
/// Keys of listeners and of the process.
mod process;
/// Keys of how much is held.
mod budgets;

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
    /// A value in TOML, where there is no default.
    example: &'static str,
    /// What it does, its unit and range, and where the reference differs.
    effect: &'static str,
    /// Who should change it.
    change: &'static str,
    reload: Reload,
}

/// Every chapter, in the order of the page.
const CHAPTERS: [Chapter; 9] = [
    process::LINES,
    points::STATISTICS,
    points::NAMES,
    points::BACKENDS,
    points::MODULES,
    process::SPOOL,
    process::WORKERS,
    budgets::BUDGETS,
    process::PROCESS,
];

/// Longest line of a comment, bytes.
const COMMENT_WIDTH: usize = 98;

/// What the page begins with.
const HEAD: &str = "# Configuration

This page is generated from `core/src/config/keys/` and the settings' own defaults: `floe config --markdown > docs/configuration.md`. `floe check FILE` prints every setting as floe understood it, and is the last word.

A file whose name ends in `.toml` is floe's own language; every other file is a `config.js` of the reference daemon. `floe config --defaults` prints a TOML file with every key and what it does; `floe config --from config.js` prints the TOML that means the same.

| | `config.js` | TOML |
|---|---|---|
| types | as lenient as JavaScript: numbers in quotes, truthiness | strict |
| unknown key | one warning each | error, with the nearest known name |
| own keys (`books`, `spool`, `ingest`, `streams`, `series`, `memory`, `top`, `backends` as tables) | in a block `floe: { ... }`, read strictly | at the top |

Flags win over the environment, that over the file, that over the default: `--spool` (`FLOE_SPOOL`), `--ingest` (`FLOE_INGEST`), `--workers` (`FLOE_WORKERS`), `--cpus` (`FLOE_CPUS`). `--user` (`FLOE_USER`) has no key: it is obeyed before the file is read. A variable that is empty counts as not set. `RUST_LOG` sets the level of the log.

A duration is a whole number with a unit of `ms`, `s`, `m`, `h`, `d`; a size is bytes, or a whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `KB`, `MB`, `GB`, `TB`.

A running daemon reads its file again on SIGHUP and when it has changed ([operations/reload.md](operations/reload.md)). The column *reload* says when a change holds: at once, from the next flush on, or at the next start, which may be that of a successor (`--take-over`: nothing is lost, [operations/upgrading.md](operations/upgrading.md)). The column *for* says who should change the default.
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
        page.push_str("| key | default | effect | for | reload |\n|---|---|---|---|---|\n");
        for Key { path, absent, example: _, effect, change, reload } in *keys {
            let default = match defaults.value(path) {
                Some(value) if absent.is_empty() => format!("`{value}`"),
                _ => (*absent).to_owned(),
            };
            writeln!(page, "| `{path}` | {default} | {effect} | {change} | {} |", reload.word())
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

/// A TOML file of every key: those that have a default with it, the others with an example behind a
/// `#`, each with what it does. It reads as the settings of no file at all.
#[must_use]
pub fn annotated_defaults() -> String {
    let defaults = document(&without_file().settings);
    let mut text = "# Every key of floe with its default. A key behind a # has none of its own: take the # away, and\n\
        # that of its table. A list is written as one key, or as [[tables]], not as both.\n"
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
    let Key { path, absent, example, effect, change, reload } = key;
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
    text.push('\n');
    write_comment(text, &effect.replace("[protocol.md](protocol.md)", "docs/protocol.md"));
    write_comment(text, &format!("For: {change}. Reload: {}.", reload.word()));
    match value {
        Some(value) => writeln!(text, "{name} = {value}"),
        None => {
            write_comment(text, &format!("Default: {absent}."));
            writeln!(text, "# {name} = {example}")
        }
    }
    .expect("writing into a String cannot fail");
}

/// Breaks `words` into lines of a comment.
fn write_comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split(' ') {
        if COMMENT_WIDTH < line.len() + 1 + word.len() {
            text.push_str(&line);
            text.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
pub(super) fn paths() -> Vec<&'static str> {
    CHAPTERS.iter().flat_map(|chapter| chapter.keys).map(|key| key.path).collect()
}

/// `header`, and the lines `key = example` of it, of each table and of each key at the top.
#[cfg(test)]
pub(super) fn examples() -> Vec<(&'static str, Vec<String>)> {
    let mut examples: Vec<(&str, Vec<String>)> = Vec::new();
    let keys = CHAPTERS.iter().flat_map(|chapter| chapter.keys);
    for Key { path, example, absent, .. } in keys {
        assert_eq!(absent.is_empty(), example.is_empty(), "{path}: a default or an example");
        let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
        let line = format!("{name} = {example}");
        match examples.iter_mut().find(|(header, _)| !table.is_empty() && *header == table) {
            _ if example.is_empty() => {}
            Some((_, lines)) => lines.push(line),
            None => examples.push((table, vec![line])),
        }
    }
    examples
}
