//! What is known of a segment beside its bytes, and the taking and freeing of whole segments.

use super::{Log, Queue};

/// "No segment" in links.
pub(crate) const NO_SEGMENT: u32 = u32::MAX;

/// What a segment is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Free,
    /// Free, and lent to another thread.
    Away,
    /// Items of a queue.
    Log(Queue),
    Pages,
}

/// The side record of a segment: 40 bytes for each 4 to 256 KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// What its live items ahead of the cursor cost; meaningless once the epoch is an older one.
    pub(super) cost: u64,
    /// Bytes of live items ahead of the cursor; meaningless once the epoch is an older one.
    pub(super) live_bytes: u32,
    /// Bytes written.
    pub(super) fill_bytes: u32,
    /// Bytes at the front that a cursor has passed.
    pub(super) passed_bytes: u32,
    /// Bytes behind the last item that nothing will be written to but by the cleaner, where they
    /// are more than an item may leave (`note_slack`).
    pub(super) slack_bytes: u32,
    /// The flushes that there had been when it was opened.
    pub(super) epoch: u32,
    /// The next newer segment of the queue, the next free one, or the next of a page list.
    pub(super) next: u32,
    /// The next older segment of the queue, or the one before in a page list.
    pub(super) previous: u32,
    /// Bit `i` is set when page `i` of a page segment is in use.
    pub(super) pages: u16,
    pub(super) kind: Kind,
}

const _: () = assert!(size_of::<Segment>() <= 40);

impl Segment {
    /// Bytes that no cursor has passed.
    #[inline]
    pub(super) fn left_bytes(&self) -> usize {
        (self.fill_bytes - self.passed_bytes) as usize
    }
}

impl Segment {
    /// A segment that is not used.
    pub(super) const FREE: Segment = Segment {
        cost: 0,
        live_bytes: 0,
        fill_bytes: 0,
        passed_bytes: 0,
        slack_bytes: 0,
        epoch: 0,
        next: NO_SEGMENT,
        previous: NO_SEGMENT,
        pages: 0,
        kind: Kind::Free,
    };
}

impl Log {
    /// Takes a free segment, one that is in memory if there is one.
    pub(super) fn open_segment(&mut self, kind: Kind) -> Option<u32> {
        let opened = Segment { epoch: self.epoch, kind, ..Segment::FREE };
        let index = self.take_free()?;
        self.segments[index as usize] = opened;
        self.in_use += 1;
        Some(index)
    }

    /// Gives a segment back that nothing refers to any more.
    pub(super) fn free_segment(&mut self, index: u32) {
        self.segments[index as usize].kind = Kind::Free;
        self.push_warm(index);
        self.in_use -= 1;
    }

    #[inline]
    pub(super) fn segment_of(&self, offset: u64) -> &Segment {
        &self.segments[(offset >> self.segment_shift) as usize]
    }

    #[inline]
    pub(super) fn segment_of_mut(&mut self, offset: u64) -> &mut Segment {
        &mut self.segments[(offset >> self.segment_shift) as usize]
    }
}
