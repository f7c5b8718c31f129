//! What the randomized tests of the protocols share: seeds, random bytes, mutations, and cuts.

/// A small generator (SplitMix64): the same seed gives the same test everywhere.
pub(crate) struct Random(u64);

impl Random {
    /// The seed is `PINION_SEED` if it is set, else a fixed one. It is printed, so that the output
    /// of a failing test says how to run it again.
    pub(crate) fn from_environment(test: &str) -> Self {
        let seed = match std::env::var("PINION_SEED") {
            Ok(text) => text.parse().expect("PINION_SEED is an unsigned integer"),
            Err(_) => 0x5EED_CAFE,
        };
        println!("{test}: PINION_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// `length` bytes of `alphabet`.
    pub(crate) fn bytes_of(&mut self, alphabet: &[u8], length: usize) -> Vec<u8> {
        (0..length).map(|_| self.pick(alphabet)).collect()
    }

    /// Changes a few places of `bytes`: replaces, inserts, removes, repeats or cuts.
    pub(crate) fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const LIKELY: &[u8] = b"\r\n\r\n *$\"'\\09-+:\0\x80\xFFgsm";
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            let until = (at + self.below(20)).min(bytes.len());
            match self.below(6) {
                0 => bytes[at] = self.pick(LIKELY),
                1 => bytes[at] = self.next() as u8,
                2 => bytes.insert(at, self.pick(LIKELY)),
                3 => drop(bytes.drain(at..until)),
                4 => {
                    let repeated = bytes[at..until].to_vec();
                    bytes.splice(at..at, repeated);
                }
                _ => bytes.truncate(at),
            }
        }
    }

    /// Increasing places at which `length` bytes are cut, the last of them `length`.
    pub(crate) fn cuts(&mut self, length: usize) -> Vec<usize> {
        let step_max = self.pick(&[1, 2, 5, 20, 100]);
        let mut cuts = Vec::new();
        let mut at = 0;
        while at < length {
            at = (at + 1 + self.below(step_max)).min(length);
            cuts.push(at);
        }
        cuts
    }
}
