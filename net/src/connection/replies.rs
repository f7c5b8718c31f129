//! A connection's output: replies in the order of their commands, whenever they become known.
//!
//! Most commands are answered in the turn that reads them, straight into `ready`. A command that
//! is answered later takes a *ticket*; what is written behind it collects in `tail`, and the
//! ticket remembers where in it its reply belongs, so the order on the wire never changes:
//!
//! ```text
//! ready: "+OK\r\n$1\r\na\r\n"   tail: ":1\r\n:2\r\n"   blocked: [ticket 8 at 0] [ticket 10 at 4]
//! ```
//!
//! A reply may also *refer* to a large value: the value stays in the shard's pages, pinned, and is
//! copied piece by piece, a send at a time (`fill`). What follows it waits in `tail`, too. So a
//! client that does not read holds a pin and not a copy.
//!
//! Invariants:
//! - I1. `ready` holds only bytes that nothing unknown and no value precedes.
//! - I2. The front of `blocked` is always unknown, or a value that is not wholly copied; resolving
//!   or copying it moves everything up to the next such one into `ready`.
//! - I3. `fill` lets `ready` grow by no more than a send and what waits behind a value, which
//!   `OUTPUT_BYTES_HIGH` bounds.
//! - I4. The places of `blocked` ascend, and that of its front is `moved`: what `tail` holds before
//!   it has gone to `ready`. Without anything blocked, `tail` is empty.
//!
//! Cost: answering at once does not allocate, nor does answering for the first ticket; an answer
//! for a later one is kept until those before it have come. Sums are kept up to date, so that no
//! command walks over what is outstanding.

use std::collections::VecDeque;

use pinion_engine::{PinnedValue, Shard};

use crate::core::limits::{CROSSED_REPLY_BYTES, DEFERRED_REPLY_BYTES, TAIL_MOVED_BYTES_MAX};

/// Names a deferred reply within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket as a number that may cross to another core,
    pub fn number(self) -> u64 {
        self.0
    }

    /// and back.
    pub fn from_number(number: u64) -> Ticket {
        Ticket(number)
    }
}

/// What a reply is, or will be.
#[derive(Debug)]
enum Part {
    Unknown {
        expected_bytes: u32,
    },
    Known(Vec<u8>),
    Value {
        pinned: PinnedValue,
        copied_bytes: usize,
    },
    /// Another core has it under a number, and hands it out in pieces.
    Lent {
        core: u16,
        number: u64,
        left_bytes: usize,
        is_asked: bool,
    },
}

impl Part {
    fn held_bytes(&self) -> usize {
        match self {
            Part::Unknown { expected_bytes } => *expected_bytes as usize,
            Part::Known(bytes) => bytes.len(),
            Part::Value { pinned, copied_bytes } => pinned.len() - copied_bytes,
            Part::Lent { left_bytes, .. } => *left_bytes,
        }
    }

    fn capacity_bytes(&self) -> usize {
        match self {
            Part::Unknown { expected_bytes } => *expected_bytes as usize,
            Part::Known(bytes) => bytes.capacity(),
            Part::Value { .. } | Part::Lent { .. } => size_of::<Blocked>(),
        }
    }
}

#[derive(Debug)]
struct Blocked {
    /// In ascending order. Tickets are even; values stand behind a ticket, and have odd numbers.
    number: u64,
    /// Where in `tail` it belongs.
    at: usize,
    part: Part,
}

/// The output of one connection.
#[derive(Debug, Default)]
pub struct Replies {
    ready: Vec<u8>,
    tail: Vec<u8>,
    /// Bytes at the front of `tail` that are in `ready`.
    moved: usize,
    blocked: VecDeque<Blocked>,
    /// The next ticket.
    next: u64,
    /// Sums over `blocked`.
    parts_held_bytes: usize,
    parts_capacity_bytes: usize,
}

impl Replies {
    /// Where the next command's reply goes, when it is answered now.
    #[inline]
    pub fn writer(&mut self) -> &mut Vec<u8> {
        if self.blocked.is_empty() { &mut self.ready } else { &mut self.tail }
    }

    /// Takes a ticket for the next command's reply.
    pub fn defer(&mut self) -> Ticket {
        self.defer_bytes(DEFERRED_REPLY_BYTES)
    }

    /// The same, for a command that crosses to another core: these are many, and most replies are
    /// short.
    #[inline]
    pub fn defer_crossed(&mut self) -> Ticket {
        self.defer_bytes(CROSSED_REPLY_BYTES)
    }

    fn defer_bytes(&mut self, expected_bytes: usize) -> Ticket {
        let number = self.next;
        self.next += 2;
        let part = Part::Unknown { expected_bytes: expected_bytes as u32 };
        let at = self.tail.len();
        self.count_in(&part);
        self.blocked.push_back(Blocked { number, at, part });
        Ticket(number)
    }

    fn count_in(&mut self, part: &Part) {
        self.parts_held_bytes += part.held_bytes();
        self.parts_capacity_bytes += part.capacity_bytes();
    }

