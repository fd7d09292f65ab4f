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

/// The offsets that count.
fn offsets(index: &Index) -> &[u32] {
    &index.found.offsets[..index.found.offset_count]
}

fn offsets_of(datagram: &[u8]) -> Vec<u32> {
    let delimiters = (0..).zip(datagram).filter(|(_, byte)| b"\n:|".contains(byte));
    let behind = u32::try_from(datagram.len()).unwrap();
    delimiters.map(|(offset, _)| offset).chain([behind]).collect()
}

#[test]
fn every_byte_is_classified_by_its_definition() {
    let datagram: Vec<u8> = (0..=255).collect();
    for classifier in classifiers() {
        for key_set in [KeySet::Sanitized, KeySet::Raw] {
            let index = index(key_set, classifier, &datagram, 0);
            assert_eq!(offsets(&index), offsets_of(&datagram));
            for byte in 0..=255_u8 {
                let at = usize::from(byte);
                let is_clean = match key_set {
                    KeySet::Sanitized => byte.is_ascii_alphanumeric() || b"_-.;=".contains(&byte),
                    KeySet::Raw => byte.is_ascii(),
                };
                assert_eq!(index.is_clean(at, at + 1), is_clean, "{byte} {key_set:?}");
            }
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
                assert_eq!(offsets(&index), [u32::try_from(len).unwrap()]);
                assert_eq!(index.delimiters(0), [len; DELIMITERS_OF_LINE]);
                assert!(index.is_clean(0, len), "{len} {slack}");
                assert!(index.found.unclean.iter().all(|unclean| *unclean == 0));
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
        assert_eq!(index.delimiters(0), [130; DELIMITERS_OF_LINE]);
        assert!(index.is_clean(0, 130));
    }
}

#[test]
fn a_datagram_of_delimiters_alone_has_all_of_them() {
    let datagram = vec![b':'; DATAGRAM_BYTES_MAX];
    for classifier in classifiers() {
        let index = index(KeySet::Sanitized, classifier, &datagram, b':');
        assert_eq!(offsets(&index), offsets_of(&datagram));
        let last = DATAGRAM_BYTES_MAX;
        assert_eq!(index.delimiters(last - 1), [last - 1, last, last, last]);
        assert_eq!(index.delimiters(last), [last; DELIMITERS_OF_LINE]);
    }
}

#[test]
fn all_classifiers_agree_on_the_largest_datagram() {
    let datagram: Vec<u8> =
        (0..DATAGRAM_BYTES_MAX).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    for key_set in [KeySet::Sanitized, KeySet::Raw] {
        let portable = index(key_set, Classifier::Portable, &datagram, 0);
        assert_eq!(offsets(&portable), offsets_of(&datagram));
        for classifier in classifiers() {
            let other = index(key_set, classifier, &datagram, 0);
            assert_eq!(offsets(&portable), offsets(&other));
            assert_eq!(portable.found.unclean, other.found.unclean);
        }
    }
}

#[test]
fn a_key_is_clean_or_not_wherever_it_begins_and_ends() {
    let mut datagram = vec![b'a'; 400];
    datagram[200] = b'/';
    for classifier in classifiers() {
        let index = index(KeySet::Sanitized, classifier, &datagram, b'/');
        for start in [0, 1, 63, 64, 65, 130, 199, 200, 201, 255, 399] {
            for end in start..=datagram.len() {
                let is_clean = !(start..end).contains(&200);
                assert_eq!(index.is_clean(start, end), is_clean, "{start} {end}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "the slack lies behind the datagram")]
fn a_buffer_without_slack_is_refused() {
    Index::new(KeySet::Raw, Classifier::Portable).build(&[0; 64], 1);
}
