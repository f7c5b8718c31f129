//! memcached's binary protocol, incrementally.
//!
//! ```text
//! 0       1        2          4         5          6         8        12       16       24
//! | magic | opcode | key len  | extras  | datatype | vbucket | body   | opaque | version | ->
//! |  80   |        | 2        | len 1   | ignored  | ignored | len 4  | 4      | 8       |
//!                                        -> extras | key | value: the body, big-endian all
//! ```
//!
//! A connection of the memcached port speaks it if its first byte is [`MAGIC`], and then speaks
//! nothing else. As with the text, the connection passes the bytes that it has, beginning at the
//! first one of a request, and keeps one [`Progress`].
//!
//! Invariants:
//!
//! - B1. What a request is, and whether its lengths are those that it must have, is known from its
//!   header alone. So nothing is waited for that would be refused, and a connection is made to
//!   keep no more than header, extras, a key of 250 bytes, and a value within the limits.
//! - B2. A request that is refused takes its body with it, or its connection.
//!
//! The behaviour is that of memcached 1.6.18, with these exceptions:
//!
//! - The body of an unknown command is passed over once. memcached passes over it and then over
//!   as many bytes again as its extras and key had.
//! - A `stat`, `touch` or `gat` with a value is refused, and ends the connection. memcached takes
//!   the value for the next request.
//! - `verbosity` is answered, as the protocol's text has it. memcached does not know it.
//!
//! Cost: constant for each call, whatever the length of the request. Does not allocate.
//!
//! Source: `doc/protocol-binary.txt` of memcached.

mod reply;
mod request;

pub use reply::{Reply, Status, Tag};
pub use request::{Command, Request, Verb};

use super::{CloseReason, KEY_BYTES_MAX, Limits, OpenBlock};
use request::Kind;

/// The first byte of every request.
pub const MAGIC: u8 = 0x80;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 24;
/// The longest name of a mechanism, as in memcached.
pub const MECHANISM_BYTES_MAX: usize = 32;
/// The longest message of a mechanism: the one that is known has a name and a password.
pub const MESSAGE_BYTES_MAX: u32 = 4096;

const _: () = assert!(size_of::<Progress>() == 12);

/// How far the request at the head of a connection's input has been followed, and how much of
/// the body of a refused one is still to be dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where the value begins that is still arriving; 0 if none is.
    value_start: u32,
    /// The length of that value.
    value_bytes: u32,
    /// Bytes of a refused body that are still to be dropped.
    swallow_bytes: u32,
}

impl Progress {
    /// The value that is still arriving, if there is one: see [`parse_open`] for its request.
    #[inline]
    #[must_use]
    pub fn open_block(&self) -> Option<OpenBlock> {
        (self.value_start != 0)
            .then_some(OpenBlock { start: self.value_start, length_bytes: self.value_bytes })
    }
}

/// The outcome of [`parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse<'a> {
    /// A request of `consumed` bytes. After one that is refused, the rest of its body is dropped
    /// by the next calls.
    Complete {
        /// What is asked.
        request: Request<'a>,
        /// The length of the request in bytes, at least 1.
        consumed: usize,
    },
    /// Body of a refused request: drop the bytes, and go on.
    Swallowed {
        /// How many bytes, at least 1.
        consumed: usize,
    },
    /// The request goes on beyond the bytes given. Call again with the same bytes and more.
    Incomplete {
        /// At least so many bytes are still to come, at least 1.
        bytes_missing_min: usize,
    },
    /// What follows is no request: close.
    Close(CloseReason),
}

/// The numbers of a header.
#[derive(Clone, Copy)]
struct Header {
    opcode: u8,
    key_bytes: usize,
    extras_bytes: usize,
    body_bytes: u32,
    opaque: [u8; 4],
    version: u64,
}

impl Header {
    #[inline]
    fn of(bytes: &[u8; HEADER_BYTES]) -> Header {
        let [_, opcode, key_high, key_low, extras, _, _, _, b0, b1, b2, b3, rest @ ..] = *bytes;
        let [o0, o1, o2, o3, v0, v1, v2, v3, v4, v5, v6, v7] = rest;
        Header {
            opcode,
            key_bytes: usize::from(u16::from_be_bytes([key_high, key_low])),
            extras_bytes: usize::from(extras),
            body_bytes: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: [o0, o1, o2, o3],
            version: u64::from_be_bytes([v0, v1, v2, v3, v4, v5, v6, v7]),
        }
    }

    /// The length of header, extras and key.
    #[inline]
    fn head_bytes(&self) -> usize {
        HEADER_BYTES + self.extras_bytes + self.key_bytes
    }

    /// The length of the value, once the lengths are known to be right.
    #[inline]
    fn value_bytes(&self) -> u32 {
        self.body_bytes - (self.extras_bytes + self.key_bytes) as u32
    }

