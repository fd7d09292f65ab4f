//! Why a configuration was refused.
//!
//! A message says what is wrong, with which value, where, and what to do. The caller puts the file's
//! name in front: core is handed text and knows no file.

use std::fmt;

use crate::limits::CONFIG_BYTES_MAX;

/// The line a message points to, 1-based; unknown where a value has no place of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, " (line {line})"))
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Longer than [`CONFIG_BYTES_MAX`].
    #[error(
        "configuration of {bytes} bytes is too long, at most {CONFIG_BYTES_MAX} are read; \
         is this the right file?"
    )]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// Not JSON5, not TOML, or an expression that is not read.
    #[error("{problem} (line {line}, column {column})")]
    Syntax {
        /// What is wrong, and what to do.
        problem: String,
        /// Line in the given text, 1-based.
        line: usize,
        /// Column in characters, 1-based.
        column: usize,
    },
    /// A key nobody reads.
    #[error("unknown key {key}{hint}{line}")]
    UnknownKey {
        /// The key with the tables it stands in.
        key: String,
        /// `, did you mean ...?`, or what else to do.
        hint: String,
        /// Where.
        line: Line,
    },
    /// A value of the wrong type or out of range.
    #[error("{key} must be {allowed}, found {found}{line}")]
    BadValue {
        /// The key with the tables it stands in.
        key: String,
        /// Type and range.
        allowed: String,
        /// The value, shortened.
        found: String,
        /// Where.
        line: Line,
    },
    /// A key that has no default.
    #[error("{table} needs the key {key}, for example {example}{line}")]
    MissingKey {
        /// The table that lacks it.
        table: String,
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
        /// Where the table starts.
        line: Line,
    },
    /// One setting given in two places.
    #[error("{first} and {second} set the same thing, keep one of them{line}")]
    GivenTwice {
        /// One key.
        first: String,
        /// The other.
        second: String,
        /// Where the second stands.
        line: Line,
    },
    /// Two backends under one name would share one queue.
    #[error("backend name {name} is used twice, give each backend its own{line}")]
    DuplicateBackend {
        /// The name.
        name: String,
        /// Where the second stands.
        line: Line,
    },
    /// `servers` is empty.
    #[error("no server is configured; add {{ server: './servers/udp', port: 8125 }} to servers")]
    NoListener,
    /// A backend that is a module of the reference daemon's ecosystem, or of the operator's own.
    #[error(
        "{key} must be a backend that floe has, found {module}: there are \"./backends/graphite\" \
         (text or pickle, also several by backends in a floe block), \"./backends/console\" and \
         \"./backends/repeater\"; other modules are JavaScript, which is not executed{line}"
    )]
    UnknownModule {
        /// The entry of `backends`.
        key: String,
        /// The module, shortened.
        module: String,
        /// Where.
        line: Line,
    },
}
