//! The house rules that a program can check, one test per rule: sizes, words, homes of unsafe code
//! and atomics, direction of dependencies, and what must never be written into a tracked file.
//!
//! The tree is walked from the repository's root without git, leaving out build products, spools
//! and hidden folders other than `.ci`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 60;
const SKIPPED_FOLDERS: [&str; 4] = ["target", "spool", "node_modules", "__pycache__"];

/// One file of the tree: its path from the root, with `/`, and its text.
struct File {
    path: String,
    text: String,
}

#[test]
fn rust_files_are_at_most_600_lines() {
    let long = rust_files().into_iter().filter(|file| LINES_MAX < file.text.lines().count());
    report("cut these files by noun", long.map(|file| file.path));
}

#[test]
fn main_is_wiring_of_at_most_60_lines() {
    let main = fs::read_to_string(root().join("main.rs")).expect("main.rs stands in the root");
    let lines = main.lines().count();
    assert!(lines <= MAIN_LINES_MAX, "main.rs has {lines} lines; logic belongs into a crate");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let macros = [concat!("todo", "!("), concat!("unimplemented", "!(")];
    let mut found = Vec::new();
    for file in all_files() {
        for (number, line) in numbered(&file.text) {
            let has_mark = line
                .split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
                .any(|word| marks.contains(&word));
            if has_mark || macros.iter().any(|text| line.contains(text)) {
                found.push(format!("{}:{number}", file.path));
            }
        }
    }
    report("finish these or take them out", found);
}

#[test]
fn unwrap_stands_in_tests_alone() {
    let call = concat!(".unw", "rap()");
    let mut found = Vec::new();
    for file in rust_files().into_iter().filter(|file| !is_test_file(&file.path)) {
        for (number, line) in code_lines(&file.text) {
            if line.contains(call) {
                found.push(format!("{}:{number}", file.path));
            }
        }
    }
    report("say with expect why it cannot fail", found);
}

#[test]
fn every_module_opens_with_its_docs() {
    let silent = rust_files().into_iter().filter(|file| {
        let first =
            file.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
        !first.is_some_and(|line| line.starts_with("//!"))
    });
    report("open with //! and say what the module is", silent.map(|file| file.path));
}

/// `docs/unsafe.md` has one table row per unsafe site, and the row names the file by its path.
#[test]
fn every_unsafe_site_has_its_row() {
    let table = read("docs/unsafe.md");
    let mut sites: BTreeMap<String, usize> = BTreeMap::new();
    for file in rust_files().into_iter().filter(|file| !is_test_file(&file.path)) {
        let count = code_lines(&file.text).map(|(_, line)| unsafe_sites(&line)).sum();
        if 0 < count {
            sites.insert(file.path, count);
        }
    }
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with('|')) {
        for word in row.split(|char: char| char.is_whitespace() || "|`():,;".contains(char)) {
            if Path::new(word).extension() == Some("rs".as_ref()) && !is_test_file(word) {
                *rows.entry(word.to_owned()).or_default() += 1;
                break;
            }
        }
    }
    assert_eq!(sites, rows, "left: unsafe sites per file; right: rows of docs/unsafe.md per file");
}

#[test]
fn atomics_of_core_come_from_sync() {
    let names = ["std::sync::atomic", "core::sync::atomic", "UnsafeCell"];
    let mut found = Vec::new();
    for file in rust_files() {
        if !file.path.starts_with("core/src/") || file.path == "core/src/sync.rs" {
            continue;
        }
        // `sync::UnsafeCell`, the re-export that loom can replace, may be named.
        let imports = |line: &str| {
            names.iter().any(|name| line.contains(name))
                && !line.contains("crate::sync")
                && (line.contains("std::") || line.contains("core::"))
        };
        found.extend(
            numbered(&file.text)
                .filter(|(_, line)| !is_comment(line) && imports(line))
                .map(|(number, _)| format!("{}:{number}", file.path)),
        );
    }
    report("import these from crate::sync, so that loom can replace them", found);
}

