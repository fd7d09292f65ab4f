//! The classes of every byte, on every classifier.

use super::*;

fn index(key_set: KeySet, classifier: Classifier, datagram: &[u8], slack: u8) -> Index {
    let mut buffer = datagram.to_vec();
    buffer.resize(datagram.len() + DATAGRAM_SLACK_BYTES, slack);
    let mut index = Index::new(key_set, classifier);
    index.build(&buffer, datagram.len());
    index
}

fn classifiers() -> Vec<Classifier> {
    vec![Classifier::Portable, Classifier::detect()]
}

#[test]
fn every_byte_is_classified_by_its_definition() {
    let datagram: Vec<u8> = (0..=255).collect();
    for classifier in classifiers() {
        for key_set in [KeySet::Sanitized, KeySet::Raw] {
            let index = index(key_set, classifier, &datagram, 0);
            for byte in 0..=255_u8 {
                let window = index.window(usize::from(byte));
                let is_clean = match key_set {
                    KeySet::Sanitized => byte.is_ascii_alphanumeric() || b"_-.;=".contains(&byte),
                    KeySet::Raw => byte.is_ascii(),
                };
                assert_eq!(window.newline & 1 == 1, byte == b'\n', "{byte}");
                assert_eq!(window.colon & 1 == 1, byte == b':', "{byte}");
                assert_eq!(window.pipe & 1 == 1, byte == b'|', "{byte}");
                assert_eq!(window.unclean & 1 == 0, is_clean, "{byte} {key_set:?}");
            }
        }
    }
}

#[test]
fn the_slack_leaves_no_bit() {
    for classifier in classifiers() {
        for len in [0, 1, 31, 32, 63, 64, 65, 127, 128, 200] {
            let datagram = vec![b'a'; len];
            let one = index(KeySet::Sanitized, classifier, &datagram, b'a');
            for slack in *b":|\n\xff" {
                let other = index(KeySet::Sanitized, classifier, &datagram, slack);
                assert_eq!(one.blocks, other.blocks);
            }
            let newlines: u32 = one.blocks.iter().map(|block| block.newline.count_ones()).sum();
            assert_eq!(newlines, 1);
            assert_eq!(one.next(|block| block.newline, 0, usize::MAX), len);
            assert!(one.blocks.iter().all(|block| block.colon | block.pipe | block.unclean == 0));
        }
    }
}

#[test]
fn nothing_is_left_of_the_datagram_before() {
    for classifier in classifiers() {
        let mut index = index(KeySet::Sanitized, classifier, &[b':'; 300], 0);
        let buffer = [b'a'; 130 + DATAGRAM_SLACK_BYTES];
        index.build(&buffer, 130);
        for at in 0..130 {
            assert_eq!(index.window(at).colon, 0, "{at}");
        }
    }
}

#[test]
fn both_classifiers_agree_on_the_largest_datagram() {
    let datagram: Vec<u8> =
        (0..DATAGRAM_BYTES_MAX).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    for key_set in [KeySet::Sanitized, KeySet::Raw] {
        let portable = index(key_set, Classifier::Portable, &datagram, 0);
        let detected = index(key_set, Classifier::detect(), &datagram, 0);
        assert_eq!(portable.blocks, detected.blocks);
    }
}

#[test]
fn a_window_spans_two_blocks() {
    let mut datagram = vec![b'a'; 128];
    datagram[70] = b':';
    datagram[127] = b'|';
    for classifier in classifiers() {
        let index = index(KeySet::Sanitized, classifier, &datagram, 0);
        assert_eq!(index.window(60).colon, 1 << 10);
        assert_eq!(index.window(64).colon, 1 << 6);
        assert_eq!(index.window(71).colon, 0);
        assert_eq!(index.window(127).pipe, 1);
        assert_eq!(index.window(127).newline, 2);
    }
}

#[test]
fn the_search_ends_at_its_limit() {
    let mut datagram = vec![b'a'; 300];
    datagram[200] = b':';
    let index = index(KeySet::Sanitized, Classifier::detect(), &datagram, 0);
    assert_eq!(index.next(|block| block.colon, 0, 300), 200);
    assert_eq!(index.next(|block| block.colon, 200, 300), 200);
    assert_eq!(index.next(|block| block.colon, 201, 300), 300);
    assert_eq!(index.next(|block| block.colon, 0, 150), 150);
    assert_eq!(index.next(|block| block.colon, 0, 193), 193);
}

#[test]
#[should_panic(expected = "the slack lies behind the datagram")]
fn a_buffer_without_slack_is_refused() {
    Index::new(KeySet::Raw, Classifier::Portable).build(&[0; 64], 1);
}
