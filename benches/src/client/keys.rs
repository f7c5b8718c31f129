//! Random numbers, and which key a request is for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A small, fast, seeded generator (SplitMix64; Steele, Lea, Flood 2014). Not for secrets.
#[derive(Clone, Debug)]
pub struct Prng {
    state: u64,
}

impl Prng {
    /// A generator that gives the same numbers for the same seed.
    pub fn new(seed: u64) -> Prng {
        Prng { state: seed }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0. The bias is below `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 up to but without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts a slice into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

/// How requests spread over the keys. Written `uniform` or `zipf:0.99`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyDistribution {
    /// Every key alike.
    Uniform,
    /// The key of rank r with a weight of r to the power of minus this exponent, which lies
    /// between 0 and 1, neither included.
    Zipf(f64),
}

impl FromStr for KeyDistribution {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyDistribution, String> {
        if text == "uniform" {
            return Ok(KeyDistribution::Uniform);
        }
        let exponent = text.strip_prefix("zipf:").and_then(|exponent| exponent.parse().ok());
        match exponent {
            Some(exponent) if exponent > 0.0 && exponent < 1.0 => {
                Ok(KeyDistribution::Zipf(exponent))
            }
            _ => Err("expected 'uniform' or 'zipf:S' with S between 0 and 1".to_string()),
        }
    }
}

impl fmt::Display for KeyDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyDistribution::Uniform => f.write_str("uniform"),
            KeyDistribution::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

/// Draws that a skewed source prepares; they repeat after so many requests.
const PREPARED_DRAWS: usize = 1 << 20;

/// Gives the key of each request. A draw costs a few instructions and no allocation.
pub(super) enum KeySource {
    /// Drawn on the spot.
    Uniform { key_count: u64 },
    /// Drawn on the spot, among these.
    Subset { keys: Arc<[u32]> },
    /// Drawn beforehand, since a power function per request would cost as much as sending it.
    Prepared { draws: Box<[u32]>, next: usize },
}

impl KeySource {
    /// A source over keys 0 to `key_count` - 1; key 0 is the most popular. A skewed one takes
    /// 4 MiB and time proportional to the keys.
    pub(super) fn new(distribution: KeyDistribution, key_count: u64, seed: u64) -> KeySource {
        match distribution {
            KeyDistribution::Uniform => KeySource::Uniform { key_count },
            KeyDistribution::Zipf(exponent) => {
                let zipf = Zipf::new(key_count, exponent);
                let mut prng = Prng::new(seed);
                let draws = (0..PREPARED_DRAWS).map(|_| zipf.rank(prng.unit()) as u32).collect();
                KeySource::Prepared { draws, next: 0 }
            }
        }
    }

    /// The key of the next request. `random` decides where draws are not prepared.
    pub(super) fn next(&mut self, random: u64) -> u64 {
        match self {
            KeySource::Uniform { key_count } => {
                ((u128::from(random) * u128::from(*key_count)) >> 64) as u64
            }
            KeySource::Subset { keys } => {
                let index = (u128::from(random) * keys.len() as u128) >> 64;
                u64::from(keys[index as usize])
            }
            KeySource::Prepared { draws, next } => {
                let key = draws[*next];
                *next = (*next + 1) % PREPARED_DRAWS;
                u64::from(key)
            }
        }
    }
}

/// Ranks by the approximate inversion of Gray et al., "Quickly generating billion-record
/// synthetic databases", SIGMOD 1994, which most cache benchmarks use.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: f64,
    zeta: f64,
    exponent: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    /// Over ranks 0 to `count` - 1, with an exponent between 0 and 1. Takes time proportional to
    /// the count.
    pub fn new(count: u64, exponent: f64) -> Zipf {
        // Smallest terms first, so that none is lost to rounding.
        let zeta: f64 = (1..=count).rev().map(|rank| (rank as f64).powf(-exponent)).sum();
        let zeta_2 = 1.0 + 0.5_f64.powf(exponent);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - exponent)) / (1.0 - zeta_2 / zeta);
        Zipf { count: count as f64, zeta, exponent, alpha: 1.0 / (1.0 - exponent), eta }
    }

    /// The rank, from 0, to which a number below 1 belongs. Costs a power function.
    pub fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        if scaled < 1.0 || self.count < 2.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.exponent) || self.count < 3.0 {
            return 1;
        }
        let rank = self.count * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        rank.min(self.count - 1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_read_and_written() {
        for text in ["uniform", "zipf:0.99", "zipf:0.5"] {
            assert_eq!(text.parse::<KeyDistribution>().unwrap().to_string(), text);
        }
        for text in ["", "zipf", "zipf:", "zipf:0", "zipf:1", "zipf:NaN", "normal"] {
            assert!(text.parse::<KeyDistribution>().is_err(), "{text}");
        }
    }

    #[test]
    fn uniform_draws_reach_every_key_about_equally() {
        let mut source = KeySource::new(KeyDistribution::Uniform, 10, 1);
        let mut prng = Prng::new(1);
        let mut counts = [0; 10];
        for _ in 0..100_000 {
            counts[source.next(prng.next_u64()) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn skewed_draws_follow_the_weights_of_the_ranks() {
        let (key_count, exponent) = (1000, 0.99);
        let mut source = KeySource::new(KeyDistribution::Zipf(exponent), key_count, 1);
        let mut counts = vec![0_u64; key_count as usize];
        for _ in 0..PREPARED_DRAWS {
            counts[source.next(0) as usize] += 1;
        }
        let zeta: f64 = (1..=key_count).map(|rank| (rank as f64).powf(-exponent)).sum();
        // The first two ranks are exact; the curve behind them is an approximation.
        for (rank, tolerance) in [(1_u32, 0.02), (2, 0.02), (10, 0.25), (100, 0.25)] {
            let share = f64::from(rank).powf(-exponent) / zeta;
            let drawn = counts[rank as usize - 1] as f64 / PREPARED_DRAWS as f64;
            assert!((drawn / share - 1.0).abs() < tolerance, "rank {rank}: {drawn} {share}");
        }
    }

    #[test]
    fn skewed_draws_stay_inside_the_smallest_key_spaces() {
        for key_count in 1..=5 {
            let zipf = Zipf::new(key_count, 0.99);
            let mut prng = Prng::new(key_count);
            for _ in 0..10_000 {
                assert!(zipf.rank(prng.unit()) < key_count, "{key_count} keys");
            }
        }
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_reaches_all_of_them() {
        let mut prng = Prng::new(1);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut items = [1, 2, 3, 4];
            prng.shuffle(&mut items);
            seen.insert(items);
            items.sort_unstable();
            assert_eq!(items, [1, 2, 3, 4]);
        }
        assert_eq!(seen.len(), 24);
    }
}
