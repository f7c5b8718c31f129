//! Expiry in the shard: what happens to entries that are taken, and what writes tell `expiry`.
//!
//! An entry leads to its items by table line and tag. Items whose deadline has come are removed;
//! for the others of the entry's class one entry is filed again, at the earliest of their
//! deadlines (see `expiry`, X1 and X2).
//!
//! Cost: some 35 ns an entry, most of it two cache misses that a batch of 16 overlaps. Work is
//! counted in entries, and every call here takes at most as many as it is told to.

use super::{Found, Shard};
use crate::bounds::{
    EXPIRY_BATCH, EXPIRY_PER_ALLOCATION, EXPIRY_SWEEP_PER_WRITE, EXPIRY_SWEEP_PER_WRITE_BEHIND,
    LINE_BYTES, SPARE_SEGMENTS,
};
use crate::expiry::{Batch, Source};
use crate::hash::KeyHash;
use crate::item::{self, DEADLINE_MS_MAX};
use crate::log::State;
use crate::shard::room::Need;

/// What [`Shard::expire`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expired {
    /// Items removed.
    pub removed: u64,
    /// Entries looked at.
    pub entries: u64,
    /// Whether more is due.
    pub more_due: bool,
}

/// How the item that a write leaves is found by expiry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filing {
    /// The plane to write into its header.
    pub(super) plane: bool,
    /// Whether an entry that is there already serves its deadline.
    covered: bool,
    old_ms: Option<u64>,
    new_ms: Option<u64>,
}

/// What the table has for an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    /// An item whose deadline has come.
    expired: Option<(KeyHash, u64)>,
    /// An item of the class that is not in the current plane.
    behind: Option<u64>,
    /// The earliest deadline of the class that has not come.
    earliest_ms: Option<u64>,
    /// Expired items and items behind.
    to_do: u32,
}

impl Shard {
    /// Removes items whose deadline has come: looks at no more than `budget` entries that are due,
    /// and at as many of coarse groups that are to be split ahead of time. An entry stands for one
    /// item; of a million items, some hundred share theirs with another. An item is removed at
    /// most 4 ms after its deadline when this is called in time; reads do not wait for that, they
    /// never return an expired item. Does not allocate.
    pub fn expire(&mut self, now_ms: u64, budget: usize) -> Expired {
        self.begin(now_ms);
        let due = self.settle(Source::Due, budget);
        let split = self.settle(Source::Split, budget);
        Expired {
            removed: due.removed + split.removed,
            entries: due.entries + split.entries,
            more_due: self.expiry.is_due(self.now_ms),
        }
    }

