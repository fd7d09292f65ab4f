//! Every value whose text was recorded from Node's `util.inspect` is printed as it was there.
//!
//! `data/record_inspect.mjs` wrote `data/inspect.json`; this test replays it, coloured and plain,
//! at several depths.

use floe_core::inspect::{Inspected, Options, inspect};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    depth: usize,
    colors: bool,
    value: Value,
    text: String,
}

#[derive(Deserialize)]
enum Value {
    #[serde(rename = "n")]
    Number(String),
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "l")]
    List(Vec<Value>),
    #[serde(rename = "o")]
    Table(Vec<(String, Value)>),
}

impl Value {
    fn inspected(&self) -> Inspected {
        match self {
            Self::Number(text) => Inspected::Number(text.parse().expect("a number")),
            Self::Text(text) => Inspected::Text(text.clone()),
            Self::List(items) => Inspected::list(items.iter().map(Self::inspected).collect()),
            Self::Table(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.clone(), value.inspected()));
                Inspected::Table(entries.collect())
            }
        }
    }
}

#[test]
fn every_recorded_value_is_printed_as_node_prints_it() {
    let recorded: Recorded = serde_json::from_str(include_str!("data/inspect.json")).unwrap();
    assert!(300 < recorded.cases.len());
    let mut wrong = Vec::new();
    for case in &recorded.cases {
        let options = Options { depth: case.depth, has_colors: case.colors };
        let text = inspect(&case.value.inspected(), options);
        if text != case.text {
            wrong.push(format!("{}\nnode:\n{}\nours:\n{text}", case.name, case.text));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ\n{}", wrong.len(), wrong.join("\n\n"));
}
