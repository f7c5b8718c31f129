//! The hash table: linear hashing over cache lines, from a key's hash to an item's offset.
//!
//! ```text
//! hash: [ tag 8 ][            ... bucket bits ]
//!         primary lines (one per bucket)         overflow lines
//!         0    1    2    3  ... buckets-1        1    2    3 ...
//!         [10] [10] [10] [10]   [10]             [10] [10]
//!                |________________________________^        chain = primary line + overflow lines
//! ```
//!
//! The table grows and shrinks by one bucket at a time (Litwin, "Linear hashing", VLDB 1980), so
//! no operation ever moves more than one chain and the load is the same at every item count. The
//! table knows offsets only: whether a slot is the wanted one is the caller's closure to say, and
//! a split asks the caller for each item's hash.
//!
//! - T1. A slot of hash `h` lies in the chain of `bucket_of(h)` and carries `h.tag()`.
//! - T2. All lines of a chain but the last are full, and no overflow line is empty. So a chain of
//!   `n` slots takes `max(1, ceil(n / 10))` lines, and its last line alone takes inserts.
//! - T3. Lines beyond `buckets` and free overflow lines hold no slot.
//!
//! Cost: a lookup touches one line for 8 to 9 of 10 keys, two for nearly all others. The table
//! takes 64 bytes for each 7 items.

mod find;
mod line;
mod resident;
mod resize;
mod scan;

use std::io;

pub(crate) use line::{Line, Slot};
pub(crate) use resize::Items;
pub(crate) use scan::Stop;

use crate::bounds::{
    EXPIRY_BUCKET_BITS, MERGE_ITEMS_PER_FOUR_LINES, OVERFLOW_LINES_MAX, SPLIT_ITEMS_PER_LINE,
    SPLIT_ITEMS_PER_LINE_SCARCE,
};
use crate::hash::KeyHash;
use crate::intrinsics::prefetch_element;
use crate::mapping::Mapped;
use resident::{Resident, STEP_LINES};

/// Slots that a resize gathers without asking the allocator: chains of 25 lines.
const SCRATCH_SLOTS: usize = 256;
/// Buckets that a table can name.
const PRIMARY_LINES_MAX: usize = 1 << 31;

const _: () = assert!(PRIMARY_LINES_MAX + OVERFLOW_LINES_MAX < u32::MAX as usize, "a line's index");

/// A line of the table, primary or overflow: its index in `Table::lines`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LineId(u32);

/// Where a slot is. Any insert, removal or resize may move it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotRef {
    line: LineId,
    index: usize,
}

/// The chain is full and no overflow line is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChainFull;

/// The table of one shard.
#[derive(Debug)]
pub(crate) struct Table {
    /// The primary lines, and from `overflow_at` on the overflow lines. Overflow index 0 is never
    /// used, as it means "none".
    lines: Mapped<Line>,
    overflow_at: usize,
    primary_lines_max: usize,
    /// Primary lines in use.
    buckets: usize,
    /// `buckets` rounded up to a power of two, minus one.
    mask: usize,
    /// Free overflow lines, linked by their overflow index; 0 ends the list.
    overflow_free: u32,
    /// The lowest overflow line that was never used.
    overflow_fresh: u32,
    overflow_used: usize,
    slots_used: u64,
    /// Parity of the epoch that frequencies are halved for.
    epoch: bool,
    resident: Resident,
    /// Slots of the chain that is being split; empty between calls.
    scratch: Vec<Slot>,
}

