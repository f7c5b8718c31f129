//! The item memory: segments of one reservation, written as a log, and pages for large values.
//!
//! ```text
//!   tail segment                                  head segment
//!   [ passed |cursor-> items  ] -> [ items ] -> [ items |fill-> free ]      log, oldest first
//!   [ page | page | page | .. ]    [ page | .. ]                            page segments
//!   [ free ] [ free ] ...                                                   free, then fresh ones
//! ```
//!
//! Items are appended at the head. What makes room is the tail cursor, which passes one item at a
//! time: the caller decides whether the item is copied to the head or dropped, and a segment is
//! free as soon as the cursor has passed its last item. Values too long for the log take pages,
//! from segments that hold nothing else.
//!
//! - G1. An item never crosses a segment. Its place changes only when the cursor passes it.
//! - G2. `live_bytes + dead_bytes` are the bytes of all items that the cursor has not passed. An
//!   item counts as dead once its dead bit is set or it has been flushed.
//! - G3. A segment's items were all written in one epoch. A flush starts a new epoch, and an item
//!   is flushed when its segment's epoch is an older one, and equally, for versions of the shard's
//!   counter, when its version is at or below the floor. The second rule is the one that reads
//!   use, as it needs the item alone; the first serves versions that clients set.
//! - G4. Bases of segments never fall along the log, as the clock does not.
//! - G5. A used page belongs to exactly one item whose dead bit is not set.
//!
//! Cost: append, pass and free are O(1); a paged value costs O(1) a page besides its copying.

mod check;
mod pages;
mod segment;

use std::io;

pub(crate) use segment::NO_SEGMENT;
use segment::{Kind, Segment};

use crate::bounds::{PAGE_BYTES_MAX, PAGES_PER_SEGMENT_MAX};
use crate::intrinsics::prefetch_bytes;
use crate::item::{self, Header, StoredDeadline, Version};
use crate::mapping::Mapped;

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

