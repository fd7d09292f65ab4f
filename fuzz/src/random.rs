//! Numbers from a seed: SplitMix64, which is enough to choose inputs by.

/// A sequence that its seed decides.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The sequence of the seed that an input begins with, and the rest of the input; one too short
    /// for a seed is all rest.
    #[must_use]
    pub fn of_input(input: &[u8]) -> (Self, &[u8]) {
        let (seed, rest) = input
            .split_first_chunk()
            .map_or((0, input), |(seed, rest)| (u64::from_le_bytes(*seed), rest));
        (Self::new(seed), rest)
    }

    /// The next number, any of 2^64.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// A number below `end`; 0 where that is 0.
    #[expect(clippy::cast_possible_truncation, reason = "below a usize")]
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next_u64()) * end as u128) >> 64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A byte, any of 256.
    #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is wanted")]
    pub fn byte(&mut self) -> u8 {
        self.next_u64() as u8
    }

    /// One of `choices`, which are not empty.
    pub fn pick<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_the_sequence() {
        let sequence = |seed| {
            let mut random = Random::new(seed);
            std::iter::repeat_with(|| random.below(1_000)).take(20).collect::<Vec<_>>()
        };
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
        assert!(sequence(7).iter().all(|number| *number < 1_000));
    }
}
