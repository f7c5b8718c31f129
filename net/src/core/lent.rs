//! Replies to other cores that refer to large values: kept here, with the values pinned, and handed
//! out piece by piece as the client takes them.
//!
//! ```text
//!  asker: command ->   owner: reply under a number, its length
//!         fetch, when all before it is sent  ->  the next piece   (until it is whole)
//!         give back, if the client is gone   ->  the values are let go of
//! ```
//!
//! So a client that does not read holds a pin and a piece, as on its own core. The reply is that of
//! the moment of execution, whatever becomes of the key meanwhile.

use std::collections::BTreeMap;

use pinion_engine::{PinnedValue, Shard};
use pinion_ring::Key;

use super::foreign::{Dest, Errand, Outcome, kind};
use super::limits::{SEND_BYTES_MAX, SPARE_BYTES_MIN};
use super::{Core, Transport};
use crate::lane::Head;

/// A reply whose text refers to values, each at an index of it, and how far it was handed out.
#[derive(Debug)]
pub(super) struct Lent {
    text: Vec<u8>,
    values: Vec<(usize, PinnedValue)>,
    /// Bytes of the text that are out,
    text_bytes: usize,
    /// values that are,
    value: usize,
    /// and bytes of the next one.
    copied_bytes: usize,
}

impl Lent {
    pub(super) fn new(text: Vec<u8>, values: Vec<(usize, PinnedValue)>) -> Lent {
        Lent { text, values, text_bytes: 0, value: 0, copied_bytes: 0 }
    }

    /// Bytes of the whole reply.
    fn len(&self) -> usize {
        self.text.len() + self.values.iter().map(|(_, pinned)| pinned.len()).sum::<usize>()
    }

    /// Appends what comes next, about `bytes_max` at most; whether that was the end.
    pub(super) fn next(&mut self, shard: &mut Shard, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let end = out.len() + bytes_max;
        while out.len() < end {
            let Some((at, pinned)) = self.values.get(self.value) else {
                let left = &self.text[self.text_bytes..];
                let piece = &left[..left.len().min(end - out.len())];
                out.extend_from_slice(piece);
                self.text_bytes += piece.len();
                return self.text_bytes == self.text.len();
            };
            if self.text_bytes < *at {
                let left = &self.text[self.text_bytes..*at];
                let piece = &left[..left.len().min(end - out.len())];
                out.extend_from_slice(piece);
                self.text_bytes += piece.len();
            } else if self.copied_bytes < pinned.len() {
                let chunk = shard.pinned_chunk(pinned, self.copied_bytes);
                let piece = &chunk[..chunk.len().min(end - out.len())];
                out.extend_from_slice(piece);
                self.copied_bytes += piece.len();
            } else {
                (self.value, self.copied_bytes) = (self.value + 1, 0);
            }
        }
        self.value == self.values.len() && self.text_bytes == self.text.len()
    }

    /// Lets go of the values.
    pub(super) fn release(&mut self, shard: &mut Shard) {
        for (_, pinned) in self.values.drain(..) {
            shard.unpin(pinned);
        }
    }
}

/// Replies that are being handed out.
#[derive(Debug, Default)]
pub(super) struct LentReplies {
    open: BTreeMap<u64, Lent>,
    next: u64,
}

impl LentReplies {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl<T: Transport> Core<T> {
    /// Keeps a reply for another core, and tells it of that.
    pub(super) fn lend_reply(&mut self, dest: Dest, lent: Lent) {
        let Some(me) = self.lanes.as_ref().map(|lanes| lanes.me) else { return };
        let number = self.lent.next;
        self.lent.next += 1;
        let bytes = lent.len();
        self.lent.open.insert(number, lent);
        self.answer_cargo(dest, Outcome::Lent { core: me as u16, number, bytes });
    }

    /// Hands out the next piece of a reply.
    pub(super) fn hand_out(&mut self, dest: Dest, number: u64, bytes_max: usize) {
        let mut piece = Vec::new();
        if let Some(lent) = self.lent.open.get_mut(&number)
            && lent.next(&mut self.shard, bytes_max, &mut piece)
        {
            self.take_back_reply(number);
        }
        self.answer_cargo(dest, Outcome::Piece(piece));
    }

    /// Lets go of a reply that is whole, or that nobody waits for.
    pub(super) fn take_back_reply(&mut self, number: u64) {
        if let Some(mut lent) = self.lent.open.remove(&number) {
            lent.release(&mut self.shard);
        }
    }

    /// Asks for the next piece of the reply that is to be sent next on a connection, if that is on
    /// another core and nothing is left of the last piece. Whether the connection waits for room in
    /// the lane.
    pub(super) fn fetch_piece(&mut self, index: u32) -> bool {
        let Some(connection) = self.connections.at(index) else { return false };
        let Some((core, number, ticket)) = connection.replies.wanted_piece() else { return false };
        let Some(lanes) = &mut self.lanes else { return false };
        if !lanes.has_room(usize::from(core)) {
            return true;
        }
        connection.replies.piece_asked();
        // While memory for buffers is short, readers go on in small pieces.
        let has_memory = self.budget.may_fill(connection.output_bytes());
        let bytes_max = if has_memory { SEND_BYTES_MAX } else { SPARE_BYTES_MIN };
        let head = Head {
            key: connection.key,
            ticket: ticket.number(),
            length: 0,
            kind: kind::OTHER,
            db: 0,
            flags: 0,
            has_cargo: true,
        };
        if let Some(bundle) = lanes.ask(usize::from(core)) {
            bundle.push_cargo(head, Errand::Fetch { number, bytes_max });
        }
        false
    }

    /// Tells others of replies that nobody waits for any more, as far as lanes have room.
    pub(super) fn give_replies_back(&mut self) {
        let Some(lanes) = &mut self.lanes else { return };
        self.unwanted.retain(|&(core, number)| {
            if !lanes.has_room(usize::from(core)) {
                return true;
            }
            let key = Key { index: u32::MAX, generation: 0 };
            let head = Head {
                key,
                ticket: 0,
                length: 0,
                kind: kind::OTHER,
                db: 0,
                flags: 0,
                has_cargo: true,
            };
            if let Some(bundle) = lanes.ask(usize::from(core)) {
                bundle.push_cargo(head, Errand::GiveBack(number));
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_comes_out_whole_in_pieces_of_any_size() {
        let mut shard = Shard::new(&pinion_engine::ShardConfig::default()).expect("memory");
        let value: Vec<u8> = (0..70_000u32).map(|n| (n % 251) as u8).collect();
        let hash = shard.hash(b"k");
        shard.set(hash, b"k", &value, &Default::default(), 0).expect("room");
        for piece_bytes in [1_000, 65_536, 1 << 20] {
            let mut pin = || shard.pin(hash, b"k", 0).expect("within bounds").expect("large");
            let values = vec![(3, pin()), (6, pin())];
            let mut lent = Lent::new(b"<a><b>c".to_vec(), values);
            let (bytes, mut out) = (lent.len(), Vec::new());
            while !lent.next(&mut shard, piece_bytes, &mut out) {
                assert!(out.len() % piece_bytes == 0);
            }
            let expected = [b"<a>", &value[..], b"<b>", &value[..], b"c"].concat();
            assert!(out == expected && bytes == out.len());
            lent.release(&mut shard);
            assert_eq!(shard.stats().pinned_bytes, 0);
        }
    }
}