/// What the tail cursor stands at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// The log is empty.
    Empty,
    /// The tail segment was freed; the cursor stands at the next one.
    SegmentFreed,
    /// An item, at this offset.
    Item(u64, Header),
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
    /// Freed segments, linked by `next`: reused before fresh ones, so that touched memory is.
    free: u32,
    in_use: usize,
    /// First and last segment of the log; `NO_SEGMENT` when it is empty.
    tail: u32,
    head: u32,
    /// Bytes of the tail segment that the cursor has passed.
    cursor_bytes: u32,
    /// Flushes so far (G3).
    epoch: u32,
    /// Counted versions up to here are flushed.
    version_floor: u64,
    live_items: u64,
    live_bytes: u64,
    dead_bytes: u64,
    /// Page segments with free pages, by the number of used ones.
    page_lists: [u32; PAGES_PER_SEGMENT_MAX],
    pages_free: usize,
    pages_used: usize,
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
            free: NO_SEGMENT,
            in_use: 0,
            tail: NO_SEGMENT,
            head: NO_SEGMENT,
            cursor_bytes: 0,
            epoch: 0,
            version_floor: 0,
            live_items: 0,
            live_bytes: 0,
            dead_bytes: 0,
            page_lists: [NO_SEGMENT; PAGES_PER_SEGMENT_MAX],
            pages_free: 0,
            pages_used: 0,
        })
    }

    /// Bytes of a segment.
    #[inline]
    pub(crate) fn segment_bytes(&self) -> usize {
        1 << self.segment_shift
    }

    /// Segments of the reservation.
    pub(crate) fn segments_max(&self) -> usize {
        self.segments_max
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

    /// All bytes that count against a data limit.
    #[inline]
    pub(crate) fn data_bytes(&self) -> u64 {
        self.live_bytes + self.dead_bytes + self.page_bytes_used()
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

    /// Touches the first `bytes` bytes.
    pub(crate) fn prefault(&mut self, bytes: usize) {
        self.bytes.prefault(bytes);
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

    /// The deadline of the item at `offset`, in milliseconds on the shard's clock.
    #[inline]
    pub(crate) fn deadline_ms(&self, offset: u64, header: &Header) -> Option<u64> {
        match header.deadline {
            StoredDeadline::None => None,
            deadline => deadline.resolve(self.base_ms(offset)),
        }
    }

    /// Whether the item at `offset`, which is not marked dead, may be served.
    #[inline]
    pub(crate) fn state(&self, offset: u64, header: &Header, now_ms: u64) -> State {
        let flushed = match header.version {
            Version::Counted(version) => version <= self.version_floor,
            Version::Wide(_) => self.segment_of(offset).epoch != self.epoch,
        };
        if flushed {
            return State::Flushed;
        }
        match self.deadline_ms(offset, header) {
            Some(deadline_ms) if deadline_ms <= now_ms => State::Expired,
            _ => State::Live,
        }
    }

    /// The clock's reading when the segment of `offset` was opened.
    #[inline]
    pub(crate) fn base_ms(&self, offset: u64) -> u64 {
        self.segment_of(offset).base_ms
    }

    /// Free bytes of the head segment. 0 when there is none, or when a flush has closed it.
    #[inline]
    pub(crate) fn head_left_bytes(&self) -> usize {
        match self.segments.get(self.head as usize) {
            Some(head) if head.epoch == self.epoch => {
                self.segment_bytes() - head.fill_bytes as usize
            }
            _ => 0,
        }
    }

    /// Bytes of the tail segment before the cursor has passed it; 0 when it is the head too.
    #[inline]
    pub(crate) fn tail_left_bytes(&self) -> usize {
        if self.tail == self.head {
            return 0;
        }
        (self.segments[self.tail as usize].fill_bytes - self.cursor_bytes) as usize
    }

    /// Live bytes among `tail_left_bytes`: what copying them all would take at the head.
    #[inline]
    pub(crate) fn tail_live_bytes(&self) -> usize {
        if self.tail == self.head {
            return 0;
        }
        let tail = &self.segments[self.tail as usize];
        if tail.epoch == self.epoch { tail.live_bytes as usize } else { 0 }
    }

    /// Whether the oldest segment was written before the last flush.
    pub(crate) fn tail_is_flushed(&self) -> bool {
        self.segments.get(self.tail as usize).is_some_and(|tail| tail.epoch != self.epoch)
    }

    /// Makes sure that the head segment has `bytes` left, opening a segment if it must, and
    /// returns the head's base. `None` when the reservation has no free segment.
    pub(crate) fn open_head(&mut self, bytes: usize, now_ms: u64) -> Option<u64> {
        debug_assert!(bytes <= self.segment_bytes());
        if self.head == NO_SEGMENT || self.head_left_bytes() < bytes {
            let opened = self.open_segment(Kind::Log, now_ms)?;
            match self.segments.get_mut(self.head as usize) {
                Some(head) => head.next = opened,
                None => {
                    self.tail = opened;
                    self.cursor_bytes = 0;
                }
            }
            self.head = opened;
        }
        Some(self.segments[self.head as usize].base_ms)
    }

    /// Takes `bytes` at the head for a new live item, whose bytes the caller writes. The head has
    /// them left (`open_head`).
    pub(crate) fn append(&mut self, bytes: usize) -> u64 {
        let offset = self.extend_head(bytes);
        self.live_items += 1;
        self.live_bytes += bytes as u64;
        self.segments[self.head as usize].live_bytes += bytes as u32;
        offset
    }

    /// Marks the item at `offset` dead and frees its pages. The caller sees to its slot.
    pub(crate) fn bury(&mut self, offset: u64, header: &Header, state: State) {
        self.free_pages_of(offset, header);
        self.retire(offset, header, state);
    }

    /// Marks the item at `offset` dead whose pages another item has taken over, or that has none.
    pub(crate) fn retire(&mut self, offset: u64, header: &Header, state: State) {
        let item_bytes = self.item_bytes(header);
        if state != State::Flushed {
            self.live_items -= 1;
            self.live_bytes -= item_bytes as u64;
            self.dead_bytes += item_bytes as u64;
            self.segment_of_mut(offset).live_bytes -= item_bytes as u32;
        }
        item::set_dead(&mut self.bytes[offset as usize..]);
    }

    /// What the cursor stands at. Frees the tail segment if its last item has been passed.
    pub(crate) fn tail(&mut self) -> Tail {
        let Some(tail) = self.segments.get(self.tail as usize) else { return Tail::Empty };
        if self.cursor_bytes < tail.fill_bytes {
            let offset = self.cursor();
            return Tail::Item(offset, self.header(offset));
        }
        let passed = self.tail;
        self.tail = tail.next;
        self.cursor_bytes = 0;
        if self.tail == NO_SEGMENT {
            self.head = NO_SEGMENT;
        }
        self.free_segment(passed);
        Tail::SegmentFreed
    }

    /// The header of the item at `offset` in the tail segment, at or after the cursor. `None` past
    /// the segment's last item.
    pub(crate) fn tail_header(&self, offset: u64) -> Option<Header> {
        let tail = self.segments.get(self.tail as usize)?;
        let start = u64::from(self.tail) << self.segment_shift;
        (offset < start + u64::from(tail.fill_bytes)).then(|| self.header(offset))
    }

    /// Where the cursor stands. Means nothing in an empty log.
    pub(crate) fn cursor(&self) -> u64 {
        (u64::from(self.tail) << self.segment_shift) + u64::from(self.cursor_bytes)
    }

    /// Moves the cursor over a dead item, which leaves the log.
    pub(crate) fn pass_dead(&mut self, header: &Header) {
        let item_bytes = self.item_bytes(header);
        self.dead_bytes -= item_bytes as u64;
        self.cursor_bytes += item_bytes as u32;
    }

    /// Copies key and value (or page numbers) of the item at `source` behind the header of the
    /// new one at `target`, whose body is as long.
    pub(crate) fn copy_body(&mut self, source: u64, old: &Header, target: u64, new: &Header) {
        let start = source as usize + old.header_bytes();
        let end = source as usize + self.item_bytes(old);
        self.bytes.copy_within(start..end, target as usize + new.header_bytes());
    }

    /// Copies the live item at the cursor to the head, moves the cursor over it, and returns its
    /// new offset. The head has its bytes left (`open_head`).
    pub(crate) fn pass_by_copy(&mut self, header: &Header) -> u64 {
        let item_bytes = self.item_bytes(header);
        let source = self.cursor();
        let old_base_ms = self.base_ms(source);
        self.segments[self.tail as usize].live_bytes -= item_bytes as u32;
        self.cursor_bytes += item_bytes as u32;
        let target = self.extend_head(item_bytes);
        let head = &mut self.segments[self.head as usize];
        head.live_bytes += item_bytes as u32;
        let deadline = header.deadline.rebased(old_base_ms, head.base_ms);
        self.bytes.copy_within(source as usize..source as usize + item_bytes, target as usize);
        if deadline != header.deadline {
            item::set_deadline(&mut self.bytes[target as usize..], header, deadline);
        }
        target
    }

    /// Declares every item flushed: O(1). Versions of the counter up to `version_floor` are dead
    /// from now on, and so is everything in the segments written so far (G3).
    pub(crate) fn flush(&mut self, version_floor: u64) {
        self.version_floor = version_floor;
        self.epoch += 1;
        self.live_items = 0;
        self.dead_bytes += self.live_bytes;
        self.live_bytes = 0;
    }

    fn extend_head(&mut self, bytes: usize) -> u64 {
        let segment_bytes = self.segment_bytes();
        let head = &mut self.segments[self.head as usize];
        let start = head.fill_bytes as usize;
        assert!(start + bytes <= segment_bytes, "an item crosses its segment (G1)");
        head.fill_bytes += bytes as u32;
        (u64::from(self.head) << self.segment_shift) + start as u64
    }
}

#[cfg(test)]
mod tests;