    fn count_out(&mut self, part: &Part) {
        self.parts_held_bytes -= part.held_bytes();
        self.parts_capacity_bytes -= part.capacity_bytes();
    }

    /// Gives the reply for a ticket. One that is unknown (given twice) is ignored.
    pub fn resolve(&mut self, ticket: Ticket, reply: Vec<u8>) {
        if self.is_first(ticket) {
            return self.resolve_first(&reply);
        }
        if let Some(index) = self.index_of(ticket) {
            let part = Part::Known(reply);
            self.count_in(&part);
            let before = std::mem::replace(&mut self.blocked[index].part, part);
            self.count_out(&before);
        }
    }

    /// The same, for a reply that is somewhere else.
    #[inline]
    pub fn resolve_slice(&mut self, ticket: Ticket, reply: &[u8]) {
        if self.is_first(ticket) {
            self.resolve_first(reply);
        } else {
            self.resolve(ticket, reply.to_vec());
        }
    }

    /// Whether nothing but the reply for this ticket holds back what is behind it.
    #[inline]
    fn is_first(&self, ticket: Ticket) -> bool {
        self.blocked.front().is_some_and(|first| {
            first.number == ticket.0 && matches!(first.part, Part::Unknown { .. })
        })
    }

    #[inline]
    fn resolve_first(&mut self, reply: &[u8]) {
        if let Some(first) = self.blocked.pop_front() {
            self.count_out(&first.part);
            self.ready.extend_from_slice(reply);
            self.move_tail();
            self.advance();
        }
    }

    /// Where the ticket is, if its reply is unknown.
    fn index_of(&self, ticket: Ticket) -> Option<usize> {
        let index = self.blocked.binary_search_by_key(&ticket.0, |blocked| blocked.number).ok()?;
        matches!(self.blocked[index].part, Part::Unknown { .. }).then_some(index)
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
        let (at, number) = (self.blocked[index].at, ticket.0 + 1);
        for (from, pinned) in values.drain(..).rev() {
            let follows = reply.split_off(from);
            for part in [Part::Known(follows), Part::Value { pinned, copied_bytes: 0 }] {
                self.count_in(&part);
                self.blocked.insert(index + 1, Blocked { number, at, part });
            }
        }
        self.resolve(ticket, reply);
    }

    /// Tells that another core has the reply for a ticket under a number, `bytes` long.
    pub fn lend(&mut self, ticket: Ticket, core: u16, number: u64, bytes: usize) {
        if let Some(index) = self.index_of(ticket) {
            let part = Part::Lent { core, number, left_bytes: bytes, is_asked: false };
            self.count_in(&part);
            let before = std::mem::replace(&mut self.blocked[index].part, part);
            self.count_out(&before);
        }
    }

    /// The core, number and ticket of the reply that is to be sent next, if a piece of it is to be
    /// asked for.
    #[inline]
    pub fn wanted_piece(&self) -> Option<(u16, u64, Ticket)> {
        match self.blocked.front()? {
            &Blocked {
                number: ticket,
                part: Part::Lent { core, number, is_asked: false, .. },
                ..
            } => Some((core, number, Ticket(ticket))),
            _ => None,
        }
    }

    /// Tells that the piece was asked for.
    pub fn piece_asked(&mut self) {
        if let Some(Blocked { part: Part::Lent { is_asked, .. }, .. }) = self.blocked.front_mut() {
            *is_asked = true;
        }
    }

    /// Takes a piece of the reply that is sent next.
    pub fn piece(&mut self, ticket: Ticket, bytes: &[u8]) {
        let Some(Blocked { number, part: Part::Lent { left_bytes, is_asked, .. }, .. }) =
            self.blocked.front_mut()
        else {
            return;
        };
        if *number != ticket.0 {
            return;
        }
        let taken = bytes.len().min(*left_bytes);
        *left_bytes -= taken;
        *is_asked = false;
        let is_whole = *left_bytes == 0;
        self.parts_held_bytes -= taken;
        self.ready.extend_from_slice(bytes);
        if is_whole {
            if let Some(Blocked { part, .. }) = self.blocked.pop_front() {
                self.count_out(&part);
            }
            self.move_tail();
            self.advance();
        }
    }

    /// Moves what is known at the front of `blocked` into `ready` (I2).
    fn advance(&mut self) {
        while let Some(Blocked { part: Part::Known(_), .. }) = self.blocked.front() {
            if let Some(Blocked { part, .. }) = self.blocked.pop_front() {
                self.count_out(&part);
                if let Part::Known(reply) = part {
                    self.ready.extend_from_slice(&reply);
                }
                self.move_tail();
            }
        }
    }

