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
    Classifier::supported().collect()
}

/// The offsets of the bytes of `datagram` that no key of the set may hold, and its end three times.
fn stops_of(key_set: KeySet, datagram: &[u8]) -> Vec<u32> {
    let is_stop = |byte: u8| match key_set {
        KeySet::Sanitized => !byte.is_ascii_alphanumeric() && !b"_-.;=".contains(&byte),
        KeySet::Raw => b"\n:|".contains(&byte) || !byte.is_ascii(),
    };
    let stops = (0..).zip(datagram).filter(|(_, byte)| is_stop(**byte)).map(|(offset, _)| offset);
    let end = u32::try_from(datagram.len()).unwrap();
    stops.chain([end; STOPS_OF_LINE]).collect()
}

#[test]
fn every_byte_is_classified_by_its_definition() {
    let datagram: Vec<u8> = (0..=255).collect();
    for classifier in classifiers() {
        for key_set in [KeySet::Sanitized, KeySet::Raw] {
            let index = index(key_set, classifier, &datagram, 0);
            assert_eq!(index.stops(), stops_of(key_set, &datagram), "{classifier:?} {key_set:?}");
        }
    }
}

#[test]
fn the_slack_leaves_nothing() {
    for classifier in classifiers() {
        for len in [0, 1, 31, 32, 63, 64, 65, 127, 128, 200] {
            let datagram = vec![b'a'; len];
            for slack in *b"a:|\n\xff" {
                let index = index(KeySet::Sanitized, classifier, &datagram, slack);
                assert_eq!(index.stops(), [u32::try_from(len).unwrap(); STOPS_OF_LINE]);
            }
        }
    }
}

#[test]
fn nothing_is_left_of_the_datagram_before() {
    for classifier in classifiers() {
        let mut index = index(KeySet::Sanitized, classifier, &[b':'; 300], 0);
        let buffer = [b'a'; 130 + DATAGRAM_SLACK_BYTES];
        index.build(&buffer, 130);
        assert_eq!(index.stops(), [130; STOPS_OF_LINE]);
    }
}

#[test]
fn all_classifiers_agree_on_the_largest_datagram() {
    let mixed = (0..DATAGRAM_BYTES_MAX).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    for datagram in [mixed, vec![b':'; DATAGRAM_BYTES_MAX], vec![b'a'; DATAGRAM_BYTES_MAX]] {
        for key_set in [KeySet::Sanitized, KeySet::Raw] {
            for classifier in classifiers() {
                let index = index(key_set, classifier, &datagram, b':');
                assert!(
                    index.stops() == stops_of(key_set, &datagram),
                    "{classifier:?} {key_set:?}"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "the slack lies behind the datagram")]
fn a_buffer_without_slack_is_refused() {
    Index::new(KeySet::Raw, Classifier::Portable).build(&[0; 64], 1);
}