#[test]
fn dependencies_point_from_io_to_storage_to_core() {
    let allowed: [(&str, &[&str]); 6] = [
        ("core", &[]),
        ("storage", &["floe-core"]),
        ("io", &["floe-core", "floe-storage"]),
        ("loadgen", &[]),
        ("bench", &["floe-core", "floe-storage", "floe-io"]),
        ("fuzz", &["floe-core", "floe-storage", "floe-io"]),
    ];
    let mut found = Vec::new();
    for (member, allowed) in allowed {
        for used in floe_crates_in(&read(&format!("{member}/Cargo.toml"))) {
            if !allowed.contains(&used.as_str()) && used != format!("floe-{member}") {
                found.push(format!("{member} uses {used}"));
            }
        }
    }
    report("a new arrow is a design decision", found);
}

#[test]
fn members_take_their_dependencies_from_the_workspace() {
    let mut found = Vec::new();
    for member in ["", "core/", "io/", "storage/", "bench/", "loadgen/", "fuzz/"] {
        let manifest = read(&format!("{member}Cargo.toml"));
        let mut section = String::new();
        for (number, line) in numbered(&manifest) {
            if line.starts_with('[') {
                section = line.to_owned();
            }
            let is_entry = section.ends_with("dependencies]")
                && !section.starts_with("[workspace")
                && !line.starts_with(['[', '#'])
                && line.contains('=');
            if is_entry && !line.contains("workspace = true") {
                found.push(format!("{member}Cargo.toml:{number}: {line}"));
            }
        }
    }
    report("declare these once in [workspace.dependencies]", found);
}

#[test]
fn no_file_names_a_registry_or_a_place_outside() {
    let forbidden = [
        concat!("crates", ".io/"),
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("registry.", "npmjs"),
        concat!("pypi", ".org"),
        concat!("files.", "pythonhosted"),
        concat!("deb.", "debian.org"),
        concat!("../", "shared"),
        concat!("/work", "/shared"),
        concat!("/work", "/wt"),
    ];
    // The lock file's own way to name the default registry, which cargo writes.
    let cargo_source = concat!("registry+https://github.com/rust-lang/", "crates.io-index");
    let mut found = Vec::new();
    for file in all_files() {
        for (number, line) in numbered(&file.text) {
            let line = line.replace(cargo_source, "");
            if forbidden.iter().any(|text| line.contains(text)) {
                found.push(format!("{}:{number}", file.path));
            }
        }
    }
    report("the repository stands alone", found);
}

#[test]
fn the_glossary_defines_every_house_word() {
    let words = [
        "datagram",
        "line",
        "sample",
        "reject",
        "key",
        "series",
        "shard",
        "worker",
        "batch",
        "interval",
        "snapshot",
        "point",
        "segment",
        "spool",
        "backend",
        "acknowledge",
        "drop",
        "drain",
    ];
    let glossary = read("docs/glossary.md").to_lowercase();
    let defined: BTreeSet<&str> = glossary
        .lines()
        .filter_map(|line| {
            line.trim_start_matches(['|', '*', '-', '#', ' ', '`'])
                .split(['|', '*', '`', ':', ' '])
                .next()
        })
        .collect();
    report(
        "define these at the head of a line",
        words.iter().filter(|word| !defined.contains(**word)),
    );
}

#[test]
fn names_of_tests_are_sentences() {
    let mut found = Vec::new();
    for file in rust_files() {
        let mut is_next = false;
        for (number, line) in numbered(&file.text) {
            let line = line.trim();
            if line == "#[test]" {
                is_next = true;
            } else if let Some(name) = line.strip_prefix("fn ").filter(|_| is_next) {
                let name = name.split('(').next().expect("split gives at least one part");
                if name.starts_with("test_") || !name.contains('_') {
                    found.push(format!("{}:{number}: {name}", file.path));
                }
                is_next = false;
            }
        }
    }
    report("name tests by a sentence", found);
}

#[test]
fn no_test_is_ignored() {
    let attribute = concat!("#[ign", "ore");
    let mut found = Vec::new();
    for file in rust_files() {
        found.extend(
            numbered(&file.text)
                .filter(|(_, line)| line.trim_start().starts_with(attribute))
                .map(|(number, _)| format!("{}:{number}", file.path)),
        );
    }
    report("a test runs or goes", found);
}

