//! The cleaner: takes back the holes that overwrites, deletes and expiry leave in the log.
//!
//! A hand goes round the queues from the oldest segment to the youngest. A segment with its share
//! of the garbage is emptied item by item, in order, to the end of the segment before it, or, when
//! that is full, of a fresh one between the two. So every item keeps its place in its queue, and a
//! segment that is being emptied is at each step a valid part of it.
//!
//! - H1. The hand's segment is one of a queue and not its head; or there is none.
//!
//! Cost: a step examines at most 64 segments or one item. A segment of which one part in `n` is
//! garbage costs `n - 1` bytes copied for each byte gained.

use super::segment::Kind;
use super::{Log, NO_SEGMENT, Queue};
use crate::bounds::{CLEANED_SLACK_ONE_IN, HAND_LOOKS, SLACK_ONE_IN};
use crate::item::Header;

/// What the cleaner stands at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cleaning {
    /// No segment is worth it, among those that were looked at.
    Nothing,
    /// It went on to another segment, or freed one.
    Moved,
    /// An item, at this offset.
    Item(u64, Header),
}

impl Log {
    /// What the hand stands at. Frees a segment that it has emptied, and goes on; to the tail of a
    /// queue only if no cursor will come there (`tails`).
    pub(crate) fn clean(&mut self, tails: bool) -> Cleaning {
        let Some(segment) = self.segments.get(self.hand as usize) else {
            return self.move_hand(tails);
        };
        if segment.left_bytes() > 0 {
            let offset = self.start_of(self.hand) + u64::from(segment.passed_bytes);
            return Cleaning::Item(offset, self.header(offset));
        }
        self.unlink(self.hand);
        Cleaning::Moved
    }

    /// Copies the live item at the hand behind its predecessor, and returns its new offset. `None`
    /// when that needs a free segment and there is none (`may_open`, or in the reservation).
    pub(crate) fn clean_copy(
        &mut self,
        offset: u64,
        header: &Header,
        may_open: bool,
    ) -> Option<u64> {
        let before = self.segments[self.hand as usize].previous;
        let item_bytes = self.item_bytes(header);
        let has_room = self.segments.get(before as usize).is_some_and(|target| {
            target.epoch == self.epoch
                && self.segment_bytes() - target.fill_bytes as usize >= item_bytes
        });
        if has_room {
            let target = self.pass_into(offset, header, before);
            self.note_slack(before, self.cleaned_short_bytes());
            return Some(target);
        }
        if !may_open {
            return None;
        }
        if before != NO_SEGMENT {
            // What this item did not fit into is not worth another try.
            self.note_slack(before, self.segment_bytes() / SLACK_ONE_IN);
        }
        let kind = self.segments[self.hand as usize].kind;
        let fresh = self.open_segment(kind)?;
        self.link_before(fresh, self.hand);
        let target = self.pass_into(offset, header, fresh);
        self.note_slack(fresh, self.cleaned_short_bytes());
        Some(target)
    }

    /// Room that is too short to count where the cleaner stops: it goes on in there, unless the
    /// next item does not fit.
    fn cleaned_short_bytes(&self) -> usize {
        self.segment_bytes() / CLEANED_SLACK_ONE_IN
    }

    /// Whether the hand is at the tail segment of `queue`.
    pub(crate) fn cleans_tail(&self, queue: Queue) -> bool {
        self.hand != NO_SEGMENT && self.hand == self.chain(queue).tail
    }

    /// Moves the hand off a segment that is about to go.
    pub(super) fn leave_hand(&mut self, index: u32) {
        if self.hand == index {
            self.hand = NO_SEGMENT;
            self.resume = self.segments[index as usize].next;
        }
    }

    /// Looks for the next segment worth cleaning.
    fn move_hand(&mut self, tails: bool) -> Cleaning {
        let mut index = self.resume;
        for _ in 0..HAND_LOOKS {
            index = match self.segments.get(index as usize) {
                Some(segment) if matches!(segment.kind, Kind::Log(_)) => index,
                _ => self.next_tail(),
            };
            let Some(segment) = self.segments.get(index as usize) else {
                return Cleaning::Nothing;
            };
            let next = segment.next;
            let is_inside = next != NO_SEGMENT && (tails || segment.previous != NO_SEGMENT);
            if is_inside && self.is_dirty(index) {
                self.hand = index;
                self.resume = next;
                return Cleaning::Moved;
            }
            index = next;
        }
        self.resume = index;
        Cleaning::Nothing
    }

    /// Bytes that the cleaner has gained of a segment that is not free yet, with the room that it
    /// has left for the rest of it.
    pub(crate) fn cleaned_bytes(&self) -> usize {
        let Some(segment) = self.segments.get(self.hand as usize) else { return 0 };
        match self.segments.get(segment.previous as usize) {
            Some(target) if target.epoch == self.epoch => {
                self.segment_bytes() - target.fill_bytes as usize + segment.passed_bytes as usize
            }
            _ => 0,
        }
    }

    /// Bytes that the cleaner can gain: dead ones, and room that segments have left.
    pub(crate) fn garbage_bytes(&self) -> u64 {
        self.dead_bytes + self.slack_bytes
    }

    /// Whether a segment, and the room before it, have at least half their share of the garbage.
    fn is_dirty(&self, index: u32) -> bool {
        let segment = &self.segments[index as usize];
        let live_bytes = if segment.epoch == self.epoch { segment.live_bytes as usize } else { 0 };
        let before = self.segments.get(segment.previous as usize);
        let slack_bytes = before.map_or(0, |before| before.slack_bytes as usize);
        let garbage_bytes = (segment.left_bytes() - live_bytes + slack_bytes) as u64;
        garbage_bytes > 0 && garbage_bytes * 2 * self.in_use as u64 >= self.garbage_bytes()
    }

    /// The tail of the next queue in turn that has one.
    fn next_tail(&mut self) -> u32 {
        for _ in Queue::ALL {
            self.resume_queue = (self.resume_queue + 1) % Queue::ALL.len();
            let tail = self.chains[self.resume_queue].tail;
            if tail != NO_SEGMENT {
                return tail;
            }
        }
        NO_SEGMENT
    }
}
