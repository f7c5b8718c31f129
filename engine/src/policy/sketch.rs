//! How often absent keys were asked for: a count-min sketch of 4-bit counters (Cormode and
//! Muthukrishnan, 2005) with conservative update (Estan and Varghese, 2002), all counters of a
//! key in one cache line.
//!
//! ```text
//! line: row 0 x32 | row 1 x32 | row 2 x32 | row 3 x31, epoch     each counter 4 bits
//! ```
//!
//! Residents count in their table slots; the sketch learns of a key when it is inserted and when
//! it is evicted. It ages by halving, and halves no line before somebody touches it:
//!
//! - K1. A line's epoch bit differs from the sketch's exactly when the line has one halving to
//!   catch up with. Every touch catches up first. An epoch ends only after all lines were swept
//!   (`ageing`), so one bit suffices.
//!
//! Cost: one line a call. Four bytes an item, at least 32 KiB where the shard is not smaller.

use std::io;

use super::lines::Lines;
use crate::bounds::{FREQUENCY_MAX, LINE_BYTES, SKETCH_ITEMS_PER_LINE};

/// Rows of the sketch.
const ROWS: usize = 4;
/// Words of a line, 16 counters each.
const WORDS: usize = LINE_BYTES / 8;
/// The line's last nibble is no counter. Its lowest bit is the epoch.
const EPOCH_SHIFT: u32 = 60;
const EPOCH_MASK: u64 = 0xf << EPOCH_SHIFT;
/// What a halving leaves of a word shifted by one bit.
const HALVED: u64 = 0x7777_7777_7777_7777;

/// One line of the sketch.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct SketchLine {
    words: [u64; WORDS],
}

const _: () = assert!(size_of::<SketchLine>() == LINE_BYTES);
const _: () = assert!(WORDS == 2 * ROWS, "two words a row");
const _: () = assert!(FREQUENCY_MAX == 0xf);

impl SketchLine {
    #[inline]
    fn epoch(&self) -> bool {
        self.words[WORDS - 1] >> EPOCH_SHIFT != 0
    }

    /// Catches up with the sketch's epoch (K1).
    #[inline(always)]
    fn settle(&mut self, epoch: bool) {
        if self.epoch() != epoch {
            self.halve(epoch);
        }
    }

    #[cold]
    fn halve(&mut self, epoch: bool) {
        for word in &mut self.words {
            *word = *word >> 1 & HALVED;
        }
        let last = &mut self.words[WORDS - 1];
        *last = *last & !EPOCH_MASK | u64::from(epoch) << EPOCH_SHIFT;
    }

    #[inline(always)]
    fn counter(&self, (word, shift): (usize, u32)) -> u8 {
        (self.words[word] >> shift) as u8 & FREQUENCY_MAX
    }

    /// Takes the larger of each pair of counters; both lines are settled.
    fn unite(&mut self, other: &SketchLine) {
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            let mut united = 0;
            for shift in (0..64).step_by(4) {
                united |= (*mine & 0xf << shift).max(*theirs & 0xf << shift);
            }
            *mine = united;
        }
    }
}

/// Where the counters of a key are in its line.
#[inline(always)]
fn places(mixed: u64) -> [(usize, u32); ROWS] {
    let byte = |row: usize| (mixed >> (32 + 8 * row)) as u8;
    let place = |row: usize, counter: u8| {
        (2 * row + usize::from(counter >> 4), u32::from(counter & 0xf) * 4)
    };
    // The last row lacks one counter, so its byte is scaled and not cut.
    let last = ((u32::from(byte(3)) * 31) >> 8) as u8;
    [place(0, byte(0) & 31), place(1, byte(1) & 31), place(2, byte(2) & 31), place(3, last)]
}

/// The sketch of one cache.
#[derive(Debug)]
pub(super) struct Sketch {
    lines: Lines<SketchLine>,
    epoch: bool,
}

impl Sketch {
    /// A sketch for at least `lines_min` and at most `lines_max` lines.
    ///
    /// # Errors
    ///
    /// The kernel's, when the memory cannot be reserved.
    pub(super) fn new(lines_min: usize, lines_max: usize) -> io::Result<Sketch> {
        Ok(Sketch { lines: Lines::new(lines_min, lines_max)?, epoch: false })
    }

