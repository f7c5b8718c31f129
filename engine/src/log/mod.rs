//! The item memory: segments of one reservation, written as a log, and pages for large values.
//!
//! ```text
//!   tail segment                                  head segment
//!   [ passed |cursor-> items  ] -> [ items ] -> [ items |fill-> free ]   a queue, oldest first
//!   [ passed |cursor-> items  ] -> [ items |fill-> free ]                another
//!   [ page | page | page | .. ]    [ page | .. ]                         page segments
//!   [ free ] [ free ] ...                                                free, then fresh ones
//! ```
//!
//! The log has three queues. Items are appended at a queue's head. What makes room is the cursor
//! at its tail, which passes one item at a time: the caller decides whether the item is copied to
//! a head or dropped, and a segment is free as soon as its last item has been passed. Holes that
//! overwrites and deletes leave elsewhere are taken back by the cleaner (`hand`). Values too long
//! for the log take pages, from segments that hold nothing else.
//!
//! - G1. An item never crosses a segment. Its place changes only when a cursor passes it.
//! - G2. `live_bytes + dead_bytes` are the bytes of all items that no cursor has passed. An item
//!   counts as dead once its dead bit is set or it has been flushed. Costs count live items only.
//! - G3. A segment's items were all written in one epoch. A flush starts a new epoch, and an item
//!   is flushed when its segment's epoch is an older one, and equally, for versions of the shard's
//!   counter, when its version is at or below the floor. The second rule is the one that reads
//!   use, as it needs the item alone; the first serves versions that clients set.
//! - G4. A segment without a live item is free, unless it is a queue's head or tail, the hand's,
//!   or flushed.
//! - G5. A used page belongs to exactly one item whose dead bit is not set, or is held (`held`).
//!
//! Cost: append, pass and free are O(1); a paged value costs O(1) a page besides its copying.

mod chain;
mod check;
mod hand;
mod held;
mod pages;
mod segment;
mod supply;

use std::io;

use chain::Chain;
pub(crate) use chain::Tail;
pub(crate) use hand::Cleaning;
use held::Held;
pub(crate) use segment::NO_SEGMENT;
use segment::Segment;
use supply::Supply;

use crate::bounds::{PAGE_BYTES_MAX, PAGES_PER_SEGMENT_MAX};
use crate::config::Cost;
use crate::hash::KeyHash;
use crate::intrinsics::{prefetch_bytes, prefetch_rest};
use crate::item::{self, Header, Version};
use crate::mapping::Mapped;
use crate::policy::Queue;

/// Whether an item that the table refers to may be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It may.
    Live,
    /// Its deadline has come.
    Expired,
    /// A flush came after it.
    Flushed,
}

/// The log of one shard.
#[derive(Debug)]
pub(crate) struct Log {
    bytes: Mapped<u8>,
    segment_shift: u32,
    page_shift: u32,
    /// Every segment that was ever used, by index. Never holds more than its first capacity.
    segments: Vec<Segment>,
    segments_max: usize,
    supply: Supply,
    in_use: usize,
    /// The queues, by `Queue`.
    chains: [Chain; Queue::ALL.len()],
    /// The segment that the cleaner empties (H1).
    hand: u32,
    /// Where it looks for the next one.
    resume: u32,
    resume_queue: usize,
    cost: Cost,
    /// Flushes so far (G3).
    epoch: u32,
    /// Counted versions up to here are flushed.
    version_floor: u64,
    live_items: u64,
    live_bytes: u64,
    dead_bytes: u64,
    /// The sum of the segments' `slack_bytes`.
    slack_bytes: u64,
    /// Page segments with free pages, by the number of used ones.
    page_lists: [u32; PAGES_PER_SEGMENT_MAX],
    pages_free: usize,
    pages_used: usize,
    /// Pages of arriving and of pinned values.
    held: Held,
}

