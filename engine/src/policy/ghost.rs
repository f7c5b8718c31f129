//! Which keys were evicted lately: a Bloom filter (Bloom, 1970) of two generations, all bits of a
//! key in one cache line.
//!
//! ```text
//! line: current 252 bits, 4 unused | previous 252 bits, 4-bit stamp
//! ```
//!
//! A generation ends once half as many keys were added as the cache has items. Nothing is swept
//! then: each line is brought up to date when it is touched.
//!
//! - G1. A line's stamp is the generation that it was last touched in, modulo 16. One generation
//!   behind, its current bits become the previous ones; more behind, they are forgotten.
//! - G2. No line falls 16 generations behind: every `GHOST_ADDS_PER_SWEEP` additions touch the
//!   next line in turn, which visits all lines about once a generation.
//!
//! Cost: one line a call. About one byte an item; 3 in 100 strangers are mistaken for ghosts.

use std::io;

use super::lines::Lines;
use crate::bounds::{
    GHOST_ADDS_PER_SWEEP, GHOST_ITEMS_PER_LINE, GHOST_KEYS_PER_GENERATION_MIN, LINE_BYTES,
};

/// Words of one generation in a line.
const WORDS: usize = LINE_BYTES / 16;
/// Bits of one generation in a line.
const BITS: u32 = 252;
/// Bits set for a key.
const BITS_PER_KEY: u32 = 4;
const STAMP_SHIFT: u32 = 60;
const STAMPS: u8 = 16;
const LAST_BITS: u64 = (1 << STAMP_SHIFT) - 1;

/// One line of the filter.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct GhostLine {
    current: [u64; WORDS],
    /// The last word's top nibble is the stamp.
    previous: [u64; WORDS],
}

const _: () = assert!(size_of::<GhostLine>() == LINE_BYTES);
const _: () = assert!(BITS as usize == WORDS * 64 - 4);

type Marks = [u64; WORDS];

impl GhostLine {
    /// Catches up with `generation` (G1).
    #[inline(always)]
    fn settle(&mut self, generation: u8) {
        let stamp = (self.previous[WORDS - 1] >> STAMP_SHIFT) as u8;
        if stamp != generation {
            self.catch_up(generation.wrapping_sub(stamp) % STAMPS, generation);
        }
    }

    #[cold]
    fn catch_up(&mut self, behind: u8, generation: u8) {
        self.previous = if behind == 1 { self.current } else { [0; WORDS] };
        self.current = [0; WORDS];
        let last = &mut self.previous[WORDS - 1];
        *last = *last & LAST_BITS | u64::from(generation) << STAMP_SHIFT;
    }

    #[inline(always)]
    fn holds(&self, marks: &Marks) -> bool {
        let within =
            |words: &Marks| words.iter().zip(marks).all(|(word, mark)| word & mark == *mark);
        within(&self.current) || within(&self.previous)
    }

    #[inline(always)]
    fn add(&mut self, marks: &Marks) {
        for (word, mark) in self.current.iter_mut().zip(marks) {
            *word |= mark;
        }
    }
}

/// The bits of a key, from the upper half of its mixed hash.
#[inline(always)]
fn marks_of(mixed: u64) -> Marks {
    let mut marks = [0; WORDS];
    for place in 0..BITS_PER_KEY {
        let byte = (mixed >> (32 + 8 * place)) as u32 & 0xff;
        let bit = (byte * BITS) >> 8;
        marks[bit as usize / 64] |= 1 << (bit % 64);
    }
    marks
}

/// The filter of one cache.
#[derive(Debug)]
pub(super) struct Ghost {
    lines: Lines<GhostLine>,
    /// Modulo 16.
    generation: u8,
    /// Keys added in this generation.
    added: u64,
    /// Keys until the next line is swept.
    sweep_in: u32,
    sweep_next: usize,
}

