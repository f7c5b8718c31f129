//! Making room: paced so that no single write pays for a whole segment.
//!
//! Memory comes back in whole segments, once a cursor has passed all items of a queue's oldest.
//! So the cursors work ahead: with each append they pass as much of the tails as the append takes
//! of a head, and when the head is full, a tail is just free. In bytes,
//!
//! ```text
//! level = left at the heads + segment * (free - spare wanted) - left at the tails
//!         + what the cleaner has gained of a segment that it is at
//! ```
//!
//! An append of `n` bytes wants `level >= n`. Dropping an item raises the level by its size,
//! copying one to a head leaves it. A write has a budget of steps and copied bytes that grows with
//! its own size. When the budget is spent before the level is reached, one of the spare segments
//! lends. Past that, while much is garbage it is cleaned all the same; then items are evicted,
//! used or not: a bounded number while the write fits anyway, so that the debt never falls due all
//! at once. If the write has to open a segment and that would be the last one (the room that the
//! level counts may lie in heads that the write cannot use, and the limit may have fallen by a
//! segment that the table took), it has it after as many steps, and the writes that fill it pay.
//! Only where there is none at all an item makes as many go as it takes.
//!
//! A step does the first of these that there is to do:
//!
//! 1. While much of the log is garbage, the cleaner empties a segment of its holes.
//! 2. A whole segment goes on from a queue that is above its share.
//! 3. What is dead or expired at the tails is passed.
//! 4. The eviction policy moves or evicts an item.
//!
//! - R1. A copy always finds room, or its item goes. While the level is not negative, at least
//!   `SPARE_SEGMENTS` less one for each queue are free, as a head has at most a segment left. A
//!   copy never takes what the write itself needs.
//! - R2. After `make_room(need)`, writing `need` and splitting a bucket keeps the total limit.
//!
//! Cost: in a full cache about one step for each item written, plus one for each item copied.

use super::{Ceiling, Shard};
use crate::bounds::{
    BALANCE_STEPS, BYTES_PER_TAIL_ITEM, COMPACT_HARDER, COMPACT_ONE_DEAD_IN, COPY_BYTES_BASE,
    COPY_BYTES_PER_BYTE, FORCED_CLEANING, FORCED_STEPS, LINE_BYTES, LINES_PER_INSERT_MAX,
    SPARE_SEGMENTS, TAIL_ITEMS_BASE, WIDE_WINDOW_SEGMENTS, WRITES_PER_SURVEY,
};
use crate::log::{Cleaning, State};
use crate::policy::{Demand, QUEUES, Queue, Step};
use crate::request::SetError;

/// What a write is about to take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    /// The queue that it is appended to.
    pub(super) queue: Queue,
    /// Contiguous bytes at its head.
    pub(super) log_bytes: usize,
    /// Pages.
    pub(super) pages: usize,
    /// What it costs.
    pub(super) cost: u64,
}

/// How the policy treats items that were used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// They may stay.
    Fair,
    /// They go like all others.
    Forced,
}

impl Shard {
    /// Makes room for `need`, within the limits.
    ///
    /// # Errors
    ///
    /// `NoSpace` when the limits cannot take `need`, and nothing more may be evicted.
    pub(super) fn make_room(&mut self, need: &Need) -> Result<(), SetError> {
        self.go_for_room(need, u64::MAX);
        if self.fits(need) || (self.policy.is_some() && self.fits_at_last(need)) {
            return Ok(());
        }
        self.counters.no_space += 1;
        Err(SetError::NoSpace)
    }

    /// Goes towards room for `need` until enough has been done, or `steps_max` steps have. `false`
    /// when nothing was left to do for a step.
    pub(super) fn go_for_room(&mut self, need: &Need, steps_max: u64) -> bool {
        let steps_before = self.work.tail_steps;
        self.seen = [None; QUEUES];
        let mut goes_on = true;
        while goes_on
            && self.work.tail_steps - steps_before < steps_max
            && let Some(pace) = self.next_pace(need)
        {
            goes_on = self.room_step(need, pace);
        }
        let is_full = self.work.tail_steps > steps_before;
        self.balance(need, is_full);
        if is_full {
            self.look_ahead();
        }
        goes_on
    }