    /// Lines in use.
    pub(super) fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.lines.bytes()
    }

    /// Counts a use. Returns the count after it, and whether it was below its maximum before.
    #[inline]
    pub(super) fn count(&mut self, mixed: u64) -> (u8, bool) {
        let places = places(mixed);
        let line = self.settled(mixed);
        let lowest = lowest(line, &places);
        if lowest == FREQUENCY_MAX {
            return (lowest, false);
        }
        for place in places {
            if line.counter(place) == lowest {
                line.words[place.0] += 1 << place.1;
            }
        }
        (lowest + 1, true)
    }

    /// Raises a key's count to at least `frequency`.
    #[inline]
    pub(super) fn raise(&mut self, mixed: u64, frequency: u8) {
        debug_assert!(frequency <= FREQUENCY_MAX);
        let places = places(mixed);
        let line = self.settled(mixed);
        for place in places {
            let missing = frequency.saturating_sub(line.counter(place));
            line.words[place.0] += u64::from(missing) << place.1;
        }
    }

    /// Begins an epoch: every count is halved from now on. The sweep of the last one is over.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch = !self.epoch;
    }

    /// Settles line `index`, if there is one.
    pub(super) fn sweep(&mut self, index: usize) {
        if index < self.lines.len() {
            let epoch = self.epoch;
            self.lines.line_mut(index).settle(epoch);
        }
    }

    /// Moves the size by at most one line towards that for `items`.
    #[inline]
    pub(super) fn follow(&mut self, items: u64) {
        let epoch = self.epoch;
        let wanted = items.div_ceil(SKETCH_ITEMS_PER_LINE) as usize;
        self.lines.follow(wanted, |kept, dropped| {
            let mut dropped = *dropped;
            dropped.settle(epoch);
            kept.settle(epoch);
            kept.unite(&dropped);
        });
    }

    /// Asks for a key's line.
    #[inline]
    pub(super) fn prefetch(&self, mixed: u64) {
        self.lines.prefetch(mixed);
    }

    #[inline(always)]
    fn settled(&mut self, mixed: u64) -> &mut SketchLine {
        let epoch = self.epoch;
        let index = self.lines.index(mixed);
        let line = self.lines.line_mut(index);
        line.settle(epoch);
        line
    }

    /// Checks that a fully swept sketch has caught up (K1).
    #[cfg(test)]
    fn all_settled(&mut self) -> bool {
        (0..self.lines.len()).all(|index| self.lines.line_mut(index).epoch() == self.epoch)
    }
}

#[inline(always)]
fn lowest(line: &SketchLine, places: &[(usize, u32); ROWS]) -> u8 {
    places.iter().fold(FREQUENCY_MAX, |lowest, &place| lowest.min(line.counter(place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::random::mix;

    /// A key's count, without changing it.
    fn estimate(sketch: &mut Sketch, key: u64) -> u8 {
        let mixed = mix(key);
        let line = sketch.settled(mixed);
        lowest(line, &places(mixed))
    }

    #[test]
    fn counts_never_fall_short_and_stop_at_fifteen() {
        let mut sketch = Sketch::new(64, 64).unwrap();
        for key in 0..600u64 {
            for use_ in 1..=key % 20 {
                let (count, counted) = sketch.count(mix(key));
                assert!(u64::from(count) >= use_.min(15));
                assert!(counted || count == 15);
            }
        }
        let over = (0..600u64)
            .filter(|&key| {
                let count = estimate(&mut sketch, key);
                assert!(u64::from(count) >= (key % 20).min(15));
                u64::from(count) > (key % 20).min(15)
            })
            .count();
        assert!(over < 120, "{over} of 600 keys are overestimated");
    }

    #[test]
    fn every_line_is_halved_once_an_epoch_whoever_touches_it_first() {
        let mut sketch = Sketch::new(512, 512).unwrap();
        for key in 0..200 {
            sketch.raise(mix(key), 12);
        }
        for (epoch, expected) in [6, 3, 1, 0].into_iter().enumerate() {
            sketch.begin_epoch();
            // Half of the lines catch up by use, and the sweep must not halve them again.
            for key in 0..100 {
                assert_eq!(estimate(&mut sketch, key), expected, "epoch {epoch}");
            }
            for index in 0..512 {
                sketch.sweep(index);
            }
            assert!(sketch.all_settled());
            for key in 0..200 {
                assert_eq!(estimate(&mut sketch, key), expected, "epoch {epoch}");
            }
        }
    }

    #[test]
    fn counts_survive_growing_and_shrinking_in_any_epoch() {
        let mut sketch = Sketch::new(8, 4096).unwrap();
        for key in 0..100 {
            sketch.raise(mix(key), (key % 16) as u8);
        }
        let check = |sketch: &mut Sketch| {
            (0..100u64).all(|key| u64::from(estimate(sketch, key)) >= key % 16)
        };
        for items in [10_000, 500, 30_000, 0] {
            for _ in 0..4096 {
                sketch.follow(items);
            }
            assert!(check(&mut sketch));
        }
        assert_eq!(sketch.lines(), 8);
        sketch.begin_epoch();
        for _ in 0..4096 {
            sketch.follow(10_000);
        }
        assert!((0..100u64).all(|key| u64::from(estimate(&mut sketch, key)) >= key % 16 / 2));
    }
}
