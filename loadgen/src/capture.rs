//! UDP payloads out of a packet capture.
//!
//! Feeds `replay`. Reads the classic pcap format:
//!
//! ```text
//! file    magic u32, version u16 u16, zone i32, accuracy u32, snapshot length u32, link type u32
//! record  seconds u32, fraction u32, captured length u32, original length u32, then the bytes
//! ```
//!
//! All numbers have the byte order that the magic shows (`a1b2c3d4` microseconds, `a1b23c4d` nanoseconds).
//! Link types: Ethernet (with VLAN tags), Linux cooked v1 and v2, raw IP, BSD loopback. IPv4 with options,
//! IPv6 without extension headers. Packets of another kind and IP fragments are counted and left out; a cut
//! file or a UDP packet cut by the snapshot length is an error, because a replay must be whole.
//! Every read is checked against the bytes that are there.

use std::fmt;

use anyhow::{Result, bail};

const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
const UDP: u8 = 17;

/// The payloads of a capture, in its order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Capture<'a> {
    pub(crate) payloads: Vec<&'a [u8]>,
    /// Packets left out: other protocols, other ports, fragments.
    pub(crate) skipped: u64,
}

/// Why a packet gives no payload.
#[derive(Debug, PartialEq, Eq)]
enum NoPayload {
    /// It is not for us: not UDP, another port, a fragment, a broken header.
    Other,
    /// It is a UDP packet of which bytes are missing.
    Cut,
}

/// Numbers in the byte order of the file.
#[derive(Clone, Copy)]
struct Order {
    is_little: bool,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }
}

/// What lies under the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// 4 bytes of address family in the byte order of the capturing machine.
    Loopback,
    Ethernet,
    RawIp,
    LinuxCooked,
    LinuxCooked2,
}

impl Link {
    fn of(number: u32) -> Option<Link> {
        Some(match number {
            0 | 108 => Link::Loopback,
            1 => Link::Ethernet,
            12 | 14 | 101 | 228 | 229 => Link::RawIp,
            113 => Link::LinuxCooked,
            276 => Link::LinuxCooked2,
            _ => return None,
        })
    }
}

/// Reads a whole capture; with `port` only the datagrams sent to that port.
///
/// # Errors
/// Where the file is no classic pcap, ends within a record, or holds a UDP packet that was cut.
pub(crate) fn read(file: &[u8], port: Option<u16>) -> Result<Capture<'_>> {
    let (order, link) = file_header(file)?;
    let mut capture = Capture { payloads: Vec::new(), skipped: 0 };
    let mut at = FILE_HEADER_BYTES;
    let mut number = 0u64;
    while at < file.len() {
        number += 1;
        let Some(captured) = order.u32(file, at + 8) else {
            bail!("packet {number}: the file ends within its record header; it is cut");
        };
        let start = at + RECORD_HEADER_BYTES;
        let end = start.saturating_add(captured as usize);
        let Some(packet) = file.get(start..end) else {
            bail!("packet {number}: {captured} bytes captured, but the file ends; it is cut");
        };
        match payload(link, packet, port) {
            Ok(payload) => capture.payloads.push(payload),
            Err(NoPayload::Other) => capture.skipped += 1,
            Err(NoPayload::Cut) => {
                bail!("packet {number}: the UDP datagram is not whole; capture with tcpdump -s 0")
            }
        }
        at = end;
    }
    Ok(capture)
}

fn file_header(file: &[u8]) -> Result<(Order, Link)> {
    let Some(magic) = file.get(..4) else { bail!("the file is too short for a pcap") };
    let is_little = match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => true,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => false,
        [0x0a, 0x0d, 0x0d, 0x0a] => {
            bail!("this is pcapng; convert it: editcap -F pcap IN OUT, or tcpdump -r IN -w OUT")
        }
        _ => bail!("this is no pcap: it begins with {}", Hex(magic)),
    };
    let order = Order { is_little };
    let Some(link) = order.u32(file, 20) else {
        bail!("the file ends within the pcap header; it is cut");
    };
    // The upper bits hold the length of a checksum at the end of frames.
    let number = link & 0x0fff_ffff;
    match Link::of(number) {
        Some(link) => Ok((order, link)),
        None => {
            bail!("link type {number} is not known here; Ethernet, cooked, raw IP and loopback are")
        }
    }
}

/// Bytes as text, for messages.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The UDP payload of one packet.
fn payload(link: Link, packet: &[u8], port: Option<u16>) -> Result<&[u8], NoPayload> {
    let ip = network(link, packet).ok_or(NoPayload::Other)?;
    let udp = transport(ip).ok_or(NoPayload::Other)?;
    let (Some(to), Some(length)) = (u16_at(udp, 2), u16_at(udp, 4)) else {
        return Err(NoPayload::Cut);
    };
    if port.is_some_and(|port| port != to) {
        return Err(NoPayload::Other);
    }
    let length = usize::from(length);
    if length < 8 {
        return Err(NoPayload::Other);
    }
    // The UDP length counts, not the packet's: short Ethernet frames are padded.
    udp.get(8..length).ok_or(NoPayload::Cut)
}

/// The IP packet within a link frame.
fn network(link: Link, packet: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = match link {
        Link::RawIp => return Some(packet),
        // Families differ from system to system; the IP version tells enough.
        Link::Loopback => return packet.get(4..),
        Link::Ethernet => (u16_at(packet, 12)?, packet.get(14..)?),
        Link::LinuxCooked => (u16_at(packet, 14)?, packet.get(16..)?),
        Link::LinuxCooked2 => (u16_at(packet, 0)?, packet.get(20..)?),
    };
    untagged(kind, rest)
}

/// Steps over up to two VLAN tags.
fn untagged(kind: u16, rest: &[u8]) -> Option<&[u8]> {
    let (mut kind, mut rest) = (kind, rest);
    for _ in 0..2 {
        if matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
            kind = u16_at(rest, 2)?;
            rest = rest.get(4..)?;
        }
    }
    matches!(kind, 0x0800 | 0x86dd).then_some(rest)
}

/// The UDP datagram within an IP packet, header included.
fn transport(ip: &[u8]) -> Option<&[u8]> {
    match ip.first()? >> 4 {
        4 => {
            let header_bytes = usize::from(ip[0] & 0x0f) * 4;
            // More fragments, or an offset: not the whole datagram.
            let is_fragment = u16_at(ip, 6)? & 0x3fff != 0;
            let is_udp = *ip.get(9)? == UDP;
            if header_bytes < 20 || is_fragment || !is_udp {
                return None;
            }
            ip.get(header_bytes..)
        }
        6 if *ip.get(6)? == UDP => ip.get(40..),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