    /// How to go on for a write of `need`; `None` when enough has been done.
    fn next_pace(&self, need: &Need) -> Option<Pace> {
        let fits = self.fits(need);
        if fits && self.level(need, SPARE_SEGMENTS) >= 0 && self.ceiling.is_none() {
            return None;
        }
        let (steps_max, copy_bytes_max) = self.budget(need);
        let steps = self.work.tail_steps;
        if steps < steps_max && self.work.bytes_copied < copy_bytes_max {
            return Some(Pace::Fair);
        }
        let is_spent = steps >= steps_max + FORCED_STEPS;
        let in_debt = !is_spent && self.level(need, SPARE_SEGMENTS - 1) < 0;
        let may_end = fits || (is_spent && self.fits_at_last(need));
        (self.policy.is_some() && (!may_end || in_debt)).then_some(Pace::Forced)
    }

    /// Whether the limits have room for a write of `need` right now (R2), with a segment left for
    /// the cleaner.
    pub(super) fn fits(&self, need: &Need) -> bool {
        self.fits_beside(need, 1)
    }

    /// The same, with the cleaner's segment: for a write that has done enough. Until its debt is
    /// paid nothing is copied but into heads with room.
    fn fits_at_last(&self, need: &Need) -> bool {
        self.fits_beside(need, 0)
    }

    /// Whether the limits have room for a write of `need` that leaves so many segments.
    fn fits_beside(&self, need: &Need, left: usize) -> bool {
        let log = &self.log;
        let ceiling = self.ceiling.unwrap_or(Ceiling { segments: 0, cost: 0 });
        if let Some(data_max) = self.limits.data
            && log.cost() + need.cost > data_max.max(ceiling.cost)
        {
            return false;
        }
        let allowed = self.segments_allowed(LINES_PER_INSERT_MAX).max(ceiling.segments);
        let opened = self.segments_opened(need);
        opened == 0 || log.segments_in_use() + opened + left <= allowed
    }

    /// Segments that a write of `need` opens.
    fn segments_opened(&self, need: &Need) -> usize {
        let log = &self.log;
        log.page_segments_missing(need.pages)
            + usize::from(log.head_left_bytes(need.queue) < need.log_bytes)
    }

    /// Segments in use from which on no copy may open another: what the limit allows, less what a
    /// write of `need` opens itself.
    fn segments_for_copies(&self, need: &Need) -> usize {
        let lines = if need.log_bytes == 0 { 0 } else { LINES_PER_INSERT_MAX };
        let ceiling = self.ceiling.map_or(0, |ceiling| ceiling.segments);
        let allowed = self.segments_allowed(lines).max(ceiling);
        allowed.saturating_sub(self.segments_opened(need))
    }

    /// How far the cursors are ahead of a write of `need` that leaves `spare` free segments, in
    /// bytes; negative when they are behind.
    pub(super) fn level(&self, need: &Need, spare: usize) -> i64 {
        let log = &self.log;
        let allowed = self.segments_allowed(LINES_PER_INSERT_MAX);
        let opened = log.segments_in_use() + spare + log.page_segments_missing(need.pages);
        let spare_bytes = (allowed as i64 - opened as i64) * log.segment_bytes() as i64;
        let queues = Queue::ALL.into_iter();
        let ends = queues
            .map(|queue| log.head_left_bytes(queue) as i64 - log.tail_left_bytes(queue) as i64);
        spare_bytes + ends.sum::<i64>() + log.cleaned_bytes() as i64 - need.log_bytes as i64
    }

    /// Segments that the total limit allows beside the table and `lines` more lines.
    pub(super) fn segments_allowed(&self, lines: usize) -> usize {
        let bytes = self.limits.total_bytes.saturating_sub(self.side_bytes(lines));
        (bytes / self.log.segment_bytes()).min(self.log.segments_max())
    }

