//! Names hashed: one keyed hash per key, computed once per line and carried along.
//!
//! The seed is drawn once per process and shared by shards and catalogue. Input is
//! unauthenticated, so it is never fixed and never leaves the process; shards bound their probes as
//! well, so that keys made to collide cost themselves and nobody else.

use std::hash::{BuildHasher, Hasher};

use foldhash::{fast, quality};

use crate::series::set::Member;

/// Hashes keys and set members under the seeds of this process.
#[derive(Clone, Debug, Default)]
pub struct KeyHasher {
    /// For tables, which look at few bits.
    keys: fast::RandomState,
    /// For estimates, which look at all of them.
    member_high: quality::RandomState,
    member_low: quality::RandomState,
}

#[inline]
fn hash_bytes(state: &impl BuildHasher, bytes: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

impl KeyHasher {
    /// Hash of a key. Top eight bits choose the sub-table, low 32 the slot.
    #[inline]
    #[must_use]
    pub fn key(&self, key: &[u8]) -> u64 {
        let mut hasher = self.keys.build_hasher();
        // Most keys: two overlapping words and the length, without the call that longer ones cost.
        match (key.first_chunk(), key.last_chunk()) {
            (Some(first), Some(last)) if key.len() <= 32 => {
                hasher.write_u128(u128::from_le_bytes(*first));
                hasher.write_u128(u128::from_le_bytes(*last));
                hasher.write_usize(key.len());
            }
            _ => hasher.write(key),
        }
        hasher.finish()
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
}
