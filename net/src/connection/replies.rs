//! A connection's output: replies in the order of their commands, whenever they become known.
//!
//! Most commands are answered in the turn that reads them, straight into `ready`. A command that
//! is answered later takes a *ticket*; replies of the commands behind it wait in its `after`, so
//! the order on the wire never changes:
//!
//! ```text
//! ready: "+OK\r\n$1\r\na\r\n"   blocked: [ticket 7: unknown, after ":1\r\n"] [ticket 8: ...]
//! ```
//!
//! A reply may also *refer* to a large value: the value stays in the shard's pages, pinned, and is
//! copied piece by piece, a send at a time (`fill`). What follows it waits in its `after`, too. So
//! a client that does not read holds a pin and not a copy.
//!
//! Invariants:
//! - I1. `ready` holds only bytes that nothing unknown and no value precedes.
//! - I2. The front of `blocked` is always unknown, or a value that is not wholly copied; resolving
//!   or copying it moves everything up to the next such one into `ready`.
//! - I3. `fill` lets `ready` grow by no more than a send and what waits behind a value, which
//!   `OUTPUT_BYTES_HIGH` bounds.
//!
//! Deferring and referring allocate; answering at once does not.

use std::collections::VecDeque;

use pinion_engine::{PinnedValue, Shard};

use crate::core::limits::DEFERRED_REPLY_BYTES;

/// Names a deferred reply within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// What a reply is, or will be.
#[derive(Debug)]
enum Part {
    Unknown,
    Known(Vec<u8>),
    Value { pinned: PinnedValue, copied_bytes: usize },
}

#[derive(Debug)]
struct Blocked {
    /// In ascending order. Tickets are even; values stand behind a ticket, and have odd numbers.
    number: u64,
    part: Part,
    after: Vec<u8>,
}

impl Blocked {
    fn held_bytes(&self) -> usize {
        self.after.len()
            + match &self.part {
                Part::Unknown => DEFERRED_REPLY_BYTES,
                Part::Known(bytes) => bytes.len(),
                Part::Value { pinned, copied_bytes } => pinned.len() - copied_bytes,
            }
    }

    fn capacity_bytes(&self) -> usize {
        self.after.capacity()
            + match &self.part {
                Part::Unknown => DEFERRED_REPLY_BYTES,
                Part::Known(bytes) => bytes.capacity(),
                Part::Value { .. } => size_of::<Blocked>(),
            }
    }
}

/// The output of one connection.
#[derive(Debug, Default)]
pub struct Replies {
    ready: Vec<u8>,
    blocked: VecDeque<Blocked>,
    /// The next ticket.
    next: u64,
}

impl Replies {
    /// Where the next command's reply goes, when it is answered now.
    pub fn writer(&mut self) -> &mut Vec<u8> {
        match self.blocked.back_mut() {
            None => &mut self.ready,
            Some(blocked) => &mut blocked.after,
        }
    }

    /// Takes a ticket for the next command's reply.
    pub fn defer(&mut self) -> Ticket {
        let number = self.next;
        self.next += 2;
        self.blocked.push_back(Blocked { number, part: Part::Unknown, after: Vec::new() });
        Ticket(number)
    }

    /// Gives the reply for a ticket. One that is unknown (given twice) is ignored.
    pub fn resolve(&mut self, ticket: Ticket, reply: Vec<u8>) {
        if let Some(index) = self.index_of(ticket)
            && matches!(self.blocked[index].part, Part::Unknown)
        {
            self.blocked[index].part = Part::Known(reply);
            self.advance();
        }
    }

    fn index_of(&self, ticket: Ticket) -> Option<usize> {
        self.blocked.binary_search_by_key(&ticket.0, |blocked| blocked.number).ok()
    }

