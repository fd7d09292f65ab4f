//! Where a saved report comes from: when it began, by which command, with which workload.
//!
//! Made by `run` before the first line, told by the report for programs and by the page. The workload
//! has the names and forms of the options, so that what a workload file or a default said stands there
//! too.

use serde_json::{Value, json};

use crate::cli::Load;
use crate::clock;
use crate::compose::{End, Packing};
use crate::pacer::Pacing;
use crate::workload::{Kind, Mix};

/// What is needed to repeat a report.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Seconds since 1970.
    began: i64,
    command: Vec<String>,
    workload: Value,
}

impl Origin {
    /// That of a task which begins now.
    pub(crate) fn now(load: &Load) -> Origin {
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Origin { began: clock::unix_seconds(), command, workload: workload(load) }
    }

    /// That of a search, which decides itself how much is sent.
    pub(crate) fn of_search(load: &Load) -> Origin {
        let mut origin = Origin::now(load);
        for name in ["rate", "lines", "duration"] {
            origin.workload[name] = Value::Null;
        }
        origin
    }

    /// As the page shows it.
    pub(super) fn to_text(&self) -> String {
        let words: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        let mut text = format!(
            "{}, loadgen {}\n{}\n\n",
            clock::utc(self.began),
            env!("CARGO_PKG_VERSION"),
            words.join(" ")
        );
        for (name, value) in self.workload.as_object().into_iter().flatten() {
            if !value.is_null() {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
        text
    }

    /// Adds it to the report for programs.
    pub(super) fn add_json(&self, value: &mut Value) {
        value["began_at"] = clock::utc(self.began).into();
        value["version"] = env!("CARGO_PKG_VERSION").into();
        value["command"] = self.command.clone().into();
        value["workload"] = self.workload.clone();
    }
}

/// What is sent, by options; null where an option has no default and was not given.
fn workload(load: &Load) -> Value {
    let (plan, shape, share) = (&load.plan, &load.shape, load.share);
    let quiet = plan.manner.quiet;
    let pacing = match plan.manner.pacing {
        Pacing::Spin => "spin",
        Pacing::Sleep => "sleep",
    };
    json!({
        "rate": share.rate.map_or("max".into(), Value::from),
        "lines": Some(share.lines_max).filter(|lines| *lines != u64::MAX),
        "duration": share.duration_max.map(|time| format!("{}ms", time.as_millis())),
        "packing": packing(plan.packing),
        "names": shape.names,
        "mix": mix(shape.mix),
        "seed": shape.seed,
        "sampled": shape.sampled_percent,
        "tagged": shape.tagged_percent,
        "bad": shape.bad_percent,
        "key-prefix": shape.key_prefix,
        "senders": plan.senders,
        "sockets": plan.sockets,
        "pacing": pacing,
        "burst": plan.manner.burst,
        "pool": plan.rotation_lines.unwrap_or(0),
        "gso": matches!(plan.packing.end, End::Padded),
        "interval": quiet.map(|quiet| format!("{}ms", quiet.interval.as_millis())),
        "margin": quiet.map(|quiet| format!("{}ms", quiet.margin.as_millis())),
    })
}

fn packing(packing: Packing) -> String {
    if packing.is_single {
        "single".to_owned()
    } else {
        format!("packed={}", packing.datagram_bytes_max)
    }
}

fn mix(mix: Mix) -> String {
    let parts = Kind::ALL.into_iter().zip(mix.weights);
    let parts: Vec<String> =
        parts.map(|(kind, weight)| format!("{}={weight}", kind.letters())).collect();
    parts.join(",")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_=./:,@%+[]".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::{Arguments, Task};
    use std::ffi::OsString;

    pub(in crate::report) fn origin(options: &[&str]) -> Origin {
        let line = ["loadgen"].iter().chain(options).map(OsString::from);
        let line: Vec<OsString> = line.collect();
        let Task::Load(load) = Arguments::read(&line).unwrap().into_task().unwrap() else {
            panic!("a run was asked for");
        };
        let command = ["loadgen", "--key-prefix", "it's"].map(str::to_owned).to_vec();
        Origin { began: 1_795_770_130, command, workload: workload(&load) }
    }

    #[test]
    fn a_report_names_its_date_its_command_and_its_workload() {
        let options = ["--names", "7", "--gso", "--duration", "2s", "--rate", "max"];
        let origin = origin(&[&options[..], &["--packing", "packed=512"]].concat());
        let text = origin.to_text();
        assert!(text.starts_with("2026-11-27T09:02:10Z, loadgen "), "{text}");
        assert!(text.contains("\nloadgen --key-prefix 'it'\\''s'\n"), "{text}");
        assert!(text.contains("\nmix = \"c=60,ms=30,g=8,s=2\"\n"), "{text}");
        let mut value = json!({});
        origin.add_json(&mut value);
        assert_eq!(value["began_at"], "2026-11-27T09:02:10Z");
        assert_eq!(value["command"][2], "it's");
        let workload = &value["workload"];
        for (name, told) in [
            ("names", json!(7)),
            ("packing", json!("packed=512")),
            ("gso", json!(true)),
            ("pacing", json!("spin")),
            ("rate", json!("max")),
            ("lines", Value::Null),
            ("duration", json!("2000ms")),
            ("pool", json!(65_536)),
        ] {
            assert_eq!(workload[name], told, "{name}");
        }
    }

    /// The options that are told give the same workload once more.
    #[test]
    fn a_workload_that_is_told_is_one_that_can_be_sent() {
        let told = origin(&["--lines", "100", "--packing", "single", "--pool", "50"]).workload;
        let mut options = Vec::new();
        for (name, value) in told.as_object().unwrap() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !value.is_null() && name != "gso" {
                options.push(format!("--{name}={text}"));
            }
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        assert_eq!(origin(&options).workload, told);
    }
}
