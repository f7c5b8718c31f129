//! Reproducible randomness for tests that drive a server.

/// The seed of a test run: `PINION_SEED` if it is set, else a fixed one. It is printed, so that
/// the output of a failing test says how to run it again.
pub fn seed(test: &str) -> u64 {
    let seed = match std::env::var("PINION_SEED") {
        Ok(text) => text.parse().expect("PINION_SEED is an unsigned integer"),
        Err(_) => 0x5EED_CAFE,
    };
    println!("{test}: PINION_SEED={seed}");
    seed
}

/// A small generator (SplitMix64). Threads take one each, with different seeds.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Any bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
