//! Large values in commands: which requests let theirs arrive in pieces, how a command stores a
//! value that has come, and how a reply refers to a value instead of copying it.
//!
//! A reply that refers to values is written in full but for their bytes; `Context::pins` says where
//! those belong. A value is copied all the same while the output is short enough for one send.
//! Values that are being read have a bound, a quarter of the memory limit, and so has their number
//! in one command. Beyond it a read answers with an error, as a full cache does to a write: waiting
//! for readers that may have stalled would let them stop all others.

use pinion_engine::{KeyHash, SetError, SetOptions, Shard, Stored};

use super::context::Context;
use super::memcached;
use super::slices::refuse_pin;
use super::spec::Spec;
use super::table::find;
use crate::connection::{Inbound, LargeValue};
use crate::core::limits::{PINS_PER_COMMAND_MAX, SEND_BYTES_MAX};
use crate::protocol::memcached::{Meta, OpenBlock, Request, Store, StoreVerb, binary};
use crate::protocol::number::Decimal;
use crate::protocol::resp::{self, OpenBulk, Version, Writer};

/// Output with a value from which on a reply refers to a value that lies in pages.
pub(super) const REFER_BYTES_MIN: usize = SEND_BYTES_MAX;
/// The highest index of an argument that may be a value arriving in pieces.
pub const VALUE_INDEX_MAX: u32 = 3;

/// A value that may arrive in pieces.
#[derive(Debug)]
pub struct Found {
    /// The value, of which nothing has come.
    pub inbound: Inbound,
    /// Where its bytes begin in the request.
    pub value_start: usize,
}

/// Which argument of a command is a value that may arrive in pieces.
fn value_index(spec: &Spec) -> Option<u32> {
    match spec.name {
        "set" | "setnx" | "getset" => Some(2),
        "setex" | "psetex" => Some(3),
        _ => None,
    }
}

/// The open argument of a RESP request, if it is such a value. `args` are those before it; `begin`
/// begins a value of a key, if it may arrive in pieces.
pub fn of_resp(
    shard: &mut Shard,
    bytes: &[u8],
    args: &resp::Args,
    open: &OpenBulk,
    begin: impl FnOnce(&mut Shard, &[u8], usize) -> Option<LargeValue>,
) -> Option<Found> {
    let spec = find(args.get(bytes, 0)?)?;
    if value_index(spec) != Some(open.arg_index) {
        return None;
    }
    let (value_start, value_bytes) = (open.start as usize, open.length_bytes as usize);
    // The line before the value is its length: a dollar, digits, a line end.
    let line_start = bytes[..value_start].iter().rposition(|&byte| byte == b'$')?;
    let mut frame = Vec::with_capacity(line_start + 64);
    frame.extend_from_slice(&bytes[..line_start]);
    frame.extend_from_slice(b"$0\r\n");
    let value = if spec.accepts(open.arg_count as usize) {
        begin(shard, args.get(bytes, 1)?, value_bytes)?
    } else {
        // The command will complain about its arguments before it comes to the value.
        LargeValue::Refused(SetError::Incomplete)
    };
    Some(Found { inbound: Inbound::new(frame, value, value_bytes), value_start })
}

/// The open data block of a memcached request, if it is such a value; `begin` as above.
pub fn of_memcached(
    shard: &mut Shard,
    request: &Request<'_>,
    open: &OpenBlock,
    begin: impl FnOnce(&mut Shard, &[u8], usize) -> Option<LargeValue>,
) -> Option<Found> {
    let value_bytes = open.length_bytes as usize;
    let mut decoded = None;
    let (frame, key) = match request {
        Request::Store(store) => (line_without_data(store)?, store.key),
        Request::Meta(meta) => {
            let key = memcached::large_store(meta, &mut decoded)?;
            (meta_without_data(meta), key)
        }
        _ => return None,
    };
    let value = begin(shard, key, value_bytes)?;
    let inbound = Inbound::new(frame, value, value_bytes);
    Some(Found { inbound, value_start: open.start as usize })
}

/// The value that is arriving of a request of memcached's binary protocol, if it is such a value;
/// `begin` as above.
pub fn of_binary(
    shard: &mut Shard,
    bytes: &[u8],
    progress: &binary::Progress,
    begin: impl FnOnce(&mut Shard, &[u8], usize) -> Option<LargeValue>,
) -> Option<Found> {
    let (request, open) = binary::parse_open(bytes, progress)?;
    if !matches!(request.command, binary::Command::Store { .. }) {
        return None;
    }
    let (frame, value_bytes) = (binary::without_value(bytes)?, open.length_bytes as usize);
    let value = begin(shard, request.key, value_bytes)?;
    let inbound = Inbound::new(frame, value, value_bytes);
    Some(Found { inbound, value_start: open.start as usize })
}

/// The line of a request that stores an empty value on the same terms. `None` for those that
/// extend a value.
fn line_without_data(store: &Store<'_>) -> Option<Vec<u8>> {
    let (verb, version) = match store.verb {
        StoreVerb::Set => ("set", None),
        StoreVerb::Add => ("add", None),
        StoreVerb::Replace => ("replace", None),
        StoreVerb::Cas { version } => ("cas", Some(version)),
        StoreVerb::Append | StoreVerb::Prepend => return None,
    };
    let mut line = Vec::with_capacity(store.key.len() + 128);
    line.extend_from_slice(verb.as_bytes());
    line.push(b' ');
    line.extend_from_slice(store.key);
    line.push(b' ');
    line.extend_from_slice(Decimal::new(u64::from(store.flags)).as_bytes());
    line.extend_from_slice(if store.exptime < 0 { b" -" } else { b" " });
    line.extend_from_slice(Decimal::new(store.exptime.unsigned_abs()).as_bytes());
    line.extend_from_slice(b" 0");
    if let Some(version) = version {
        line.push(b' ');
        line.extend_from_slice(Decimal::new(version).as_bytes());
    }
    line.extend_from_slice(if store.noreply { b" noreply\r\n" } else { b"\r\n" });
    Some(line)
}

