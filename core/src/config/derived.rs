//! What is computed from timers: `percentThreshold`, `histogram`, `calculatedTimerMetrics`.
//!
//! The name of a threshold or bin is made of its text as JavaScript prints it, so that 90, `90.0` and
//! the reference's 90 are one name. Reference: statsd-behaviour.md section 6.

use crate::limits::THRESHOLDS_MAX;

use super::ConfigError;
use super::settings::{Bin, Histogram, Threshold};
use super::value::{Value, number_of, number_text};
use super::walk::{Field, Notes, Table};

/// `percentThreshold` of the reference daemon.
const PERCENT_DEFAULT: f64 = 90.0;

/// The thresholds of no configuration.
pub(super) fn default_thresholds() -> Vec<Threshold> {
    vec![Threshold { percent: PERCENT_DEFAULT, suffix: number_text(PERCENT_DEFAULT) }]
}

/// `percentThreshold`: one number or a list.
pub(super) fn thresholds(
    root: &mut Table<'_>,
    is_lenient: bool,
    notes: &mut Notes,
) -> Result<Vec<Threshold>, ConfigError> {
    let Some(field) = root.take_truthy("percentThreshold") else {
        return Ok(default_thresholds());
    };
    let members = match field.value() {
        Value::List(members) if THRESHOLDS_MAX < members.len() => {
            return Err(field.refused(format!("a list of at most {THRESHOLDS_MAX} percentages")));
        }
        Value::List(_) => field.list("numbers")?,
        _ => vec![field],
    };
    let mut thresholds: Vec<Threshold> = Vec::with_capacity(members.len());
    for member in members {
        let threshold = threshold(&member, is_lenient)?;
        if thresholds.iter().any(|earlier| earlier.suffix == threshold.suffix) {
            let (key, line) = (member.path(), member.line());
            notes.warnings.push(format!("{key} is a threshold given before, ignored{line}"));
        } else {
            thresholds.push(threshold);
        }
    }
    Ok(thresholds)
}

fn threshold(field: &Field<'_>, is_lenient: bool) -> Result<Threshold, ConfigError> {
    let refused = || field.refused("a percentage within -100..=100 and not 0");
    let percent = number(field).ok_or_else(refused)?;
    let is_text = matches!(field.value(), Value::Text(_));
    if !is_lenient && !is_text && (percent == 0.0 || !(-100.0..=100.0).contains(&percent)) {
        return Err(refused());
    }
    let suffix = text_of_number(field, percent).replacen('.', "_", 1).replacen('-', "top", 1);
    Ok(Threshold { percent, suffix })
}

/// A number, or a text that holds one: both files know it, since a text can bear another name.
fn number(field: &Field<'_>) -> Option<f64> {
    match field.value() {
        Value::Text(text) => number_of(text).filter(|number| number.is_finite()),
        _ => field.number(),
    }
}

/// The value that the file of floe names a threshold `suffix` by: the number where that gives the name
/// and is in its range, else the text.
pub(super) fn threshold_value(threshold: &Threshold) -> Result<f64, String> {
    let Threshold { percent, suffix } = threshold;
    let text = suffix.replacen('_', ".", 1).replacen("top", "-", 1);
    let is_in_range = *percent != 0.0 && (-100.0..=100.0).contains(percent);
    if is_in_range && number_text(*percent) == text { Ok(*percent) } else { Err(text) }
}

/// As [`threshold_value`], for the limit of a bin.
pub(super) fn bin_value(bin: &Bin) -> Result<f64, String> {
    let Bin { limit, name } = bin;
    let text = name.strip_prefix("bin_").unwrap_or(name).replacen('_', ".", 1);
    if number_text(*limit) == text { Ok(*limit) } else { Err(text) }
}

/// A number's text: a text of the file as it stands, else what JavaScript prints.
fn text_of_number(field: &Field<'_>, number: f64) -> String {
    match field.value() {
        Value::Text(text) => text.trim().to_owned(),
        _ => number_text(number),
    }
}

/// `histogram`: a list of keys' parts and limits.
pub(super) fn histograms(
    root: &mut Table<'_>,
    notes: &mut Notes,
) -> Result<Vec<Histogram>, ConfigError> {
    let Some(field) = root.take_truthy("histogram") else {
        return Ok(Vec::new());
    };
    let mut histograms = Vec::new();
    for member in field.list("tables like { metric: 'render', bins: [10, 100, 'inf'] }")? {
        let mut table = member.table()?;
        let metric = table
            .take("metric")
            .ok_or_else(|| table.missing("metric", "metric = \"\" for every key"))?
            .text()?;
        let bins = table
            .take("bins")
            .ok_or_else(|| table.missing("bins", "bins = [10, 100, \"inf\"]"))?
            .list("numbers")?;
        let bins = bins.iter().map(bin).collect::<Result<_, _>>()?;
        table.finish(notes)?;
        histograms.push(Histogram { metric, bins });
    }
    Ok(histograms)
}

fn bin(field: &Field<'_>) -> Result<Bin, ConfigError> {
    if matches!(field.value(), Value::Text(text) if text == "inf") {
        return Ok(Bin { limit: f64::INFINITY, name: "bin_inf".to_owned() });
    }
    let limit = number(field).ok_or_else(|| field.refused("a number or \"inf\""))?;
    let name = format!("bin_{}", text_of_number(field, limit)).replacen('.', "_", 1);
    Ok(Bin { limit, name })
}

/// `calculatedTimerMetrics`: a list of derived names.
pub(super) fn calculated_timer_metrics(root: &mut Table<'_>) -> Result<Vec<String>, ConfigError> {
    let Some(field) = root.take_truthy("calculatedTimerMetrics") else {
        return Ok(Vec::new());
    };
    let allowed = "names like \"mean\" or \"upper_percent\"";
    field.list(allowed)?.iter().map(Field::text).collect()
}
