//! The seeded stream of random numbers behind a workload.
//!
//! First stage of the way out: `workload` draws every choice from here. The generator is xoshiro256**
//! (Blackman and Vigna), its state filled by splitmix64 from one 64-bit seed, both written from the
//! published algorithms. It reads no clock and no entropy: one seed gives one stream, for ever and on
//! every machine. It is not meant for secrets.

/// Fills the state of another generator from one seed.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> SplitMix64 {
        SplitMix64 { state: seed }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// xoshiro256**: 256 bits of state, period 2^256 - 1.
#[derive(Debug, Clone)]
pub(crate) struct Xoshiro256 {
    state: [u64; 4],
}

impl Xoshiro256 {
    /// The generator of stream `stream` under `seed`: streams of one seed are unrelated.
    pub(crate) fn new(seed: u64, stream: u64) -> Xoshiro256 {
        let mut streams = SplitMix64::new(stream);
        let mut mixer = SplitMix64::new(seed ^ streams.next_u64());
        Xoshiro256 { state: std::array::from_fn(|_| mixer.next_u64()) }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`; 0 where `bound` is 0. The bias is below `bound / 2^32`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let high = self.next_u64() >> 32;
        let scaled = (high * u64::from(bound)) >> 32;
        u32::try_from(scaled).expect("a 32-bit number times a 32-bit number, shifted by 32")
    }

    /// True in `percent` of 100 calls.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_the_published_numbers() {
        let mut mixer = SplitMix64::new(1_234_567);
        assert_eq!(mixer.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(mixer.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(mixer.next_u64(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn xoshiro_gives_the_published_numbers() {
        let mut random = Xoshiro256 { state: [1, 2, 3, 4] };
        let drawn: Vec<u64> = (0..4).map(|_| random.next_u64()).collect();
        assert_eq!(drawn, [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn numbers_stay_below_the_bound_and_reach_its_ends() {
        let mut random = Xoshiro256::new(7, 0);
        let drawn: Vec<u32> = (0..1_000).map(|_| random.below(10)).collect();
        assert!(drawn.iter().all(|&number| number < 10));
        assert!(drawn.contains(&0));
        assert!(drawn.contains(&9));
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let mut first = Xoshiro256::new(7, 0);
        let mut second = Xoshiro256::new(7, 1);
        assert_ne!(first.next_u64(), second.next_u64());
    }
}
