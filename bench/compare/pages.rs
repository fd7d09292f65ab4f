//! The pages of the repository that carry tables, each block of them between two marks.
//!
//! A block names the record its tables are of, so that a page may have those of several machines:
//! `<!-- compare: begin 2026-11-27-vm -->` to `<!-- compare: end -->`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::record::{Record, records, with_tables};

/// What a mark begins with before the name of the record, and ends with behind it.
const BEGIN: (&str, &str) = ("<!-- compare: begin ", " -->\n");

const END: &str = "<!-- compare: end -->\n";

/// What of a record stands in a page.
type TextOf = fn(&Record) -> String;

/// The pages that carry tables.
const PAGES: [(&str, TextOf); 2] =
    [("docs/benchmarks.md", Record::markdown), ("README.md", Record::summary)];

/// Tables in a page.
struct Block<'p> {
    /// Name of the record's folder.
    record: &'p str,
    /// From its first mark to behind its last.
    place: Range<usize>,
}

/// Writes the tables of `record` in `folder` into the pages: in place of those of the same machine, or
/// where no page has such, of the first of each page.
///
/// # Errors
/// When the record is not one of the repository, a page has no marks, or cannot be written.
pub(super) fn write(folder: &Path, record: &Record) -> anyhow::Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_kept = records().join(name).canonicalize().ok() == folder.canonicalize().ok();
    anyhow::ensure!(is_kept, "pages have tables of records in {}", records().display());
    let mut texts = Vec::new();
    for (page, text_of) in PAGES {
        let text = std::fs::read_to_string(path(page)).with_context(|| page.to_owned())?;
        texts.push((page, text, text_of));
    }
    let is_like = |block: &Block<'_>| {
        let shown = Record::read(&records().join(block.record)).ok().flatten();
        shown.is_some_and(|shown| shown.machine.is_like(&record.machine))
    };
    let is_known = texts.iter().any(|(_, text, _)| blocks(text).any(|block| is_like(&block)));
    for (page, text, text_of) in texts {
        let block = blocks(&text).find(|block| !is_known || is_like(block));
        let Some(block) = block else {
            anyhow::ensure!(is_known, "{page} has no mark where tables begin");
            continue;
        };
        let text = with_block(&text, &block, name, &text_of(record));
        std::fs::write(path(page), text).with_context(|| page.to_owned())?;
    }
    Ok(())
}

/// Writes the tables of all records of the repository anew, and those of all pages, from the numbers in
/// the records; returns the pages and folders.
///
/// # Errors
/// When a record cannot be read, a page names one that is not there, or either cannot be written.
pub(crate) fn write_anew() -> anyhow::Result<Vec<String>> {
    let mut written = Vec::new();
    for folder in with_tables().context("cannot list the records")? {
        let record = Record::read(&folder)?;
        record.context("tables without a record")?.write_tables(&folder)?;
        written.push(folder.display().to_string());
    }
    for (page, text_of) in PAGES {
        let mut text = std::fs::read_to_string(path(page)).with_context(|| page.to_owned())?;
        for index in 0..blocks(&text).count() {
            let Some(block) = blocks(&text).nth(index) else { break };
            let name = block.record.to_owned();
            let record = Record::read(&records().join(&name))?;
            let record =
                record.with_context(|| format!("{page} names {name}, which is no record"))?;
            text = with_block(&text, &block, &name, &text_of(&record));
        }
        std::fs::write(path(page), text).with_context(|| page.to_owned())?;
        written.push(page.to_owned());
    }
    Ok(written)
}

/// The blocks of a page, in their order.
fn blocks(page: &str) -> impl Iterator<Item = Block<'_>> {
    page.match_indices(BEGIN.0).filter_map(|(start, begin)| {
        let (record, rest) = page[start + begin.len()..].split_once(BEGIN.1)?;
        let behind = page.len() - rest.len();
        let end = behind + rest.find(END)? + END.len();
        Some(Block { record, place: start..end })
    })
}

/// `page` with other tables in a block.
fn with_block(page: &str, block: &Block<'_>, record: &str, tables: &str) -> String {
    let (before, behind) = (&page[..block.place.start], &page[block.place.end..]);
    format!("{before}{}{record}{}\n{tables}\n{END}{behind}", BEGIN.0, BEGIN.1)
}

/// A page of the repository.
fn path(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    #[test]
    fn tables_go_between_the_marks_of_their_record() {
        let page = "head\n<!-- compare: begin a -->\nold\n<!-- compare: end -->\nbetween\n\
                    <!-- compare: begin b -->\nolder\n<!-- compare: end -->\ntail\n";
        let found: Vec<Block<'_>> = blocks(page).collect();
        assert_eq!(found.iter().map(|block| block.record).collect::<Vec<_>>(), ["a", "b"]);
        let written = with_block(page, &found[1], "c", "new");
        let expected = "head\n<!-- compare: begin a -->\nold\n<!-- compare: end -->\nbetween\n\
                        <!-- compare: begin c -->\n\nnew\n<!-- compare: end -->\ntail\n";
        assert_eq!(written, expected);
        assert_eq!(blocks("no marks").count(), 0);
        assert_eq!(blocks("<!-- compare: begin a -->\nand no end\n").count(), 0);
    }

    #[test]
    fn pages_carry_the_tables_of_the_records_they_name_and_the_newest_is_among_them() {
        let mut named = BTreeSet::new();
        for (page, text_of) in PAGES {
            let text = fs::read_to_string(path(page)).unwrap();
            assert!(0 < blocks(&text).count(), "{page}");
            for block in blocks(&text) {
                let record = Record::read(&records().join(block.record)).unwrap();
                let record = record.unwrap_or_else(|| panic!("{page}: no {}", block.record));
                assert!(
                    with_block(&text, &block, block.record, &text_of(&record)) == text,
                    "{page} has other tables than {}; floe-bench tables writes them anew",
                    block.record
                );
                named.insert(block.record.to_owned());
            }
        }
        let newest = with_tables().unwrap().pop().unwrap();
        let newest = newest.file_name().unwrap().to_str().unwrap();
        assert!(named.contains(newest), "no page has the tables of {newest}");
    }
}