impl Table {
    /// Reserves a table of at most `primary_lines_max` buckets and `overflow_lines_max` overflow
    /// lines (both cut to what indices can name). It begins with one bucket.
    ///
    /// # Errors
    ///
    /// The kernel's, when the ranges cannot be reserved.
    pub(crate) fn new(
        primary_lines_max: usize,
        overflow_lines_max: usize,
        huge_pages: bool,
    ) -> io::Result<Table> {
        let primary_lines_max = primary_lines_max.clamp(1, PRIMARY_LINES_MAX);
        let overflow_lines_max = overflow_lines_max.min(OVERFLOW_LINES_MAX);
        // No huge page has lines of both kinds.
        let overflow_at =
            primary_lines_max.next_multiple_of(if huge_pages { STEP_LINES } else { 1 });
        Ok(Table {
            lines: Mapped::reserve(overflow_at + overflow_lines_max + 1, huge_pages)?,
            overflow_at,
            primary_lines_max,
            buckets: 1,
            mask: 0,
            overflow_free: 0,
            overflow_fresh: 1,
            overflow_used: 0,
            slots_used: 0,
            epoch: false,
            resident: Resident::new(primary_lines_max),
            scratch: Vec::with_capacity(SCRATCH_SLOTS),
        })
    }

    /// Lines in use, primary and overflow.
    #[inline]
    pub(crate) fn lines(&self) -> usize {
        self.buckets + self.overflow_used
    }

    /// Overflow lines in use.
    pub(crate) fn overflow_lines(&self) -> usize {
        self.overflow_used
    }

    /// Slots in use.
    #[inline]
    pub(crate) fn slots(&self) -> u64 {
        self.slots_used
    }

