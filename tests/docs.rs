//! What the documents say is so: links lead somewhere, settings exist, configurations are accepted,
//! commands and their flags are known to the built binary.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use floe_core::limits;
use support::daemon::{floe_output, text_of};

mod support;

/// A page: its path from the root and its text.
struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block: language and content.
struct Block {
    page: PathBuf,
    language: String,
    text: String,
}

#[test]
fn every_link_leads_to_a_file() {
    let mut broken = Vec::new();
    for page in pages() {
        let folder = page.path.parent().unwrap_or(Path::new(""));
        for target in page.text.split("](").skip(1) {
            let target = target.split([')', '#']).next().unwrap_or_default();
            let is_elsewhere = target.contains("://") || target.is_empty();
            if !is_elsewhere && !root().join(folder).join(target).exists() {
                broken.push(format!("{}: {target}", page.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A citation is the path of a page; one of the references names an entry behind it, as in `S3`.
#[test]
fn every_page_and_entry_that_the_code_cites_is_there() {
    let entries = read("docs/references.md");
    let is_entry = |word: &str| entries.contains(&format!("\n### {word}: "));
    let is_missing = |page: &str, behind: &str| {
        let mut words = behind.split([' ', ',', ';', ':', ')', '.', '\n']);
        let is_vague = page == "docs/references.md" && !words.nth(1).is_some_and(is_entry);
        is_vague || !root().join(page).is_file()
    };
    let (mut missing, mut count) = (Vec::new(), 0);
    for source in sources(root()).iter().filter(|source| !source.ends_with(file!())) {
        let text = std::fs::read_to_string(source).expect("sources are readable");
        for (at, _) in text.match_indices("docs/") {
            let Some(end) = text[at..].find(".md").map(|end| at + end + 3) else { break };
            let page = &text[at..end];
            let is_path = |each: char| each.is_alphanumeric() || "/_-.".contains(each);
            if page.chars().all(is_path) {
                count += 1;
                if is_missing(page, &text[end..]) {
                    missing.push(format!("{}: {page}", source.display()));
                }
            }
        }
    }
    assert!(30 < count, "the sources were read, {count} citations found");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A word between backquotes that only code would use, `rows_pending` or the sentence that is a test's
/// name, stands in a source; so does each part of `rows_dropped.disk_full`. A path leads to a source, also
/// one that is told from its crate on. Decisions name what is elsewhere and what was rejected.
#[test]
fn every_source_test_and_count_that_a_page_names_is_there() {
    let sources: Vec<(String, String)> = sources(root())
        .into_iter()
        .filter(|source| !source.ends_with(file!()))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("sources are readable");
            (path.to_str().expect("sources have plain names").to_owned(), text)
        })
        .collect();
    let is_plain = |each: char| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '_';
    let is_said = |word: &str| sources.iter().any(|(_, text)| text.contains(word));
    let is_source =
        |word: &str| sources.iter().any(|(path, _)| path.ends_with(&format!("/{word}")));
    let (mut missing, mut count) = (Vec::new(), 0);
    let is_history =
        |path: &Path| path.starts_with("docs/decisions") || path.ends_with("CHANGELOG.md");
    for page in pages().iter().filter(|page| !is_history(&page.path)) {
        for word in words_of_code(&page.text) {
            // `_order.rs` is the ending of a name before it.
            let is_whole = !word.starts_with('_') && !word.contains('{');
            let is_there = if word.ends_with(".rs") && is_whole {
                is_source(word)
            } else if word.chars().all(|each| is_plain(each) || each == '.') && is_whole {
                word.split('.').filter(|part| part.contains('_')).all(is_said)
            } else {
                continue;
            };
            count += 1;
            if !is_there {
                missing.push(format!("{}: {word}", page.path.display()));
            }
        }
    }
    assert!(500 < count, "the pages were read, {count} words found");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn limits_that_the_pages_of_operations_tell_are_those_of_the_code() {
    let grouped = |number: usize| {
        let digits: Vec<char> = number.to_string().chars().collect();
        let groups: Vec<String> = digits.rchunks(3).rev().map(|it| it.iter().collect()).collect();
        groups.join(",")
    };
    let (waiting, batches) = (limits::INTERVALS_WAITING_MAX, limits::TOP_BATCHES_EACH);
    let told = [
        ("memory_grows", format!("wait for the disk: {waiting}, or")),
        ("memory_grows", format!("down to {} series", grouped(limits::SERIES_MAX_LEAST))),
        ("memory_grows", format!("{} members of one set", grouped(limits::SET_MEMBERS_EXACT_MAX))),
        ("memory_grows", format!("leave after {} flips", limits::SLOT_IDLE_FLIPS_MAX)),
        ("disk_full", format!("and {waiting} of them")),
        ("a_name_explodes", format!("After {} such", grouped(limits::OVERFLOW_SERIES_MAX))),
        ("a_name_explodes", format!("one batch of datagrams in {batches}")),
        ("a_name_explodes", format!("up to {}", grouped(limits::TOP_NEW_NAMES_MAX))),
        ("console", format!("| connections | {}.", limits::CONSOLE_CONNECTIONS_MAX)),
        ("logs", format!("queue of {} lines", grouped(limits::LOG_QUEUE_LINES_MAX))),
        ("overload", format!("{} descriptors", limits::DESCRIPTORS_RESERVED)),
        ("overload", format!("a key above {} bytes", grouped(limits::KEY_BYTES_MAX))),
    ];
    for (page, text) in told {
        let is_told = read(&format!("docs/operations/{page}.md")).contains(&text);
        assert!(is_told, "{page}.md does not say: {text}");
    }
}

/// What stands between backquotes, outside of blocks.
fn words_of_code(text: &str) -> impl Iterator<Item = &str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(str::lines).flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_setting_of_the_page_is_read_by_the_code() {
    let page = read("docs/configuration.md");
    let code = code_of_configuration();
    let cells = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('|').nth(1).map(|cell| cell.split('`').skip(1).step_by(2)));
    let keys: BTreeSet<&str> = cells
        .flatten()
        .flat_map(|key| key.split('.'))
        .map(|key| key.trim_matches(|character: char| !character.is_ascii_alphanumeric()))
        .filter(|key| !key.is_empty())
        .collect();
    assert!(40 < keys.len(), "the tables were read: {keys:?}");
    let unknown: Vec<_> =
        keys.into_iter().filter(|key| !code.contains(&format!("\"{key}\""))).collect();
    assert!(unknown.is_empty(), "not in the code of the configuration: {unknown:?}");
}

#[test]
fn the_page_of_settings_is_the_one_the_binary_prints() {
    let printed = floe_output(["config", "--markdown"]);
    let is_same = String::from_utf8_lossy(&printed.stdout) == read("docs/configuration.md");
    assert!(is_same, "run: target/debug/floe config --markdown > docs/configuration.md");
}

#[test]
fn every_configuration_shown_is_accepted() {
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let blocks = blocks();
    let shown = blocks.iter().filter(|block| ["toml", "js"].contains(&block.language.as_str()));
    let mut count = 0;
    for block in shown {
        count += 1;
        let path = folder.path().join(format!("shown-{count}.{}", block.language));
        std::fs::write(&path, &block.text).expect("the folder is writable");
        let output =
            floe_output(["check", path.to_str().expect("temporary folders have plain names")]);
        assert!(output.status.success(), "{}: {}", block.page.display(), text_of(&output));
    }
    assert!(2 <= count, "README.md and docs/configuration.md show configurations");
}

/// Commands are those behind `$ ` in a console block and the lines of a shell block.
#[test]
fn every_command_shown_is_known_with_its_flags() {
    let mut seen = BTreeSet::new();
    for block in blocks() {
        let is_shell = block.language == "sh";
        for line in block.text.lines() {
            let Some(line) = line.strip_prefix("$ ").or(is_shell.then_some(line)) else { continue };
            let words: Vec<&str> = line.split_whitespace().collect();
            let place = words.iter().position(|word| *word == "floe" || word.ends_with("/floe"));
            // `useradd floe` and the like name the user, not the command.
            let Some(place) = place.filter(|place| *place == 0 || words[0] == "sudo") else {
                continue;
            };
            check_command(&words[place + 1..], &block.page);
            seen.insert(words[place + 1..].first().copied().unwrap_or_default().to_owned());
        }
    }
    assert!(seen.contains("query") && seen.contains("check"), "the pages were read: {seen:?}");
}

/// `cargo run --release` builds the daemon alone: a page that shows another binary says how to build
/// it.
#[test]
fn every_binary_shown_is_built_on_its_page() {
    for page in pages() {
        for name in page.text.split("$ target/release/").skip(1) {
            let name = name.split_whitespace().next().unwrap_or_default();
            let build = format!("cargo build --release --package floe-{name}\n");
            let is_built = name == "floe" || page.text.contains(&build);
            assert!(is_built, "{}: {name} is shown, not {build}", page.path.display());
        }
    }
}

fn check_command(words: &[&str], page: &Path) {
    let commands = ["query", "books", "top", "check", "config", "segment", "ingest", "export"];
    let mut help: Vec<&str> = Vec::new();
    if let Some(command) = words.first().filter(|word| commands.contains(*word)) {
        help.push(command);
        if *command == "segment" {
            help.extend(words.get(1));
        }
    }
    help.push("--help");
    let output = floe_output(&help);
    let known = text_of(&output);
    assert!(output.status.success(), "{}: {words:?}: {known}", page.display());
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        let flag = flag.split('=').next().unwrap_or_default();
        assert!(known.contains(flag), "{}: {flag} is not a flag of {help:?}", page.display());
    }
}

#[test]
fn every_variable_of_the_page_is_known_to_the_binary() {
    let help = text_of(&floe_output(["--help"]));
    let page = read("docs/configuration.md");
    let variables = page.split('`').filter(|word| word.starts_with("FLOE_"));
    let variables: BTreeSet<&str> = variables.collect();
    assert!(!variables.is_empty(), "the page names the environment");
    for variable in variables {
        assert!(help.contains(variable), "{variable} is not in floe --help");
    }
}

/// The page numbers every deviation; those that recorded cases show are those of the list that the
/// replay of the cases is judged by, and the row of each names its cases.
#[test]
fn deviations_of_the_page_are_those_of_the_recorded_cases() {
    let page = read("docs/protocol.md");
    let rows: Vec<(u32, &str)> = page
        .lines()
        .filter(|line| line.starts_with("| D"))
        .map(|line| (number_of(line.split(" | ").next().unwrap_or_default()), line))
        .collect();
    let numbers: BTreeSet<u32> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len(), rows.len(), "each number once: {numbers:?}");
    assert!(40 <= numbers.len(), "the tables were read: {numbers:?}");
    let list: Vec<serde_json::Value> =
        serde_json::from_str(&read("tests/golden/deviations.json")).expect("the list is JSON");
    let unnamed: Vec<String> = list
        .iter()
        .filter_map(|entry| {
            let number = entry["deviation"].as_u64().expect("a number");
            let name = entry["name"].as_str().expect("a name");
            let row = rows.iter().find(|(known, _)| u64::from(*known) == number);
            let is_named = row.is_some_and(|(_, row)| row.contains(&format!("`{name}`")));
            (!is_named).then(|| format!("D{number} does not name `{name}`"))
        })
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:#?}");
    let listed: BTreeSet<&str> = list.iter().filter_map(|entry| entry["name"].as_str()).collect();
    let shown = rows.iter().flat_map(|(_, row)| match row.split(" | ").collect::<Vec<_>>()[..] {
        [_, cases, _, _] => cases.split('`').skip(1).step_by(2).collect(),
        _ => Vec::new(),
    });
    let unlisted: Vec<&str> = shown.filter(|name| !listed.contains(name)).collect();
    assert!(unlisted.is_empty(), "not in deviations.json: {unlisted:?}");
}

fn number_of(cell: &str) -> u32 {
    let cell = cell.trim_matches(['|', ' ']);
    cell.strip_prefix('D').and_then(|digits| digits.parse().ok()).expect("a D and a number")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_product = name.starts_with('.') || ["target", "node_modules"].contains(&name);
        if path.is_dir() && !is_product {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn pages() -> Vec<Page> {
    let folders = ["", "docs", "docs/operations", "docs/decisions"];
    let mut pages = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(root().join(folder)).expect("the folder exists");
        for entry in entries {
            let path = Path::new(folder).join(entry.expect("it can be listed").file_name());
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = read(path.to_str().expect("pages have plain names"));
                pages.push(Page { path, text });
            }
        }
    }
    assert!(15 < pages.len(), "the pages are found");
    pages
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let mut open: Option<Block> = None;
        for line in page.text.lines() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    open = Some(Block {
                        page: page.path.clone(),
                        language: language.to_owned(),
                        text: String::new(),
                    });
                }
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence is not closed", page.path.display());
    }
    blocks
}

fn code_of_configuration() -> String {
    let folder = root().join("core/src/config");
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let sources = files.map(|path| std::fs::read_to_string(path).expect("sources are readable"));
    sources.chain([read("core/src/config.rs")]).collect()
}
