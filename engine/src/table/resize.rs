//! Growth and shrinking of the table by one bucket.
//!
//! A split gathers the slots of one chain, asks the caller for each item's hash, and deals them
//! out to two chains. It never needs an overflow line that it did not free before: by T2 the chain
//! of `n` slots took `ceil(n / 10)` lines, and two chains of together `n` slots take at most one
//! line more, which is the new bucket's own. A merge needs no hash, and may need one overflow
//! line; without one it does not happen.
//!
//! Cost: a split reads each item of the chain once (about eight; all are asked for at once before
//! the first is read). A merge reads two chains.

use super::{Line, Slot, Table};
use crate::hash::KeyHash;

/// Where a split learns the hashes of the items that its slots refer to.
pub(crate) trait Items {
    /// Asks for the item's memory. Called for each slot of the chain before the first `hash_of`.
    fn prefetch(&mut self, offset: u64);

    /// The hash of the item's key, or `None` when the item is dead: then its slot is dropped.
    fn hash_of(&mut self, offset: u64) -> Option<KeyHash>;
}

impl Table {
    /// Splits the next bucket in order into two. Does nothing at the largest size, nor where the
    /// next line is lent.
    pub(crate) fn split(&mut self, items: &mut impl Items) {
        if self.buckets == self.resident.lines_end {
            return;
        }
        let added = self.buckets;
        let mask = (added + 1).next_power_of_two() - 1;
        let source = added & mask >> 1;
        let mut scratch = std::mem::take(&mut self.scratch);
        self.drain_chain(source, &mut scratch);
        for slot in &scratch {
            items.prefetch(slot.offset);
        }
        self.buckets = added + 1;
        self.resident.touch(self.buckets);
        self.mask = mask;
        for slot in scratch.drain(..) {
            let Some(hash) = items.hash_of(slot.offset) else { continue };
            let bucket = self.bucket_of(hash);
            debug_assert!(bucket == source || bucket == added, "an item was in a foreign chain");
            let placed = self.append(self.primary(bucket), slot);
            debug_assert!(placed.is_ok(), "the chain freed the lines that its halves need");
        }
        self.scratch = scratch;
    }

    /// Merges the last bucket into the one that it was split from. Returns whether it did: not
    /// when one bucket is left, nor when overflow lines might not suffice.
    pub(crate) fn merge(&mut self) -> bool {
        let last = self.buckets - 1;
        if last == 0 || self.overflow_left() == 0 {
            return false;
        }
        let target = last & self.mask >> 1;
        let mut scratch = std::mem::take(&mut self.scratch);
        self.drain_chain(last, &mut scratch);
        self.buckets = last;
        self.mask = last.next_power_of_two() - 1;
        for slot in scratch.drain(..) {
            let placed = self.append(self.primary(target), slot);
            debug_assert!(placed.is_ok(), "one overflow line more than before suffices");
        }
        self.scratch = scratch;
        true
    }

    /// Moves the slots of a bucket to `scratch`; its primary line stays, empty.
    fn drain_chain(&mut self, bucket: usize, scratch: &mut Vec<Slot>) {
        let mut id = self.primary(bucket);
        loop {
            let mut line = std::mem::replace(self.line_mut(id), Line::EMPTY);
            line.renew(self.epoch);
            let mut used = line.used();
            self.slots_used -= u64::from(used.count_ones());
            while used != 0 {
                scratch.push(line.slot(used.trailing_zeros() as usize));
                used &= used - 1;
            }
            if id != self.primary(bucket) {
                self.give_overflow(id);
            }
            match line.overflow() {
                0 => break,
                next => id = self.overflow(next),
            }
        }
    }
}