    /// Gives the reply for a ticket, which refers to values as [`Replies::refer`] says, each at an
    /// index of `reply`. If nobody waits for it any more, the values stay where they are.
    pub fn resolve_with(
        &mut self,
        ticket: Ticket,
        mut reply: Vec<u8>,
        values: &mut Vec<(usize, PinnedValue)>,
    ) {
        let Some(index) = self.index_of(ticket) else { return };
        let mut after = std::mem::take(&mut self.blocked[index].after);
        for (at, pinned) in values.drain(..).rev() {
            let mut follows = reply.split_off(at);
            follows.append(&mut after);
            let part = Part::Value { pinned, copied_bytes: 0 };
            let number = ticket.0 + 1;
            self.blocked.insert(index + 1, Blocked { number, part, after: follows });
        }
        self.blocked[index].after = after;
        self.resolve(ticket, reply);
    }

    /// Moves what is known at the front of `blocked` into `ready` (I2).
    fn advance(&mut self) {
        while let Some(Blocked { part: Part::Known(_), .. }) = self.blocked.front() {
            if let Some(Blocked { part: Part::Known(reply), after, .. }) = self.blocked.pop_front()
            {
                self.ready.extend_from_slice(&reply);
                self.ready.extend_from_slice(&after);
            }
        }
    }

    /// Lets the reply that was just written to [`Replies::writer`] refer to values, each at an
    /// index of the writer's buffer, in ascending order.
    pub fn refer(&mut self, values: &mut Vec<(usize, PinnedValue)>) {
        let mut parts = Vec::with_capacity(values.len());
        for (at, pinned) in values.drain(..).rev() {
            let after = self.writer().split_off(at);
            let part = Part::Value { pinned, copied_bytes: 0 };
            parts.push(Blocked { number: self.next + 1, part, after });
        }
        self.next += 2;
        self.blocked.extend(parts.into_iter().rev());
    }

    /// Whether `fill` has something to copy.
    pub fn may_fill(&self) -> bool {
        matches!(self.blocked.front(), Some(Blocked { part: Part::Value { .. }, .. }))
    }

    /// Copies pieces of values to `ready`, until that holds `bytes_max` bytes or something unknown
    /// comes. Returns the bytes copied from values.
    pub fn fill(&mut self, shard: &mut Shard, bytes_max: usize) -> usize {
        let mut total_bytes = 0;
        while let Some(Blocked { part: Part::Value { pinned, copied_bytes }, .. }) =
            self.blocked.front_mut()
        {
            let room = bytes_max.saturating_sub(self.ready.len());
            if room == 0 {
                break;
            }
            let chunk = shard.pinned_chunk(pinned, *copied_bytes);
            let chunk = &chunk[..chunk.len().min(room)];
            self.ready.extend_from_slice(chunk);
            *copied_bytes += chunk.len();
            total_bytes += chunk.len();
            if *copied_bytes == pinned.len() {
                if let Some(Blocked { part: Part::Value { pinned, .. }, after, .. }) =
                    self.blocked.pop_front()
                {
                    shard.unpin(pinned);
                    self.ready.extend_from_slice(&after);
                }
                self.advance();
            }
        }
        total_bytes
    }

    /// Lets go of all values; nothing more is sent.
    pub fn release(&mut self, shard: &mut Shard) {
        for blocked in self.blocked.drain(..) {
            if let Part::Value { pinned, .. } = blocked.part {
                shard.unpin(pinned);
            }
        }
    }