    /// Asks for the primary line of `hash`.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        prefetch_element(&self.lines, self.bucket_of(hash));
    }

    /// A hash for each bucket where keys with this prefix may be: one, until the table has more
    /// buckets than a prefix tells apart.
    #[inline]
    pub(crate) fn hashes_of_prefix(&self, prefix: u32) -> impl Iterator<Item = KeyHash> + use<> {
        let (mask, buckets) = (self.mask, self.buckets);
        let above_max = mask >> EXPIRY_BUCKET_BITS;
        (0..=above_max)
            .map(move |above| KeyHash::of_prefix(prefix, above))
            // The last ones may name buckets that do not exist yet, and stand for those of the
            // first half then, which are looked at anyway.
            .filter(move |hash| above_max == 0 || hash.low_bits(mask) < buckets)
    }

    /// All of a slot.
    pub(crate) fn slot(&self, at: SlotRef) -> Slot {
        let line = self.line(at.line);
        let mut slot = line.slot(at.index);
        slot.frequency >>= u8::from(!line.is_of(self.epoch));
        slot
    }

    /// The item's offset.
    #[inline(always)]
    pub(crate) fn offset(&self, at: SlotRef) -> u64 {
        self.line(at.line).offset(at.index)
    }

    /// Counts a use: CLOCK bit and frequency. Returns the frequency before.
    #[inline(always)]
    pub(crate) fn mark_used(&mut self, at: SlotRef) -> u8 {
        let epoch = self.epoch;
        let line = self.line_mut(at.line);
        if !line.is_of(epoch) {
            line.renew(epoch);
        }
        line.mark_used(at.index)
    }

    /// Sets the epoch that frequencies are halved for. When it changes, every line is of the epoch
    /// before at most (`renew`).
    #[inline]
    pub(crate) fn set_epoch(&mut self, epoch: bool) {
        self.epoch = epoch;
    }

    /// Lines for `renew`: all that were ever used.
    #[inline]
    pub(crate) fn lines_to_renew(&self) -> usize {
        self.buckets + self.overflow_fresh as usize
    }

    /// Brings a line to the present epoch.
    pub(crate) fn renew(&mut self, line: usize) {
        let epoch = self.epoch;
        match line.checked_sub(self.buckets) {
            None => self.lines[line].renew(epoch),
            Some(index) => self.lines[self.overflow_at + index].renew(epoch),
        }
    }

    /// Sets or clears the CLOCK bit.
    pub(crate) fn set_referenced(&mut self, at: SlotRef, referenced: bool) {
        self.line_mut(at.line).set_referenced(at.index, referenced);
    }

    /// Points a slot at the item's new place. Frequency and CLOCK bit stay.
    pub(crate) fn relocate(&mut self, at: SlotRef, offset: u64) {
        self.line_mut(at.line).set_offset(at.index, offset);
    }

    /// Adds a slot for a new item: not referenced, used `frequency` times before.
    ///
    /// # Errors
    ///
    /// `ChainFull` when the chain needs an overflow line and none is left. After any removal from
    /// the same chain (`any_of`) the insert succeeds.
    pub(crate) fn insert(
        &mut self,
        hash: KeyHash,
        offset: u64,
        frequency: u8,
    ) -> Result<(), ChainFull> {
        let slot = Slot { tag: hash.tag(), offset, frequency, referenced: false };
        self.append(self.primary(self.bucket_of(hash)), slot)
    }

    /// Removes a slot of `hash`'s chain. A slot of the chain's last line takes its place, so that
    /// T2 holds.
    pub(crate) fn remove(&mut self, hash: KeyHash, at: SlotRef) {
        let mut before = None;
        let mut last = self.primary(self.bucket_of(hash));
        while let Some(next) = self.next(last) {
            before = Some(last);
            last = next;
        }
        if last != at.line {
            let from = 31 - self.line(last).used().leading_zeros() as usize;
            let filler = self.slot(SlotRef { line: last, index: from });
            self.put(at.line, at.index, filler);
            self.line_mut(last).clear(from);
        } else {
            self.line_mut(last).clear(at.index);
        }
        if let Some(before) = before
            && self.line(last).used() == 0
        {
            self.line_mut(before).set_overflow(0);
            self.give_overflow(last);
        }
        self.slots_used -= 1;
    }

    /// Some slot of `hash`'s primary line, an unreferenced one if there is one: what to evict
    /// when the chain cannot take an insert.
    pub(crate) fn any_of(&self, hash: KeyHash) -> Option<SlotRef> {
        let line_id = self.primary(self.bucket_of(hash));
        let line = self.line(line_id);
        let used = (0..32).filter(|index| line.used() & 1 << index != 0);
        let index = used.min_by_key(|&index| line.slot(index).referenced)?;
        Some(SlotRef { line: line_id, index })
    }

    /// Whether the load calls for one more bucket.
    #[inline]
    pub(crate) fn split_due(&self) -> bool {
        let per_line =
            if self.overflow_scarce() { SPLIT_ITEMS_PER_LINE_SCARCE } else { SPLIT_ITEMS_PER_LINE };
        self.slots_used > per_line * self.lines() as u64 && self.buckets < self.resident.lines_end
    }

    /// Whether the load calls for one bucket less.
    #[inline]
    pub(crate) fn merge_due(&self) -> bool {
        let slots = self.slots_used + SPLIT_ITEMS_PER_LINE;
        4 * slots < MERGE_ITEMS_PER_FOUR_LINES * self.lines() as u64
            && self.buckets > 1
            // Far from scarce, or the next split would follow.
            && self.overflow_used * 2 < self.overflow_lines_max()
    }

    /// Calls `f` with the bucket and the slot of every slot in the table, and checks T2, T3, N1 and N2.
    /// For deep checks: walks the whole table.
    ///
    /// # Errors
    ///
    /// Says which invariant does not hold, and where.
    pub(crate) fn check(&self, mut f: impl FnMut(usize, Slot)) -> Result<(), String> {
        let mut slots = 0;
        let mut overflow = 0;
        for bucket in 0..self.buckets {
            let mut id = self.primary(bucket);
            loop {
                let line = self.line(id);
                for index in (0..32).filter(|index| line.used() & 1 << index != 0) {
                    f(bucket, line.slot(index));
                    slots += 1;
                }
                if id != self.primary(bucket) && line.used() == 0 {
                    return Err(format!("bucket {bucket} has an empty overflow line"));
                }
                let Some(next) = self.next(id) else { break };
                if line.first_free().is_some() {
                    return Err(format!("bucket {bucket} has a hole before its last line"));
                }
                id = next;
                overflow += 1;
                if overflow > self.overflow_used {
                    return Err("more overflow lines in chains than in use".into());
                }
            }
        }
        let beyond = &self.lines[self.buckets..self.primary_lines_max.min(self.buckets + 64)];
        if beyond.iter().any(|line| !line.is_empty()) {
            return Err("a line beyond the last bucket is not empty".into());
        }
        let mut free = self.overflow_free;
        let mut free_lines = 0;
        while free != 0 {
            let line = self.line(self.overflow(free));
            if line.used() != 0 {
                return Err(format!("free overflow line {free} has slots"));
            }
            free = line.overflow();
            free_lines += 1;
        }
        let counted = (slots, overflow, overflow + free_lines + 1);
        let stated = (self.slots_used, self.overflow_used, self.overflow_fresh as usize);
        if counted != stated {
            return Err(format!("slots, overflow, fresh are {counted:?}, said to be {stated:?}"));
        }
        self.check_resident()
    }

    /// The bucket of `hash` at the present size.
    #[inline(always)]
    pub(crate) fn bucket_of(&self, hash: KeyHash) -> usize {
        let bucket = hash.low_bits(self.mask);
        if bucket >= self.buckets { bucket & self.mask >> 1 } else { bucket }
    }

    /// Puts `slot` at the end of a chain.
    fn append(&mut self, first: LineId, slot: Slot) -> Result<(), ChainFull> {
        let mut last = first;
        while let Some(next) = self.next(last) {
            last = next;
        }
        if let Some(index) = self.line(last).first_free() {
            self.put(last, index, slot);
        } else {
            let fresh = self.take_overflow().ok_or(ChainFull)?;
            self.put(self.overflow(fresh), 0, slot);
            self.line_mut(last).set_overflow(fresh);
        }
        self.slots_used += 1;
        Ok(())
    }

    /// Fills a slot; its frequency is of this epoch.
    fn put(&mut self, id: LineId, index: usize, slot: Slot) {
        let epoch = self.epoch;
        let line = self.line_mut(id);
        line.renew(epoch);
        line.put(index, slot);
    }

    fn next(&self, id: LineId) -> Option<LineId> {
        match self.line(id).overflow() {
            0 => None,
            next => Some(self.overflow(next)),
        }
    }

    #[inline(always)]
    fn primary(&self, bucket: usize) -> LineId {
        debug_assert!(bucket < self.primary_lines_max);
        LineId(bucket as u32)
    }

    #[inline(always)]
    fn overflow(&self, index: u32) -> LineId {
        LineId(self.overflow_at as u32 + index)
    }

    /// Overflow lines, those that were never used among them.
    #[inline]
    fn overflow_lines_max(&self) -> usize {
        self.lines.len() - self.overflow_at - 1
    }

    #[inline(always)]
    fn line(&self, id: LineId) -> &Line {
        &self.lines[id.0 as usize]
    }

    #[inline(always)]
    fn line_mut(&mut self, id: LineId) -> &mut Line {
        &mut self.lines[id.0 as usize]
    }

    /// Fewer than one overflow line in sixteen is left.
    #[inline]
    fn overflow_scarce(&self) -> bool {
        let lines_max = self.overflow_lines_max();
        self.overflow_used > lines_max - lines_max / 16
    }

    fn overflow_left(&self) -> usize {
        self.overflow_lines_max() - self.overflow_used
    }

    /// An empty overflow line.
    fn take_overflow(&mut self) -> Option<u32> {
        let taken = if self.overflow_free != 0 {
            let taken = self.overflow_free;
            let line = self.line_mut(self.overflow(taken));
            let next = line.overflow();
            line.set_overflow(0);
            self.overflow_free = next;
            taken
        } else if (self.overflow_fresh as usize) <= self.overflow_lines_max() {
            self.overflow_fresh += 1;
            self.overflow_fresh - 1
        } else {
            return None;
        };
        self.overflow_used += 1;
        Some(taken)
    }

    /// Frees an overflow line that holds no slot and is linked nowhere.
    fn give_overflow(&mut self, id: LineId) {
        let free = self.overflow_free;
        let line = self.line_mut(id);
        debug_assert!(line.is_empty());
        line.set_overflow(free);
        self.overflow_free = id.0 - self.overflow_at as u32;
        self.overflow_used -= 1;
    }
}

#[cfg(test)]
mod tests;
