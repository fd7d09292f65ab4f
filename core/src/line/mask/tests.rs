//! The classes of every byte, on every classifier.

use super::*;

fn index(key_set: KeySet, classifier: Classifier, datagram: &[u8], slack: u8) -> Index {
    let mut buffer = datagram.to_vec();
    buffer.resize(datagram.len() + DATAGRAM_SLACK_BYTES, slack);
    let mut index = Index::new(key_set, classifier);
    index.build(&[Datagram { buffer: &buffer, len: datagram.len() }]);
    index
}

/// The stops of the one datagram of the last build.
fn stops(index: &Index) -> &[u32] {
    let mut all = index.stops();
    assert_eq!(all.len(), 1);
    all.next().unwrap()
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
            assert_eq!(stops(&index), stops_of(key_set, &datagram), "{classifier:?} {key_set:?}");
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
                assert_eq!(stops(&index), [u32::try_from(len).unwrap(); STOPS_OF_LINE]);
            }
        }
    }
}

#[test]
fn nothing_is_left_of_the_datagram_before() {
    for classifier in classifiers() {
        let mut index = index(KeySet::Sanitized, classifier, &[b':'; 300], 0);
        let buffer = [b'a'; 130 + DATAGRAM_SLACK_BYTES];
        index.build(&[Datagram { buffer: &buffer, len: 130 }]);
        assert_eq!(stops(&index), [130; STOPS_OF_LINE]);
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
                    stops(&index) == stops_of(key_set, &datagram),
                    "{classifier:?} {key_set:?}"
                );
            }
        }
    }
}

/// How many datagrams of these texts each `build` takes; what it lists is checked.
fn groups(classifier: Classifier, texts: &[Vec<u8>]) -> Vec<usize> {
    let with_slack = |text: &Vec<u8>| [text, [b':'; DATAGRAM_SLACK_BYTES].as_slice()].concat();
    let buffers: Vec<Vec<u8>> = texts.iter().map(with_slack).collect();
    let datagrams: Vec<Datagram<'_>> = buffers
        .iter()
        .map(|buffer| Datagram { buffer, len: buffer.len() - DATAGRAM_SLACK_BYTES })
        .collect();
    let mut index = Index::new(KeySet::Sanitized, classifier);
    let (mut at, mut groups) = (0, Vec::new());
    while at < datagrams.len() {
        index.build(&datagrams[at..]);
        for (stops, text) in index.stops().zip(&texts[at..]) {
            assert!(stops == stops_of(KeySet::Sanitized, text), "{classifier:?}");
        }
        groups.push(index.stops().len());
        at += index.stops().len();
    }
    groups
}

#[test]
fn datagrams_together_have_the_stops_that_each_has_alone() {
    let line = |number: usize| format!("name.{number}:1|c\n").repeat(number % 9).into_bytes();
    let lines: Vec<Vec<u8>> = (0..2 * DATAGRAMS_AT_ONCE + 6).map(line).collect();
    let stops = |count| vec![b'|'; count];
    let room = OFFSETS_TOGETHER_MAX - STOPS_OF_LINE;
    for classifier in classifiers() {
        let together = groups(classifier, &lines);
        assert_eq!(together, [DATAGRAMS_AT_ONCE, DATAGRAMS_AT_ONCE, 6]);
        // The largest one behind as many offsets as there may be, and no other behind one more.
        let last = stops(DATAGRAM_BYTES_MAX);
        let texts = [stops(room), last.clone(), stops(room + 1), Vec::new(), last];
        assert_eq!(groups(classifier, &texts), [2, 1, 2]);
    }
}

#[test]
#[should_panic(expected = "the slack lies behind the datagram")]
fn a_buffer_without_slack_is_refused() {
    Index::new(KeySet::Raw, Classifier::Portable).build(&[Datagram { buffer: &[0; 64], len: 1 }]);
}
