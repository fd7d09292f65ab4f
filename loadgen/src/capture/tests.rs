//! The pcap reader against captures made by hand, and against every way of cutting them.

use super::*;

const PAYLOAD: &[u8] = b"frozone.statsd.test:1|c";

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut udp = 40_000u16.to_be_bytes().to_vec();
    udp.extend_from_slice(&port.to_be_bytes());
    udp.extend_from_slice(&u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);
    udp
}

fn ipv4(options: &[u8], fragment: u16, protocol: u8, body: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let mut ip = vec![0x40 | words, 0];
    let length = 20 + options.len() + body.len();
    ip.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    ip.extend_from_slice(&[0, 1]);
    ip.extend_from_slice(&fragment.to_be_bytes());
    ip.extend_from_slice(&[64, protocol, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    ip.extend_from_slice(options);
    ip.extend_from_slice(body);
    ip
}

fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
    ip.extend_from_slice(&[next, 64]);
    ip.extend_from_slice(&[0; 32]);
    ip.extend_from_slice(body);
    ip
}

fn ethernet(tags: &[[u8; 4]], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend_from_slice(tag);
    }
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

fn plain() -> Vec<u8> {
    ethernet(&[], 0x0800, &ipv4(&[], 0x4000, UDP, &udp(8_125, PAYLOAD)))
}

fn file(magic: u32, is_little: bool, link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let word = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let half = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let mut file = word(magic).to_vec();
    file.extend_from_slice(&half(2));
    file.extend_from_slice(&half(4));
    for number in [0, 0, 65_535, link] {
        file.extend_from_slice(&word(number));
    }
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap();
        for number in [1, 2, length, length] {
            file.extend_from_slice(&word(number));
        }
        file.extend_from_slice(packet);
    }
    file
}

fn little(link: u32, packet: Vec<u8>) -> Vec<u8> {
    file(0xa1b2_c3d4, true, link, &[packet])
}

fn assert_payload(file: &[u8]) {
    let capture = read(file, Some(8_125)).unwrap();
    assert_eq!(capture.payloads, [PAYLOAD]);
    assert_eq!(capture.skipped, 0);
}

#[test]
fn the_packet_caught_on_a_statsd_host_is_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/packets/frozone.pcap");
    let file = std::fs::read(path).unwrap();
    assert_payload(&file);
    let hex = "66726f7a6f6e652e7374617473642e746573743a317c63";
    assert_eq!(Hex(read(&file, None).unwrap().payloads[0]).to_string(), hex);
}

#[test]
fn both_byte_orders_and_both_fractions_are_read() {
    for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
        for is_little in [true, false] {
            assert_payload(&file(magic, is_little, 1, &[plain()]));
        }
    }
}

#[test]
fn every_link_type_is_read() {
    let ip = ipv4(&[], 0, UDP, &udp(8_125, PAYLOAD));
    let behind = |header: &[u8]| [header, &ip].concat();
    assert_payload(&little(0, behind(&[2, 0, 0, 0])));
    assert_payload(&little(108, behind(&[0, 0, 0, 2])));
    assert_payload(&little(101, ip.clone()));
    assert_payload(&little(228, ip.clone()));
    let mut cooked = vec![0; 16];
    cooked[14] = 8;
    assert_payload(&little(113, behind(&cooked)));
    let mut cooked = vec![0; 20];
    cooked[0] = 8;
    assert_payload(&little(276, behind(&cooked)));
}

#[test]
fn vlan_tags_options_and_ipv6_are_stepped_over() {
    let ip = ipv4(&[], 0, UDP, &udp(8_125, PAYLOAD));
    assert_payload(&little(1, ethernet(&[[0x81, 0, 0, 5]], 0x0800, &ip)));
    let twice = [[0x88, 0xa8, 0, 5], [0x81, 0, 0, 6]];
    assert_payload(&little(1, ethernet(&twice, 0x0800, &ip)));
    let with_options = ipv4(&[1; 8], 0, UDP, &udp(8_125, PAYLOAD));
    assert_payload(&little(1, ethernet(&[], 0x0800, &with_options)));
    let six = ipv6(UDP, &udp(8_125, PAYLOAD));
    assert_payload(&little(1, ethernet(&[], 0x86dd, &six)));
    assert_payload(&little(229, six));
}

