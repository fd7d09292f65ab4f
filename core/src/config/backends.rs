//! Where points go: `graphiteHost` and its family, and our own `[[backends]]`.

use crate::limits::BACKENDS_MAX;

use super::modules::Modules;
use super::namespace;
use super::settings::{
    Acknowledgement, BackendSettings, BacklogOrder, NamespaceSettings, Protocol, Redelivery,
};
use super::value::Value;
use super::walk::{Field, Notes, Table};
use super::{ConfigError, Source};

/// Longest name of a backend, bytes: it is a directory name and a part of points.
const NAME_BYTES_MAX: usize = 64;

/// Directories of the spool that no backend may be called after.
const NAMES_TAKEN: [&str; 3] = ["tmp", "archive", "quarantine"];

/// Name of the backend that `graphiteHost` makes.
const GRAPHITE_NAME: &str = "graphite";

const BACKLOG_AGE_MS: u64 = 6 * 3_600_000;
const BACKLOG_BYTES: u64 = 8 << 30;

/// Patience with a backend that takes nothing.
const STALL_MS: u64 = 30_000;
/// Below a second a busy Carbon would be taken for a stalled one.
const STALL_MS_MIN: u64 = 1_000;

/// Least backlog: one block of a file system.
const BACKLOG_BYTES_MIN: u64 = 4_096;
const BACKLOG_BYTES_MAX: u64 = 1 << 50;

const PROTOCOLS: [(&str, Protocol); 2] = [("text", Protocol::Text), ("pickle", Protocol::Pickle)];

/// Reads the backends of the top level: the reference's, and in TOML our own; and which other
/// modules are asked for.
pub(super) fn read(
    root: &mut Table<'_>,
    source: Source,
    namespace: &NamespaceSettings,
    notes: &mut Notes,
) -> Result<(Vec<BackendSettings>, Modules), ConfigError> {
    let mut backends = Vec::new();
    let listed = root.take_truthy("backends");
    let members = listed.as_ref().map(|field| field.list("backends")).transpose()?;
    let mut modules = Modules::default();
    let mut has_modules = false;
    let mut own = Vec::new();
    for member in members.iter().flatten() {
        match member.value() {
            Value::Text(_) => {
                has_modules = true;
                modules.note(member)?;
            }
            Value::Table(_) if source == Source::Toml => own.push(member.clone()),
            _ => return Err(member.refused("the name of a backend like \"./backends/graphite\"")),
        }
    }
    let graphite = graphite(root, source, namespace, notes)?;
    // Our own tables beside `graphiteHost` do not take its backend away.
    let has_default = members.is_none() || (!has_modules && !own.is_empty());
    if has_default || modules.has_graphite {
        backends.extend(graphite);
    }
    append_own(&own, namespace, notes, &mut backends)?;
    Ok((backends, modules))
}

/// Adds the backends of our own kind; no name may occur twice.
pub(super) fn append_own(
    members: &[Field<'_>],
    namespace: &NamespaceSettings,
    notes: &mut Notes,
    backends: &mut Vec<BackendSettings>,
) -> Result<(), ConfigError> {
    for member in members {
        let backend = own(member.table()?, namespace, notes)?;
        if backends.iter().any(|earlier| earlier.name == backend.name) {
            let (name, line) = (backend.name, member.line());
            return Err(ConfigError::DuplicateBackend { name, line });
        }
        if BACKENDS_MAX <= backends.len() {
            return Err(member.refused(format!("one of at most {BACKENDS_MAX} backends")));
        }
        backends.push(backend);
    }
    Ok(())
}

impl BackendSettings {
    /// A backend of text with everything else at its default.
    #[must_use]
    pub fn new(name: &str, address: &str, namespace: NamespaceSettings) -> Self {
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            protocol: Protocol::default(),
            namespace,
            acknowledgement: Acknowledgement::default(),
            order: BacklogOrder::default(),
            redelivery: Redelivery::default(),
            stall_ms: STALL_MS,
            backlog_age_ms: BACKLOG_AGE_MS,
            backlog_bytes: BACKLOG_BYTES,
        }
    }
}