impl Log {
    /// Reserves a log of `segments_max` segments of `segment_bytes`, a power of two.
    ///
    /// # Errors
    ///
    /// The kernel's, when the range cannot be reserved.
    pub(crate) fn new(
        segments_max: usize,
        segment_bytes: usize,
        cost: Cost,
        huge_pages: bool,
    ) -> io::Result<Log> {
        debug_assert!(segment_bytes.is_power_of_two());
        let page_bytes = PAGE_BYTES_MAX.min(segment_bytes / 4);
        Ok(Log {
            bytes: Mapped::reserve(segments_max * segment_bytes, huge_pages)?,
            segment_shift: segment_bytes.trailing_zeros(),
            page_shift: page_bytes.trailing_zeros(),
            segments: Vec::with_capacity(segments_max),
            segments_max,
            supply: Supply::EMPTY,
            in_use: 0,
            chains: [Chain::EMPTY; Queue::ALL.len()],
            hand: NO_SEGMENT,
            resume: NO_SEGMENT,
            resume_queue: 0,
            cost,
            epoch: 0,
            version_floor: 0,
            live_items: 0,
            live_bytes: 0,
            dead_bytes: 0,
            slack_bytes: 0,
            page_lists: [NO_SEGMENT; PAGES_PER_SEGMENT_MAX],
            pages_free: 0,
            pages_used: 0,
            held: Held::default(),
        })
    }

    /// Bytes of a segment.
    #[inline]
    pub(crate) fn segment_bytes(&self) -> usize {
        1 << self.segment_shift
    }

    /// Segments of the reservation that are not lent.
    #[inline]
    pub(crate) fn segments_max(&self) -> usize {
        self.segments_max - self.away_segments()
    }

    /// Asks for memory of a node of the machine; whether the kernel agreed.
    pub(crate) fn prefer_node(&mut self, node: usize) -> bool {
        self.bytes.prefer_node(node)
    }

    /// Segments in use, for items and for pages.
    #[inline]
    pub(crate) fn segments_in_use(&self) -> usize {
        self.in_use
    }

    /// Items that are neither dead nor flushed. Some may have expired unseen.
    #[inline]
    pub(crate) fn live_items(&self) -> u64 {
        self.live_items
    }

