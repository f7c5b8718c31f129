//! Expiry: which items to look at, and when. A min-heap over groups of deadlines.
//!
//! ```text
//! heap of non-empty groups --> group (4 ms ... 8.7 years) --> chain of 32-bit hash prefixes
//!                                                             |  table line, item: exact deadline
//!                                                             v
//!                            fired: removed    not due, or a coarse group: filed again
//! ```
//!
//! An entry is a prefix of a key's hash: it leads to the item's table line and tag, wherever the
//! item lies in the log, and the item itself tells its deadline. So a move in the log never comes
//! here. A later deadline leaves the entry where it is; when it fires too early, it is filed again.
//! An earlier deadline adds an entry. Deletes, overwrites and evictions leave entries behind that
//! nobody needs: they are dropped when they fire, or by a sweep when there are too many.
//!
//! *Planes.* Each group has two chains, and each item with a deadline names the plane that its
//! entry is in. A sweep makes the other plane the current one, where all new entries go, and takes
//! every entry of the old plane: one whose items are all in the current plane already (or gone) is
//! dropped; otherwise its items change planes and one entry is filed for them. So a sweep leaves
//! exactly one entry for each prefix, however many an item had collected, like a copying garbage
//! collector and without any memory of its own.
//!
//! - X1. The items of one prefix and one plane form a class. A class whose earliest deadline is `d`
//!   has an entry, in its plane, in a group that starts no later than `group(d)`, the group that
//!   `d` would be filed under now. Therefore the class is looked at no later than that group's end.
//! - X2. An entry that is taken brings at most one back. So entries multiply for nobody.
//! - X3. The cursor is behind no clock reading that it was given, and ahead of no group that holds
//!   entries. So no two groups of different times share a place in a ring.
//! - X4. Outside of a sweep the old plane is empty.
//!
//! X1 lasts because groups only get finer as the cursor moves on, and none straddles another
//! (`group`). When an entry of the current plane is taken from a group that starts after `d`,
//! another entry of the class keeps X1, and the taken one may go.
//!
//! Cost: filing is one store in a hot chunk and a heap push for the first entry of a group. An
//! item is looked at once when it fires, and once for each coarse group on its way (two for a
//! deadline of up to half an hour). 4.13 bytes an entry, 256 for each group in use.

mod check;
mod chunks;
mod group;
mod lag;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use chunks::{CHUNK_BYTES, Chunks};
use group::{Group, node_due_ms};
pub use lag::ExpiryLags;

pub(crate) use chunks::Chunk;

use crate::bounds::{
    EXPIRY_BATCH, EXPIRY_BYTES_PER_SPARE_ENTRY, EXPIRY_GROUPS, EXPIRY_GROUPS_PER_STEP,
    EXPIRY_LEVELS, EXPIRY_PLACES_PER_STEP, EXPIRY_SPARE_ENTRIES_MAX, EXPIRY_SPARE_ENTRIES_MIN,
};
use crate::log::State;
use crate::stats::ExpiryStats;

/// Why entries are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// Their group of 4 ms has come.
    Due,
    /// Their coarse group is to be split.
    Split,
    /// They are in the old plane of a sweep.
    Sweep,
}

/// Entries taken out together, of one group and plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    prefixes: [u32; EXPIRY_BATCH],
    count: usize,
    /// Their plane.
    pub(crate) plane: bool,
    /// Where their group starts.
    pub(crate) start_ms: u64,
}

impl Batch {
    /// The prefixes.
    pub(crate) fn prefixes(&self) -> &[u32] {
        &self.prefixes[..self.count]
    }
}

/// The expiry structure of one shard.
#[derive(Debug)]
pub(crate) struct Expiry {
    chunks: Chunks,
    /// The chain of each group, for each plane.
    chains: [Box<[u32]>; 2],
    /// Whether the group at this place has a node in the heap.
    queued: Box<[bool]>,
    /// Groups that hold entries, and those that a sweep has emptied. Never grows.
    heap: BinaryHeap<Reverse<u64>>,
    /// Coarse groups that are being split, at most one a level above 0; out of the heap.
    splits: [Option<Group>; EXPIRY_LEVELS - 1],
    /// X3.
    cursor_ms: u64,
    /// The current plane.
    plane: bool,
    /// The next place that the present sweep looks at.
    sweep: Option<usize>,
    entries: u64,
    /// Entries allowed beyond two an item.
    spare_entries: u64,
    /// Live items with a deadline, and the sum of their deadlines.
    items: u64,
    deadlines_ms: u128,
    lag: ExpiryLags,
}