/// The same for a meta command.
fn meta_without_data(meta: &Meta<'_>) -> Vec<u8> {
    let mut line = [b"ms ", meta.key, b" 0"].concat();
    for flag in meta.flags {
        line.push(b' ');
        line.extend_from_slice(flag);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Begins a value of a key of this shard.
pub fn begin(shard: &mut Shard, key: &[u8], value_bytes: usize) -> LargeValue {
    match shard.begin_large(key, value_bytes) {
        Ok(write) => LargeValue::Write(write),
        Err(error) => LargeValue::Refused(error),
    }
}

/// The values being read are as many as may be.
pub(super) struct TooMany;

impl Context<'_> {
    /// Stores a command's value: the one in its frame, or the large one that has come for it.
    pub(super) fn store(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
        options: &SetOptions,
    ) -> Result<Stored, SetError> {
        match self.large.take() {
            None => self.shard.set(hash, key, value, options, self.now_ms),
            Some(LargeValue::Refused(error)) => Err(error),
            Some(LargeValue::Away(_)) => {
                debug_assert!(false, "a command whose value is on another core is executed there");
                Err(SetError::Incomplete)
            }
            Some(LargeValue::Write(write)) => {
                debug_assert_eq!(write.key(), key, "the value came for another command");
                self.shard.finish_large(write, hash, options, self.now_ms)
            }
        }
    }

    /// Lets the bytes of a key's value, which lies in pages, follow what is written so far.
    pub(super) fn refer_to(&mut self, hash: KeyHash, key: &[u8]) -> Result<(), TooMany> {
        if self.pins.len() >= PINS_PER_COMMAND_MAX {
            return Err(TooMany);
        }
        match self.shard.pin(hash, key, self.now_ms) {
            Ok(Some(pinned)) => {
                self.pins.push((self.out.len(), pinned));
                Ok(())
            }
            // The caller has just found the item, so the bound is what there is.
            Ok(None) | Err(_) => Err(TooMany),
        }
    }

    /// Writes the value of a key, of `value_bytes`, as a bulk string by referring to it, or the
    /// error that there are too many. Whether it is the value.
    pub(super) fn bulk_by_reference(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value_bytes: usize,
    ) -> bool {
        self.part_by_reference(hash, key, 0, value_bytes)
    }

    /// The same with the bytes from `start` to before `end` of the value, of which there is one at
    /// least.
    pub(super) fn part_by_reference(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        start: usize,
        end: usize,
    ) -> bool {
        let reply_starts = self.out.len();
        Writer::new(self.out, Version::Resp2).bulk_header(end - start);
        let referred = self.refer_to(hash, key).is_ok();
        if referred {
            if let Some((_, pinned)) = self.pins.last_mut() {
                pinned.narrow(start, end);
            }
            Writer::new(self.out, Version::Resp2).bulk_end();
        } else {
            self.out.truncate(reply_starts);
            refuse_pin(self);
        }
        referred
    }

    /// Takes back what the command has written from `out_start` on, and its references.
    pub(crate) fn take_back(&mut self, out_start: usize) {
        self.out.truncate(out_start);
        while let Some((_, pinned)) = self.pins.pop() {
            self.shard.unpin(pinned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::memcached;

    #[test]
    fn the_line_of_a_store_keeps_its_terms() {
        let lines: [(&[u8], &[u8]); 5] = [
            (b"set k 5 0 40000\r\n", b"set k 5 0 0\r\n"),
            (
                b"add  k 4294967295 -9223372036854775808 40000 noreply\r\n",
                b"add k 4294967295 -9223372036854775808 0 noreply\r\n",
            ),
            (b"replace k 0 2592001 40000\r\n", b"replace k 0 2592001 0\r\n"),
            (
                b"cas k 0 -1 40000 18446744073709551615\r\n",
                b"cas k 0 -1 0 18446744073709551615\r\n",
            ),
            (b"cas k 0 0 40000 7 noreply\r\n", b"cas k 0 0 0 7 noreply\r\n"),
        ];
        for (line, expected) in lines {
            let mut progress = memcached::Progress::default();
            let outcome = memcached::parse(line, &mut progress, &memcached::Limits::default());
            assert!(matches!(outcome, memcached::Parse::Incomplete { .. }));
            let (request, open) = memcached::parse_open(line, &progress).expect("open");
            let Request::Store(store) = request else { panic!("{request:?}") };
            assert_eq!(open.length_bytes, 40_000);
            assert_eq!(line_without_data(&store).as_deref(), Some(expected));
        }
        let store = Store {
            verb: StoreVerb::Append,
            key: b"k",
            flags: 0,
            exptime: 0,
            data: b"",
            noreply: false,
        };
        assert_eq!(line_without_data(&store), None);
    }

    #[test]
    fn values_of_single_writes_arrive_in_pieces() {
        let index = |name: &[u8]| find(name).and_then(value_index);
        assert_eq!((index(b"SET"), index(b"setnx"), index(b"getset")), (Some(2), Some(2), Some(2)));
        assert_eq!((index(b"setex"), index(b"PSETEX")), (Some(3), Some(3)));
        assert_eq!((index(b"mset"), index(b"get")), (None, None));
        assert!(
            super::super::COMMANDS.iter().filter_map(value_index).all(|i| i <= VALUE_INDEX_MAX)
        );
    }
}
