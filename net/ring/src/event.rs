//! What a ring reports, and the key under which a connection's operations run.

use std::io;
use std::os::fd::OwnedFd;

use crate::pool::Received;

/// Names a connection: a slab index and a generation, so that a late completion of a slot's former
/// tenant is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index in the caller's slab; the ring keeps send buffers under it.
    pub index: u32,
    /// Generation of the slot, 24 bits.
    pub generation: u32,
}

impl Key {
    /// Bits of a generation that a key carries.
    pub const GENERATION_BITS: u32 = 24;

    /// Makes a key; the generation is cut to [`Key::GENERATION_BITS`] bits.
    pub const fn new(index: u32, generation: u32) -> Key {
        Key { index, generation: generation & ((1 << Key::GENERATION_BITS) - 1) }
    }
}

/// Why receiving on a connection has ended.
#[derive(Debug)]
pub enum EndReason {
    /// The peer closed its half.
    Eof,
    /// The pool had no buffer; give some back and receive again.
    NoBuffers,
    /// [`crate::DataRing::cancel_receive`] took effect.
    Cancelled,
    /// The socket failed.
    Failed(io::Error),
}

/// One thing that happened. `S` is a connection's socket, `L` a loan of received bytes; other
/// transports than the ring have their own.
#[derive(Debug)]
pub enum Event<S = OwnedFd, L = Received> {
    /// A connection was accepted by the listener with this number.
    Accepted {
        /// The number that [`crate::DataRing::add_listener`] returned.
        listener: u32,
        /// The connection.
        socket: S,
    },
    /// Accepting failed and is not armed any more: call [`crate::DataRing::rearm_accept`] later.
    AcceptFailed {
        /// The number that [`crate::DataRing::add_listener`] returned.
        listener: u32,
        /// Why.
        error: io::Error,
    },
    /// Bytes have come. If not `armed`, call [`crate::DataRing::receive`] to get more.
    Received {
        /// Whose.
        key: Key,
        /// The bytes; give them back.
        data: L,
        /// Whether receiving goes on by itself.
        armed: bool,
    },
    /// Receiving has ended and is not armed any more.
    ReceiveEnded {
        /// Whose.
        key: Key,
        /// Why.
        reason: EndReason,
    },
    /// A send has ended; the buffer is the caller's again.
    Sent {
        /// Whose.
        key: Key,
        /// The buffer handed to [`crate::DataRing::send`].
        buffer: Vec<u8>,
        /// Bytes sent, which may be fewer than asked.
        result: io::Result<usize>,
    },
    /// Another thread called [`crate::Waker::wake`].
    Woken,
}

/// The kinds of operations, as the top byte of an operation's user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Operation {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Wake = 4,
    Cancel = 5,
    Provide = 6,
}

impl Operation {
    fn from_byte(byte: u8) -> Option<Operation> {
        Some(match byte {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Wake,
            5 => Operation::Cancel,
            6 => Operation::Provide,
            _ => return None,
        })
    }
}

/// Packs an operation's user data: kind (8 bits), generation (24), index (32).
pub(crate) const fn pack(operation: Operation, key: Key) -> u64 {
    (operation as u64) << 56 | (key.generation as u64) << 32 | key.index as u64
}

/// Reads what [`pack`] made; `None` for a kind that this ring never submits.
pub(crate) fn unpack(user_data: u64) -> Option<(Operation, Key)> {
    let operation = Operation::from_byte((user_data >> 56) as u8)?;
    Some((operation, Key::new(user_data as u32, (user_data >> 32) as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_round_trips_at_its_limits() {
        for index in [0, 1, u32::MAX] {
            for generation in [0, 1, (1 << Key::GENERATION_BITS) - 1] {
                let key = Key::new(index, generation);
                assert_eq!(unpack(pack(Operation::Send, key)), Some((Operation::Send, key)));
            }
        }
        assert_eq!(unpack(0), None);
        assert_eq!(Key::new(0, 1 << Key::GENERATION_BITS).generation, 0);
    }
}
