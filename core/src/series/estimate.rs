//! How many different hashes: HyperLogLog, in two sizes that can be brought together.
//!
//! Each hash belongs to one register, by its first bits, and the register keeps the longest run of
//! zeros behind them (and one). With 2^15 registers the standard error is 0.57 %, for sets that have
//! grown out of their tables, with 2^12 1.6 %, for those that find no memory for a table. A fine
//! estimate is *folded* where it meets a coarse one: three bits more belong to the run then, and the
//! result is what a coarse one had got from the same hashes, to the bit.
//!
//! The number is read off the registers by the estimator of O. Ertl ("New cardinality estimation
//! algorithms for HyperLogLog sketches", arXiv:1702.01284, algorithm 6): no tables, and no bias
//! between small numbers and large ones.

/// Bits that tell the register of a fine estimate, and of a coarse one.
const FINE_BITS: u32 = 15;
const COARSE_BITS: u32 = 12;

/// What the fine one has more.
const FOLDED_BITS: u32 = FINE_BITS - COARSE_BITS;

/// Bytes of a coarse estimate.
pub const COARSE_BYTES: usize = 1 << COARSE_BITS;

/// Bytes of a fine estimate.
pub const FINE_BYTES: usize = 1 << FINE_BITS;

/// 1 / (2 ln 2): what the harmonic mean is off by for many registers.
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// The registers, one byte each; their number is one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    registers: Box<[u8]>,
}

impl Estimate {
    /// An empty one with a standard error of 0.57 %.
    #[must_use]
    pub fn fine() -> Self {
        Self { registers: vec![0; FINE_BYTES].into() }
    }

    /// An empty one with a standard error of 1.6 %, in an eighth of the memory.
    #[must_use]
    pub fn coarse() -> Self {
        Self { registers: vec![0; COARSE_BYTES].into() }
    }

    /// One with these registers; `None` if they are none.
    #[must_use]
    pub fn of_registers(registers: &[u8]) -> Option<Self> {
        if !matches!(registers.len(), FINE_BYTES | COARSE_BYTES) {
            return None;
        }
        let estimate = Self { registers: registers.into() };
        let longest = 64 - estimate.bits() + 1;
        let fits = registers.iter().all(|run| u32::from(*run) <= longest);
        fits.then_some(estimate)
    }

    /// Its registers.
    #[must_use]
    pub fn registers(&self) -> &[u8] {
        &self.registers
    }

    /// Bytes of the registers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.registers.len()
    }

    fn bits(&self) -> u32 {
        self.registers.len().ilog2()
    }

    /// Adds a hash: every bit of it counts.
    pub fn insert(&mut self, hash: u64) {
        let bits = self.bits();
        let index = usize::try_from(hash >> (64 - bits)).expect("fewer bits than a size has");
        // The one behind the last bit ends the run of a hash that is zero from here on.
        let rest = (hash << bits) | 1 << (bits - 1);
        self.raise(index, run(rest.leading_zeros() + 1));
    }

    fn raise(&mut self, index: usize, run: u8) {
        let register = &mut self.registers[index];
        *register = run.max(*register);
    }

    /// Adds what `other` has seen; the coarser of both is the size of the result.
    pub fn merge(&mut self, other: &Self) {
        if other.registers.len() < self.registers.len() {
            *self = self.folded();
        }
        if self.registers.len() < other.registers.len() {
            return self.merge(&other.folded());
        }
        for (index, run) in other.registers.iter().enumerate() {
            self.raise(index, *run);
        }
    }

    /// The coarse one of the same hashes.
    fn folded(&self) -> Self {
        let mut coarse = Self::coarse();
        for (index, &behind) in self.registers.iter().enumerate() {
            let first = u32::try_from(index).expect("32,768 registers") % (1 << FOLDED_BITS);
            let run = match (behind, first) {
                (0, _) => 0,
                (_, 0) => behind + run(FOLDED_BITS),
                (_, first) => run(first.leading_zeros() - (32 - FOLDED_BITS) + 1),
            };
            coarse.raise(index >> FOLDED_BITS, run);
        }
        coarse
    }

    /// About how many different hashes were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        let count = self.registers.len() as f64;
        // Runs that a register of these can show, without the one that stands for "no end".
        let longest = usize::try_from(64 - self.bits()).expect("a small number");
        let mut of_run = [0_u32; 66];
        self.registers.iter().for_each(|run| of_run[usize::from(*run)] += 1);
        let mut sum = count * tau(1.0 - f64::from(of_run[longest + 1]) / count);
        for run in (1..=longest).rev() {
            sum = 0.5 * (sum + f64::from(of_run[run]));
        }
        sum += count * sigma(f64::from(of_run[0]) / count);
        let estimate = (ALPHA * count * count / sum).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and what 64 bits of hash tell apart"
        )]
        let estimate = estimate as u64;
        estimate
    }
}

