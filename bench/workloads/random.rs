//! `SplitMix64`: small, seeded, the same numbers on every machine.
//!
//! Not for anything that must be hard to guess.

/// A sequence of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `limit`; 0 for a limit of 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        let high = ((self.bits() >> 32) * u64::from(limit)) >> 32;
        u32::try_from(high).expect("a 32-bit share of a 32-bit number has 32 bits")
    }

    /// The numbers below `limit` in random order.
    #[must_use]
    pub fn permutation(&mut self, limit: u32) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..limit).collect();
        for last in (1..limit).rev() {
            numbers.swap(last as usize, self.below(last + 1) as usize);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_numbers_are_those_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn permutation_holds_every_number_once() {
        let mut numbers = Random::new(7).permutation(1_000);
        assert_ne!(numbers[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..1_000));
    }

    #[test]
    fn numbers_stay_below_their_limit() {
        let mut random = Random::new(3);
        assert!((0..1_000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
    }
}
