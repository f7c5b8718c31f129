//! The duel: two shadows of the cache that differ in one setting, whether ghosts are admitted.
//!
//! Admitting keys that were evicted lately turns some loops and scans from no hits to many, and
//! elsewhere costs nearly all of them. No rule seen from one cache tells which; two small
//! simulations of the very policy do.
//!
//! - D1. Both shadows see the same requests: those of the keys whose hash is in the sample.
//! - D2. The sample is one key in `1 << shift`, so that the capacity, divided alike, has room for
//!   at most `SHADOW_ENTRIES_MAX` entries. When the estimate of that room changes so much that the
//!   shadows would overflow or shrink below a third, they begin anew with another sample.
//!
//! Hits fade by a fifth every round; a round is as many sampled requests as a shadow has entries.
//! The leader changes when the other is ahead by more than `DUEL_LEAD` of the requests.
//!
//! Cost: a compare for other keys, and about 200 ns for a sampled one.

use std::io;

use super::shadow::Shadow;
use crate::bounds::{
    DUEL_DECAY, DUEL_LEAD, DUEL_REQUESTS_MIN, SHADOW_ENTRIES_LOW, SHADOW_ENTRIES_MAX,
    SHADOW_ENTRIES_MIN,
};
use crate::hash::KeyHash;

/// The hash bits that choose the sample: below the tag, above the buckets of all but huge tables.
const SAMPLE_SHIFT: u32 = 24;
/// The rarest sample: one key in 2^31.
const SHIFT_MAX: u32 = 31;

/// The duel of one cache.
#[derive(Debug)]
pub(super) struct Duel {
    /// Strict, and ghosts admitted.
    shadows: [Shadow; 2],
    hits: [f64; 2],
    leader: usize,
    entries_max: u64,
    /// Entries that the capacity has room for.
    entries: u64,
    capacity: u64,
    shift: u32,
    /// Keys with sample bits up to this are in the sample.
    sample_max: u32,
    requests: u64,
    changes: u64,
}

impl Duel {
    /// A duel for a cache of at most about `items_max` items.
    ///
    /// # Errors
    ///
    /// The kernel's, when memory cannot be reserved.
    pub(super) fn new(seed: u64, items_max: u64) -> io::Result<Duel> {
        let entries_max = items_max.clamp(SHADOW_ENTRIES_MIN, SHADOW_ENTRIES_MAX);
        let shadow = |admits| Shadow::new(seed, admits, entries_max as usize);
        Ok(Duel {
            shadows: [shadow(false)?, shadow(true)?],
            hits: [0.0; 2],
            leader: 0,
            entries_max,
            entries: 0,
            capacity: 0,
            shift: 0,
            sample_max: u32::MAX,
            requests: 0,
            changes: 0,
        })
    }

    /// Whether ghosts are admitted in the shadow that leads.
    pub(super) fn ghost_admits(&self) -> bool {
        self.leader == 1
    }

    /// How often the leader has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Bytes of both shadows.
    pub(super) fn bytes(&self) -> usize {
        self.shadows.iter().map(Shadow::bytes).sum()
    }

    /// Whether a key is in the sample.
    #[inline(always)]
    pub(super) fn samples(&self, hash: KeyHash) -> bool {
        (hash.bits() >> SAMPLE_SHIFT) as u32 <= self.sample_max
    }

    /// Adapts to a cache whose capacity has room for `items`.
    pub(super) fn follow(&mut self, items: u64, capacity: u64) {
        let entries = items >> self.shift;
        let low = self.entries_max / SHADOW_ENTRIES_LOW;
        let shift = self.shift;
        if entries > self.entries_max || (entries < low && self.shift > 0) {
            self.shift = 0;
            while items >> self.shift > self.entries_max && self.shift < SHIFT_MAX {
                self.shift += 1;
            }
        }
        if self.shift != shift {
            self.sample_max = u32::MAX >> self.shift;
            self.shadows.iter_mut().for_each(Shadow::clear);
        }
        self.entries = items >> self.shift;
        self.capacity = (capacity >> self.shift).max(1);
    }

    /// A request for a key of the sample. Returns whether the leader changed.
    pub(super) fn access(&mut self, hash: KeyHash, cost: u64) -> bool {
        if self.capacity == 0 {
            return false;
        }
        for (shadow, hits) in self.shadows.iter_mut().zip(&mut self.hits) {
            *hits += f64::from(u8::from(shadow.access(hash, cost, self.capacity)));
        }
        self.requests += 1;
        if self.requests < self.entries.max(DUEL_REQUESTS_MIN) {
            return false;
        }
        let requests_faded = self.requests as f64 / (1.0 - DUEL_DECAY);
        let other = 1 - self.leader;
        let changes = self.hits[other] - self.hits[self.leader] > DUEL_LEAD * requests_faded;
        if changes {
            self.leader = other;
            self.changes += 1;
        }
        self.requests = 0;
        self.hits = self.hits.map(|hits| hits * DUEL_DECAY);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::random::mix;

    fn hash(key: u64) -> KeyHash {
        KeyHash::from_bits(mix(key))
    }

    #[test]
    fn the_sample_shrinks_with_the_cache_and_holds_its_share_of_keys() {
        let mut duel = Duel::new(1, u64::MAX).unwrap();
        let keys = 1 << 16;
        for (items, shift) in [(5_000, 0), (1 << 20, 8), (5 << 19, 9), (3 << 19, 9), (900, 0)] {
            duel.follow(items, items * 100);
            assert_eq!(duel.shift, shift, "{items} items");
            let sampled = (0..keys).filter(|&key| duel.samples(hash(key))).count() as f64;
            let expected = keys as f64 / f64::from(1 << shift);
            assert!((sampled - expected).abs() <= 5.0 * expected.sqrt(), "{sampled}");
            assert_eq!((items * 100) >> shift, duel.capacity);
        }
    }

    #[test]
    fn ghosts_lose_in_a_wide_loop_and_win_where_keys_come_back_once_more() {
        let mut duel = Duel::new(1, 10_000).unwrap();
        duel.follow(1_000, 1_000);
        for request in 0..200_000u64 {
            duel.access(hash(request % 1_200), 1);
        }
        assert!(!duel.ghost_admits(), "a loop wants the strict rule");
        // A popular set that always moves on: keys are used a few times, some time apart.
        for request in 0..200_000u64 {
            let spread = mix(request) % 1_500;
            duel.access(hash((1 << 40) + request / 3 + spread), 1);
        }
        assert!(duel.ghost_admits(), "a moving set wants its ghosts");
    }
}
