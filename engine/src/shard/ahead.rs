//! The items next to the tail cursor: their hashes, taken before the cursor comes to them.
//!
//! A tail step reads the table line of a random bucket. Taking the hashes of the next few items
//! early lets those lines come while other work goes on. An entry stays true until the cursor has
//! passed its item, as an item ahead of the cursor neither moves nor changes its key; it may die,
//! and then the step sees its dead bit.

use crate::bounds::ITEMS_AHEAD;
use crate::hash::KeyHash;

/// A queue of the next items of the tail segment, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    /// Offsets, and hashes where the items were not dead already.
    items: [(u64, Option<KeyHash>); ITEMS_AHEAD],
    first: usize,
    count: usize,
    /// The offset after the last item.
    end_offset: u64,
}

const _: () = assert!(ITEMS_AHEAD.is_power_of_two());

impl Ahead {
    /// Forgets all: the cursor has left the segment.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == ITEMS_AHEAD
    }

    /// Where the next item to push lies; `None` when the queue is empty.
    pub(super) fn next_offset(&self) -> Option<u64> {
        (self.count > 0).then_some(self.end_offset)
    }

    /// Adds the item at `offset`. The queue is not full.
    pub(super) fn push(&mut self, offset: u64, hash: Option<KeyHash>, item_bytes: usize) {
        debug_assert!(!self.is_full());
        self.items[(self.first + self.count) % ITEMS_AHEAD] = (offset, hash);
        self.count += 1;
        self.end_offset = offset + item_bytes as u64;
    }

    /// The hash of the item at `offset`, which the cursor has come to, if that is known.
    pub(super) fn peek(&self, offset: u64) -> Option<KeyHash> {
        let (first_offset, hash) = self.items[self.first];
        if self.count > 0 && first_offset == offset { hash } else { None }
    }

    /// Removes the item at `offset`, which the cursor has passed.
    pub(super) fn passed(&mut self, offset: u64) {
        if self.count > 0 {
            debug_assert_eq!(self.items[self.first].0, offset, "the cursor passes items in order");
            self.first = (self.first + 1) % ITEMS_AHEAD;
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_in_order_and_a_cleared_queue_is_empty() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.peek(7), None);
        let hash = |offset: u64| (!offset.is_multiple_of(3)).then(|| KeyHash::from_bits(offset));
        let mut taken = 0;
        for offset in 0..30 {
            ahead.push(offset * 10, hash(offset), 10);
            assert_eq!(ahead.next_offset(), Some(offset * 10 + 10));
            if ahead.is_full() {
                assert_eq!(ahead.peek(taken * 10), hash(taken));
                assert_eq!(ahead.peek(taken * 10 + 1), None);
                ahead.passed(taken * 10);
                taken += 1;
            }
        }
        ahead.clear();
        assert_eq!(ahead.next_offset(), None);
        assert_eq!(ahead.peek(5), None);
    }
}
