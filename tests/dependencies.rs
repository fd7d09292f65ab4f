//! The dependency graph of a Linux build keeps the rules of `deny.toml`: licences, refused crates
//! and sources. `cargo deny check` says the same and more (advisories), where it is installed.

use std::path::Path;
use std::process::Command;

/// A package of the graph, as `cargo metadata` tells it.
struct Package {
    name: String,
    licence: String,
    /// `None` for the members of the workspace.
    source: Option<String>,
}

#[test]
fn every_licence_is_one_that_is_allowed() {
    let allowed = listed_in_deny_toml("allow = [");
    assert!(allowed.iter().any(|licence| licence == "MIT"), "deny.toml was read: {allowed:?}");
    let refused: Vec<String> = packages()
        .into_iter()
        .filter(|package| !is_allowed(&package.licence, &allowed))
        .map(|package| format!("{}: {}", package.name, package.licence))
        .collect();
    assert!(refused.is_empty(), "not among the licences of deny.toml: {refused:?}");
}

#[test]
fn refused_crates_are_not_in_the_graph() {
    let refused = "crc32fast";
    assert!(deny_toml().contains(&format!("crate = \"{refused}\"")), "deny.toml refuses it");
    assert!(packages().iter().all(|package| package.name != refused));
}

#[test]
fn everything_comes_from_a_registry() {
    let other: Vec<String> = packages()
        .into_iter()
        .filter(|package| {
            package.source.as_ref().is_some_and(|source| !source.starts_with("registry+"))
        })
        .map(|package| package.name)
        .collect();
    assert!(other.is_empty(), "neither of the workspace nor of a registry: {other:?}");
}

#[test]
fn a_choice_needs_one_allowed_licence_and_a_conjunction_all() {
    let allowed = ["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    assert!(is_allowed("GPL-3.0 OR MIT", &allowed));
    assert!(is_allowed("GPL-3.0/MIT", &allowed));
    assert!(is_allowed("(MIT OR GPL-3.0) AND Apache-2.0 WITH LLVM-exception", &allowed));
    assert!(!is_allowed("MIT AND GPL-3.0", &allowed));
    assert!(!is_allowed("", &allowed));
}

/// Whether an SPDX expression can be met; parentheses occur around choices alone.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression.split(" AND ").all(|needed| {
        needed.split(" OR ").any(|choice| allowed.iter().any(|licence| licence == choice.trim()))
    })
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, for it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let graph: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = graph["packages"].as_array().expect("the graph has packages");
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    packages
        .iter()
        .map(|package| Package {
            name: text(&package["name"]).unwrap_or_default(),
            licence: text(&package["license"]).unwrap_or_default(),
            source: text(&package["source"]),
        })
        .collect()
}

fn deny_toml() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    std::fs::read_to_string(path).expect("deny.toml stands in the root")
}

/// The quoted words of the list that `opening` starts.
fn listed_in_deny_toml(opening: &str) -> Vec<String> {
    let text = deny_toml();
    let list = text.split_once(opening).map_or("", |(_, rest)| rest);
    let list = list.split_once(']').map_or("", |(list, _)| list);
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}