    /// Whether replies are outstanding.
    pub fn outstanding(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// How many replies are outstanding.
    pub fn outstanding_count(&self) -> usize {
        self.blocked.len()
    }

    /// How many bytes may be sent now,
    pub fn ready_bytes(&self) -> usize {
        self.ready.len()
    }

    /// and how many their buffer has room for.
    pub fn ready_capacity(&self) -> usize {
        self.ready.capacity()
    }

    /// Bytes that may be sent now.
    pub fn ready(&mut self) -> &mut Vec<u8> {
        &mut self.ready
    }

    /// Bytes that are to be sent: ready, behind an outstanding reply, or in values; an outstanding
    /// reply counts as [`DEFERRED_REPLY_BYTES`], so that questions do not pile up.
    pub fn held_bytes(&self) -> usize {
        if self.blocked.is_empty() {
            return self.ready.len();
        }
        self.ready.len() + self.blocked.iter().map(Blocked::held_bytes).sum::<usize>()
    }

    /// Memory taken in all, with an estimate for outstanding replies. Values are not here.
    #[inline]
    pub fn capacity_bytes(&self) -> usize {
        if self.blocked.is_empty() {
            return self.ready.capacity();
        }
        self.ready.capacity() + self.blocked.iter().map(Blocked::capacity_bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_the_order_of_their_commands() {
        let mut replies = Replies::default();
        replies.writer().extend_from_slice(b"a");
        let first = replies.defer();
        replies.writer().extend_from_slice(b"c");
        let second = replies.defer();
        replies.writer().extend_from_slice(b"e");
        assert_eq!(replies.held_bytes(), 3 + 2 * DEFERRED_REPLY_BYTES);
        assert_eq!(replies.ready().as_slice(), b"a");
        replies.resolve(second, b"d".to_vec());
        assert!(replies.outstanding());
        assert_eq!(replies.ready().as_slice(), b"a");
        replies.resolve(first, b"b".to_vec());
        assert!(!replies.outstanding());
        replies.writer().extend_from_slice(b"f");
        assert_eq!(replies.ready().as_slice(), b"abcdef");
        replies.resolve(first, b"twice".to_vec());
        assert_eq!(replies.held_bytes(), 6);
    }

    #[test]
    fn values_are_copied_in_pieces_and_in_their_order() {
        let mut shard = Shard::new(&pinion_engine::ShardConfig::default()).expect("memory");
        let value: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let hash = shard.hash(b"k");
        shard.set(hash, b"k", &value, &Default::default(), 0).expect("room");
        let mut pin = || shard.pin(hash, b"k", 0).expect("within bounds").expect("large");
        let (first, second, third) = (pin(), pin(), pin());
        let mut replies = Replies::default();
        replies.writer().extend_from_slice(b"<a><b>");
        replies.refer(&mut vec![(3, first), (6, second)]);
        replies.writer().extend_from_slice(b"<c>");
        let ticket = replies.defer();
        replies.writer().extend_from_slice(b"<e><f>");
        replies.refer(&mut vec![(3, third)]);
        assert_eq!(replies.held_bytes(), 300_000 + 5 * 3 + DEFERRED_REPLY_BYTES);
        shard.delete(hash, b"k", None, 0);
        let mut sent = Vec::new();
        while replies.may_fill() {
            replies.fill(&mut shard, 30_000);
            assert!(replies.ready().len() <= 30_006);
            sent.append(replies.ready());
        }
        let mut expected = [b"<a>", &value[..], b"<b>", &value[..], b"<c>"].concat();
        assert!(sent == expected);
        replies.resolve(ticket, b"<d>".to_vec());
        replies.fill(&mut shard, usize::MAX);
        sent.append(replies.ready());
        expected.extend_from_slice(&[b"<d><e>", &value[..], b"<f>"].concat());
        assert!(sent == expected && !replies.outstanding());
        assert_eq!(shard.stats().page_bytes, 0);
    }

    #[test]
    fn a_connection_that_ends_lets_go_of_its_values() {
        let mut shard = Shard::new(&pinion_engine::ShardConfig::default()).expect("memory");
        let hash = shard.hash(b"k");
        shard.set(hash, b"k", &[1; 50_000], &Default::default(), 0).expect("room");
        let pinned = shard.pin(hash, b"k", 0).expect("within bounds").expect("large");
        let mut replies = Replies::default();
        replies.refer(&mut vec![(0, pinned)]);
        replies.release(&mut shard);
        assert_eq!((shard.stats().pinned_bytes, replies.outstanding()), (0, false));
    }

    #[test]
    fn any_order_of_resolving_gives_the_same_bytes() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut replies = Replies::default();
            let tickets: Vec<Ticket> = (0..3u8)
                .map(|i| {
                    let ticket = replies.defer();
                    replies.writer().push(b'x' + i);
                    ticket
                })
                .collect();
            for index in order {
                replies.resolve(tickets[index], vec![b'0' + index as u8]);
            }
            assert_eq!(replies.ready().as_slice(), b"0x1y2z", "{order:?}");
        }
    }
}
