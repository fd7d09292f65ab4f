//! Inputs changed by someone who knows the grammar.
//!
//! A change takes out, doubles, moves or overwrites a piece of the input, where pieces end at the
//! grammar's own delimiters as often as anywhere; puts in a word of the grammar, a number at the edge
//! of what a reader takes, or any bytes; or joins two inputs of the corpus.

use crate::random::Random;

/// Longest input, bytes: a little more than the largest datagram.
pub const INPUT_BYTES_MAX: usize = 66_000;

/// Numbers at the edges of what a reader may take for one.
const NUMBERS: [&str; 24] = [
    "0",
    "-0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "18446744073709551616",
    "1e308",
    "1e309",
    "-1e-400",
    "0.1",
    ".5",
    "5.",
    "0x1fffffffffffff1",
    "0b101",
    "Infinity",
    "NaN",
    "1e",
    "99999999999999999999999999",
];

/// Bytes that readers stumble over.
const ODD: [&[u8]; 16] = [
    b"\0",
    b"\x1b[2J",
    b"\r\n",
    b"\n",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc2\x85",
    b"\xc2\xa0",
    b"\xe2\x80\xa8",
    b"\xe3\x80\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
];

/// What is known of a target's grammar.
#[derive(Clone, Copy, Debug)]
pub struct Grammar {
    /// Words that mean something in it.
    pub words: &'static [&'static str],
    /// Bytes that end a piece.
    pub delimiters: &'static [u8],
}

/// Makes a new input out of those of `corpus`, by one to eight changes.
pub fn input(random: &mut Random, grammar: &Grammar, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = if corpus.is_empty() { Vec::new() } else { random.pick(corpus).clone() };
    for _ in 0..=random.below(8) {
        change(random, grammar, corpus, &mut input);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(random: &mut Random, grammar: &Grammar, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let (start, end) = piece(random, grammar, input);
    match random.below(12) {
        0 => drop(input.drain(start..end)),
        1 => double(random, input, start, end),
        2 => move_piece(random, input, start, end),
        3 => put(input, start, end, random.pick(&NUMBERS[..]).as_bytes()),
        4 => put(input, start, start, random.pick::<&[u8]>(&ODD)),
        5 | 6 if !grammar.words.is_empty() => {
            let word = random.pick(grammar.words).as_bytes();
            let end = if random.once_in(2) { start } else { end };
            put(input, start, end, word);
        }
        7 => {
            let bytes: Vec<u8> = (0..random.below(9)).map(|_| random.byte()).collect();
            put(input, start, end.min(start + bytes.len()), &bytes);
        }
        8 if !corpus.is_empty() => {
            let other = random.pick(corpus);
            let (from, to) = piece(random, grammar, other);
            put(input, start, end, &other[from..to]);
        }
        9 => input.truncate(end),
        10 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b' ', b'9']);
        }
        _ if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] ^= 1 << random.below(8);
        }
        _ => input.push(random.byte()),
    }
}

/// A piece of the input: between two delimiters, or anywhere.
fn piece(random: &mut Random, grammar: &Grammar, input: &[u8]) -> (usize, usize) {
    let start = random.below(input.len() + 1);
    let is_end = |byte: &u8| grammar.delimiters.contains(byte);
    if random.once_in(3) || grammar.delimiters.is_empty() {
        let end = start + random.below((input.len() - start).min(64) + 1);
        return (start, end);
    }
    let start = input[..start].iter().rposition(is_end).map_or(0, |at| at + 1);
    let end = input[start..].iter().position(is_end).map_or(input.len(), |at| start + at);
    // With its delimiter as often as without.
    (start, (end + random.below(2)).min(input.len()))
}

fn put(input: &mut Vec<u8>, start: usize, end: usize, bytes: &[u8]) {
    let (start, end) = (start.min(input.len()), end.min(input.len()));
    input.splice(start..end, bytes.iter().copied());
}

fn double(random: &mut Random, input: &mut Vec<u8>, start: usize, end: usize) {
    let times = if random.once_in(8) { 1 << random.below(12) } else { 1 };
    let room = INPUT_BYTES_MAX.saturating_sub(input.len());
    let repeated = input[start..end].repeat(times.min(room / (end - start).max(1)));
    put(input, end, end, &repeated);
}

fn move_piece(random: &mut Random, input: &mut Vec<u8>, start: usize, end: usize) {
    let piece: Vec<u8> = input.drain(start..end).collect();
    let to = random.below(input.len() + 1);
    put(input, to, to, &piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_bounded_and_decided_by_the_seed() {
        let grammar = Grammar { words: &["|#", "c"], delimiters: b":|\n" };
        let corpus = [b"a:1|c\nb:2|ms".to_vec(), vec![b'x'; 65_000]];
        let made = |seed| {
            let mut random = Random::new(seed);
            let inputs = std::iter::repeat_with(|| input(&mut random, &grammar, &corpus));
            inputs.take(300).collect::<Vec<_>>()
        };
        let inputs = made(1);
        assert!(inputs.iter().all(|input| input.len() <= INPUT_BYTES_MAX));
        assert_eq!(inputs, made(1));
        assert_ne!(inputs, made(2));
    }
}
