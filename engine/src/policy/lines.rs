//! An array of cache lines that grows and shrinks by one line: linear hashing (Litwin, "Linear
//! hashing", VLDB 1980) for tables that hold summaries of keys and not the keys themselves.
//!
//! A summary cannot be dealt out again, so a split copies the line to its new half: both then
//! know the keys of both, and forget those that are not theirs as they age. A merge unites the
//! two lines by a rule of their own.
//!
//! - N1. A key of mixed hash `m` belongs to line `index(m)`, and to no other.
//! - N2. `len_min <= len <= memory.len()`; lines from `len` on hold nothing of meaning.
//!
//! Cost: one line copied a call. Memory is committed as lines are first used.

use std::io;

use crate::intrinsics::prefetch_element;
use crate::mapping::{Mapped, Plain};

/// A growing array of lines.
#[derive(Debug)]
pub(super) struct Lines<T: Plain> {
    memory: Mapped<T>,
    len: usize,
    len_min: usize,
    /// `len` rounded up to a power of two, minus one.
    mask: usize,
}

impl<T: Plain> Lines<T> {
    /// Reserves `len_max` zeroed lines and begins with `len_min`, which is not 0.
    ///
    /// # Errors
    ///
    /// The kernel's, when the range cannot be reserved.
    pub(super) fn new(len_min: usize, len_max: usize) -> io::Result<Lines<T>> {
        debug_assert!(len_min > 0);
        let memory = Mapped::reserve(len_max.max(len_min), false)?;
        Ok(Lines { memory, len: len_min, len_min, mask: len_min.next_power_of_two() - 1 })
    }

    /// Lines in use.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the lines in use.
    pub(super) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// The line of a mixed hash, chosen by its low 32 bits.
    #[inline(always)]
    pub(super) fn index(&self, mixed: u64) -> usize {
        let index = mixed as u32 as usize & self.mask;
        if index < self.len { index } else { index & self.mask >> 1 }
    }

    /// Line `index`, below `len`.
    #[inline(always)]
    pub(super) fn line_mut(&mut self, index: usize) -> &mut T {
        &mut self.memory[index]
    }

    /// Asks for the line of a mixed hash.
    #[inline]
    pub(super) fn prefetch(&self, mixed: u64) {
        prefetch_element(&self.memory, self.index(mixed));
    }

    /// Moves the number of lines by at most one towards `wanted`. Shrinking waits until an eighth
    /// of the lines is too many, and then calls `unite(kept, dropped)`.
    #[inline]
    pub(super) fn follow(&mut self, wanted: usize, unite: impl FnOnce(&mut T, &T)) {
        if wanted > self.len {
            self.grow();
        } else if wanted < self.len - self.len / 8 && self.len > self.len_min {
            self.shrink(unite);
        }
    }

    #[cold]
    fn grow(&mut self) {
        let added = self.len;
        if added == self.memory.len() {
            return;
        }
        let mask = (added + 1).next_power_of_two() - 1;
        self.memory[added] = self.memory[added & mask >> 1];
        self.len = added + 1;
        self.mask = mask;
    }

    #[cold]
    fn shrink(&mut self, unite: impl FnOnce(&mut T, &T)) {
        let last = self.len - 1;
        let dropped = self.memory[last];
        unite(&mut self.memory[last & self.mask >> 1], &dropped);
        self.len = last;
        self.mask = last.next_power_of_two() - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::random::mix;

    #[test]
    fn every_key_finds_its_line_while_lines_come_and_go() {
        // Each byte of the range is a set of eight marks; a key's mark must never be lost.
        let mut lines: Lines<u8> = Lines::new(3, 100).unwrap();
        let mark = |lines: &mut Lines<u8>, key: u64| {
            let index = lines.index(mix(key));
            *lines.line_mut(index) |= 1 << (key % 8);
        };
        for key in 0..20 {
            mark(&mut lines, key);
        }
        let wanted = [100, 5, 60, 1];
        for (round, wanted) in wanted.into_iter().enumerate() {
            for _ in 0..120 {
                lines.follow(wanted, |kept, dropped| *kept |= dropped);
                for key in 0..20u64 {
                    let index = lines.index(mix(key));
                    assert!(index < lines.len());
                    assert!(*lines.line_mut(index) & 1 << (key % 8) != 0, "round {round}");
                }
            }
        }
        assert_eq!(lines.len(), 3, "shrinks to its least and no further");
        for _ in 0..200 {
            lines.follow(1000, |_, _| ());
        }
        assert_eq!(lines.len(), 100, "grows to its reservation and no further");
    }
}