    /// Moves what `tail` holds before the front of `blocked` into `ready` (I4).
    #[inline]
    fn move_tail(&mut self) {
        let end = self.blocked.front().map_or(self.tail.len(), |first| first.at);
        if end > self.moved {
            self.ready.extend_from_slice(&self.tail[self.moved..end]);
            self.moved = end;
        }
        if self.blocked.is_empty() {
            self.tail.clear();
            self.moved = 0;
        } else if self.moved > TAIL_MOVED_BYTES_MAX {
            self.tail.drain(..self.moved);
            let moved = std::mem::take(&mut self.moved);
            self.blocked.iter_mut().for_each(|blocked| blocked.at -= moved);
        }
    }

    /// Lets the reply that was just written to [`Replies::writer`] refer to values, each at an
    /// index of the writer's buffer, in ascending order.
    pub fn refer(&mut self, values: &mut Vec<(usize, PinnedValue)>) {
        let mut before = 0;
        if self.blocked.is_empty()
            && let Some(&(first, _)) = values.first()
        {
            self.tail.extend_from_slice(&self.ready[first..]);
            self.ready.truncate(first);
            before = first;
        }
        for (at, pinned) in values.drain(..) {
            let part = Part::Value { pinned, copied_bytes: 0 };
            self.count_in(&part);
            self.blocked.push_back(Blocked { number: self.next + 1, at: at - before, part });
        }
        self.next += 2;
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
            self.parts_held_bytes -= chunk.len();
            total_bytes += chunk.len();
            if *copied_bytes == pinned.len() {
                if let Some(Blocked { part, .. }) = self.blocked.pop_front() {
                    self.count_out(&part);
                    if let Part::Value { pinned, .. } = part {
                        shard.unpin(pinned);
                    }
                }
                self.move_tail();
                self.advance();
            }
        }
        total_bytes
    }

    /// Lets go of all values; nothing more is sent. Adds the replies that other cores have, by core
    /// and number.
    pub fn release(&mut self, shard: &mut Shard, lent: &mut Vec<(u16, u64)>) {
        for blocked in self.blocked.drain(..) {
            match blocked.part {
                Part::Value { pinned, .. } => shard.unpin(pinned),
                Part::Lent { core, number, .. } => lent.push((core, number)),
                Part::Unknown { .. } | Part::Known(_) => {}
            }
        }
        (self.parts_held_bytes, self.parts_capacity_bytes) = (0, 0);
    }

    /// Whether replies are outstanding.
    #[inline]
    pub fn outstanding(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// How many replies are outstanding.
    pub fn outstanding_count(&self) -> usize {
        self.blocked.len()
    }

    /// How many bytes may be sent now,
    #[inline]
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

    /// The buffer of what waits, if nothing does: for another use.
    #[inline]
    pub fn take_tail(&mut self) -> Option<Vec<u8>> {
        (self.blocked.is_empty() && self.tail.capacity() > 0)
            .then(|| std::mem::take(&mut self.tail))
    }

    /// Bytes that are to be sent: ready, behind an outstanding reply, or in values; an outstanding
    /// reply counts as what it is expected to take, so that questions do not pile up.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.ready.len() + (self.tail.len() - self.moved) + self.parts_held_bytes
    }

    /// Memory taken in all, with an estimate for outstanding replies. Values are not here.
    #[inline]
    pub fn capacity_bytes(&self) -> usize {
        self.ready.capacity() + self.tail.capacity() + self.parts_capacity_bytes
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
        let at = replies.writer().len() - 3;
        replies.refer(&mut vec![(at, third)]);
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
        replies.release(&mut shard, &mut Vec::new());
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
                let reply = [b'0' + index as u8];
                if index == 1 {
                    replies.resolve_slice(tickets[index], &reply);
                } else {
                    replies.resolve(tickets[index], reply.to_vec());
                }
            }
            assert_eq!(replies.ready().as_slice(), b"0x1y2z", "{order:?}");
            assert_eq!(replies.held_bytes(), 6);
            assert!(replies.take_tail().is_some() && replies.capacity_bytes() < 64);
        }
    }

    #[test]
    fn what_waits_is_moved_however_much_passes() {
        let mut replies = Replies::default();
        let mut expected = Vec::new();
        let mut sent = Vec::new();
        let mut open = VecDeque::new();
        for number in 0..40_000u32 {
            open.push_back((number, replies.defer_crossed()));
            let after = format!("<{number}>");
            replies.writer().extend_from_slice(after.as_bytes());
            expected.extend_from_slice(format!("[{number}]{after}").as_bytes());
            if open.len() > 3 {
                let second = open.remove(1).expect("there are four");
                let first = open.pop_front().expect("and still three");
                for (number, ticket) in [second, first] {
                    replies.resolve_slice(ticket, format!("[{number}]").as_bytes());
                }
            }
            sent.append(replies.ready());
            assert!(replies.tail.len() <= 2 * TAIL_MOVED_BYTES_MAX);
        }
        for (number, ticket) in open {
            replies.resolve_slice(ticket, format!("[{number}]").as_bytes());
        }
        sent.append(replies.ready());
        assert!(sent == expected && replies.held_bytes() == 0 && !replies.outstanding());
    }
}
