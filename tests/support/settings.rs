//! floe's own TOML as the tests need it: every port the kernel's choice, one-second intervals
//! where nothing else is said, and the backends under test.

use super::carbon::Protocol;

/// One `[[backends]]` table.
pub(crate) struct Backend<'a> {
    pub(crate) name: &'a str,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

/// A complete file; `flush_ms` is the interval in milliseconds.
pub(crate) fn toml(flush_ms: u32, backends: &[Backend<'_>]) -> String {
    let mut text = format!("port = 0\nmgmt_port = 0\nflushInterval = {flush_ms}\n");
    for Backend { name, port, protocol } in backends {
        let protocol = match protocol {
            Protocol::Text => "text",
            Protocol::Pickle => "pickle",
        };
        text.push_str(&format!(
            "\n[[backends]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\n\
             protocol = \"{protocol}\"\n"
        ));
    }
    text
}

/// One text backend called `a`.
pub(crate) fn one_text_backend(flush_ms: u32, port: u16) -> String {
    toml(flush_ms, &[Backend { name: "a", port, protocol: Protocol::Text }])
}