#[test]
fn the_padding_of_a_short_frame_is_not_payload() {
    let mut frame = plain();
    frame.extend_from_slice(&[0; 9]);
    assert_payload(&little(1, frame));
}

#[test]
fn an_empty_payload_is_a_payload() {
    let packet = ipv4(&[], 0, UDP, &udp(8_125, b""));
    let file = little(101, packet);
    assert_eq!(read(&file, None).unwrap().payloads, [b""]);
}

#[test]
fn other_packets_are_counted_and_left_out() {
    let body = udp(8_125, PAYLOAD);
    let packets = [
        ethernet(&[], 0x0806, &[0; 28]),
        ethernet(&[], 0x0800, &ipv4(&[], 0, 6, &body)),
        ethernet(&[], 0x0800, &ipv4(&[], 0x2000, UDP, &body)),
        ethernet(&[], 0x0800, &ipv4(&[], 0x0010, UDP, &body)),
        ethernet(&[], 0x86dd, &ipv6(44, &body)),
        ethernet(&[], 0x0800, &ipv4(&[], 0, UDP, &udp(9_999, PAYLOAD))),
        vec![1, 2, 3],
        Vec::new(),
        plain(),
    ];
    let file = file(0xa1b2_c3d4, true, 1, &packets);
    let capture = read(&file, Some(8_125)).unwrap();
    assert_eq!((capture.payloads, capture.skipped), (vec![PAYLOAD], 8));
    assert_eq!(read(&file, None).unwrap().payloads.len(), 2);
}

#[test]
fn what_is_no_classic_pcap_is_refused_by_name() {
    let message = |file: &[u8]| read(file, None).unwrap_err().to_string();
    assert!(message(&[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0]).contains("pcapng"));
    assert!(message(b"GIF89a..").contains("47494638"));
    assert!(message(b"").contains("too short"));
    assert!(message(&little(147, plain())).contains("link type 147"));
}

#[test]
fn a_datagram_cut_by_the_snapshot_length_is_refused() {
    let mut packet = plain();
    packet.pop();
    let message = read(&little(1, packet), None).unwrap_err().to_string();
    assert!(message.contains("packet 1") && message.contains("not whole"), "{message}");
}

#[test]
fn a_file_cut_anywhere_is_refused_and_never_panics() {
    let whole = file(0xa1b2_c3d4, true, 1, &[plain(), plain()]);
    let first = FILE_HEADER_BYTES + RECORD_HEADER_BYTES + plain().len();
    for length in 0..whole.len() {
        let result = read(&whole[..length], None);
        match length {
            // Between two packets nothing tells that there were more.
            FILE_HEADER_BYTES => assert_eq!(result.unwrap().payloads.len(), 0),
            _ if length == first => assert_eq!(result.unwrap().payloads.len(), 1),
            _ => assert!(result.is_err(), "cut at {length}"),
        }
    }
}

#[test]
fn a_packet_cut_anywhere_never_panics() {
    let body = udp(8_125, PAYLOAD);
    let four = ipv4(&[1; 4], 0, UDP, &body);
    let six = ipv6(UDP, &body);
    let frames = [
        (1, ethernet(&[[0x81, 0, 0, 5]], 0x0800, &four)),
        (1, ethernet(&[], 0x86dd, &six)),
        (101, four.clone()),
        (0, [&[2, 0, 0, 0], four.as_slice()].concat()),
        (113, [&[0; 16], four.as_slice()].concat()),
        (276, [&[8; 20], four.as_slice()].concat()),
    ];
    for (link, frame) in frames {
        for length in 0..frame.len() {
            let file = little(link, frame[..length].to_vec());
            let payloads = read(&file, None).map_or(0, |capture| capture.payloads.len());
            assert_eq!(payloads, 0, "link {link} cut at {length}");
        }
    }
}

#[test]
fn any_single_byte_changed_never_panics() {
    let whole = little(1, plain());
    for at in 0..whole.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            if let Ok(capture) = read(&changed, None) {
                assert!(capture.payloads.len() <= 1);
            }
        }
    }
}
