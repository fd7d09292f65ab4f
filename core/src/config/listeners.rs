//! Where lines come in: `servers`, or the keys of one server at the top level.
//!
//! A server of a kind that floe has not is refused, never turned into UDP: its clients would send
//! into nothing.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::settings::{Listener, StreamLimits, StreamListener};
use super::value::{Value, number_text};
use super::walk::{Field, Notes, Table};
use super::{ConfigError, Source};
use crate::limits::{
    LISTENERS_MAX, STREAM_CONNECTIONS_MAX, STREAM_LINE_BYTES_MAX, STREAM_LISTENERS_MAX,
};

/// Port of the reference daemon.
pub(super) const PORT: u16 = 8125;

/// Keys of the one server that there is without `servers`.
const TOP_LEVEL: [&str; 6] = ["server", "address", "address_ipv6", "port", "socket", "socket_mod"];

/// Longest path of a Unix socket, bytes (`sun_path` of `sockaddr_un`, with its closing zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Permissions a file can have.
const MODE_MAX: u32 = 0o7777;

/// Those for reading, writing and execution: what a socket has a use for.
const PERMISSIONS: u32 = 0o777;

/// Shortest limit of a line: below it not even a name would fit.
const LINE_BYTES_MIN: u64 = 64;

/// All listeners of a configuration.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) udp: Vec<Listener>,
    pub(super) streams: Vec<StreamListener>,
}

impl Listeners {
    fn add(&mut self, server: Server) {
        match server {
            Server::Udp(listener) => self.udp.push(listener),
            Server::Stream(listener) => self.streams.push(listener),
        }
    }
}

enum Server {
    Udp(Listener),
    Stream(StreamListener),
}

/// The listener of no configuration: both address families, or IPv4 where there is no IPv6.
pub(super) fn dual_stack(port: u16) -> Listener {
    Listener { address: Ipv6Addr::UNSPECIFIED.to_string(), port, is_dual_stack_default: true }
}

/// Reads all listeners; there is at least one.
pub(super) fn read(
    root: &mut Table<'_>,
    source: Source,
    notes: &mut Notes,
) -> Result<Listeners, ConfigError> {
    let mut listeners = Listeners::default();
    let Some(servers) = root.take_truthy("servers") else {
        listeners.add(server(root, source, notes)?);
        return Ok(listeners);
    };
    let idle: Vec<_> = TOP_LEVEL.into_iter().filter(|key| root.take(key).is_some()).collect();
    if !idle.is_empty() {
        let has = if idle.len() == 1 { "has" } else { "have" };
        notes.warnings.push(format!("{} {has} no effect beside servers", idle.join(", ")));
    }
    for field in servers.list("servers")? {
        let mut table = field.table()?;
        listeners.add(server(&mut table, source, notes)?);
        table.finish(notes)?;
        for (kind, count, most) in [
            ("UDP", listeners.udp.len(), LISTENERS_MAX),
            ("TCP", listeners.streams.len(), STREAM_LISTENERS_MAX),
        ] {
            if most < count {
                return Err(field.refused(format!("one of at most {most} {kind} servers")));
            }
        }
    }
    if listeners.udp.is_empty() && listeners.streams.is_empty() {
        return Err(ConfigError::NoListener);
    }
    Ok(listeners)
}

/// Reads the keys of one server.
fn server(table: &mut Table<'_>, source: Source, notes: &mut Notes) -> Result<Server, ConfigError> {
    let kind = table.take_truthy("server");
    let port = match table.take_truthy("port") {
        Some(field) => field.port(u16::from(source == Source::ConfigJs))?,
        None => PORT,
    };
    let is_ipv6 = table.take("address_ipv6").map(|field| field.flag()).transpose()?;
    let address = table.take_truthy("address");
    let socket = table.take_truthy("socket");
    let mode = table.take_truthy("socket_mod");
    let word = kind.as_ref().map(Field::text).transpose()?.unwrap_or_default();
    match (module_name(&word), kind) {
        ("tcp", _) => {
            let address =
                address.map(|field| ip_address(&field, is_ipv6.unwrap_or(false))).transpose()?;
            let Some(socket) = socket else {
                let idle =
                    mode.map(|field| format!("{} has no effect without socket", field.path()));
                notes.warnings.extend(idle);
                return Ok(Server::Stream(StreamListener::Tcp { address, port }));
            };
            let mode = mode.map(|field| file_mode(&field, notes)).transpose()?;
            let path = socket_path(&socket)?;
            Ok(Server::Stream(StreamListener::Unix { path, mode }))
        }
        ("udp", _) | (_, None) => {
            for field in [socket, mode].into_iter().flatten() {
                let path = field.path();
                notes.warnings.push(format!("{path} has no effect on a UDP server"));
            }
            udp(address.as_ref(), is_ipv6, port, source).map(Server::Udp)
        }
        (_, Some(kind)) => Err(kind.refused(
            "\"./servers/udp\", or \"./servers/tcp\" with a port or, for a Unix socket, socket",
        )),
    }
}

