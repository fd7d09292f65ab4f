//! floe's own TOML file as data, each value with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::javascript::at_offset;
use super::token::fault;
use super::value::{Node, Nodes, Value};

/// Reads the text of a TOML file. The crate bounds the nesting.
pub(super) fn read(text: &str) -> Result<Nodes, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(text.len(), |span| span.start);
        at_offset(text, fault(format!("cannot read the TOML file: {}", error.message()), at))
    })?;
    let line_ends = memchr::memchr_iter(b'\n', text.as_bytes()).collect();
    Ok(Reader { line_ends }.nodes(table.get_ref()))
}

struct Reader {
    line_ends: Vec<usize>,
}

impl Reader {
    fn nodes(&self, table: &DeTable<'_>) -> Nodes {
        let nodes = table.iter().map(|(key, value)| (key.get_ref().to_string(), self.node(value)));
        nodes.collect()
    }

    fn node(&self, spanned: &Spanned<DeValue<'_>>) -> Node {
        let start = spanned.span().start;
        let line = Some(self.line_ends.partition_point(|end| *end < start) + 1);
        let value = match spanned.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => {
                let number = i128::from_str_radix(integer.as_str(), integer.radix());
                #[expect(clippy::cast_precision_loss, reason = "all numbers are doubles here")]
                Value::Number(number.map_or(f64::NAN, |number| number as f64))
            }
            DeValue::Float(float) => Value::Number(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(list) => {
                Value::List(list.iter().map(|value| self.node(value)).collect())
            }
            DeValue::Table(table) => Value::Table(self.nodes(table)),
        };
        Node { value, line }
    }
}