    /// Which command this is; or the status of the refusal, and whether the connection ends.
    #[inline]
    fn kind(&self) -> Result<(Kind, bool), (Status, bool)> {
        if self.extras_bytes + self.key_bytes > self.body_bytes as usize {
            return Err((Status::UnknownCommand, true));
        }
        if self.key_bytes > KEY_BYTES_MAX {
            return Err((Status::InvalidArguments, true));
        }
        let (kind, is_quiet) = Kind::of(self.opcode).ok_or((Status::UnknownCommand, false))?;
        let has_value = self.value_bytes() > 0;
        match kind.accepts(self.extras_bytes, self.key_bytes, has_value) {
            true => Ok((kind, is_quiet)),
            false => Err((Status::InvalidArguments, true)),
        }
    }

    fn request<'a>(&self, is_quiet: bool, key: &'a [u8], command: Command<'a>) -> Request<'a> {
        let tag = Tag { opcode: self.opcode, opaque: self.opaque };
        Request { tag, version: self.version, is_quiet, key, command }
    }
}

/// Parses the request at the start of `bytes`.
///
/// `progress` is the connection's own and starts as its default; between a call that returned
/// [`Parse::Incomplete`] and the next, bytes may be appended, not changed or removed.
///
/// Of the limits, that of values counts. Cost: constant. Does not allocate.
#[inline]
pub fn parse<'a>(bytes: &'a [u8], progress: &mut Progress, limits: &Limits) -> Parse<'a> {
    if progress.swallow_bytes != 0 {
        return swallow(bytes, progress);
    }
    if bytes.first().is_some_and(|&first| first != MAGIC) {
        return Parse::Close(CloseReason::NoMagic);
    }
    let Some((header, _)) = bytes.split_first_chunk() else {
        return Parse::Incomplete { bytes_missing_min: HEADER_BYTES - bytes.len() };
    };
    let header = Header::of(header);
    let (kind, is_quiet) = match header.kind() {
        Ok(found) => found,
        Err((status, closes)) => return refused(&header, status, closes, progress),
    };
    let head_bytes = header.head_bytes();
    let Some(body) = bytes.get(HEADER_BYTES..head_bytes) else {
        return Parse::Incomplete { bytes_missing_min: head_bytes - bytes.len() };
    };
    let (extras, key) = body.split_at(header.extras_bytes);
    let value_bytes = header.value_bytes();
    if let Some(command) = kind.oversized(key, value_bytes, limits) {
        *progress = Progress { swallow_bytes: value_bytes, ..Progress::default() };
        let request = header.request(is_quiet, key, command);
        return Parse::Complete { request, consumed: head_bytes };
    }
    let consumed = head_bytes + value_bytes as usize;
    let Some(value) = bytes.get(head_bytes..consumed) else {
        (progress.value_start, progress.value_bytes) = (head_bytes as u32, value_bytes);
        return Parse::Incomplete { bytes_missing_min: consumed - bytes.len() };
    };
    *progress = Progress::default();
    let request = header.request(is_quiet, key, kind.command(extras, value));
    Parse::Complete { request, consumed }
}

/// The request whose value is still arriving, with the part of the value that is there. `None` if
/// [`Progress::open_block`] is.
///
/// `bytes` are those of the last [`parse`], which returned `Incomplete` with this `progress`; it
/// is not changed. Cost: constant.
#[must_use]
pub fn parse_open<'a>(bytes: &'a [u8], progress: &Progress) -> Option<(Request<'a>, OpenBlock)> {
    let open = progress.open_block()?;
    let (head, value) = bytes.split_at_checked(open.start as usize)?;
    let (header, body) = head.split_first_chunk()?;
    let header = Header::of(header);
    let (kind, is_quiet) = header.kind().ok()?;
    let (extras, key) = body.split_at_checked(header.extras_bytes)?;
    let value = &value[..value.len().min(open.length_bytes as usize)];
    Some((header.request(is_quiet, key, kind.command(extras, value)), open))
}

/// The first bytes of a request, up to its value, as those of a request on the same terms whose
/// value is empty. `None` if they are not all there.
#[must_use]
pub fn without_value(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::of(bytes.first_chunk()?);
    let mut head = bytes.get(..header.head_bytes())?.to_vec();
    let body_bytes = (header.extras_bytes + header.key_bytes) as u32;
    head.get_mut(8..12)?.copy_from_slice(&body_bytes.to_be_bytes());
    Some(head)
}

/// Whether the request that begins here is a `get` or one of its forms, and changes nothing.
#[must_use]
pub fn is_get(bytes: &[u8]) -> bool {
    let kind = bytes.get(1).and_then(|&opcode| Kind::of(opcode));
    matches!(kind, Some((Kind::Get { .. }, _)))
}

#[cold]
fn refused<'a>(
    header: &Header,
    status: Status,
    closes: bool,
    progress: &mut Progress,
) -> Parse<'a> {
    *progress = Progress { swallow_bytes: header.body_bytes, ..Progress::default() };
    let command = Command::Refused { status, closes };
    Parse::Complete { request: header.request(false, &[], command), consumed: HEADER_BYTES }
}

#[cold]
fn swallow<'a>(bytes: &[u8], progress: &mut Progress) -> Parse<'a> {
    let wanted = progress.swallow_bytes as usize;
    let consumed = wanted.min(bytes.len());
    if consumed == 0 {
        return Parse::Incomplete { bytes_missing_min: wanted };
    }
    progress.swallow_bytes -= consumed as u32;
    Parse::Swallowed { consumed }
}

#[cfg(test)]
mod tests;