fn udp(
    address: Option<&Field<'_>>,
    is_ipv6: Option<bool>,
    port: u16,
    source: Source,
) -> Result<Listener, ConfigError> {
    let address = match (address, is_ipv6) {
        (Some(field), is_ipv6) => ip_address(field, is_ipv6.unwrap_or(false))?,
        (None, Some(true)) => "::".to_owned(),
        (None, None) if source == Source::Toml => return Ok(dual_stack(port)),
        (None, _) => "0.0.0.0".to_owned(),
    };
    Ok(Listener { address, port, is_dual_stack_default: false })
}

fn socket_path(field: &Field<'_>) -> Result<PathBuf, ConfigError> {
    let path = field.text()?;
    if SOCKET_PATH_BYTES_MAX < path.len() || path.contains('\0') {
        return Err(field.refused(format!("a path of at most {SOCKET_PATH_BYTES_MAX} bytes")));
    }
    Ok(PathBuf::from(path))
}

/// Permissions as `fs.chmod` of Node takes them: a number as it is, a text as octal digits.
fn file_mode(field: &Field<'_>, notes: &mut Notes) -> Result<u32, ConfigError> {
    let mode = match field.value() {
        Value::Text(text) => {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            let is_octal = digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            u32::from_str_radix(digits, 8).ok().filter(|_| is_octal)
        }
        _ => field.whole(0..=u64::from(MODE_MAX)).ok().and_then(|mode| u32::try_from(mode).ok()),
    };
    let mode = mode
        .filter(|mode| *mode <= MODE_MAX)
        .ok_or_else(|| field.refused("permissions, as octal digits in quotes like \"0770\""))?;
    // 770 without quotes is a common slip: its bits are not those that it looks like.
    if let Value::Number(number) = field.value()
        && PERMISSIONS < mode
    {
        let (path, line, digits) = (field.path(), field.line(), number_text(*number));
        notes.warnings.push(format!(
            "{path} {digits} is {mode:o} in octal digits; in quotes, \"{digits}\" is taken as \
             octal{line}"
        ));
    }
    Ok(mode)
}

/// The block `streams`: what connections may use.
pub(super) fn stream_limits(
    root: &mut Table<'_>,
    notes: &mut Notes,
) -> Result<StreamLimits, ConfigError> {
    let mut limits = StreamLimits::default();
    let Some(field) = root.take("streams") else { return Ok(limits) };
    let mut block = field.table()?;
    if let Some(field) = block.take("connections_max") {
        let most = u64::try_from(STREAM_CONNECTIONS_MAX).expect("a small constant");
        limits.connections_max = usize::try_from(field.whole(1..=most)?).expect("within the limit");
    }
    if let Some(field) = block.take("line_bytes_max") {
        let most = u64::try_from(STREAM_LINE_BYTES_MAX).expect("a small constant");
        let bytes = field.size_bytes(LINE_BYTES_MIN..=most)?;
        limits.line_bytes_max = usize::try_from(bytes).expect("within the limit");
    }
    if let Some(field) = block.take("idle") {
        limits.idle_ms = field.duration_ms(0)?;
    }
    block.finish(notes)?;
    Ok(limits)
}

/// An IP address as given; the one name that needs no resolver is taken too.
pub(super) fn ip_address(field: &Field<'_>, is_ipv6: bool) -> Result<String, ConfigError> {
    let text = field.text()?;
    match text.as_str() {
        "localhost" if is_ipv6 => Ok("::1".to_owned()),
        "localhost" => Ok("127.0.0.1".to_owned()),
        address if address.parse::<IpAddr>().is_ok() => Ok(text),
        _ => Err(field.refused("an IP address like \"127.0.0.1\" or \"::\"")),
    }
}

/// Name of a module of the reference daemon: `udp` for `./servers/udp.js`.
pub(super) fn module_name(path: &str) -> &str {
    let path = path.strip_suffix(".js").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}
