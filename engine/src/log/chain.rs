//! The queues of the log: chains of segments, and the work at their two ends.

use super::segment::{Kind, Segment};
use super::{Log, NO_SEGMENT, Queue};
use crate::bounds::SLACK_ONE_IN;
use crate::item::Header;

/// One queue: segments linked from the oldest to the youngest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) tail: u32,
    pub(super) head: u32,
    /// What its live items cost.
    pub(super) cost: u64,
}

impl Chain {
    pub(super) const EMPTY: Chain = Chain { tail: NO_SEGMENT, head: NO_SEGMENT, cost: 0 };
}

/// What a cursor stands at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tail {
    /// There is nothing.
    Empty,
    /// A segment was freed; the cursor stands at the next one.
    SegmentFreed,
    /// An item, at this offset.
    Item(u64, Header),
}

impl Log {
    #[inline]
    pub(super) fn chain(&self, queue: Queue) -> &Chain {
        &self.chains[queue as usize]
    }

    #[inline]
    pub(super) fn chain_mut(&mut self, queue: Queue) -> &mut Chain {
        &mut self.chains[queue as usize]
    }

    /// What the live items of a queue cost.
    #[inline]
    pub(crate) fn queue_cost(&self, queue: Queue) -> u64 {
        self.chain(queue).cost
    }

    /// What all live items cost.
    #[inline]
    pub(crate) fn cost(&self) -> u64 {
        self.chains.iter().map(|chain| chain.cost).sum()
    }

    /// The queue of the item at `offset`.
    #[inline]
    pub(crate) fn queue_of(&self, offset: u64) -> Queue {
        match self.segment_of(offset).kind {
            Kind::Log(queue) => queue,
            Kind::Free | Kind::Away | Kind::Pages => {
                unreachable!("an item lies in a segment of a queue")
            }
        }
    }

    /// Free bytes of a queue's head segment. 0 when there is none, or when a flush has closed it.
    #[inline]
    pub(crate) fn head_left_bytes(&self, queue: Queue) -> usize {
        match self.segments.get(self.chain(queue).head as usize) {
            Some(head) if head.epoch == self.epoch => {
                self.segment_bytes() - head.fill_bytes as usize
            }
            _ => 0,
        }
    }

    /// Bytes of a queue's tail segment before its cursor has passed it; 0 when it is the head too.
    #[inline]
    pub(crate) fn tail_left_bytes(&self, queue: Queue) -> usize {
        let chain = self.chain(queue);
        if chain.tail == chain.head {
            return 0;
        }
        self.segments[chain.tail as usize].left_bytes()
    }

    /// Whether a queue's oldest segment was written before the last flush.
    pub(crate) fn tail_is_flushed(&self, queue: Queue) -> bool {
        let tail = self.segments.get(self.chain(queue).tail as usize);
        tail.is_some_and(|tail| tail.epoch != self.epoch)
    }

    /// Makes sure that a queue's head segment has `bytes` left, opening a segment if it must.
    /// `false` when the reservation has no free segment.
    pub(crate) fn open_head(&mut self, queue: Queue, bytes: usize) -> bool {
        debug_assert!(bytes <= self.segment_bytes());
        if self.chain(queue).head == NO_SEGMENT || self.head_left_bytes(queue) < bytes {
            let Some(opened) = self.open_segment(Kind::Log(queue)) else { return false };
            self.link_head(queue, opened);
        }
        true
    }

    /// Takes `bytes` at a queue's head for a new live item that costs `cost`, whose bytes the
    /// caller writes. The head has them left (`open_head`).
    pub(crate) fn append(&mut self, queue: Queue, bytes: usize, cost: u64) -> u64 {
        self.live_items += 1;
        self.live_bytes += bytes as u64;
        self.extend(self.chain(queue).head, bytes, cost)
    }

    /// What a queue's cursor stands at. Frees the tail segment if its last item has been passed.
    pub(crate) fn tail(&mut self, queue: Queue) -> Tail {
        let index = self.chain(queue).tail;
        let Some(tail) = self.segments.get(index as usize) else { return Tail::Empty };
        if tail.left_bytes() > 0 {
            let offset = self.start_of(index) + u64::from(tail.passed_bytes);
            return Tail::Item(offset, self.header(offset));
        }
        self.unlink(index);
        Tail::SegmentFreed
    }

    /// The header of the item at `offset`, which is at or after a queue's cursor and in its tail
    /// segment. `None` past the segment's last item.
    pub(crate) fn tail_header(&self, queue: Queue, offset: u64) -> Option<Header> {
        let index = self.chain(queue).tail;
        let tail = self.segments.get(index as usize)?;
        (offset < self.start_of(index) + u64::from(tail.fill_bytes)).then(|| self.header(offset))
    }

    /// Where a queue's cursor stands. Means nothing in an empty queue.
    pub(crate) fn cursor(&self, queue: Queue) -> u64 {
        let index = self.chain(queue).tail;
        let passed_bytes = self.segments.get(index as usize).map_or(0, |tail| tail.passed_bytes);
        self.start_of(index) + u64::from(passed_bytes)
    }

    /// Moves the cursor of a segment over a dead item, which leaves the log.
    pub(crate) fn pass_dead(&mut self, offset: u64, header: &Header) {
        let item_bytes = self.item_bytes(header);
        self.dead_bytes -= item_bytes as u64;
        self.segment_of_mut(offset).passed_bytes += item_bytes as u32;
    }

    /// Copies the live item at `offset`, where a cursor stands, to the head of `to`, moves the
    /// cursor over it, and returns its new offset. The head has room for it (`open_head`).
    pub(crate) fn pass_by_copy(&mut self, offset: u64, header: &Header, to: Queue) -> u64 {
        self.pass_into(offset, header, self.chain(to).head)
    }

