//! Lookups: from a hash to the slot, and to the line that a batch should ask for.
//!
//! Reads and writes look in the same order, and differ in what they count: a write counts lines, a
//! read counts the use of the item while it has the line at hand.
//!
//! Cost: one line for 8 to 9 of 10 keys, two for nearly all others. Which of the two it is cannot be
//! predicted, so a read selects the line instead of branching.

use std::hint::select_unpredictable;

use super::{LineId, SlotRef, Table};
use crate::bounds::SLOTS_PER_LINE;
use crate::hash::KeyHash;

/// A slot whose use was counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) slot: SlotRef,
    /// The item's offset.
    pub(crate) offset: u64,
    /// The frequency before.
    pub(crate) frequency: u8,
}

/// The outcome of a lookup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// The wanted slot.
    pub(crate) found: Option<SlotRef>,
    /// Lines of the chain that were read.
    pub(crate) lines: u32,
}

impl Table {
    /// The offset in the slot where the item of `hash` most probably is: the first slot whose tag
    /// matches, in the primary line or else in the first overflow line. Any offset at all if none
    /// does. Has no branch that hangs on a line's contents, so that the processor goes on to the
    /// next key of a batch while lines come.
    #[inline(always)]
    pub(crate) fn candidate(&self, hash: KeyHash) -> u64 {
        let (id, mask) = self.first_match(hash);
        let index = mask.trailing_zeros() as usize;
        self.line(id).offset(index.min(SLOTS_PER_LINE - 1))
    }

    /// Looks for the slot of `hash` whose offset `is_wanted` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, mut is_wanted: impl FnMut(u64) -> bool) -> Probe {
        let tag = hash.tag();
        let mut id = self.primary(self.bucket_of(hash));
        let mut lines = 1;
        loop {
            let line = self.line(id);
            let mut mask = line.matches(tag);
            while mask != 0 {
                let index = mask.trailing_zeros() as usize;
                if is_wanted(line.offset(index)) {
                    return Probe { found: Some(SlotRef { line: id, index }), lines };
                }
                mask &= mask - 1;
            }
            match self.next(id) {
                None => return Probe { found: None, lines },
                Some(next) => id = next,
            }
            lines += 1;
        }
    }

    /// Looks for the slot of `hash` whose offset `is_wanted` accepts, and counts a use of it: CLOCK
    /// bit and frequency. `find` for reads, which counts no lines.
    #[inline(always)]
    pub(crate) fn find_and_use(
        &mut self,
        hash: KeyHash,
        mut is_wanted: impl FnMut(u64) -> bool,
    ) -> Option<Used> {
        let epoch = self.epoch;
        let (mut id, mut mask) = self.first_match(hash);
        loop {
            let line = self.line_mut(id);
            while mask != 0 {
                let index = mask.trailing_zeros() as usize;
                let offset = line.offset(index);
                if is_wanted(offset) {
                    if !line.is_of(epoch) {
                        line.renew(epoch);
                    }
                    let frequency = line.mark_used(index);
                    return Some(Used { slot: SlotRef { line: id, index }, offset, frequency });
                }
                mask &= mask - 1;
            }
            // Nearly always the end: what follows the first line with a match has none.
            id = self.next(id)?;
            mask = self.line(id).matches(hash.tag());
        }
    }

    /// The primary line of `hash` and the slots in it whose tag matches; if none does, the same of
    /// the first overflow line (one without slots, if there is none).
    ///
    /// Which of the two it is cannot be predicted, so the second is selected, and matched, always.
    #[inline(always)]
    fn first_match(&self, hash: KeyHash) -> (LineId, u32) {
        let tag = hash.tag();
        let primary = self.primary(self.bucket_of(hash));
        let line = self.line(primary);
        let overflow = self.overflow(line.overflow());
        let id = select_unpredictable(line.matches(tag) == 0, overflow.0, primary.0);
        let id = LineId(id);
        (id, self.line(id).matches(tag))
    }
}