/// The backend of `graphiteHost`, where it is given.
fn graphite(
    root: &mut Table<'_>,
    source: Source,
    namespace: &NamespaceSettings,
    notes: &mut Notes,
) -> Result<Option<BackendSettings>, ConfigError> {
    let host = root.take_truthy("graphiteHost");
    let text_port = port(root, "graphitePort", 2003)?;
    let pickle_port = port(root, "graphitePicklePort", 2004)?;
    let protocol = match root.take_truthy("graphiteProtocol") {
        None => Protocol::Text,
        Some(field) => match field.choice(&PROTOCOLS) {
            Ok(protocol) => protocol,
            Err(error) if source == Source::Toml => return Err(error),
            Err(error) => {
                notes.warnings.push(format!("{error}; text is used, as the reference does"));
                Protocol::Text
            }
        },
    };
    let Some(host) = host else { return Ok(None) };
    let port = if protocol == Protocol::Pickle { pickle_port } else { text_port };
    let address = host_with_port(&host, port)?;
    let backend = BackendSettings::new(GRAPHITE_NAME, &address, namespace.clone());
    Ok(Some(BackendSettings { protocol, ..backend }))
}

/// A host of a key of its own and a port, as `host:port`.
pub(super) fn host_with_port(field: &Field<'_>, port: u16) -> Result<String, ConfigError> {
    let host = field.text()?;
    if !is_host(&host) {
        return Err(field.refused("a host name or an IP address without a port"));
    }
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn port(root: &mut Table<'_>, key: &'static str, default: u16) -> Result<u16, ConfigError> {
    root.take_truthy(key).map_or(Ok(default), |field| field.port(1))
}

/// One table of `[[backends]]`.
fn own(
    mut table: Table<'_>,
    namespace: &NamespaceSettings,
    notes: &mut Notes,
) -> Result<BackendSettings, ConfigError> {
    let name = table.take("name").ok_or_else(|| table.missing("name", "name = \"graphite\""))?;
    let address = table
        .take("address")
        .ok_or_else(|| table.missing("address", "address = \"127.0.0.1:2003\""))?;
    let (name, address) = (backend_name(&name)?, host_and_port(&address)?);
    let mut backend = BackendSettings::new(&name, &address, namespace.clone());
    if let Some(field) = table.take("protocol") {
        backend.protocol = field.choice(&PROTOCOLS)?;
    }
    if let Some(field) = table.take("ack") {
        let words = [("fin", Acknowledgement::Fin), ("written", Acknowledgement::Written)];
        backend.acknowledgement = field.choice(&words)?;
    }
    if let Some(field) = table.take("order") {
        let words = [("oldest", BacklogOrder::OldestFirst), ("newest", BacklogOrder::NewestFirst)];
        backend.order = field.choice(&words)?;
    }
    if let Some(field) = table.take("redelivery") {
        let words = [("always", Redelivery::Always), ("never", Redelivery::Never)];
        backend.redelivery = field.choice(&words)?;
    }
    if let Some(field) = table.take("stall") {
        backend.stall_ms = field.duration_ms(STALL_MS_MIN)?;
    }
    if let Some(field) = table.take("backlog_age") {
        backend.backlog_age_ms = field.duration_ms(1)?;
    }
    if let Some(field) = table.take("backlog_bytes") {
        backend.backlog_bytes = field.size_bytes(BACKLOG_BYTES_MIN..=BACKLOG_BYTES_MAX)?;
    }
    if let Some(field) = table.take("graphite") {
        let mut block = field.table()?;
        backend.namespace = namespace::read(&mut block, namespace, notes)?;
        namespace::read_flush_counts(&mut block, &mut backend.namespace)?;
        block.finish(notes)?;
    }
    table.finish(notes)?;
    Ok(backend)
}

fn backend_name(field: &Field<'_>) -> Result<String, ConfigError> {
    let name = field.text()?;
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if name.is_empty() || NAME_BYTES_MAX < name.len() || !name.bytes().all(is_plain) {
        let allowed = format!("1 to {NAME_BYTES_MAX} characters of a-z, 0-9, _ and -");
        return Err(field.refused(allowed));
    }
    if NAMES_TAKEN.contains(&name.as_str()) {
        return Err(field.refused(format!("another name than {}", NAMES_TAKEN.join(", "))));
    }
    Ok(name)
}

/// `host:port`, `[v6]:port`.
fn host_and_port(field: &Field<'_>) -> Result<String, ConfigError> {
    let address = field.text()?;
    let is_right = address.rsplit_once(':').is_some_and(|(host, port)| {
        let is_ipv6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
        is_port && (is_ipv6 || (is_host(host) && !host.contains(':')))
    });
    if is_right {
        return Ok(address);
    }
    Err(field.refused("host:port with a port within 1..=65535, an IPv6 host in brackets"))
}

/// Whether `host` can be a host name, or is an IP address without brackets.
fn is_host(host: &str) -> bool {
    let is_name_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = !host.is_empty() && host.bytes().all(is_name_byte);
    is_name || host.parse::<std::net::Ipv6Addr>().is_ok()
}