#[test]
fn no_module_is_named_after_nothing() {
    let names = ["utils", "util", "helpers", "helper", "common", "misc", "types"];
    let vague = rust_files().into_iter().filter(|file| {
        let path = Path::new(&file.path);
        let is_vague =
            |part: &std::ffi::OsStr| part.to_str().is_some_and(|part| names.contains(&part));
        path.file_stem().is_some_and(is_vague) || path.iter().any(is_vague)
    });
    report("name the file by the noun it defines", vague.map(|file| file.path));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with one line per finding.
fn report<T: std::fmt::Display>(advice: &str, found: impl IntoIterator<Item = T>) {
    let found: Vec<String> = found.into_iter().map(|item| item.to_string()).collect();
    assert!(found.is_empty(), "{advice}:\n  {}", found.join("\n  "));
}

/// Every text file of the tree.
fn all_files() -> Vec<File> {
    let mut files = Vec::new();
    walk(root(), &mut files);
    assert!(20 < files.len(), "the walk found the tree");
    files
}

fn rust_files() -> Vec<File> {
    all_files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn walk(folder: &Path, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).expect("the tree is readable");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the tree is readable").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_hidden = name.starts_with('.') && name != ".ci" && name != ".gitignore";
        if is_hidden || SKIPPED_FOLDERS.contains(&name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("the walk stays below the root");
            files.push(File { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Integration tests, `tests.rs` beside a module, and benches.
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/benches/")
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The lines of the program proper: no comments, no strings, nothing from the tests at the bottom.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    numbered(&text[..tests_start(text)])
        .filter(|(_, line)| !is_comment(line))
        .map(|(number, line)| (number, without_strings(line)))
}

/// Where the test module at the bottom starts: `#[cfg(test)]`, further attributes, `mod`.
fn tests_start(text: &str) -> usize {
    let opens_module = |at: &usize| {
        let mut lines =
            text[*at..].lines().skip_while(|line| line.is_empty() || line.starts_with('#'));
        lines.next().is_some_and(|line| line.split(' ').any(|word| word == "mod"))
    };
    text.match_indices("\n#[cfg(")
        .map(|(at, _)| at)
        .filter(|at| {
            text[*at..].trim_start().lines().next().is_some_and(|line| line.contains("test"))
        })
        .find(opens_module)
        .unwrap_or(text.len())
}

/// The line with the contents of its string literals and its trailing comment taken out.
fn without_strings(line: &str) -> String {
    let mut code = String::new();
    let mut is_inside = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if is_inside => drop(chars.next().map(|_| ())),
            '"' => is_inside = !is_inside,
            '\'' if !is_inside && chars.peek() == Some(&'"') => drop(chars.next().map(|_| ())),
            '/' if !is_inside && chars.peek() == Some(&'/') => break,
            _ if is_inside => {}
            _ => code.push(char),
        }
    }
    code
}

/// Unsafe blocks, functions, impls and traits that start on this line of code.
fn unsafe_sites(line: &str) -> usize {
    line.match_indices("unsafe")
        .filter(|(at, word)| {
            let is_word = |char: char| char.is_alphanumeric() || char == '_';
            let rest = &line[at + word.len()..];
            let next = rest.trim_start();
            // A function pointer type, `unsafe fn(..)`, has no name after `fn`.
            let opens = next.is_empty()
                || ["{", "impl", "trait", "extern"].iter().any(|word| next.starts_with(word))
                || next.strip_prefix("fn ").is_some_and(|name| name.starts_with(is_word));
            !line[..*at].ends_with(is_word) && !rest.starts_with(is_word) && opens
        })
        .count()
}

/// The floe crates that a manifest's dependency sections name.
fn floe_crates_in(manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("floe-") || line.starts_with("[dependencies.floe-"))
        .map(|line| {
            line.trim_start_matches("[dependencies.")
                .chars()
                .take_while(|char| char.is_ascii_lowercase() || *char == '-')
                .collect()
        })
        .collect()
}

#[test]
fn unsafe_sites_are_told_from_mentions() {
    for (line, count) in [
        ("let a = unsafe { b() };", 1),
        ("unsafe fn read() {", 1),
        ("unsafe impl Send for Ring {}", 1),
        ("    unsafe {", 1),
        ("    unsafe", 1),
        ("#[expect(unsafe_code, reason = \"unsafe { is quoted\")]", 0),
        ("call(); // unsafe { in a comment", 0),
        ("type Hook = unsafe fn(u64);", 0),
    ] {
        assert_eq!(unsafe_sites(&without_strings(line)), count, "{line}");
    }
}
