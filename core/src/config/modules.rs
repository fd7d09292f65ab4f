//! The reference's other backend modules: the console, the repeater, and the count of keys.
//!
//! In a `config.js` a module works when `backends` names it; in TOML when its block is there.

use std::path::PathBuf;

use super::listeners::module_name;
use super::settings::{
    ConsoleBackendSettings, KeyFlushSettings, RepeaterProtocol, RepeaterSettings,
};
use super::value::Value;
use super::walk::{Field, Notes, Table};
use super::{ConfigError, Source};
use crate::limits::REPEATER_TARGETS_MAX;

/// Longest `keyFlush.interval`, ms: what a timer of the reference daemon can wait (2^31 - 1).
const KEY_FLUSH_INTERVAL_MS_MAX: u64 = 2_147_483_647;

const PROTOCOLS: [(&str, RepeaterProtocol); 3] = [
    ("udp4", RepeaterProtocol::Udp4),
    ("udp6", RepeaterProtocol::Udp6),
    ("tcp", RepeaterProtocol::Tcp),
];

/// Which modules `backends` names.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Modules {
    pub(super) has_graphite: bool,
    has_console: bool,
    has_repeater: bool,
}

impl Modules {
    /// Notes one entry of `backends`; what floe has not is refused.
    pub(super) fn note(&mut self, member: &Field<'_>) -> Result<(), ConfigError> {
        match module_name(&member.text()?) {
            "graphite" => self.has_graphite = true,
            "console" => self.has_console = true,
            "repeater" => self.has_repeater = true,
            _ => {
                return Err(ConfigError::UnknownModule {
                    key: member.path().to_owned(),
                    module: member.value().excerpt(),
                    line: member.line(),
                });
            }
        }
        Ok(())
    }
}

/// `console`.
pub(super) fn console(
    root: &mut Table<'_>,
    modules: Modules,
    source: Source,
    notes: &mut Notes,
) -> Result<Option<ConsoleBackendSettings>, ConfigError> {
    let mut settings = ConsoleBackendSettings::default();
    let block = root.take_truthy("console");
    let is_given = block.is_some();
    if let Some(field) = block {
        let mut block = field.table()?;
        settings.is_pretty = block.flag("prettyprint", false)?;
        block.finish(notes)?;
    }
    let is_on = modules.has_console || (is_given && source == Source::Toml);
    Ok(is_on.then_some(settings))
}

/// `repeater` and `repeaterProtocol`.
pub(super) fn repeater(
    root: &mut Table<'_>,
    modules: Modules,
    source: Source,
    notes: &mut Notes,
) -> Result<Option<RepeaterSettings>, ConfigError> {
    let mut targets = Vec::new();
    if let Some(field) = root.take_truthy("repeater") {
        let members = field.list("targets like { host: '10.1.2.3', port: 8125 }")?;
        if REPEATER_TARGETS_MAX < members.len() {
            return Err(field.refused(format!("a list of at most {REPEATER_TARGETS_MAX} targets")));
        }
        for member in &members {
            targets.push(target(member, notes)?);
        }
    }
    let protocol = match root.take_truthy("repeaterProtocol") {
        None => RepeaterProtocol::Udp4,
        Some(field) => match field.choice(&PROTOCOLS) {
            Ok(protocol) => protocol,
            Err(error) if source == Source::Toml => return Err(error),
            Err(error) => {
                notes.warnings.push(format!("{error}; udp4 is used, as the reference does"));
                RepeaterProtocol::Udp4
            }
        },
    };
    if targets.is_empty() {
        if modules.has_repeater {
            notes.warnings.push("the repeater has no target: set repeater".to_owned());
        }
        return Ok(None);
    }
    if !modules.has_repeater && source == Source::ConfigJs {
        let idle = "repeater has no effect: \"./backends/repeater\" is not in backends";
        notes.warnings.push(idle.to_owned());
        return Ok(None);
    }
    Ok(Some(RepeaterSettings { targets, protocol }))
}

/// One target, as `host:port`.
fn target(member: &Field<'_>, notes: &mut Notes) -> Result<String, ConfigError> {
    let mut table = member.table()?;
    let host = table.take("host").ok_or_else(|| table.missing("host", "host = \"10.1.2.3\""))?;
    let port = table.take("port").ok_or_else(|| table.missing("port", "port = 8125"))?;
    table.finish(notes)?;
    super::backends::host_with_port(&host, port.port(1)?)
}

/// `keyFlush`.
pub(super) fn key_flush(
    root: &mut Table<'_>,
    notes: &mut Notes,
) -> Result<Option<KeyFlushSettings>, ConfigError> {
    let Some(field) = root.take_truthy("keyFlush") else { return Ok(None) };
    let mut block = field.table()?;
    let interval = block.take_truthy("interval");
    let percent = match block.take_truthy("percent") {
        None => 100.0,
        Some(field) => field
            .number()
            .filter(|percent| 0.0 < *percent && *percent <= 100.0)
            .ok_or_else(|| field.refused("a percentage above 0, at most 100"))?,
    };
    let log = match block.take_truthy("log") {
        None => None,
        Some(field) => {
            let path = field.text()?;
            if path.contains('\0') || matches!(field.value(), Value::Flag(_)) {
                return Err(field.refused("the path of a file"));
            }
            Some(PathBuf::from(path))
        }
    };
    let interval_ms = match interval {
        Some(field) if field.number() != Some(0.0) => field.whole(1..=KEY_FLUSH_INTERVAL_MS_MAX)?,
        _ => 0,
    };
    block.finish(notes)?;
    Ok((interval_ms != 0).then_some(KeyFlushSettings { interval_ms, percent, log }))
}

/// The word of a repeater's protocol.
pub(super) fn repeater_protocol_text(protocol: RepeaterProtocol) -> &'static str {
    let named = PROTOCOLS.iter().find(|(_, other)| *other == protocol);
    named.expect("every protocol has its word in PROTOCOLS").0
}
