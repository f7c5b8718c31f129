//! Made-up traces, each with one property that policies are known to differ in.
//!
//! A trace is a function of its description and its seed. Keys are numbered in the order of their
//! first appearance, as in recorded traces. Sizes spread over a factor of a thousand and are a
//! function of seed and key.

use std::collections::HashMap;

use pinion_loadgen::trace::Trace;

use crate::client::{Prng, Zipf};

/// What the requests of a trace have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// The same keys over and over: defeats recency where they do not all fit.
    Loop {
        /// How many keys.
        keys: u64,
    },
    /// Keys drawn by Zipf's law: rewards frequency.
    Zipf {
        /// How many keys.
        keys: u64,
        /// The exponent, between 0 and 1.
        exponent: f64,
    },
    /// Zipf's law, and now and then a run of keys that are used once: punishes what lets in all.
    Scans {
        /// How many keys are drawn from.
        keys: u64,
        /// The exponent, between 0 and 1.
        exponent: f64,
        /// Requests between two scans.
        every: u64,
        /// Keys of a scan.
        length: u64,
    },
    /// Zipf's law with other keys in each phase: punishes what does not forget.
    Phases {
        /// How many keys a phase has.
        keys: u64,
        /// The exponent, between 0 and 1.
        exponent: f64,
        /// Requests of a phase.
        length: u64,
    },
}

impl Pattern {
    /// So many requests, with sizes or without.
    ///
    /// # Panics
    /// If the pattern has no keys, or more than 2^32.
    pub fn trace(self, requests: u64, is_sized: bool, seed: u64) -> Trace {
        let mut prng = Prng::new(seed);
        let mut numbering = Numbering::default();
        match self {
            Pattern::Loop { keys } => {
                assert!(keys > 0, "a loop has keys");
                (0..requests).for_each(|request| numbering.request(request % keys));
            }
            Pattern::Zipf { keys, exponent } => {
                let zipf = Zipf::new(keys, exponent);
                (0..requests).for_each(|_| numbering.request(zipf.rank(prng.unit())));
            }
            Pattern::Scans { keys, exponent, every, length } => {
                let zipf = Zipf::new(keys, exponent);
                let (mut scanned, period) = (keys, every + length);
                for request in 0..requests {
                    if request % period.max(1) < every {
                        numbering.request(zipf.rank(prng.unit()));
                    } else {
                        numbering.request(scanned);
                        scanned += 1;
                    }
                }
            }
            Pattern::Phases { keys, exponent, length } => {
                let zipf = Zipf::new(keys, exponent);
                for request in 0..requests {
                    let phase = request / length.max(1);
                    numbering.request(phase * keys + zipf.rank(prng.unit()));
                }
            }
        }
        numbering.into_trace(is_sized, seed)
    }
}

impl Pattern {
    /// Zipf's law over this many keys with the exponent that is usual in benchmarks of caches.
    pub fn zipf(keys: u64) -> Pattern {
        Pattern::Zipf { keys, exponent: 0.9 }
    }
}

/// Numbers keys in the order of their appearance.
#[derive(Default)]
struct Numbering {
    numbers: HashMap<u64, u32>,
    keys: Vec<u32>,
}

impl Numbering {
    fn request(&mut self, name: u64) {
        let next = u32::try_from(self.numbers.len()).expect("a trace has at most 2^32 keys");
        self.keys.push(*self.numbers.entry(name).or_insert(next));
    }

    fn into_trace(self, is_sized: bool, seed: u64) -> Trace {
        let mut prng = Prng::new(!seed);
        let mut size = || (16_u32 << prng.below(10)) + prng.below(16) as u32;
        let sizes: Option<Vec<u32>> =
            is_sized.then(|| (0..self.numbers.len()).map(|_| size()).collect());
        Trace {
            keys: self.keys,
            unique: self.numbers.len() as u64,
            unique_bytes: sizes.iter().flatten().map(|&size| u64::from(size)).sum(),
            key_sizes: sizes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_sound_and_repeat_by_seed() {
        for pattern in [
            Pattern::Loop { keys: 100 },
            Pattern::zipf(1_000),
            Pattern::Scans { keys: 1_000, exponent: 0.9, every: 500, length: 300 },
            Pattern::Phases { keys: 1_000, exponent: 0.9, length: 2_500 },
        ] {
            let trace = pattern.trace(10_000, true, 1);
            assert_eq!(trace, pattern.trace(10_000, true, 1));
            assert_eq!(trace.keys.len(), 10_000);
            let largest = trace.keys.iter().max().unwrap();
            assert_eq!(trace.unique, u64::from(*largest) + 1);
            let sizes = trace.key_sizes.as_ref().unwrap();
            assert_eq!(sizes.len() as u64, trace.unique);
            assert!(sizes.iter().all(|size| (16..8_208).contains(size)));
            assert_eq!(pattern.trace(10_000, false, 1).unique_bytes, 0);
            if pattern != (Pattern::Loop { keys: 100 }) {
                assert_ne!(trace.keys, pattern.trace(10_000, true, 2).keys);
            }
        }
    }

    #[test]
    fn patterns_are_what_they_say() {
        let laps = Pattern::Loop { keys: 3 }.trace(7, false, 1);
        assert_eq!(laps.keys, [0, 1, 2, 0, 1, 2, 0]);
        // Each scan brings 300 keys that never come again.
        let scans = Pattern::Scans { keys: 10, exponent: 0.9, every: 100, length: 300 };
        assert_eq!(scans.trace(4_000, false, 1).unique, 3_010);
        let phases = Pattern::Phases { keys: 10, exponent: 0.9, length: 1_000 };
        assert_eq!(phases.trace(5_000, false, 1).unique, 50);
    }
}
