//! What happens beside reads and writes: flushing, limits, the table's size, and background work.

use super::databases::Databases;
use super::room::{Need, Pace};
use super::{Ceiling, Shard};
use crate::bounds::{LINE_BYTES, PREFETCH_BYTES_MAX, SPARE_SEGMENTS, WRITES_PER_SURVEY};
use crate::config::{EngineError, Limits, check_limits};
use crate::expiry::Expiry;
use crate::hash::KeyHash;
use crate::item::HEADER_BYTES_MAX;
use crate::log::{Log, State};
use crate::policy::{QUEUES, Queue};
use crate::stats::Counters;
use crate::table::Items;

/// What a bucket of the walk over abandoned spaces counts for.
const ITEMS_PER_WALK_STEP: usize = 8;

/// The table takes at most about this part of a limit, for items of 140 bytes and more.
const TABLE_SHARE: usize = 16;

impl Shard {
    /// Removes all items: O(1). `len()` is 0 at once and no read finds an old item; the memory
    /// comes back as writes and [`Shard::maintain`] pass over it.
    pub fn flush(&mut self) {
        self.version += 1;
        self.wipes += 1;
        self.log.flush(self.version);
        self.expiry.clear();
        self.databases.clear();
    }

    /// Does background work for the time being: removes items whose deadline has come, takes back
    /// flushed memory, shrinks to a lowered limit, restores the spare segments that writes drew on,
    /// shrinks the table. Examines about `budget_items` items, entries and buckets (half of them
    /// for expiry), and returns how many it did; 0 when nothing is left to do.
    pub fn maintain(&mut self, now_ms: u64, budget_items: usize) -> usize {
        self.begin(now_ms);
        self.ages.note(self.version, self.now_ms);
        let expired = self.maintain_expiry(budget_items.div_ceil(2));
        let need = Need::default();
        self.seen = [None; QUEUES];
        while expired as u64 + self.work.tail_steps < budget_items as u64
            && self.tail_work_is_due()
            && self.room_step(&need, Pace::Fair)
        {
            self.look_ahead();
        }
        let mut done = (expired + self.work.tail_steps as usize).min(budget_items);
        if self.databases.walk_is_due() {
            done += self.walk_some((budget_items - done).div_ceil(ITEMS_PER_WALK_STEP));
        }
        while done < budget_items && self.table.merge_due() && self.table.merge() {
            self.counters.merges += 1;
            self.work.resizes += 1;
            done += 1;
        }
        done
    }

    /// Sets other limits, up to the reservation made at start. A lower limit takes effect bit by
    /// bit, with each write and by [`Shard::maintain`]; until then the shard does not grow. Where
    /// nothing may be evicted it is reached only as items go.
    ///
    /// # Errors
    ///
    /// The limit is too small for a handful of segments, or above the reservation.
    pub fn set_limits(&mut self, limits: Limits) -> Result<(), EngineError> {
        check_limits(&limits, self.log.segment_bytes(), self.reserve_bytes)?;
        self.limits = limits;
        self.lower_ceiling();
        Ok(())
    }

    /// Bytes in memory that count against the total limit: segments in use, free or lent, the table
    /// with what it has touched, what the policy remembers, and entries of expiry. O(1).
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let log = &self.log;
        let segments = log.segments_in_use() + log.warm_segments() + log.away_segments();
        segments * log.segment_bytes() + self.side_bytes(0)
    }

    /// Whether items may go to make room, so that a lowered limit is reached without anybody
    /// deleting something.
    #[must_use]
    pub fn may_evict(&self) -> bool {
        self.policy.is_some()
    }

    /// Touches the memory of the whole limit, so that no later call waits for the kernel: the log,
    /// and the table's share for items of 140 bytes. All of it stays in memory, and the table's
    /// share counts against the limit, while the limit is not lowered. For a fresh shard; takes
    /// seconds for large limits.
    pub fn prefault(&mut self) {
        self.is_prefaulted = true;
        let table_bytes = self.limits.total_bytes / TABLE_SHARE;
        self.table.prefault(table_bytes / LINE_BYTES);
        self.log.prefault(self.limits.total_bytes - table_bytes);
    }

    /// Ends a write: splits or merges one bucket if it is time, drops some entries of expiry if
    /// there are too many, and looks from time to time how large items are.
    pub(super) fn finish_write(&mut self) {
        if self.version.is_multiple_of(WRITES_PER_SURVEY) {
            let mean_bytes = self.log.live_bytes() / self.log.live_items().max(1);
            self.typical_item_bytes = (mean_bytes as usize).clamp(1, PREFETCH_BYTES_MAX);
        }
        self.resize_once();
        self.sweep_some();
    }

    /// Splits or merges one bucket if the table's load calls for it.
    pub(super) fn resize_once(&mut self) {
        if self.table.split_due() {
            let mut items = SplitItems {
                log: &mut self.log,
                expiry: &mut self.expiry,
                databases: &mut self.databases,
                counters: &mut self.counters,
                hash_seed: self.hash_seed,
                now_ms: self.now_ms,
                read: 0,
            };
            self.table.split(&mut items);
            self.work.split_items += items.read;
            self.work.resizes += 1;
            self.counters.splits += 1;
        } else if self.table.merge_due() && self.table.merge() {
            self.work.resizes += 1;
            self.counters.merges += 1;
        }
    }

    /// Notes what a shard above its limits holds now, or that it is within them.
    pub(super) fn lower_ceiling(&mut self) {
        let segments = (self.log.segments_in_use() + 1).min(self.log.segments_max());
        let ceiling = Ceiling { segments, cost: self.log.cost() };
        self.ceiling = self.is_above_limits().then_some(ceiling);
    }

    /// Whether the shard holds more than its limits, which were lowered then.
    fn is_above_limits(&self) -> bool {
        self.log.segments_in_use() > self.segments_allowed(0)
            || self.log.cost() > self.limits.data.unwrap_or(u64::MAX)
    }

    /// Whether there is work that ends: flushed items, a lowered limit, spare segments.
    fn tail_work_is_due(&self) -> bool {
        if Queue::ALL.into_iter().any(|queue| self.log.tail_is_flushed(queue)) {
            return true;
        }
        // Copying all that lives brings nothing back where there is no garbage.
        (self.policy.is_some() || self.garbage_is_much())
            && (self.is_above_limits() || self.level(&Need::default(), SPARE_SEGMENTS) < 0)
    }
}

/// The items of a chain that is being split.
struct SplitItems<'a> {
    log: &'a mut Log,
    expiry: &'a mut Expiry,
    databases: &'a mut Databases,
    counters: &'a mut Counters,
    hash_seed: u64,
    now_ms: u64,
    read: u64,
}

impl Items for SplitItems<'_> {
    fn prefetch(&mut self, offset: u64) {
        self.log.prefetch(offset, HEADER_BYTES_MAX);
    }

    fn hash_of(&mut self, offset: u64) -> Option<KeyHash> {
        self.read += 1;
        let header = self.log.header(offset);
        let state = self.log.state(offset, &header, self.now_ms);
        if state != State::Live {
            self.counters.expired += u64::from(state == State::Expired);
            let deadline_ms = header.deadline.resolve(self.now_ms);
            self.expiry.note_end(deadline_ms, state, self.now_ms);
            self.databases.note_end(header.space, deadline_ms, state);
            self.log.bury(offset, &header, state);
            return None;
        }
        Some(self.log.key_hash(offset, &header, self.hash_seed))
    }
}
