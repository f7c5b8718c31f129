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
//! Invariants:
//! - I1. `ready` holds only bytes that nothing unknown precedes.
//! - I2. The front of `blocked` is always unknown; resolving it moves everything up to the next
//!   unknown into `ready`.
//!
//! Deferring allocates; answering at once does not.

use std::collections::VecDeque;

use crate::core::limits::DEFERRED_REPLY_BYTES;

/// Names a deferred reply within its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Blocked {
    reply: Option<Vec<u8>>,
    after: Vec<u8>,
}

/// The output of one connection.
#[derive(Debug, Default)]
pub struct Replies {
    ready: Vec<u8>,
    blocked: VecDeque<Blocked>,
    /// Ticket of the front of `blocked`.
    front: u64,
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
        self.blocked.push_back(Blocked { reply: None, after: Vec::new() });
        Ticket(self.front + self.blocked.len() as u64 - 1)
    }

    /// Gives the reply for a ticket. One that is unknown (given twice) is ignored.
    pub fn resolve(&mut self, ticket: Ticket, reply: Vec<u8>) {
        let Some(index) = ticket.0.checked_sub(self.front) else { return };
        let Some(blocked) = self.blocked.get_mut(index as usize) else { return };
        if blocked.reply.is_none() {
            blocked.reply = Some(reply);
        }
        while let Some(Blocked { reply: Some(_), .. }) = self.blocked.front() {
            if let Some(Blocked { reply, after }) = self.blocked.pop_front() {
                self.ready.extend_from_slice(&reply.unwrap_or_default());
                self.ready.extend_from_slice(&after);
            }
            self.front += 1;
        }
    }

    /// Whether replies are outstanding.
    pub fn outstanding(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Bytes that may be sent now.
    pub fn ready(&mut self) -> &mut Vec<u8> {
        &mut self.ready
    }

    /// Bytes held in all, ready or behind an outstanding reply; an outstanding one counts as
    /// [`DEFERRED_REPLY_BYTES`], so that questions do not pile up.
    pub fn held_bytes(&self) -> usize {
        if self.blocked.is_empty() {
            return self.ready.len();
        }
        let waiting = |blocked: &Blocked| {
            blocked.after.len() + blocked.reply.as_ref().map_or(DEFERRED_REPLY_BYTES, Vec::len)
        };
        self.ready.len() + self.blocked.iter().map(waiting).sum::<usize>()
    }

    /// Memory taken in all, counted as in [`Replies::held_bytes`].
    #[inline]
    pub fn capacity_bytes(&self) -> usize {
        if self.blocked.is_empty() {
            return self.ready.capacity();
        }
        let waiting = |blocked: &Blocked| {
            let reply = blocked.reply.as_ref().map_or(DEFERRED_REPLY_BYTES, Vec::capacity);
            blocked.after.capacity() + reply
        };
        self.ready.capacity() + self.blocked.iter().map(waiting).sum::<usize>()
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