impl Expiry {
    /// Makes an empty structure for a shard of at most `shard_bytes`.
    ///
    /// # Errors
    ///
    /// The kernel's, when the range for the chunks cannot be reserved.
    pub(crate) fn new(shard_bytes: usize) -> io::Result<Expiry> {
        // The smallest item with a deadline takes 22 bytes with its share of the table, and two
        // entries take 8.3. A range as large as the shard has room for more than twice as many.
        let chunks = Chunks::new(shard_bytes / CHUNK_BYTES + 2 * EXPIRY_GROUPS)?;
        let spare_entries = shard_bytes as u64 / EXPIRY_BYTES_PER_SPARE_ENTRY;
        Ok(Expiry {
            chunks,
            chains: [(); 2].map(|()| vec![0; EXPIRY_GROUPS].into_boxed_slice()),
            queued: vec![false; EXPIRY_GROUPS].into_boxed_slice(),
            heap: BinaryHeap::with_capacity(EXPIRY_GROUPS),
            splits: [None; EXPIRY_LEVELS - 1],
            cursor_ms: 0,
            plane: false,
            sweep: None,
            entries: 0,
            spare_entries: spare_entries.clamp(EXPIRY_SPARE_ENTRIES_MIN, EXPIRY_SPARE_ENTRIES_MAX),
            items: 0,
            deadlines_ms: 0,
            lag: ExpiryLags::new(),
        })
    }

    /// The plane that new entries go to.
    #[inline]
    pub(crate) fn plane(&self) -> bool {
        self.plane
    }

    /// Whether the entry that an item with the deadline `old_ms` relies on serves `new_ms` too.
    #[inline]
    pub(crate) fn covers(&self, old_ms: u64, new_ms: u64) -> bool {
        self.group_of(old_ms).start_ms() <= new_ms
    }

    /// Files an entry in the current plane.
    #[inline]
    pub(crate) fn file(&mut self, prefix: u32, deadline_ms: u64, now_ms: u64) {
        self.advance(now_ms);
        let group = self.group_of(deadline_ms);
        let id = group.id();
        let chain = &mut self.chains[usize::from(self.plane)][id];
        if !self.chunks.push(chain, prefix) {
            // Not within the entries that are allowed (see `new`). The item would still never be
            // served late; it would wait for a read or for the tail to be removed.
            debug_assert!(false, "no chunk is left");
            return;
        }
        self.entries += 1;
        if !self.queued[id] {
            self.queued[id] = true;
            self.heap.push(Reverse(group.to_node()));
        }
    }

    /// Takes up to `count_max` entries (at most a batch) of a kind, or `None` when none can be
    /// had within the groups that one step may pass.
    pub(crate) fn take(&mut self, source: Source, count_max: usize, now_ms: u64) -> Option<Batch> {
        match source {
            Source::Due => self.take_due(count_max, now_ms),
            Source::Split => self.take_split(count_max),
            Source::Sweep => self.take_swept(count_max),
        }
    }

