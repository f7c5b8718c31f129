//! The messages that go from one core to another in a turn: a head each and some bytes, one after
//! the other. What is too large to be copied, or no bytes at all, goes along as cargo.

use std::collections::VecDeque;

use pinion_ring::Key;

/// Bytes of an encoded head.
pub const HEAD_BYTES: usize = 24;

/// What precedes the bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The connection that asks, on the core that asks.
    pub key: Key,
    /// Which of its replies this is about.
    pub ticket: u64,
    /// Bytes that follow.
    pub length: u32,
    /// What the message is; its meaning is the user's.
    pub kind: u8,
    /// The database that the client has selected.
    pub db: u8,
    /// Bits whose meaning is the user's.
    pub flags: u8,
    /// Whether a piece of cargo belongs to the message.
    pub has_cargo: bool,
}

impl Head {
    #[inline]
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..4].copy_from_slice(&self.key.index.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.key.generation.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ticket.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..24].copy_from_slice(&[self.kind, self.db, self.flags, u8::from(self.has_cargo)]);
        bytes
    }

    #[inline]
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Head {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Head {
            key: Key { index: word(0), generation: word(4) },
            ticket: u64::from(word(8)) | u64::from(word(12)) << 32,
            length: word(16),
            kind: bytes[20],
            db: bytes[21],
            flags: bytes[22],
            has_cargo: bytes[23] != 0,
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct Bundle<C> {
    bytes: Vec<u8>,
    cargo: VecDeque<C>,
    count: usize,
    /// Whether its sender waits for this bundle to be taken, and is to be told.
    pub wants_receipt: bool,
}

impl<C> Default for Bundle<C> {
    fn default() -> Bundle<C> {
        Bundle { bytes: Vec::new(), cargo: VecDeque::new(), count: 0, wants_receipt: false }
    }
}

impl<C> Bundle<C> {
    /// Whether there is no message in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Messages in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all messages, with their heads.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Memory that it takes for bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Empties it; the memory stays, unless it is more than `kept_bytes_max`.
    pub fn clear(&mut self, kept_bytes_max: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(kept_bytes_max);
        self.cargo.clear();
        self.count = 0;
        self.wants_receipt = false;
    }

    /// Adds a message; the head's `length` is that of `bytes`.
    #[inline]
    pub fn push(&mut self, head: Head, bytes: &[u8]) {
        let start = self.open(head);
        self.bytes.extend_from_slice(bytes);
        self.close(start);
    }

    /// Adds a message that is cargo alone.
    pub fn push_cargo(&mut self, head: Head, cargo: C) {
        self.push(Head { has_cargo: true, ..head }, &[]);
        self.cargo.push_back(cargo);
    }

    /// Begins a message whose bytes are then appended to [`Bundle::writer`]. To be closed, with
    /// what this returns.
    #[inline]
    pub fn open(&mut self, head: Head) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&head.encode());
        self.count += 1;
        start
    }

    /// Where the bytes of an open message go.
    #[inline]
    pub fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends a message: notes its length.
    #[inline]
    pub fn close(&mut self, start: usize) {
        let length = (self.bytes.len() - start - HEAD_BYTES) as u32;
        self.bytes[start + 16..start + 20].copy_from_slice(&length.to_le_bytes());
    }

    /// Takes an open message back, as if it had not begun.
    pub fn cancel(&mut self, start: usize) {
        self.bytes.truncate(start);
        self.count -= 1;
    }

    /// Sets bits of the flags of an open message.
    pub fn flag(&mut self, start: usize, flags: u8) {
        self.bytes[start + 22] |= flags;
    }

    /// The head of the message at a place, the first being at 0, and its bytes, behind which the
    /// next message is.
    #[inline]
    pub fn at(&self, at: usize) -> Option<(Head, &[u8])> {
        let head = Head::decode(self.bytes.get(at..at + HEAD_BYTES)?.first_chunk()?);
        let start = at + HEAD_BYTES;
        Some((head, self.bytes.get(start..start + head.length as usize)?))
    }

    /// All bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The oldest piece of cargo that was not taken.
    pub fn take_cargo(&mut self) -> Option<C> {
        self.cargo.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(index: u32, kind: u8) -> Head {
        Head {
            key: Key::new(index, 77),
            ticket: u64::MAX - u64::from(index),
            length: 0,
            kind,
            db: 15,
            flags: 0,
            has_cargo: false,
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut bundle = Bundle::default();
        assert!(bundle.is_empty() && bundle.at(0).is_none());
        bundle.push(head(1, 5), b"first");
        bundle.push_cargo(head(2, 6), "cargo");
        let open = bundle.open(head(3, 7));
        bundle.writer().extend_from_slice(b"third");
        bundle.flag(open, 2);
        bundle.close(open);
        let open = bundle.open(head(4, 8));
        bundle.cancel(open);
        assert_eq!(bundle.count(), 3);
        let (first, bytes) = bundle.at(0).expect("a message");
        assert_eq!((first, bytes), (Head { length: 5, ..head(1, 5) }, &b"first"[..]));
        let next = HEAD_BYTES + 5;
        let (second, bytes) = bundle.at(next).expect("a message");
        assert_eq!((second, bytes), (Head { has_cargo: true, ..head(2, 6) }, &b""[..]));
        let (third, bytes) = bundle.at(next + HEAD_BYTES).expect("a message");
        assert_eq!((third, bytes), (Head { length: 5, flags: 2, ..head(3, 7) }, &b"third"[..]));
        assert!(bundle.at(bundle.len()).is_none());
        assert_eq!((bundle.take_cargo(), bundle.take_cargo()), (Some("cargo"), None));
        bundle.clear(16);
        assert!(bundle.is_empty() && bundle.capacity_bytes() <= 64);
    }
}
