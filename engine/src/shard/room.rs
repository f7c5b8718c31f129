//! Making room: the tail cursor's work, paced so that no single write pays for a whole segment.
//!
//! Memory comes back in whole segments, once the cursor has passed all items of the oldest. So
//! the cursor works ahead: with each append it passes as much of the tail as the append takes of
//! the head, and when the head is full, the tail is just free. In bytes,
//!
//! ```text
//! level = left at the head + segment * (spare - spare wanted) - left at the tail
//! ```
//!
//! An append of `n` bytes wants `level >= n`. Dropping an item raises the level by its size,
//! copying one to the head leaves it. A write has a budget of steps and copied bytes that grows
//! with its own size. When the budget is spent before the level is reached, a large shard lends:
//! it wants two spare segments beyond the one that copying needs, and goes on while they last.
//! Past that, items are evicted whether referenced or not: a bounded number while the write fits
//! anyway, so that the debt never falls due all at once, and as many as it takes if it does not.
//!
//! What happens to a live item at the cursor: referenced (CLOCK bit) or in a log with much
//! garbage, it is copied to the head, unreferenced; otherwise it is evicted. Where nothing may be
//! evicted, it is always copied.
//!
//! - R1. A copy always finds room: one segment of the limit is kept free for it (or the head has
//!   room for all that is live in the tail). Copying a tail segment takes at most one segment, and
//!   frees one.
//! - R2. After `make_room(need)`, writing `need` and splitting a bucket keeps the total limit.
//!
//! Cost: in a full cache about one step for each item written, plus one for each item copied.

use super::{Ceiling, Shard};
use crate::bounds::{
    BYTES_PER_TAIL_ITEM, COMPACT_HARDER, COMPACT_ONE_DEAD_IN, COPY_BYTES_BASE, COPY_BYTES_PER_BYTE,
    FORCED_STEPS, GATHER_BYTES_MAX, LINE_BYTES, LINES_PER_INSERT_MAX, SEGMENTS_PER_SPARE,
    SPARE_SEGMENTS_MAX, TAIL_ITEMS_BASE,
};
use crate::config::Eviction;
use crate::item::Header;
use crate::log::{State, Tail};
use crate::request::SetError;
use crate::table::SlotRef;

/// What a write is about to take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    /// Contiguous bytes at the head.
    pub(super) log_bytes: usize,
    /// Pages.
    pub(super) pages: usize,
}

/// How the cursor treats live items.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// By CLOCK bit and garbage.
    Fair,
    /// All are evicted.
    Forced,
}

impl Shard {
    /// Makes room for `need`, within the limits, by moving the tail cursor.
    ///
    /// # Errors
    ///
    /// `NoSpace` when the limits cannot take `need`, and nothing more may be evicted.
    pub(super) fn make_room(&mut self, need: &Need) -> Result<(), SetError> {
        let steps_before = self.work.tail_steps;
        while let Some(pace) = self.next_pace(need) {
            if !self.tail_step(pace) {
                break;
            }
        }
        if self.work.tail_steps > steps_before {
            self.look_ahead();
        }
        if self.fits(need) {
            return Ok(());
        }
        self.counters.no_space += 1;
        Err(SetError::NoSpace)
    }

    /// How the cursor goes on for a write of `need`; `None` when it has done enough.
    fn next_pace(&self, need: &Need) -> Option<Pace> {
        let fits = self.fits(need);
        if fits && self.level(need, self.spare_wanted()) >= 0 && self.ceiling.is_none() {
            return None;
        }
        let (steps_max, copy_bytes_max) = self.budget(need);
        let steps = self.work.tail_steps;
        if steps < steps_max && self.work.bytes_copied < copy_bytes_max {
            return Some(Pace::Fair);
        }
        let evicts = self.eviction != Eviction::None;
        let in_debt = self.level(need, 1) < 0 && steps < steps_max + FORCED_STEPS;
        (evicts && (!fits || in_debt)).then_some(Pace::Forced)
    }

    /// Whether the limits have room for a write of `need` right now (R2), with R1 kept.
    pub(super) fn fits(&self, need: &Need) -> bool {
        let log = &self.log;
        let ceiling = self.ceiling.unwrap_or(Ceiling { segments: 0, data_bytes: 0 });
        if let Some(data_bytes_max) = self.limits.data_bytes
            && log.data_bytes() + self.bytes_of(need) as u64
                > data_bytes_max.max(ceiling.data_bytes)
        {
            return false;
        }
        let allowed = self.segments_allowed(LINES_PER_INSERT_MAX).max(ceiling.segments);
        let head_left = log.head_left_bytes();
        let opened =
            log.page_segments_missing(need.pages) + usize::from(head_left < need.log_bytes);
        let in_use = log.segments_in_use() + opened;
        match opened {
            0 if in_use == allowed => head_left - need.log_bytes >= log.tail_live_bytes(),
            _ => in_use < allowed,
        }
    }

    /// How far the cursor is ahead of a write of `need` that leaves `spare` free segments, in
    /// bytes; negative when it is behind.
    pub(super) fn level(&self, need: &Need, spare: usize) -> i64 {
        let log = &self.log;
        let allowed = self.segments_allowed(LINES_PER_INSERT_MAX);
        let opened = log.segments_in_use() + spare + log.page_segments_missing(need.pages);
        let spare_bytes = (allowed as i64 - opened as i64) * log.segment_bytes() as i64;
        spare_bytes + log.head_left_bytes() as i64 - (log.tail_left_bytes() + need.log_bytes) as i64
    }

