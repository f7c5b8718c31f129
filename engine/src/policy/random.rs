//! Randomness of the policies: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
//! number generators", OOPSLA 2014). Small, seeded by the caller, not for secrets.

/// A seeded generator: one word of state, about 2 ns a number.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// The generator of `seed`: equal seeds give equal numbers.
    pub(super) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next number, uniform over all 64 bits.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number below `bound`, which is not 0.
    #[inline]
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// True once in `n` times; `n` is not 0.
    #[inline]
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }
}

/// Spreads the bits of `z` over all others: the output function of SplitMix64. The key's hash is
/// used for buckets, tags and samples already; what is derived from it here must not depend on
/// those bits alone.
#[inline(always)]
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_seeds_differ() {
        let (mut one, mut two) = (Random::new(1), Random::new(2));
        assert_ne!(one.next(), two.next());
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[one.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        assert!((0..100).all(|_| one.one_in(1)));
    }
}