    /// As `pass_by_copy`, to the end of a segment with room.
    pub(super) fn pass_into(&mut self, source: u64, header: &Header, target: u32) -> u64 {
        let item_bytes = self.item_bytes(header);
        let cost = self.cost_of(header);
        let from = self.queue_of(source);
        self.chain_mut(from).cost -= cost;
        let segment = self.segment_of_mut(source);
        segment.live_bytes -= item_bytes as u32;
        segment.cost -= cost;
        segment.passed_bytes += item_bytes as u32;
        let target = self.extend(target, item_bytes, cost);
        self.bytes.copy_within(source as usize..source as usize + item_bytes, target as usize);
        target
    }

    /// Moves the whole tail segment of `from` to the young end of `to`, if it is not its head, is
    /// as it was written, and costs at most `cost_max`. Returns whether it did. No item moves.
    pub(crate) fn relabel_tail(&mut self, from: Queue, to: Queue, cost_max: u64) -> bool {
        let chain = self.chain(from);
        let index = chain.tail;
        if index == chain.head {
            return false;
        }
        let Segment { epoch, passed_bytes, cost, .. } = self.segments[index as usize];
        if epoch != self.epoch || passed_bytes > 0 || cost > cost_max {
            return false;
        }
        self.chain_mut(from).cost -= cost;
        self.chain_mut(to).cost += cost;
        self.unhook(index);
        self.segments[index as usize].kind = Kind::Log(to);
        // A head with room stays the head, so that its room is not lost.
        match self.chain(to).head {
            NO_SEGMENT => self.link_head(to, index),
            head => self.link_before(index, head),
        }
        true
    }

    /// Frees a segment of a queue that nothing refers to any more.
    pub(super) fn unlink(&mut self, index: u32) {
        self.dead_bytes -= self.segments[index as usize].left_bytes() as u64;
        self.leave_hand(index);
        self.unhook(index);
        self.free_segment(index);
    }

    /// Links a segment before (on the older side of) another of the same queue.
    pub(super) fn link_before(&mut self, index: u32, younger: u32) {
        let short_bytes = self.segment_bytes() / SLACK_ONE_IN;
        let older = self.segments[younger as usize].previous;
        self.segments[index as usize].previous = older;
        self.segments[index as usize].next = younger;
        self.segments[younger as usize].previous = index;
        match self.segments.get_mut(older as usize) {
            Some(older) => older.next = index,
            None => {
                let queue = self.queue_of(self.start_of(younger));
                self.chain_mut(queue).tail = index;
            }
        }
        self.note_slack(index, short_bytes);
    }

    /// Counts what a segment has left for the cleaner to fill: nothing while it is a head, and
    /// nothing up to `short_bytes`, which may have been too short for the next item.
    pub(super) fn note_slack(&mut self, index: u32, short_bytes: usize) {
        let segment_bytes = self.segment_bytes();
        let segment = &mut self.segments[index as usize];
        let left_bytes = segment_bytes as u32 - segment.fill_bytes;
        let is_inside = segment.next != NO_SEGMENT && matches!(segment.kind, Kind::Log(_));
        let counts = is_inside && left_bytes as usize > short_bytes;
        let slack_bytes = if counts { left_bytes } else { 0 };
        let before = std::mem::replace(&mut segment.slack_bytes, slack_bytes);
        self.slack_bytes += u64::from(slack_bytes);
        self.slack_bytes -= u64::from(before);
    }

    /// Links a segment as a queue's head.
    fn link_head(&mut self, queue: Queue, index: u32) {
        let head = std::mem::replace(&mut self.chain_mut(queue).head, index);
        self.segments[index as usize].previous = head;
        self.segments[index as usize].next = NO_SEGMENT;
        match self.segments.get_mut(head as usize) {
            Some(before) => {
                before.next = index;
                self.note_slack(head, self.segment_bytes() / SLACK_ONE_IN);
            }
            None => self.chain_mut(queue).tail = index,
        }
    }

    /// Takes a segment out of its queue's chain.
    fn unhook(&mut self, index: u32) {
        let queue = self.queue_of(self.start_of(index));
        let short_bytes = self.segment_bytes() / SLACK_ONE_IN;
        let segment = self.segments[index as usize];
        match self.segments.get_mut(segment.previous as usize) {
            Some(older) => older.next = segment.next,
            None => self.chain_mut(queue).tail = segment.next,
        }
        match self.segments.get_mut(segment.next as usize) {
            Some(younger) => younger.previous = segment.previous,
            None => self.chain_mut(queue).head = segment.previous,
        }
        self.segments[index as usize].next = NO_SEGMENT;
        self.note_slack(index, short_bytes);
        if segment.next == NO_SEGMENT && segment.previous != NO_SEGMENT {
            self.note_slack(segment.previous, short_bytes);
        }
    }

    /// Takes `bytes` at the end of a segment for a live item.
    fn extend(&mut self, index: u32, bytes: usize, cost: u64) -> u64 {
        let segment_bytes = self.segment_bytes();
        let segment = &mut self.segments[index as usize];
        let start = segment.fill_bytes as usize;
        assert!(start + bytes <= segment_bytes, "an item crosses its segment (G1)");
        segment.fill_bytes += bytes as u32;
        segment.live_bytes += bytes as u32;
        segment.cost += cost;
        let offset = self.start_of(index) + start as u64;
        let queue = self.queue_of(offset);
        self.chain_mut(queue).cost += cost;
        offset
    }

    /// The offset of a segment's first byte.
    #[inline]
    pub(super) fn start_of(&self, index: u32) -> u64 {
        u64::from(index) << self.segment_shift
    }
}
