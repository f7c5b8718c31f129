//! One line of the table: ten slots, their CLOCK bits and the link to an overflow line.
//!
//! ```text
//! byte  0        40      44           54           64
//!       | low x10 | meta | tag x10     | high x10   |
//!       |  u32    | u32  | u8          | u8         |
//! meta: bits 0-9 CLOCK bit of each slot, bit 10 the age of the frequencies, bits 11-31 index of
//!       the overflow line (0 = none)
//! high: bits 0-3 the offset's bits 32-35, bits 4-7 frequency
//! ```
//!
//! L1. A slot is empty exactly when its tag is 0; then its other fields and its CLOCK bit are 0
//! too.
//!
//! All ten tags are compared at once. A zeroed line is an empty one.
//!
//! Frequencies are halved when an epoch of the eviction policy ends. The age bit is the parity of
//! the epoch for which they hold: a line of the other parity has been counted up to the end of the
//! epoch before, and is halved when it is next written to (`renew`). A sweep renews every line
//! once an epoch, so that one bit tells the epochs apart.

use crate::bounds::{FREQUENCY_MAX, LINE_BYTES, OFFSET_BITS, SLOTS_PER_LINE};
use crate::intrinsics::equal_bytes;

const CLOCK_MASK: u32 = (1 << SLOTS_PER_LINE) - 1;
const AGE_MASK: u32 = 1 << SLOTS_PER_LINE;
const OVERFLOW_SHIFT: u32 = SLOTS_PER_LINE as u32 + 1;
const HIGH_OFFSET_MASK: u8 = 0x0f;
const FREQUENCY_SHIFT: u32 = 4;

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// The top 8 bits of the key's hash, 1 to 255.
    pub(crate) tag: u8,
    /// Byte offset of the item in the log, below `LOG_BYTES_MAX`.
    pub(crate) offset: u64,
    /// Hits, up to `FREQUENCY_MAX`.
    pub(crate) frequency: u8,
    /// The CLOCK bit: used since the tail last passed the item.
    pub(crate) referenced: bool,
}

/// A cache line of the table.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    low: [u32; SLOTS_PER_LINE],
    meta: u32,
    /// The ten tags, then the ten high bytes: one array, so that sixteen bytes can be loaded.
    marks: [u8; 2 * SLOTS_PER_LINE],
}

const _: () = assert!(size_of::<Line>() == LINE_BYTES);
const _: () = assert!(align_of::<Line>() == LINE_BYTES);
const _: () = assert!(std::mem::offset_of!(Line, meta) == 40);
const _: () = assert!(std::mem::offset_of!(Line, marks) == 44);
const _: () = assert!(FREQUENCY_MAX == 0x0f);

impl Line {
    /// A line without slots and without overflow.
    pub(crate) const EMPTY: Line =
        Line { low: [0; SLOTS_PER_LINE], meta: 0, marks: [0; 2 * SLOTS_PER_LINE] };

    /// Bit `i` is set when slot `i` carries `tag`.
    #[inline(always)]
    pub(crate) fn matches(&self, tag: u8) -> u32 {
        let (first, second) = self.tag_words();
        equal_bytes(first, second, tag) & CLOCK_MASK
    }

    /// Bit `i` is set when slot `i` is in use.
    #[inline]
    pub(crate) fn used(&self) -> u32 {
        !self.matches(0) & CLOCK_MASK
    }

    /// Whether no slot is in use and no overflow line follows.
    pub(crate) fn is_empty(&self) -> bool {
        self.used() == 0 && self.meta & !AGE_MASK == 0
    }

    /// The lowest empty slot.
    #[inline]
    pub(crate) fn first_free(&self) -> Option<usize> {
        let free = self.matches(0);
        (free != 0).then(|| free.trailing_zeros() as usize)
    }

    /// The item's offset in slot `index`.
    #[inline(always)]
    pub(crate) fn offset(&self, index: usize) -> u64 {
        let high = self.marks[SLOTS_PER_LINE + index] & HIGH_OFFSET_MASK;
        u64::from(self.low[index]) | u64::from(high) << 32
    }

    /// All of slot `index`.
    pub(crate) fn slot(&self, index: usize) -> Slot {
        Slot {
            tag: self.marks[index],
            offset: self.offset(index),
            frequency: self.marks[SLOTS_PER_LINE + index] >> FREQUENCY_SHIFT,
            referenced: self.meta & 1 << index != 0,
        }
    }

    /// Fills slot `index`.
    pub(crate) fn put(&mut self, index: usize, slot: Slot) {
        debug_assert!(slot.tag != 0);
        debug_assert!(slot.offset >> OFFSET_BITS == 0);
        debug_assert!(slot.frequency <= FREQUENCY_MAX);
        self.marks[index] = slot.tag;
        self.low[index] = slot.offset as u32;
        self.marks[SLOTS_PER_LINE + index] =
            (slot.offset >> 32) as u8 | slot.frequency << FREQUENCY_SHIFT;
        self.set_referenced(index, slot.referenced);
    }

    /// Empties slot `index` (L1).
    pub(crate) fn clear(&mut self, index: usize) {
        self.marks[index] = 0;
        self.low[index] = 0;
        self.marks[SLOTS_PER_LINE + index] = 0;
        self.meta &= !(1 << index);
    }

