//! Where datagrams come in: `servers`, or the keys of one server at the top level.
//!
//! A server of another kind than UDP is left out and named, never turned into UDP: its clients
//! would send into nothing.

use std::net::{IpAddr, Ipv6Addr};

use super::settings::Listener;
use super::walk::{Field, Notes, Table};
use super::{ConfigError, Source};

/// Port of the reference daemon.
pub(super) const PORT: u16 = 8125;

/// Keys of the one server that there is without `servers`.
const TOP_LEVEL: [&str; 4] = ["server", "address", "address_ipv6", "port"];

/// The listener of no configuration: both address families, or IPv4 where there is no IPv6.
pub(super) fn dual_stack(port: u16) -> Listener {
    Listener { address: Ipv6Addr::UNSPECIFIED.to_string(), port, is_dual_stack_default: true }
}

/// Reads all listeners.
pub(super) fn read(
    root: &mut Table<'_>,
    source: Source,
    notes: &mut Notes,
) -> Result<Vec<Listener>, ConfigError> {
    let mut listeners = Vec::new();
    let mut other_kinds = Vec::new();
    let top_level = server(root, source)?;
    if let Some(servers) = root.take_truthy("servers") {
        let idle: Vec<_> = TOP_LEVEL.into_iter().filter(|key| root.take(key).is_some()).collect();
        if !idle.is_empty() {
            let has = if idle.len() == 1 { "has" } else { "have" };
            notes.warnings.push(format!("{} {has} no effect beside servers", idle.join(", ")));
        }
        for field in servers.list("servers")? {
            let mut table = field.table()?;
            match server(&mut table, source)? {
                Server::Udp(listener) => listeners.push(listener),
                Server::Other(kind) => other_kinds.push(format!("{} ({kind})", field.path())),
            }
            table.finish(notes)?;
        }
    } else {
        match top_level {
            Server::Udp(listener) => listeners.push(listener),
            Server::Other(kind) => other_kinds.push(format!("server ({kind})")),
        }
    }
    if listeners.is_empty() {
        let left_out = match other_kinds.as_slice() {
            [] => String::new(),
            kinds => format!(" beside {}, which this version has not", kinds.join(", ")),
        };
        return Err(ConfigError::NoListener { left_out });
    }
    notes.left_out.append(&mut other_kinds);
    Ok(listeners)
}

enum Server {
    Udp(Listener),
    /// Another kind, as the file calls it.
    Other(String),
}

/// Reads the keys of one server.
fn server(table: &mut Table<'_>, source: Source) -> Result<Server, ConfigError> {
    let kind = table.take_truthy("server").map(|field| field.text()).transpose()?;
    let port = match table.take_truthy("port") {
        Some(field) => field.port(u16::from(source == Source::ConfigJs))?,
        None => PORT,
    };
    let is_ipv6 = table.take("address_ipv6").map(|field| field.flag()).transpose()?;
    let address = table.take_truthy("address");
    // These two belong to the kinds of server that are not UDP.
    table.take("socket");
    table.take("socket_mod");
    if let Some(kind) = kind
        && module_name(&kind) != "udp"
    {
        return Ok(Server::Other(super::value::shortened(&kind)));
    }
    let address = match (address, is_ipv6) {
        (Some(field), is_ipv6) => ip_address(&field, is_ipv6.unwrap_or(false))?,
        (None, Some(true)) => "::".to_owned(),
        (None, None) if source == Source::Toml => return Ok(Server::Udp(dual_stack(port))),
        (None, _) => "0.0.0.0".to_owned(),
    };
    Ok(Server::Udp(Listener { address, port, is_dual_stack_default: false }))
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