    /// When [`Shard::expire`] has to be called next, on the shard's clock: the end of the next
    /// group that holds entries, or a time that has come when there is work now. `None` when no
    /// item has a deadline. O(1).
    #[inline]
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.expiry_is_held { None } else { self.expiry.next_due_ms() }
    }

    /// Leaves items that are due in place until somebody looks at them or room is needed, or no
    /// longer so. Reads never return them either way. For tests of what clients see; nothing calls
    /// for [`Shard::expire`] meanwhile.
    pub fn hold_expiry(&mut self, held: bool) {
        self.expiry_is_held = held;
    }

    /// Takes some due items before others make room for a write of `need`. A bounded number: it is
    /// called by writes.
    pub(super) fn expire_for(&mut self, need: &Need) {
        if self.expiry.is_due(self.now_ms) && self.level(need, SPARE_SEGMENTS) < 0 {
            self.expire_some();
        }
    }

    /// Removes a few due items and returns how many.
    pub(super) fn expire_some(&mut self) -> u64 {
        self.settle(Source::Due, EXPIRY_PER_ALLOCATION).removed
    }

    /// Goes on with a sweep of entries that nobody needs, if there are too many of them.
    #[inline]
    pub(super) fn sweep_some(&mut self) {
        if self.expiry.sweep_is_due() {
            let behind = self.expiry.is_over_limit();
            let budget =
                if behind { EXPIRY_SWEEP_PER_WRITE_BEHIND } else { EXPIRY_SWEEP_PER_WRITE };
            self.settle(Source::Sweep, budget);
        }
    }

    /// Expiry's part of [`Shard::maintain`], of at most `budget` entries. Returns the work done.
    pub(super) fn maintain_expiry(&mut self, budget: usize) -> usize {
        if self.expiry_is_held {
            return 0;
        }
        let mut done = 0;
        for source in [Source::Due, Source::Split] {
            done += self.settle(source, budget - done).entries as usize;
        }
        if done < budget && self.expiry.sweep_is_due() {
            // Passing groups without entries is work too.
            done += (self.settle(Source::Sweep, budget - done).entries as usize).max(1);
        }
        done
    }

    /// Decides how a write of an item with this deadline concerns expiry. `old` is the key's
    /// present item.
    pub(super) fn plan_filing(&self, old: Option<&Found>, deadline_ms: Option<u64>) -> Filing {
        let new_ms = deadline_ms.map(|ms| ms.min(DEADLINE_MS_MAX));
        let old_ms = old.and_then(|old| old.header.deadline.resolve(self.now_ms));
        let covered = match (old_ms, new_ms) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(old_ms), Some(new_ms)) => self.expiry.covers(old_ms, new_ms),
        };
        let plane = match old {
            Some(old) if covered => old.header.plane,
            _ => self.expiry.plane(),
        };
        Filing { plane: plane && new_ms.is_some(), covered, old_ms, new_ms }
    }

    /// Does what `plan_filing` decided, after the item was written.
    #[inline]
    pub(super) fn finish_filing(&mut self, hash: KeyHash, filing: &Filing) {
        self.expiry.count(filing.old_ms, filing.new_ms);
        self.databases.count_deadline(hash.space(), filing.old_ms, filing.new_ms);
        if let Some(deadline_ms) = filing.new_ms
            && !filing.covered
        {
            self.expiry.file(hash.prefix(), deadline_ms, self.now_ms);
        }
    }

    /// Takes entries of a kind and does what there is to do for each.
    fn settle(&mut self, source: Source, budget: usize) -> Expired {
        let mut done = Expired::default();
        while (done.entries as usize) < budget {
            let count_max = EXPIRY_BATCH.min(budget - done.entries as usize);
            let Some(batch) = self.expiry.take(source, count_max, self.now_ms) else { break };
            self.prefetch_batch(&batch);
            for &prefix in batch.prefixes() {
                done.removed += self.settle_entry(prefix, &batch);
            }
            done.entries += batch.prefixes().len() as u64;
        }
        self.work.expiry_entries += done.entries;
        done
    }

    fn prefetch_batch(&self, batch: &Batch) {
        for &prefix in batch.prefixes() {
            self.table.hashes_of_prefix(prefix).for_each(|hash| self.table.prefetch(hash));
        }
        for &prefix in batch.prefixes() {
            for hash in self.table.hashes_of_prefix(prefix) {
                self.log.prefetch(self.table.candidate(hash), LINE_BYTES);
            }
        }
    }

    /// Removes the expired items of an entry that was taken, brings the rest of its class to the
    /// current plane, and files one entry for them. Returns the number of items removed.
    fn settle_entry(&mut self, prefix: u32, batch: &Batch) -> u64 {
        let (mut removed, mut earliest_ms) = (0, None);
        loop {
            let class = self.class_of(prefix, batch.plane);
            if let Some((hash, offset)) = class.expired {
                self.remove_expired(hash, offset);
                removed += 1;
            }
            if let Some(offset) = class.behind {
                self.change_plane(offset);
            }
            // An item that has changed planes is not of the class in the next round.
            earliest_ms = earlier(earliest_ms, class.earliest_ms);
            // One round is all, unless several items share the prefix.
            let done = u32::from(class.expired.is_some()) + u32::from(class.behind.is_some());
            if class.to_do == done {
                break;
            }
        }
        // An entry of a group that starts later is not the one that the class relies on (X1),
        // unless the class has just left that one's plane.
        if let Some(deadline_ms) = earliest_ms
            && (deadline_ms >= batch.start_ms || batch.plane != self.expiry.plane())
        {
            self.expiry.file(prefix, deadline_ms, self.now_ms);
        }
        removed
    }

    /// Looks at all items with this prefix.
    fn class_of(&self, prefix: u32, plane: bool) -> Class {
        let mut class = Class::default();
        for named in self.table.hashes_of_prefix(prefix) {
            self.table.find(named, |offset| {
                self.add_to_class(&mut class, prefix, plane, offset);
                false
            });
        }
        class
    }

    #[inline]
    fn add_to_class(&self, class: &mut Class, prefix: u32, plane: bool, offset: u64) {
        let header = self.log.header(offset);
        let Some(deadline_ms) = header.deadline.resolve(self.now_ms) else { return };
        let state = self.log.state(offset, &header, self.now_ms);
        if state == State::Flushed || (state == State::Live && header.plane != plane) {
            return;
        }
        // The rest of the hash tells items apart that share line and tag.
        let hash = self.log.key_hash(offset, &header, self.hash_seed);
        if hash.prefix() != prefix {
            return;
        }
        if state == State::Expired {
            class.expired = Some((hash, offset));
            class.to_do += 1;
            return;
        }
        class.earliest_ms = earlier(class.earliest_ms, Some(deadline_ms));
        if plane != self.expiry.plane() {
            class.behind = Some(offset);
            class.to_do += 1;
        }
    }

    fn remove_expired(&mut self, hash: KeyHash, offset: u64) {
        let slot = self.table.find(hash, |candidate| candidate == offset).found;
        let slot = slot.expect("the item was just found by its slot (S1)");
        let header = self.log.header(offset);
        self.drop_slot(hash, slot, offset, &header, State::Expired);
        self.resize_once();
    }

    fn change_plane(&mut self, offset: u64) {
        let header = self.log.header(offset);
        let header_bytes = header.header_bytes();
        let plane = self.expiry.plane();
        item::set_plane(self.log.at_mut(offset, header_bytes), &header, plane);
    }
}

/// The earlier of two deadlines that may not be.
fn earlier(first_ms: Option<u64>, second_ms: Option<u64>) -> Option<u64> {
    first_ms.into_iter().chain(second_ms).min()
}
