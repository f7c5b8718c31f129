//! The hash of a key inside a shard: seeded 64-bit XXH3 of the whole key.
//!
//! ```text
//! bits  63       56 55       36 35      32 31        0
//!      | tag       | more      | space    | bucket    |
//! ```
//!
//! The low bits choose the bucket and the top 8 bits are the slot's tag, so the two are
//! independent. The seed comes from outside; a secret one keeps clients from aiming keys at one
//! bucket.
//!
//! A *space* is a key space of its own: the same key in two spaces is two items (see
//! `shard::databases`). Its number is part of the seed, and stands in the hash, so that whoever has
//! a key's hash knows its space.

use crate::bounds::EXPIRY_BUCKET_BITS;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Spaces of a shard: those of its databases, and those that are being emptied.
pub(crate) const SPACES: usize = 32;

const SPACE_SHIFT: u32 = 32;
const SPACE_MASK: u64 = (SPACES as u64 - 1) << SPACE_SHIFT;
const _: () = assert!(SPACES.is_power_of_two() && 31 <= SPACE_SHIFT);

/// A key's hash under one shard's seed. Hashes of shards with different seeds do not mix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Hashes `key` of space 0.
    #[cfg(test)]
    pub(crate) fn of(key: &[u8], seed: u64) -> KeyHash {
        KeyHash::of_space(key, seed, 0)
    }

    /// Hashes `key` of a space below [`SPACES`]: about 3 ns for 16 bytes.
    #[inline]
    pub(crate) fn of_space(key: &[u8], seed: u64, space: u8) -> KeyHash {
        let seed = seed ^ u64::from(space).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = xxh3_64_with_seed(key, seed) & !SPACE_MASK;
        KeyHash(hash | u64::from(space) << SPACE_SHIFT & SPACE_MASK)
    }

    /// The key's space.
    #[inline(always)]
    #[must_use]
    pub fn space(self) -> u8 {
        ((self.0 & SPACE_MASK) >> SPACE_SHIFT) as u8
    }

    /// All 64 bits, for statistics and samples that want to reuse them.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The slot's tag: 1 to 255, as 0 marks an empty slot.
    #[inline(always)]
    pub(crate) fn tag(self) -> u8 {
        ((self.0 >> 56) as u8).max(1)
    }

    /// What an expiry entry keeps of the hash: the tag, and the lowest bits of the bucket.
    #[inline]
    pub(crate) fn prefix(self) -> u32 {
        let low = self.0 as u32 & ((1 << EXPIRY_BUCKET_BITS) - 1);
        u32::from(self.tag()) << EXPIRY_BUCKET_BITS | low
    }

    /// A hash with this prefix, and `above` as the bits after the prefix's bucket bits. It stands
    /// for all hashes with the same tag and bucket; its other bits mean nothing.
    #[inline]
    pub(crate) fn of_prefix(prefix: u32, above: usize) -> KeyHash {
        let tag = u64::from(prefix >> EXPIRY_BUCKET_BITS);
        let low = u64::from(prefix & ((1 << EXPIRY_BUCKET_BITS) - 1));
        KeyHash(tag << 56 | (above as u64) << EXPIRY_BUCKET_BITS | low)
    }

    /// The low bits under `mask`.
    #[inline(always)]
    pub(crate) fn low_bits(self, mask: usize) -> usize {
        self.0 as usize & mask
    }

    /// The hash of given bits, which are a hash's.
    #[inline(always)]
    pub(crate) fn from_bits(bits: u64) -> KeyHash {
        KeyHash(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_matters_and_the_tag_is_never_zero() {
        assert_eq!(KeyHash::of(b"key", 1), KeyHash::of(b"key", 1));
        assert_ne!(KeyHash::of(b"key", 1), KeyHash::of(b"key", 2));
        assert_eq!(KeyHash::from_bits(0).tag(), 1);
        assert_eq!(KeyHash::from_bits(u64::MAX).tag(), 255);
        assert_eq!(KeyHash::from_bits(0x1234).low_bits(0xff), 0x34);
    }

    #[test]
    fn a_space_stands_in_the_hash_and_changes_the_rest() {
        assert_eq!(KeyHash::of_space(b"key", 5, 0), KeyHash::of(b"key", 5));
        for space in 0..SPACES as u8 {
            let hash = KeyHash::of_space(b"key", 5, space);
            assert_eq!(hash.space(), space);
            let rest = |hash: KeyHash| hash.bits() & !SPACE_MASK;
            assert!(space == 0 || rest(hash) != rest(KeyHash::of(b"key", 5)));
        }
    }

    #[test]
    fn a_prefix_leads_back_to_tag_and_bucket() {
        for bits in [0, 5, u64::MAX, 0x8123_4567_89ab_cdef, 0x0100_0000_0000_0001] {
            let hash = KeyHash::from_bits(bits);
            let mask = (1 << (EXPIRY_BUCKET_BITS + 4)) - 1;
            let above = hash.low_bits(mask) >> EXPIRY_BUCKET_BITS;
            let twin = KeyHash::of_prefix(hash.prefix(), above);
            assert_eq!(twin.prefix(), hash.prefix());
            assert_eq!((twin.tag(), twin.low_bits(mask)), (hash.tag(), hash.low_bits(mask)));
        }
    }
}