    /// Bytes of the table with `lines` more lines, and of what the policy and expiry remember.
    pub(super) fn side_bytes(&self, lines: usize) -> usize {
        let table_bytes = (self.table.lines_resident() + lines) * LINE_BYTES;
        table_bytes + self.policy_bytes + self.expiry.bytes()
    }

    /// Whether enough of the log is dead for a compaction to pay.
    pub(super) fn garbage_is_much(&self) -> bool {
        let garbage_bytes = self.log.garbage_bytes();
        garbage_bytes * COMPACT_ONE_DEAD_IN > self.log.live_bytes() + garbage_bytes
    }

    /// One step towards room for `need`. `false` when nothing is left that may go.
    pub(super) fn room_step(&mut self, need: &Need, pace: Pace) -> bool {
        self.work.tail_steps += 1;
        let copy_bytes_max = self.budget(need).1 * FORCED_CLEANING;
        let may_clean = match self.policy {
            Some(_) => self.garbage_is_much() && self.work.bytes_copied < copy_bytes_max,
            None => self.log.garbage_bytes() > 0,
        };
        let full = self.level(need, SPARE_SEGMENTS) < 0;
        if may_clean && full && self.clean_step(need) {
            return true;
        }
        let demand = Demand {
            capacity: self.capacity(),
            need: need.cost,
            full: full || !self.fits(need),
            forced: pace == Pace::Forced,
        };
        self.shift_segment(demand.capacity) || self.policy_step(need, demand)
    }

    /// What items may cost together: the limit, or what the memory holds as things are.
    pub(super) fn capacity(&self) -> u64 {
        let cost = self.log.cost();
        match self.limits.data {
            Some(data_max) => data_max,
            None => cost + self.level(&Need::default(), SPARE_SEGMENTS).max(0) as u64,
        }
    }

    /// Moves a queue's oldest segment to the next queue, if the queue is above its share by that
    /// much.
    fn shift_segment(&mut self, capacity: u64) -> bool {
        let Some(policy) = &self.policy else { return false };
        for (from, to) in [(Queue::Window, Queue::Probation), (Queue::Probation, Queue::Protected)]
        {
            let Some(share_max) = policy.share_max(from, capacity) else { continue };
            let excess = self.log.queue_cost(from).saturating_sub(share_max);
            if excess > 0 && self.log.relabel_tail(from, to, excess) {
                self.ahead[from as usize].clear();
                self.ahead[to as usize].clear();
                self.seen = [None; QUEUES];
                return true;
            }
        }
        false
    }

    /// Lets the policy put its queues in order once there is room: at every write when the shard
    /// is full, else when the window is well above its share.
    fn balance(&mut self, need: &Need, is_full: bool) {
        let Some(policy) = &self.policy else { return };
        if policy.is_due() || self.version.is_multiple_of(WRITES_PER_SURVEY) {
            let capacity = self.capacity();
            let (Some(policy), tails) = self.tails(0) else { return };
            policy.tend(&tails, capacity);
            let policy_bytes = policy.bytes();
            let window_max = policy.share_max(Queue::Window, capacity).unwrap_or(u64::MAX);
            self.policy_bytes = policy_bytes;
            // A wide window is kept at its share by whole segments, which cost nothing to move.
            let segment_cost = self.log.cost() / self.log.segments_in_use().max(1) as u64;
            let is_wide = window_max / WIDE_WINDOW_SEGMENTS > segment_cost;
            let slack = if is_wide { 2 * segment_cost } else { 0 };
            self.window_max = window_max.saturating_add(slack);
        }
        let is_due = is_full || self.log.queue_cost(Queue::Window) > self.window_max;
        // Copies may open a segment, which a write in debt may need itself.
        if !is_due || self.level(need, SPARE_SEGMENTS - 1) < 0 {
            return;
        }
        // What there is room for is not to be made room for again.
        let capacity = self.capacity().max(self.log.cost() + need.cost);
        if self.shift_segment(capacity) {
            return;
        }
        let demand = Demand { capacity, need: need.cost, full: false, forced: false };
        let steps_max = self.work.tail_steps + BALANCE_STEPS;
        while self.work.tail_steps < steps_max {
            self.work.tail_steps += 1;
            if !self.policy_step(need, demand) {
                break;
            }
        }
    }

