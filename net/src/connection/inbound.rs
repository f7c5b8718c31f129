//! A large value on its way from a connection to the shard.
//!
//! ```text
//! *3 $3 SET $1 k $8000000 | <value bytes> | rest of the request, further requests
//!  kept as a frame ----+      to the shard     |
//!  with an empty value |      as they come     v
//!                      +----------------> the connection's input
//! ```
//!
//! The bytes before the value are kept as the beginning of a frame whose value is empty. Once the
//! value has come, they become the connection's input again, and what follows the value is parsed
//! behind them as ever: options, the line end of the value, further requests. The command that
//! this frame gives then finds its value here.
//!
//! - I1. While a value arrives, the connection's input holds nothing but bytes of the value that
//!   the shard has not taken yet, and what came behind them.
//! - I2. Once it has come, the frame with the empty value is the first one in the input, and
//!   nothing of the connection is in a batch before it. So the next command that is executed for
//!   the connection is the one that the value belongs to.

use pinion_engine::{LargeWrite, SetError, Shard};

/// A large value that has come, or is coming, or was refused.
#[derive(Debug)]
pub enum LargeValue {
    /// In the shard's pages.
    Write(LargeWrite),
    /// Nowhere: its bytes are dropped, and its command answers with this.
    Refused(SetError),
    /// On another core.
    Away(Away),
}

/// A value that goes to another core, a piece at a time.
#[derive(Debug)]
pub struct Away {
    /// The core.
    pub core: usize,
    /// The number by which it is known there.
    pub stream: u64,
    /// Whose value it is.
    pub key: Box<[u8]>,
    /// All of its bytes.
    pub value_bytes: usize,
    /// Whether a piece is on its way, and nothing of what it came to is known.
    pub is_on_its_way: bool,
}

impl LargeValue {
    /// Gives up what the shard holds of it. What another core holds, its own core gives up.
    pub fn abort(self, shard: &mut Shard) {
        if let LargeValue::Write(write) = self {
            shard.abort_large(write);
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct Inbound {
    frame: Vec<u8>,
    value: LargeValue,
    left_bytes: usize,
}

impl Inbound {
    /// A value of `value_bytes`, of which nothing has come; `frame` is the beginning of its request
    /// with an empty value in its place.
    pub fn new(frame: Vec<u8>, value: LargeValue, value_bytes: usize) -> Inbound {
        Inbound { frame, value, left_bytes: value_bytes }
    }

    /// Memory that it takes; the value's pages are the shard's.
    pub fn memory_bytes(&self) -> usize {
        let key_bytes = match &self.value {
            LargeValue::Write(write) => write.key().len(),
            LargeValue::Refused(_) => 0,
            LargeValue::Away(away) => away.key.len(),
        };
        size_of::<Inbound>() + self.frame.capacity() + key_bytes
    }

    /// Whether bytes of the value are still to come.
    pub fn is_arriving(&self) -> bool {
        self.left_bytes > 0 || matches!(&self.value, LargeValue::Away(away) if away.is_on_its_way)
    }

    /// The value, if it goes to another core.
    #[inline]
    pub fn away(&mut self) -> Option<&mut Away> {
        if let LargeValue::Away(away) = &mut self.value { Some(away) } else { None }
    }

    /// Takes a piece from the front of `bytes` that is to be sent to the value's core.
    pub fn take_piece(&mut self, bytes: &[u8], bytes_max: usize) -> Vec<u8> {
        let piece = bytes[..bytes.len().min(self.left_bytes).min(bytes_max)].to_vec();
        self.left_bytes -= piece.len();
        piece
    }

    /// Notes that the value's core has refused it.
    pub fn refuse_away(&mut self, error: SetError) {
        self.value = LargeValue::Refused(error);
    }

    /// Takes bytes of the value from the front of `bytes`; returns how many. Fewer than both the
    /// value and `bytes` have means that the shard is making room: call again in the next turn.
    pub fn take(&mut self, mut bytes: &[u8], shard: &mut Shard, now_ms: u64) -> usize {
        let mut taken_bytes = 0;
        bytes = &bytes[..bytes.len().min(self.left_bytes)];
        while !bytes.is_empty() {
            let taken = match &mut self.value {
                LargeValue::Refused(_) => bytes.len(),
                LargeValue::Away(_) => break,
                LargeValue::Write(write) => match shard.append_large(write, bytes, now_ms) {
                    Ok(0) => break,
                    Ok(taken) => taken,
                    Err(error) => {
                        self.refuse(error, shard);
                        continue;
                    }
                },
            };
            bytes = &bytes[taken..];
            taken_bytes += taken;
        }
        self.left_bytes -= taken_bytes;
        taken_bytes
    }

    fn refuse(&mut self, error: SetError, shard: &mut Shard) {
        std::mem::replace(&mut self.value, LargeValue::Refused(error)).abort(shard);
    }

    /// The frame with the empty value, once the value has come; empty the second time.
    pub fn take_frame(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.frame)
    }

    /// The value.
    pub fn into_value(self) -> LargeValue {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_engine::{SetOptions, ShardConfig};

    #[test]
    fn bytes_go_to_the_shard_up_to_the_end_of_the_value() {
        let mut shard = Shard::new(&ShardConfig::default()).expect("memory");
        let write = shard.begin_large(b"k", 100_000).expect("within limits");
        let mut inbound = Inbound::new(b"frame".to_vec(), LargeValue::Write(write), 100_000);
        assert_eq!(inbound.take(&[1; 70_000], &mut shard, 0), 70_000);
        assert!(inbound.is_arriving());
        assert_eq!(inbound.take(&[2; 70_000], &mut shard, 0), 30_000);
        assert!(!inbound.is_arriving());
        assert_eq!((inbound.take_frame(), inbound.take_frame()), (b"frame".to_vec(), Vec::new()));
        let LargeValue::Write(write) = inbound.into_value() else { panic!("refused") };
        let hash = shard.hash(b"k");
        shard.finish_large(write, hash, &SetOptions::default(), 0).expect("whole");
        assert_eq!(shard.len(), 1);
    }

    #[test]
    fn the_bytes_of_a_refused_value_are_dropped() {
        let mut shard = Shard::new(&ShardConfig::default()).expect("memory");
        let mut inbound = Inbound::new(Vec::new(), LargeValue::Refused(SetError::NoSpace), 100_000);
        assert_eq!(inbound.take(&[1; 99_999], &mut shard, 0), 99_999);
        assert_eq!(inbound.take(b"23", &mut shard, 0), 1);
        assert_eq!(shard.stats().page_bytes, 0);
        assert!(matches!(inbound.into_value(), LargeValue::Refused(SetError::NoSpace)));
    }
}
