//! The bijection from popularity ranks to key numbers, so that popular keys are spread over the key
//! space and over the shards of the server.
//!
//! Invariant: [`Scramble::key`] is a bijection on `0..n`; it is the same for every worker of a run.
//!
//! Cost: about 5 ns, no allocation.

use crate::rng::mix64;

/// A bijection on `0..count` that looks random (I2).
///
/// Two rounds of an odd multiplication and an xor-shift permute the next power of two; a result
/// outside the range is permuted again until it is inside (cycle walking), less than twice on
/// average because the range is more than half of the power of two.
#[derive(Debug, Clone)]
pub(crate) struct Scramble {
    count: u64,
    mask: u64,
    shift: u32,
    factors: [u64; 2],
    offset: u64,
}

impl Scramble {
    /// The bijection of `seed` on `0..count`, with `1 <= count <= 2^63`.
    pub(crate) fn new(count: u64, seed: u64) -> Scramble {
        let size = count.next_power_of_two();
        Scramble {
            count,
            mask: size - 1,
            shift: (size.trailing_zeros() / 2).max(1),
            factors: [mix64(seed ^ 1) | 1, mix64(seed ^ 2) | 1],
            offset: mix64(seed ^ 3),
        }
    }

    /// The key of a rank below the count.
    #[inline]
    pub(crate) fn key(&self, rank: u64) -> u64 {
        debug_assert!(rank < self.count);
        let mut x = rank;
        loop {
            for factor in self.factors {
                x = x.wrapping_add(self.offset).wrapping_mul(factor) & self.mask;
                x ^= x >> self.shift;
            }
            if x < self.count {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scramble_is_a_bijection() {
        for count in [1_u64, 2, 3, 4, 5, 7, 8, 9, 1000, 4096, 4097, 100_003] {
            for seed in 0..4 {
                let scramble = Scramble::new(count, seed);
                let mut seen = vec![false; count as usize];
                for rank in 0..count {
                    let key = scramble.key(rank) as usize;
                    assert!(!std::mem::replace(&mut seen[key], true), "count {count} seed {seed}");
                }
            }
        }
    }

    #[test]
    fn popular_keys_are_spread_over_the_key_space() {
        let count = 1_000_000;
        let scramble = Scramble::new(count, 9);
        let mut tenths = [0_u32; 10];
        for rank in 0..1000 {
            tenths[(scramble.key(rank) * 10 / count) as usize] += 1;
        }
        assert!(tenths.iter().all(|&n| (50..=150).contains(&n)), "{tenths:?}");
    }
}
