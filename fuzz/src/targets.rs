//! The readers of bytes from outside, and what must hold of each for any input.
//!
//! Each is a *reader* with memory of its own, so that what one input leaves behind meets the next.

use crate::mutate::Grammar;

mod carbon_encode;
mod config;
mod console_command;
mod parse_datagram;
mod segment_open;
mod tags;
mod tcp_stream;

/// Something that reads bytes, and the claims about it.
pub trait Reader {
    /// Reads one input.
    ///
    /// # Errors
    /// The claim that does not hold. A panic is as good.
    fn check(&mut self, input: &[u8]) -> Result<(), String>;
}

/// A reader, and what is known of its grammar.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// As the command line and the corpus have it.
    pub name: &'static str,
    /// What must hold, in a line.
    pub about: &'static str,
    /// What inputs are made of.
    pub grammar: Grammar,
    /// Makes a fresh reader.
    pub reader: fn() -> Box<dyn Reader>,
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    parse_datagram::TARGET,
    tags::TARGET,
    tcp_stream::TARGET,
    config::TARGET,
    console_command::TARGET,
    segment_open::TARGET,
    carbon_encode::TARGET,
];

/// `Err` with `problem` unless `holds`.
fn claim(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// `Err` unless both are equal.
fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &T,
    expected: &T,
) -> Result<(), String> {
    claim(found == expected, || format!("{what}: {found:?} instead of {expected:?}"))
}