fn run(run: u32) -> u8 {
    u8::try_from(run).expect("runs are at most 64 and one")
}

/// x + the sum of 2^(k-1) x^(2^k), k from 1 on: the registers that are still empty.
fn sigma(mut x: f64) -> f64 {
    if 1.0 <= x {
        return f64::INFINITY;
    }
    let (mut factor, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * factor;
        factor += factor;
        if sum <= before {
            return sum;
        }
    }
}

/// (1 - x - the sum of 2^-k (1 - x^(2^-k))^2, k from 1 on) / 3: the registers that are full.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || 1.0 <= x {
        return 0.0;
    }
    let (mut factor, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - x).powi(2) * factor;
        if before <= sum {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads small numbers as a hash would (splitmix64).
    fn hash(number: u64) -> u64 {
        let mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn of(mut estimate: Estimate, numbers: std::ops::Range<u64>) -> Estimate {
        numbers.for_each(|number| estimate.insert(hash(number)));
        estimate
    }

    fn error(estimate: &Estimate, count: u64) -> f64 {
        estimate.count() as f64 / count as f64 - 1.0
    }

    #[test]
    fn small_numbers_and_large_ones_are_within_four_standard_errors() {
        for count in [1, 10, 1_000, 10_000, 40_000, 100_000, 1_000_000] {
            for (empty, standard) in [(Estimate::fine(), 0.0057), (Estimate::coarse(), 0.0163)] {
                let found = error(&of(empty, 0..count), count);
                assert!(found.abs() <= 4.0 * standard, "{count}: {found}");
            }
        }
        assert_eq!((Estimate::fine().count(), Estimate::coarse().count()), (0, 0));
    }

    #[test]
    fn the_standard_error_is_as_told() {
        for (empty, standard) in [(Estimate::fine(), 0.0057), (Estimate::coarse(), 0.0163)] {
            let rounds = 60;
            let errors = (0..rounds).map(|round| {
                error(&of(empty.clone(), round * 1_000_000..round * 1_000_000 + 70_000), 70_000)
            });
            let errors: Vec<f64> = errors.collect();
            let mean = errors.iter().sum::<f64>() / rounds as f64;
            let square = errors.iter().map(|error| error * error).sum::<f64>() / rounds as f64;
            assert!(mean.abs() < standard / 2.0, "no bias: {mean}");
            assert!(square.sqrt() < 1.3 * standard, "{}", square.sqrt());
        }
    }

    #[test]
    fn folding_gives_what_a_coarse_one_has_from_the_same_hashes() {
        for count in [0, 1, 5, 3_000, 200_000] {
            let fine = of(Estimate::fine(), 0..count);
            assert_eq!(fine.folded(), of(Estimate::coarse(), 0..count), "{count}");
        }
        let mut all = [Estimate::fine(), Estimate::coarse()];
        for hash in [0, 1, u64::MAX, 1 << 63, 1 << 49, 1 << 51, 1 << 52] {
            all.iter_mut().for_each(|each| each.insert(hash));
        }
        assert_eq!(all[0].folded(), all[1]);
    }

    #[test]
    fn merging_counts_shared_hashes_once_in_all_sizes() {
        for empty in [Estimate::fine(), Estimate::coarse()] {
            for other in [Estimate::fine(), Estimate::coarse()] {
                let is_fine = empty.bytes() == FINE_BYTES && other.bytes() == FINE_BYTES;
                let all = if is_fine { Estimate::fine() } else { Estimate::coarse() };
                let mut merged = of(empty.clone(), 0..30_000);
                merged.merge(&of(other, 20_000..50_000));
                assert_eq!(merged, of(all, 0..50_000));
            }
        }
    }

    #[test]
    fn registers_are_taken_up_only_where_they_can_be() {
        for estimate in [of(Estimate::fine(), 0..9), of(Estimate::coarse(), 0..9)] {
            assert_eq!(Estimate::of_registers(estimate.registers()).as_ref(), Some(&estimate));
            let mut registers = estimate.registers().to_vec();
            registers[3] = 55;
            assert_eq!(Estimate::of_registers(&registers), None);
            assert_eq!(Estimate::of_registers(&registers[1..]), None);
        }
        assert_eq!(Estimate::of_registers(&[]), None);
    }

    #[test]
    fn hashes_whose_runs_have_no_end_are_counted() {
        for mut full in [Estimate::fine(), Estimate::coarse()] {
            let longest = run(64 - full.bits() + 1);
            for index in 0..full.registers.len() as u64 {
                full.insert(index << (64 - full.bits()));
            }
            assert!(full.registers.iter().all(|run| *run == longest));
            assert!(1 << 60 < full.count(), "as large as can be told");
        }
    }
}