    /// Points slot `index` at another offset; tag, frequency and CLOCK bit stay.
    pub(crate) fn set_offset(&mut self, index: usize, offset: u64) {
        debug_assert!(offset >> OFFSET_BITS == 0);
        self.low[index] = offset as u32;
        let high = &mut self.marks[SLOTS_PER_LINE + index];
        *high = *high & !HIGH_OFFSET_MASK | (offset >> 32) as u8;
    }

    /// Counts a use of slot `index`: sets its CLOCK bit and raises its frequency. Returns the
    /// frequency before. Writes whether or not something changes: half of the hits have a full
    /// counter, and to guess which costs more than the store.
    #[inline(always)]
    pub(crate) fn mark_used(&mut self, index: usize) -> u8 {
        self.meta |= 1 << index;
        let high = &mut self.marks[SLOTS_PER_LINE + index];
        let frequency = *high >> FREQUENCY_SHIFT;
        *high += u8::from(frequency < FREQUENCY_MAX) << FREQUENCY_SHIFT;
        frequency
    }

    /// Whether the frequencies are those of the epoch of this parity.
    #[inline(always)]
    pub(crate) fn is_of(&self, epoch: bool) -> bool {
        (self.meta & AGE_MASK != 0) == epoch
    }

    /// Brings the frequencies to the epoch of this parity: halves them if they are of the other.
    pub(crate) fn renew(&mut self, epoch: bool) {
        if self.is_of(epoch) {
            return;
        }
        self.meta ^= AGE_MASK;
        for high in &mut self.marks[SLOTS_PER_LINE..] {
            *high = *high & HIGH_OFFSET_MASK | *high >> 1 & (FREQUENCY_MAX >> 1 << FREQUENCY_SHIFT);
        }
    }

    /// Sets or clears the CLOCK bit of slot `index`.
    pub(crate) fn set_referenced(&mut self, index: usize, referenced: bool) {
        self.meta = self.meta & !(1 << index) | u32::from(referenced) << index;
    }

    /// Index of the overflow line that follows; 0 when none does.
    #[inline(always)]
    pub(crate) fn overflow(&self) -> u32 {
        self.meta >> OVERFLOW_SHIFT
    }

    /// Links the overflow line `index`, 0 for none.
    pub(crate) fn set_overflow(&mut self, index: u32) {
        debug_assert!(index >> crate::bounds::OVERFLOW_INDEX_BITS == 0);
        self.meta = self.meta & (CLOCK_MASK | AGE_MASK) | index << OVERFLOW_SHIFT;
    }

    /// The first sixteen of `marks`: the ten tags, and six bytes that the mask drops.
    #[inline(always)]
    fn tag_words(&self) -> (u64, u64) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = self.marks;
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(tag: u8, offset: u64) -> Slot {
        Slot { tag, offset, frequency: 0, referenced: false }
    }

    #[test]
    fn a_slot_reads_back_as_written_and_its_neighbours_stay() {
        let mut line = Line::EMPTY;
        for index in 0..SLOTS_PER_LINE {
            let offset = (1 << OFFSET_BITS) - 1 - (index as u64) * 0x1_2345_6789;
            line.put(
                index,
                Slot {
                    tag: 255 - index as u8,
                    offset,
                    frequency: index as u8,
                    referenced: index % 3 == 0,
                },
            );
        }
        line.set_overflow((1 << 21) - 1);
        for index in 0..SLOTS_PER_LINE {
            let slot = line.slot(index);
            assert_eq!(slot.tag, 255 - index as u8);
            assert_eq!(slot.offset, (1 << OFFSET_BITS) - 1 - (index as u64) * 0x1_2345_6789);
            assert_eq!(slot.frequency, index as u8);
            assert_eq!(slot.referenced, index % 3 == 0);
        }
        assert_eq!(line.overflow(), (1 << 21) - 1);
        line.set_offset(4, 5);
        assert_eq!(line.slot(4), Slot { tag: 251, offset: 5, frequency: 4, referenced: false });
        for index in 0..SLOTS_PER_LINE {
            line.clear(index);
        }
        line.set_overflow(0);
        assert!(line.is_empty());
        assert_eq!(line.marks, [0; 20]);
        assert_eq!(line.low, [0; 10]);
    }

    #[test]
    fn uses_saturate_and_set_the_clock_bit() {
        let mut line = Line::EMPTY;
        line.put(9, slot(1, 1 << 35));
        for uses in 1..40u8 {
            line.mark_used(9);
            assert_eq!(line.slot(9).frequency, uses.min(FREQUENCY_MAX));
            assert!(line.slot(9).referenced);
            assert_eq!(line.slot(9).offset, 1 << 35);
        }
    }

    #[test]
    fn frequencies_are_halved_once_an_epoch() {
        let mut line = Line::EMPTY;
        for (index, frequency) in [0, 1, 2, 7, 8, 15].into_iter().enumerate() {
            let offset = (1 << OFFSET_BITS) - 1;
            line.put(index, Slot { tag: 9, offset, frequency, referenced: true });
        }
        line.set_overflow(5);
        for _ in 0..2 {
            line.renew(true);
        }
        assert!(line.is_of(true) && !line.is_of(false));
        let frequencies: Vec<u8> = (0..6).map(|index| line.slot(index).frequency).collect();
        assert_eq!(frequencies, [0, 0, 1, 3, 4, 7]);
        assert!((0..6).all(|index| line.slot(index).referenced));
        assert!((0..6).all(|index| line.slot(index).offset == (1 << OFFSET_BITS) - 1));
        assert_eq!(line.overflow(), 5);
        line.renew(false);
        assert_eq!(line.slot(5).frequency, 3);
    }
}