    /// Free segments that the cursor keeps ahead of the writer: the one that copying needs, and
    /// in a large shard one or two that writes may draw on.
    pub(super) fn spare_wanted(&self) -> usize {
        let allowed = self.segments_allowed(LINES_PER_INSERT_MAX);
        1 + (allowed / SEGMENTS_PER_SPARE).min(SPARE_SEGMENTS_MAX - 1)
    }

    /// Segments that the total limit allows beside the table and `lines` more lines.
    pub(super) fn segments_allowed(&self, lines: usize) -> usize {
        let table_bytes = (self.table.lines() + lines) * LINE_BYTES;
        let bytes = self.limits.total_bytes.saturating_sub(table_bytes);
        (bytes / self.log.segment_bytes()).min(self.log.segments_max())
    }

    /// Whether enough of the log is dead for a compaction to pay.
    pub(super) fn garbage_is_much(&self) -> bool {
        let dead_bytes = self.log.dead_bytes();
        dead_bytes * COMPACT_ONE_DEAD_IN > self.log.live_bytes() + dead_bytes
    }

    /// One step of the tail cursor: over an item, or over the end of a segment. `false` when
    /// there is nothing at the tail, or nothing that may go or be copied.
    pub(super) fn tail_step(&mut self, pace: Pace) -> bool {
        self.work.tail_steps += 1;
        let (offset, header) = match self.log.tail() {
            Tail::Empty => return false,
            Tail::SegmentFreed => {
                self.ahead.clear();
                return true;
            }
            Tail::Item(offset, header) => (offset, header),
        };
        let ahead = self.ahead.take(offset);
        if header.dead {
            self.log.pass_dead(&header);
            return true;
        }
        let hash = match ahead {
            Some(hash) => hash,
            None => self.hash(self.log.key(offset, &header)),
        };
        let probe = self.table.find(hash, |candidate| candidate == offset);
        self.work.lines_read += u64::from(probe.lines);
        let slot = probe.found.expect("an item ahead of the cursor has a slot (S1)");
        let state = self.log.state(offset, &header, self.now_ms);
        if state == State::Live {
            if pace == Pace::Fair && self.keeps(slot) && self.can_copy(&header) {
                self.copy_to_head(slot, &header);
                return true;
            }
            if self.eviction == Eviction::None {
                return false;
            }
            let pages = header.pages(self.log.page_bytes());
            let need = Need { log_bytes: self.log.item_bytes(&header), pages };
            self.counters.evictions += 1;
            self.counters.evicted_bytes += self.bytes_of(&need) as u64;
        }
        self.drop_slot(hash, slot, offset, &header, state);
        self.log.pass_dead(&header);
        true
    }

    /// Asks for the table lines of the next items at the tail, so that the next steps find them in
    /// the cache.
    pub(super) fn look_ahead(&mut self) {
        while !self.ahead.is_full() {
            let from = self.ahead.next_offset().unwrap_or_else(|| self.log.cursor());
            let Some(header) = self.log.tail_header(from) else { return };
            let hash = (!header.dead).then(|| self.hash(self.log.key(from, &header)));
            if let Some(hash) = hash {
                self.table.prefetch(hash);
            }
            self.ahead.push(from, hash, self.log.item_bytes(&header));
        }
    }

    fn bytes_of(&self, need: &Need) -> usize {
        need.log_bytes + need.pages * self.log.page_bytes()
    }

    /// Steps, and bytes copied, up to which a write of `need` treats items by their merits.
    fn budget(&self, need: &Need) -> (u64, u64) {
        let bytes = self.bytes_of(need);
        let harder = match self.eviction {
            Eviction::None if self.garbage_is_much() => COMPACT_HARDER,
            _ => 1,
        };
        let steps = (TAIL_ITEMS_BASE + bytes / BYTES_PER_TAIL_ITEM) * harder;
        let copy_bytes = (COPY_BYTES_BASE + bytes * COPY_BYTES_PER_BYTE) * harder;
        (steps as u64, copy_bytes as u64)
    }

    /// Whether a live item at the cursor deserves to be copied.
    fn keeps(&self, slot: SlotRef) -> bool {
        self.eviction == Eviction::None
            || self.table.slot(slot).referenced
            || self.garbage_is_much()
    }

    /// Whether a copy of the item finds room (R1).
    fn can_copy(&self, header: &Header) -> bool {
        let ceiling = self.ceiling.map_or(0, |ceiling| ceiling.segments);
        self.log.head_left_bytes() >= self.log.item_bytes(header)
            || self.log.segments_in_use() < self.segments_allowed(0).max(ceiling)
    }

    fn copy_to_head(&mut self, slot: SlotRef, header: &Header) {
        let item_bytes = self.log.item_bytes(header);
        let opened = self.log.open_head(item_bytes, self.now_ms);
        debug_assert!(opened.is_some(), "can_copy saw a free segment");
        let offset = self.log.pass_by_copy(header);
        self.table.relocate(slot, offset);
        self.table.set_referenced(slot, false);
        let mut copied_bytes = item_bytes;
        if header.paged && self.log.pages_are_sparse() {
            copied_bytes += self.log.gather_pages(offset, header, GATHER_BYTES_MAX);
        }
        self.counters.items_moved += 1;
        self.counters.bytes_moved += copied_bytes as u64;
        self.work.items_moved += 1;
        self.work.bytes_copied += copied_bytes as u64;
    }
}
