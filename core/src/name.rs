//! Names hashed: one keyed hash per key, computed once per line and carried along.
//!
//! Whoever sends names may choose them to meet in one place of the table, so the hash has a key that no
//! sender knows: 256 random bits of the operating system per process, shared by shards and catalogue,
//! never printed, written or derived from anything that can be asked for. Shards bound their probes
//! as well, so that keys made to meet cost themselves and nobody else.
//!
//! **What it resists.** A key of 16 to 32 bytes passes through three folded multiplications, of two
//! overlapping words and of its length: `a' = fold((lo ^ a) * (hi ^ s))`, where `fold` adds both halves
//! of the product without carry and `a`, `s` are of the key. Both factors hold a secret, each round's
//! result goes into the next, and no two keys have the same words and length: names that meet under
//! one secret say nothing about another, which `core/tests/hash_flood.rs` shows with names that meet
//! in all 64 bits under a known one. Other lengths take foldhash's own path of the same kind.
//! **What it does not.** It is no pseudo-random function like SipHash: who can see hashes, or the order
//! of a table, may work the secret out. Senders see neither, for they get no answer. New series enter
//! the catalogue in the order of the table, which whoever may ask the console or read segments
//! sees: who is trusted with those could as well delete every series.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use foldhash::{SharedSeed, fast, quality};

use crate::series::set::Member;

/// Hashes keys and set members under the secret of this process.
#[derive(Clone)]
pub struct KeyHasher {
    /// For tables, which look at few bits.
    keys: fast::SeedableRandomState,
    /// For estimates, which look at all of them.
    member_high: quality::SeedableRandomState,
    member_low: quality::SeedableRandomState,
}

/// Words of a secret: of keys, of both halves of members, and what all of them share.
const SECRET_WORDS: usize = 4;

/// What a hasher hashes under. It leaves the process by one way alone: to a successor that takes the
/// open interval over, in which members of sets are hashes under it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u64; SECRET_WORDS]);

impl Secret {
    /// Bits that nobody outside can know.
    #[must_use]
    pub fn draw() -> Self {
        Self(random_words())
    }

    /// Its words.
    #[must_use]
    pub fn words(self) -> [u64; SECRET_WORDS] {
        self.0
    }

    /// That of the daemon before us.
    #[must_use]
    pub fn of_words(words: [u64; SECRET_WORDS]) -> Self {
        Self(words)
    }
}

// It is in no log.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// Bits that nobody outside can know: the operating system's, by the key that `std` draws for its own
/// maps. What foldhash draws by itself are addresses and the time.
fn random_words() -> [u64; SECRET_WORDS] {
    let system = RandomState::new();
    std::array::from_fn(|index| system.hash_one(index))
}

impl Default for KeyHasher {
    /// Under the secret of this process, shared, and of this hasher, its own.
    fn default() -> Self {
        let mut secret = Secret::draw();
        // Drawn once: whatever each hasher shares with the others is never freed.
        static SHARED: OnceLock<u64> = OnceLock::new();
        secret.0[SECRET_WORDS - 1] = *SHARED.get_or_init(|| secret.0[SECRET_WORDS - 1]);
        Self::of(secret)
    }
}

// The secret is in no log.
impl fmt::Debug for KeyHasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

#[inline]
fn hash_bytes(state: &impl BuildHasher, bytes: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl KeyHasher {
    /// Under `secret`.
    ///
    /// What is shared is kept for the life of the process, for the secret that came first; each
    /// further one leaks 32 bytes, of which a process has one at the most.
    #[must_use]
    pub fn of(secret: Secret) -> Self {
        static SHARED: OnceLock<(u64, SharedSeed)> = OnceLock::new();
        let [keys, high, low, shared] = secret.words();
        let (word, seed) = SHARED.get_or_init(|| (shared, SharedSeed::from_u64(shared)));
        let seed =
            if *word == shared { seed } else { Box::leak(Box::new(SharedSeed::from_u64(shared))) };
        Self::with_secret([keys, high, low], seed)
    }

    /// Under a known secret, which is none: for tests of what happens when it is known.
    #[must_use]
    pub fn with_secret([keys, high, low]: [u64; 3], shared: &'static SharedSeed) -> Self {
        Self {
            keys: fast::SeedableRandomState::with_seed(keys, shared),
            member_high: quality::SeedableRandomState::with_seed(high, shared),
            member_low: quality::SeedableRandomState::with_seed(low, shared),
        }
    }

    /// Hash of a key. Top eight bits choose the sub-table, low 32 the slot.
    #[inline]
    #[must_use]
    pub fn key(&self, key: &[u8]) -> u64 {
        self.ordinary_key(key).unwrap_or_else(|| hash_bytes(&self.keys, key))
    }

    /// The same for a key of 16 to 32 bytes, as most are; `None` for others.
    #[inline(always)]
    pub(crate) fn ordinary_key(&self, key: &[u8]) -> Option<u64> {
        // Two overlapping words and the length, without the call that other lengths cost.
        let (first, last) = (key.first_chunk()?, key.last_chunk()?);
        if 32 < key.len() {
            return None;
        }
        let mut hasher = self.keys.build_hasher();
        hasher.write_u128(u128::from_le_bytes(*first));
        hasher.write_u128(u128::from_le_bytes(*last));
        hasher.write_usize(key.len());
        Some(hasher.finish())
    }

    /// Hash of a set member: 128 bits from two independent seeds, so that it can stand for it.
    #[inline]
    #[must_use]
    pub fn member(&self, member: &[u8]) -> Member {
        let high = hash_bytes(&self.member_high, member);
        let low = hash_bytes(&self.member_low, member);
        u128::from(high) << 64 | u128::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_agree_and_the_seeds_differ() {
        let hasher = KeyHasher::default();
        let same = hasher.clone();
        assert_eq!(hasher.key(b"a.b"), same.key(b"a.b"));
        assert_eq!(hasher.member(b"a.b"), same.member(b"a.b"));
        let member = hasher.member(b"a.b");
        assert_ne!(member >> 64, member & u128::from(u64::MAX));
        assert_ne!(KeyHasher::default().key(b"a.b"), hasher.key(b"a.b"));
    }

    #[test]
    fn hashers_of_one_secret_agree_also_when_it_came_second() {
        let [first, second] = [Secret::draw(), Secret::draw()];
        for secret in [first, second] {
            let (one, other) = (KeyHasher::of(secret), KeyHasher::of(secret));
            assert_eq!(one.key(b"a.b"), other.key(b"a.b"));
            assert_eq!(one.member(b"a.b"), other.member(b"a.b"));
            assert_eq!(Secret::of_words(secret.words()), secret);
        }
        assert_ne!(KeyHasher::of(first).key(b"a.b"), KeyHasher::of(second).key(b"a.b"));
        assert_eq!(format!("{first:?}"), "Secret(..)");
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert_eq!(format!("{:?}", KeyHasher::default()), "KeyHasher { .. }");
    }
}