    /// Passes what is dead at the tails, and lets the policy move or evict one item.
    fn policy_step(&mut self, need: &Need, demand: Demand) -> bool {
        let segments_max = self.segments_for_copies(need);
        let steps_before = self.work.tail_steps;
        let (policy, mut tails) = self.tails(segments_max);
        tails.forced = demand.forced;
        tails.kept = (need.queue, need.log_bytes);
        let settled = Queue::ALL.map(|queue| tails.settle(queue));
        let step = match policy {
            _ if settled.contains(&false) => Step::Moved,
            Some(policy) => policy.step(&mut tails, &demand),
            None => Step::Idle,
        };
        step != Step::Idle || self.work.tail_steps > steps_before
    }

    /// One step of the cleaner. `false` when there is nothing worth cleaning, or no room for it.
    fn clean_step(&mut self, need: &Need) -> bool {
        for queue in Queue::ALL {
            if self.log.cleans_tail(queue) {
                self.ahead[queue as usize].clear();
            }
        }
        self.seen = [None; QUEUES];
        let (offset, header) = match self.log.clean(self.policy.is_none()) {
            Cleaning::Nothing => return false,
            Cleaning::Moved => return true,
            Cleaning::Item(offset, header) => (offset, header),
        };
        if header.dead {
            self.log.pass_dead(offset, &header);
            return true;
        }
        let hash = self.log.key_hash(offset, &header, self.hash_seed);
        let probe = self.table.find(hash, |candidate| candidate == offset);
        self.work.lines_read += u64::from(probe.lines);
        let slot = probe.found.expect("an item ahead of the cursor has a slot (S1)");
        let state = self.log.state(offset, &header, self.now_ms);
        if state != State::Live {
            self.drop_slot(hash, slot, offset, &header, state);
            self.log.pass_dead(offset, &header);
            return true;
        }
        let segments_max = self.segments_for_copies(need).min(self.segments_allowed(0));
        let may_open = self.log.segments_in_use() < segments_max;
        let Some(target) = self.log.clean_copy(offset, &header, may_open) else {
            return false;
        };
        self.table.relocate(slot, target);
        let copied_bytes = self.log.item_bytes(&header) as u64;
        self.counters.items_moved += 1;
        self.counters.bytes_moved += copied_bytes;
        self.work.items_moved += 1;
        self.work.bytes_copied += copied_bytes;
        true
    }

    /// Asks for the table lines of the next items at the tails, so that the next steps find them
    /// in the cache.
    pub(super) fn look_ahead(&mut self) {
        for queue in Queue::ALL {
            while !self.ahead[queue as usize].is_full() {
                let ahead = &self.ahead[queue as usize];
                let from = ahead.next_offset().unwrap_or_else(|| self.log.cursor(queue));
                let Some(header) = self.log.tail_header(queue, from) else { break };
                let hash = (!header.dead).then(|| self.log.key_hash(from, &header, self.hash_seed));
                if let Some(hash) = hash {
                    self.table.prefetch(hash);
                    if let Some(policy) = &self.policy {
                        policy.prefetch(hash);
                    }
                }
                let item_bytes = self.log.item_bytes(&header);
                self.ahead[queue as usize].push(from, hash, item_bytes);
            }
        }
    }

    /// Steps, and bytes copied, up to which a write of `need` treats items by their merits.
    fn budget(&self, need: &Need) -> (u64, u64) {
        let bytes = need.log_bytes + need.pages * self.log.page_bytes();
        let harder = match self.policy {
            None if self.garbage_is_much() => COMPACT_HARDER,
            _ => 1,
        };
        let steps = (TAIL_ITEMS_BASE + bytes / BYTES_PER_TAIL_ITEM) * harder;
        let copy_bytes = (COPY_BYTES_BASE + bytes * COPY_BYTES_PER_BYTE) * harder;
        (steps as u64, copy_bytes as u64)
    }
}

#[cfg(test)]
mod tests;