    /// Bytes in the log of items that are neither dead nor flushed; without pages.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes in the log of dead and flushed items that the cursor has not passed.
    pub(crate) fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }

    /// Bytes of pages in use.
    pub(crate) fn page_bytes_used(&self) -> u64 {
        (self.pages_used as u64) << self.page_shift
    }

    /// Bytes that an item takes, pages included.
    pub(crate) fn footprint(&self, header: &Header) -> u64 {
        let page_bytes = header.pages(self.page_bytes()) << self.page_shift;
        (self.item_bytes(header) + page_bytes) as u64
    }

    /// What an item costs, in the unit of the data limit and of the policy.
    #[inline]
    pub(crate) fn cost_of(&self, header: &Header) -> u64 {
        match self.cost {
            Cost::Items => 1,
            Cost::Values => header.value_bytes.max(1) as u64,
            Cost::Bytes => self.footprint(header),
        }
    }

    /// The bytes from `offset` on.
    #[inline(always)]
    pub(crate) fn at(&self, offset: u64) -> &[u8] {
        &self.bytes[offset as usize..]
    }

    /// `bytes` bytes from `offset` on, to be written.
    pub(crate) fn at_mut(&mut self, offset: u64, bytes: usize) -> &mut [u8] {
        &mut self.bytes[offset as usize..offset as usize + bytes]
    }

    /// All memory of the log; pages are found in it by `page_offset`.
    #[inline]
    pub(crate) fn memory(&self) -> &[u8] {
        &self.bytes
    }

    /// Asks for the first `count` bytes of an item.
    #[inline(always)]
    pub(crate) fn prefetch(&self, offset: u64, count: usize) {
        prefetch_bytes(&self.bytes, offset as usize, count);
    }

    /// Asks for what lies behind the first line of an item of about `count` bytes.
    #[inline(always)]
    pub(crate) fn prefetch_rest(&self, offset: u64, count: usize) {
        prefetch_rest(&self.bytes, offset as usize, count);
    }

    /// Touches the first `bytes` bytes.
    pub(crate) fn prefault(&mut self, bytes: usize) {
        self.bytes.prefault(bytes);
        self.declare_warm(bytes >> self.segment_shift);
    }

    /// The header of the item at `offset`.
    #[inline]
    pub(crate) fn header(&self, offset: u64) -> Header {
        Header::decode(self.at(offset))
    }

    /// Bytes of an item in the log.
    #[inline]
    pub(crate) fn item_bytes(&self, header: &Header) -> usize {
        header.item_bytes(self.page_bytes())
    }

    /// The key of the item at `offset`.
    pub(crate) fn key(&self, offset: u64, header: &Header) -> &[u8] {
        &self.at(offset)[header.header_bytes()..][..header.key_bytes]
    }

    /// The hash of the key of the item at `offset`.
    #[inline]
    pub(crate) fn key_hash(&self, offset: u64, header: &Header, seed: u64) -> KeyHash {
        KeyHash::of_space(self.key(offset, header), seed, header.space)
    }

    /// Whether the item at `offset`, which is not marked dead, may be served.
    #[inline]
    pub(crate) fn state(&self, offset: u64, header: &Header, now_ms: u64) -> State {
        if self.is_flushed(offset, header) {
            return State::Flushed;
        }
        match header.deadline.resolve(now_ms) {
            Some(deadline_ms) if deadline_ms <= now_ms => State::Expired,
            _ => State::Live,
        }
    }

    /// Versions of the counter up to here are flushed (G3).
    #[inline(always)]
    pub(crate) fn version_floor(&self) -> u64 {
        self.version_floor
    }

    /// Whether a flush came after the item at `offset` (G3).
    #[inline]
    pub(crate) fn is_flushed(&self, offset: u64, header: &Header) -> bool {
        match header.version {
            Version::Counted(version) => version <= self.version_floor,
            Version::Wide(_) => self.segment_of(offset).epoch != self.epoch,
        }
    }

    /// Marks the item at `offset` dead and frees its pages. The caller sees to its slot.
    pub(crate) fn bury(&mut self, offset: u64, header: &Header, state: State) {
        self.free_pages_of(offset, header);
        self.retire(offset, header, state);
    }

    /// Marks the item at `offset` dead whose pages another item has taken over, or that has none.
    pub(crate) fn retire(&mut self, offset: u64, header: &Header, state: State) {
        item::set_dead(&mut self.bytes[offset as usize..]);
        if state == State::Flushed {
            return;
        }
        let item_bytes = self.item_bytes(header);
        let cost = self.cost_of(header);
        let queue = self.queue_of(offset);
        self.live_items -= 1;
        self.live_bytes -= item_bytes as u64;
        self.dead_bytes += item_bytes as u64;
        self.chain_mut(queue).cost -= cost;
        let segment = self.segment_of_mut(offset);
        segment.live_bytes -= item_bytes as u32;
        segment.cost -= cost;
        if segment.live_bytes == 0 {
            self.free_if_empty((offset >> self.segment_shift) as u32);
        }
    }

    /// Copies key and value (or page numbers) of the item at `source` behind the header of the
    /// new one at `target`, whose body is as long.
    pub(crate) fn copy_body(&mut self, source: u64, old: &Header, target: u64, new: &Header) {
        let start = source as usize + old.header_bytes();
        let end = source as usize + self.item_bytes(old);
        self.bytes.copy_within(start..end, target as usize + new.header_bytes());
    }

    /// Copies the value (or page numbers) of the item at `source` behind the key of the new one at
    /// `target`, whose value is as long.
    pub(crate) fn copy_value(&mut self, source: u64, old: &Header, target: u64, new: &Header) {
        let start = source as usize + old.header_bytes() + old.key_bytes;
        let end = source as usize + self.item_bytes(old);
        let target = target as usize + new.header_bytes() + new.key_bytes;
        self.bytes.copy_within(start..end, target);
    }

    /// Declares every item flushed: O(1). Versions of the counter up to `version_floor` are dead
    /// from now on, and so is everything in the segments written so far (G3).
    pub(crate) fn flush(&mut self, version_floor: u64) {
        self.version_floor = version_floor;
        self.epoch += 1;
        self.live_items = 0;
        self.dead_bytes += self.live_bytes;
        self.live_bytes = 0;
        for chain in &mut self.chains {
            chain.cost = 0;
        }
    }

    /// Frees a segment whose last live item has died (G4).
    fn free_if_empty(&mut self, index: u32) {
        let segment = &self.segments[index as usize];
        let inside = segment.previous != NO_SEGMENT && segment.next != NO_SEGMENT;
        if inside && index != self.hand {
            self.unlink(index);
        }
    }
}

#[cfg(test)]
mod tests;
