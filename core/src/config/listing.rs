//! The file as the admin console's `config` shows it: one entry for each value, one level into
//! lists and tables, as the reference prints it (`writeConfig` of its `lib/helpers.js`).

use crate::escape::controls_escaped;

use super::value::{Node, Nodes, Value, number_text};

/// Entries of a file, in its order: `key` or `key > sub`, and the value as JavaScript prints it.
pub(super) fn listing(nodes: &Nodes) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    for (key, node) in nodes {
        let key = controls_escaped(key);
        match &node.value {
            Value::Table(nodes) => {
                let inner = nodes.iter().map(|(sub, node)| (controls_escaped(sub), node));
                entries.extend(inner.map(|(sub, node)| (format!("{key} > {sub}"), text(node))));
            }
            Value::List(nodes) => {
                let inner = nodes.iter().enumerate();
                entries.extend(inner.map(|(sub, node)| (format!("{key} > {sub}"), text(node))));
            }
            // An object to JavaScript, and one without a key.
            Value::Null => {}
            _ => entries.push((key, text(node))),
        }
    }
    entries
}

/// What JavaScript makes of a value that is joined to a text.
fn text(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => number_text(*number),
        Value::Text(text) | Value::Date(text) => controls_escaped(text),
        Value::Table(_) => "[object Object]".to_owned(),
        Value::List(nodes) => {
            let members = nodes.iter().map(|node| match node.value {
                Value::Null => String::new(),
                _ => text(node),
            });
            members.collect::<Vec<_>>().join(",")
        }
    }
}
