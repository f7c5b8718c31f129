//! The shard's items as the eviction policy sees them: the oldest of each queue of the log.

use super::ahead::Ahead;
use super::databases::Databases;
use super::{Found, Shard};
use crate::bounds::{GATHER_BYTES_MAX, TAIL_LOOKS};
use crate::expiry::Expiry;
use crate::hash::KeyHash;
use crate::item::Header;
use crate::log::{Log, State, Tail};
use crate::policy::{Policy, QUEUES, Queue, Resident, Residents};
use crate::stats::{Counters, Work};
use crate::table::Table;

/// The parts of a shard that a policy's step works on.
pub(super) struct Tails<'a> {
    pub(super) table: &'a mut Table,
    pub(super) log: &'a mut Log,
    pub(super) expiry: &'a mut Expiry,
    pub(super) databases: &'a mut Databases,
    pub(super) ahead: &'a mut [Ahead; QUEUES],
    pub(super) counters: &'a mut Counters,
    pub(super) work: &'a mut Work,
    pub(super) hash_seed: u64,
    pub(super) now_ms: u64,
    /// Segments in use from which on no copy may open another.
    pub(super) segments_max: usize,
    /// What goes, goes whether it was used or not.
    pub(super) forced: bool,
    /// Bytes that copies leave at the head of a queue, for the write.
    pub(super) kept: (Queue, usize),
    /// What was seen at each tail.
    seen: &'a mut Seen,
}

/// The items at the tails, found once while a write makes room. Their slots stay where they are
/// meanwhile, but for those that fill the gap of a removed one: so an eviction forgets all, as the
/// cleaner does, and every new call.
pub(super) type Seen = [Option<(KeyHash, Found)>; QUEUES];

impl Shard {
    /// The policy, and beside it the parts that it works on.
    pub(super) fn tails(&mut self, segments_max: usize) -> (Option<&mut Policy>, Tails<'_>) {
        let tails = Tails {
            table: &mut self.table,
            log: &mut self.log,
            expiry: &mut self.expiry,
            databases: &mut self.databases,
            ahead: &mut self.ahead,
            counters: &mut self.counters,
            work: &mut self.work,
            hash_seed: self.hash_seed,
            now_ms: self.now_ms,
            segments_max,
            forced: false,
            kept: (Queue::Window, 0),
            seen: &mut self.seen,
        };
        (self.policy.as_mut(), tails)
    }
}

impl Tails<'_> {
    /// Passes what is dead, expired or flushed at a queue's tail. Whether a live item is there,
    /// or nothing; `false` when the bound on steps came first.
    pub(super) fn settle(&mut self, queue: Queue) -> bool {
        for _ in 0..TAIL_LOOKS {
            match self.log.tail(queue) {
                Tail::Empty => return true,
                Tail::SegmentFreed => self.ahead[queue as usize].clear(),
                Tail::Item(offset, header) => {
                    if !header.dead && self.look(queue, offset, header) {
                        return true;
                    }
                    self.pass_dead(queue, offset, &header);
                }
            }
            self.work.tail_steps += 1;
        }
        false
    }

    /// Finds the slot of the item at a queue's tail. `false` for an item that may not be served
    /// any more: it has been dropped.
    fn look(&mut self, queue: Queue, offset: u64, header: Header) -> bool {
        if self.seen[queue as usize].is_some() {
            return true;
        }
        let hash = match self.ahead[queue as usize].peek(offset) {
            Some(hash) => hash,
            None => self.log.key_hash(offset, &header, self.hash_seed),
        };
        let probe = self.table.find(hash, |candidate| candidate == offset);
        self.work.lines_read += u64::from(probe.lines);
        let slot = probe.found.expect("an item ahead of the cursor has a slot (S1)");
        let found = Found { slot, offset, header, header_bytes: header.header_bytes() };
        let state = self.log.state(offset, &header, self.now_ms);
        if state == State::Live {
            self.seen[queue as usize] = Some((hash, found));
            return true;
        }
        self.counters.expired += u64::from(state == State::Expired);
        self.drop_slot(hash, &found, state);
        false
    }

    fn drop_slot(&mut self, hash: KeyHash, found: &Found, state: State) {
        let deadline_ms = found.header.deadline.resolve(self.now_ms);
        self.expiry.note_end(deadline_ms, state, self.now_ms);
        self.databases.note_end(found.header.space, deadline_ms, state);
        self.log.bury(found.offset, &found.header, state);
        self.table.remove(hash, found.slot);
        *self.seen = [None; QUEUES];
    }

    fn pass_dead(&mut self, queue: Queue, offset: u64, header: &Header) {
        self.log.pass_dead(offset, header);
        self.ahead[queue as usize].passed(offset);
    }

    /// Whether a copy of the item may be appended to `to`.
    fn can_copy(&self, header: &Header, to: Queue) -> bool {
        let left_bytes = self.log.head_left_bytes(to);
        // A head that is too short for the write anyway has nothing to keep.
        let kept_bytes = match self.kept {
            (queue, bytes) if queue == to && bytes <= left_bytes => bytes,
            _ => 0,
        };
        left_bytes >= self.log.item_bytes(header) + kept_bytes
            || self.log.segments_in_use() < self.segments_max
    }
}

impl Residents for Tails<'_> {
    fn items(&self) -> u64 {
        self.log.live_items()
    }

    fn cost(&self, queue: Queue) -> u64 {
        self.log.queue_cost(queue)
    }

    fn oldest(&mut self, queue: Queue) -> Option<Resident> {
        if !self.settle(queue) {
            return None;
        }
        let (hash, found) = self.seen[queue as usize]?;
        let slot = self.table.slot(found.slot);
        let cost = self.log.cost_of(&found.header);
        Some(Resident { hash, cost, frequency: slot.frequency, referenced: slot.referenced })
    }

    fn advance(&mut self, from: Queue, to: Queue) {
        if !self.settle(from) {
            return;
        }
        let Some((_, found)) = self.seen[from as usize] else { return };
        let (offset, header) = (found.offset, found.header);
        let ready =
            self.can_copy(&header, to) && self.log.open_head(to, self.log.item_bytes(&header));
        if !ready {
            // Space for copies has run out: what should have stayed gives it back.
            self.forced = true;
            self.evict(from);
            return;
        }
        let target = self.log.pass_by_copy(offset, &header, to);
        self.ahead[from as usize].passed(offset);
        self.seen[from as usize] = None;
        self.table.relocate(found.slot, target);
        self.table.set_referenced(found.slot, false);
        let mut copied_bytes = self.log.item_bytes(&header);
        if header.paged && self.log.pages_are_sparse() {
            copied_bytes += self.log.gather_pages(target, &header, GATHER_BYTES_MAX);
        }
        self.counters.items_moved += 1;
        self.counters.bytes_moved += copied_bytes as u64;
        self.work.items_moved += 1;
        self.work.bytes_copied += copied_bytes as u64;
    }

    fn evict(&mut self, queue: Queue) {
        if !self.settle(queue) {
            return;
        }
        let Some((hash, found)) = self.seen[queue as usize] else { return };
        let reason = match queue {
            _ if self.forced => &mut self.counters.evictions_forced,
            Queue::Window => &mut self.counters.evictions_window,
            Queue::Probation | Queue::Protected => &mut self.counters.evictions_main,
        };
        *reason += 1;
        self.counters.evictions += 1;
        self.counters.evicted_bytes += self.log.footprint(&found.header);
        self.drop_slot(hash, &found, State::Live);
        self.pass_dead(queue, found.offset, &found.header);
    }
}
