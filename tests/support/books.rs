//! `floe books` and the archive, and the kernel's own figures to hold them against.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::daemon::{floe_output, text_of};

/// The books of a spool, every identity of which holds.
#[derive(Debug)]
pub(crate) struct Books(Value);

impl Books {
    /// Those of the spool at `spool`, from its daemon or from its files.
    ///
    /// # Panics
    /// If there are none, or an identity does not hold.
    pub(crate) fn of(spool: &Path) -> Self {
        Self::try_of(spool).unwrap_or_else(|message| panic!("{message}"))
    }

    /// As [`Books::of`]; what was said instead, if there are none yet.
    pub(crate) fn try_of(spool: &Path) -> Result<Self, String> {
        let spool = spool.to_str().expect("temporary folders have plain names");
        let output = floe_output(["books", "--json", "--spool", spool]);
        if !output.status.success() {
            return Err(text_of(&output));
        }
        let value: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        let identities = value["identities"].as_array().expect("identities are a list");
        for identity in identities {
            assert_eq!(identity["holds"], true, "{value:#}");
        }
        let books = Self(value);
        assert_eq!(books.count("accounting_broken"), 0, "{books:?}");
        Ok(books)
    }

    /// `daemon` or `spool`.
    pub(crate) fn source(&self) -> &str {
        self.0["source"].as_str().expect("it says where they are from")
    }

    /// A count; 0 where there is none.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.0["counts"][name].as_u64().unwrap_or(0)
    }

    /// A count of a backend.
    pub(crate) fn of_backend(&self, backend: &str, word: &str) -> u64 {
        self.count(&format!("backend.{backend}.{word}"))
    }

    /// A count of the host: `None` = not available.
    pub(crate) fn of_host(&self, name: &str) -> Option<u64> {
        let value = self.0["host"].get(name).expect("every count of the host is named");
        value.as_u64()
    }
}

/// What the kernel says that the UDP sockets at `port` dropped: the last column of `/proc/net/udp`.
pub(crate) fn kernel_drops(port: u16) -> u64 {
    let of = |file: &str| -> u64 {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let local = fields.get(1)?.rsplit_once(':')?.1;
            let is_ours = u16::from_str_radix(local, 16) == Ok(port);
            is_ours.then(|| fields.last()?.parse::<u64>().ok())?
        });
        lines.sum()
    };
    of("/proc/net/udp") + of("/proc/net/udp6")
}

/// What the archive of a spool holds of the row `name`, by timestamp.
pub(crate) fn archived(spool: &Path, name: &str) -> BTreeMap<u64, f64> {
    let spool = spool.to_str().expect("temporary folders have plain names");
    let output = floe_output(["query", "--spool", spool, name, "--json"]);
    assert!(output.status.success(), "{}", text_of(&output));
    let rows = String::from_utf8(output.stdout).expect("it prints text");
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("a line is an object");
        (row["time"].as_u64().expect("seconds"), row["value"].as_f64().expect("a number"))
    };
    rows.lines().map(row).collect()
}