    /// When the next work is due; a time that has come when there is work now.
    #[inline]
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        if self.splits.iter().any(Option::is_some) {
            return Some(self.cursor_ms);
        }
        self.heap.peek().map(|&Reverse(node)| node_due_ms(node))
    }

    /// Whether work is due.
    #[inline]
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Whether a group that starts before `time_ms` may hold entries. If not, no item is due before
    /// `time_ms` (X1). Looks at no more groups than there are places.
    pub(crate) fn has_entries_before(&self, time_ms: u64) -> bool {
        let queued = self.heap.iter().map(|&Reverse(node)| Group::from_node(node));
        let mut groups = queued.chain(self.splits.iter().flatten().copied());
        groups.any(|group| group.start_ms() < time_ms)
    }

    /// Whether a sweep goes on, or is to begin: well before the entries allowed are reached, so
    /// that it ends in time.
    #[inline]
    pub(crate) fn sweep_is_due(&self) -> bool {
        let begin = self.items + (self.items + self.spare_entries) / 4 * 3;
        self.sweep.is_some() || self.entries > begin
    }

    /// Whether there are more entries than allowed.
    #[inline]
    pub(crate) fn is_over_limit(&self) -> bool {
        self.entries > 2 * self.items + self.spare_entries
    }

    /// Notes that a live item's deadline has changed; `None` stands for no deadline or no item.
    #[inline]
    pub(crate) fn count(&mut self, old_ms: Option<u64>, new_ms: Option<u64>) {
        if let Some(ms) = old_ms {
            self.items -= 1;
            self.deadlines_ms -= u128::from(ms);
        }
        if let Some(ms) = new_ms {
            self.items += 1;
            self.deadlines_ms += u128::from(ms);
        }
    }

    /// Notes that an item with this deadline is taken out of the table, being in `state`.
    #[inline]
    pub(crate) fn note_end(&mut self, deadline_ms: Option<u64>, state: State, now_ms: u64) {
        let Some(ms) = deadline_ms.filter(|_| state != State::Flushed) else { return };
        self.count(Some(ms), None);
        if state == State::Expired {
            self.lag.record(now_ms - ms);
        }
    }

    /// Forgets all entries and items: all were flushed. Work of a constant size.
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        self.chains.iter_mut().for_each(|chains| chains.fill(0));
        self.queued.fill(false);
        self.heap.clear();
        self.splits = [None; EXPIRY_LEVELS - 1];
        self.sweep = None;
        (self.entries, self.items, self.deadlines_ms) = (0, 0, 0);
    }

    /// Bytes of chunks in use: what counts against the shard's limit. Some 90 KiB for the groups
    /// and the heap, touched as they are used, come on top in every shard.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.used() * CHUNK_BYTES
    }

    /// The lags so far.
    pub(crate) fn lags(&self) -> &ExpiryLags {
        &self.lag
    }

    /// Gauges, and the lags so far.
    pub(crate) fn stats(&self, now_ms: u64) -> ExpiryStats {
        let lag = self.lag.summary();
        let mean_ms = self.deadlines_ms.checked_div(u128::from(self.items)).unwrap_or(0) as u64;
        ExpiryStats {
            items: self.items,
            mean_ttl_ms: mean_ms.saturating_sub(now_ms),
            entries: self.entries,
            groups: self.heap.len() as u64 + self.splits.iter().flatten().count() as u64,
            bytes: self.bytes() as u64,
            lag_count: lag.count,
            lag_p50_ms: lag.p50_ms,
            lag_p99_ms: lag.p99_ms,
            lag_max_ms: lag.max_ms,
        }
    }

    /// The group that a deadline belongs to now; one that has passed belongs to the present.
    #[inline]
    fn group_of(&self, deadline_ms: u64) -> Group {
        Group::of(deadline_ms.max(self.cursor_ms), self.cursor_ms)
    }

    /// Moves the cursor towards the clock, up to the first group that holds entries (X3).
    #[inline]
    fn advance(&mut self, now_ms: u64) {
        let next_ms = self.heap.peek().map_or(u64::MAX, |&Reverse(node)| node_due_ms(node));
        let limit_ms = now_ms.min(next_ms).min(self.first_split_ms());
        self.cursor_ms = self.cursor_ms.max(limit_ms);
    }

    /// Where the first group that is being split starts.
    #[inline]
    fn first_split_ms(&self) -> u64 {
        self.splits.iter().flatten().map(|group| group.start_ms()).min().unwrap_or(u64::MAX)
    }

    fn take_due(&mut self, count_max: usize, now_ms: u64) -> Option<Batch> {
        for _ in 0..EXPIRY_GROUPS_PER_STEP {
            self.advance(now_ms);
            let &Reverse(node) = self.heap.peek()?;
            if node_due_ms(node) > now_ms {
                return None;
            }
            let group = Group::from_node(node);
            if group.level > 0 {
                let split = &mut self.splits[group.level - 1];
                // What is filed from now on must find the group in reach of finer levels; and a
                // level is split one group after the other.
                if split.is_some() || node_due_ms(node) > self.cursor_ms {
                    return None;
                }
                *split = Some(group);
                self.dequeue(group);
                continue;
            }
            if group.start_ms() >= self.first_split_ms() {
                return None;
            }
            let batch = self.pop(group, count_max);
            if self.is_empty(group) {
                self.dequeue(group);
            }
            if batch.is_some() {
                return batch;
            }
        }
        None
    }

    fn take_split(&mut self, count_max: usize) -> Option<Batch> {
        for _ in 0..EXPIRY_LEVELS {
            let first = self.splits.iter().flatten().copied();
            let group = first.min_by_key(|group| group.start_ms())?;
            let batch = self.pop(group, count_max);
            if self.is_empty(group) {
                self.splits[group.level - 1] = None;
            }
            if batch.is_some() {
                return batch;
            }
        }
        None
    }

    fn take_swept(&mut self, count_max: usize) -> Option<Batch> {
        if !self.sweep_is_due() {
            return None;
        }
        let first = self.sweep.unwrap_or_else(|| {
            self.plane = !self.plane;
            0
        });
        let old = !self.plane;
        let end = EXPIRY_GROUPS.min(first + EXPIRY_PLACES_PER_STEP);
        let chains = &self.chains[usize::from(old)];
        let found = (first..end).find(|&id| chains[id] != 0);
        self.sweep = found.or((end < EXPIRY_GROUPS).then_some(end));
        let id = found?;
        self.pop_chain(id, old, Group::at(id, self.cursor_ms).start_ms(), count_max)
    }

    /// Takes entries of a group, of either plane.
    fn pop(&mut self, group: Group, count_max: usize) -> Option<Batch> {
        let (id, start_ms) = (group.id(), group.start_ms());
        let batch = self.pop_chain(id, false, start_ms, count_max);
        batch.or_else(|| self.pop_chain(id, true, start_ms, count_max))
    }

    fn pop_chain(
        &mut self,
        id: usize,
        plane: bool,
        start_ms: u64,
        count_max: usize,
    ) -> Option<Batch> {
        let mut batch = Batch { prefixes: [0; EXPIRY_BATCH], count: 0, plane, start_ms };
        let out = &mut batch.prefixes[..count_max.min(EXPIRY_BATCH)];
        batch.count = self.chunks.pop(&mut self.chains[usize::from(plane)][id], out);
        self.entries -= batch.count as u64;
        (batch.count > 0).then_some(batch)
    }

    fn is_empty(&self, group: Group) -> bool {
        self.chains.iter().all(|chains| chains[group.id()] == 0)
    }

    /// Takes the first group out of the heap.
    fn dequeue(&mut self, group: Group) {
        let popped = self.heap.pop();
        debug_assert_eq!(popped, Some(Reverse(group.to_node())));
        self.queued[group.id()] = false;
    }
}

#[cfg(test)]
mod tests;