impl Ghost {
    /// A filter of at most `lines_max` lines.
    ///
    /// # Errors
    ///
    /// The kernel's, when the memory cannot be reserved.
    pub(super) fn new(lines_max: usize) -> io::Result<Ghost> {
        Ok(Ghost {
            lines: Lines::new(1, lines_max)?,
            generation: 0,
            added: 0,
            sweep_in: GHOST_ADDS_PER_SWEEP,
            sweep_next: 0,
        })
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Whether a key was probably evicted lately.
    #[inline]
    pub(super) fn contains(&mut self, mixed: u64) -> bool {
        self.settled(mixed).holds(&marks_of(mixed))
    }

    /// Keeps a key that is known, and is not evicted now, for as long as if it were.
    #[inline]
    pub(super) fn refresh(&mut self, mixed: u64) {
        let marks = marks_of(mixed);
        let line = self.settled(mixed);
        if line.holds(&marks) {
            line.add(&marks);
        }
    }

    /// Adds a key that is evicted from a cache of `items`.
    #[inline]
    pub(super) fn add(&mut self, mixed: u64, items: u64) {
        self.settled(mixed).add(&marks_of(mixed));
        self.added += 1;
        if self.added >= (items / 2).max(GHOST_KEYS_PER_GENERATION_MIN) {
            self.added = 0;
            self.generation = (self.generation + 1) % STAMPS;
        }
        self.sweep_in -= 1;
        if self.sweep_in == 0 {
            self.sweep();
        }
    }

    /// Moves the size by at most one line towards that for `items`.
    #[inline]
    pub(super) fn follow(&mut self, items: u64) {
        let generation = self.generation;
        let wanted = items.div_ceil(GHOST_ITEMS_PER_LINE) as usize;
        self.lines.follow(wanted, |kept, dropped| {
            let mut dropped = *dropped;
            dropped.settle(generation);
            kept.settle(generation);
            for (mine, theirs) in kept.current.iter_mut().zip(&dropped.current) {
                *mine |= theirs;
            }
            for (mine, theirs) in kept.previous.iter_mut().zip(&dropped.previous) {
                *mine |= theirs;
            }
        });
    }

    /// Asks for a key's line.
    #[inline]
    pub(super) fn prefetch(&self, mixed: u64) {
        self.lines.prefetch(mixed);
    }

    #[inline(always)]
    fn settled(&mut self, mixed: u64) -> &mut GhostLine {
        let generation = self.generation;
        let index = self.lines.index(mixed);
        let line = self.lines.line_mut(index);
        line.settle(generation);
        line
    }

    #[cold]
    fn sweep(&mut self) {
        self.sweep_in = GHOST_ADDS_PER_SWEEP;
        if self.sweep_next >= self.lines.len() {
            self.sweep_next = 0;
        }
        let generation = self.generation;
        self.lines.line_mut(self.sweep_next).settle(generation);
        self.sweep_next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::random::mix;

    const ITEMS: u64 = 6_400;

    fn filled() -> Ghost {
        let mut ghost = Ghost::new(1_000).unwrap();
        for _ in 0..100 {
            ghost.follow(ITEMS);
        }
        ghost
    }

    #[test]
    fn remembers_half_to_one_times_its_items_and_then_forgets() {
        let mut ghost = filled();
        for key in 0..100_000u64 {
            ghost.add(mix(key), ITEMS);
            if key >= ITEMS / 2 {
                assert!(ghost.contains(mix(key - ITEMS / 2 + 1)), "key {key}");
            }
        }
        let late = (50_000..90_000u64).filter(|&key| ghost.contains(mix(key))).count();
        assert!(late < 40_000 / 20, "{late} of 40000 forgotten keys are seen");
        let strangers = (1 << 40..(1 << 40) + 40_000).filter(|&key| ghost.contains(mix(key)));
        let strangers = strangers.count();
        assert!(strangers < 40_000 / 20, "{strangers} of 40000 strangers are seen");
    }

    #[test]
    fn a_refreshed_key_stays_and_a_stranger_is_not_let_in() {
        let mut ghost = filled();
        ghost.add(mix(7), ITEMS);
        ghost.refresh(mix(8));
        assert!(!ghost.contains(mix(8)));
        for key in 0..10 * ITEMS {
            ghost.add(mix(1_000 + key), ITEMS);
            if key % (ITEMS / 4) == 0 {
                ghost.refresh(mix(7));
                assert!(ghost.contains(mix(7)));
            }
        }
    }

    #[test]
    fn a_long_untouched_line_is_not_taken_for_a_fresh_one() {
        let mut ghost = filled();
        for key in 0..ITEMS / 4 {
            ghost.add(mix(key), ITEMS);
        }
        // Sixteen generations later the stamps are the same again.
        for _ in 0..16 * ITEMS / 2 {
            ghost.add(mix(1 << 50), ITEMS);
        }
        let seen = (0..ITEMS / 4).filter(|&key| ghost.contains(mix(key))).count();
        assert!(seen < 20, "{seen} keys came back");
    }

    #[test]
    fn keys_survive_growing_and_shrinking() {
        let mut ghost = filled();
        for key in 0..1_000 {
            ghost.add(mix(key), ITEMS);
        }
        for items in [60_000, 3_000] {
            for _ in 0..1_000 {
                ghost.follow(items);
            }
            assert!((0..1_000).all(|key| ghost.contains(mix(key))));
        }
    }
}
