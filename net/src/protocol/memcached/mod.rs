//! memcached's text protocol, incrementally: the classic commands and the meta commands. The
//! binary protocol is in [`binary`].
//!
//! The connection passes the bytes that it has, beginning at the first byte of a request, and
//! keeps one [`Progress`]. The outcome is a [`Request`] of borrowed slices, or a refusal with the
//! reply that it gets; nothing allocates.
//!
//! The behaviour is that of memcached 1.6.18, reply by reply, with these exceptions:
//!
//! - Keys with control characters are refused, as the protocol's text demands. memcached takes
//!   most of them, and cuts the line at a NUL.
//! - Numbers out of range, and numbers with something behind them, are refused. memcached
//!   truncates to 32 bits, so that a value announced with 4294967300 bytes becomes one of 4.
//!   Expiry times have 64 bits here.
//! - An overlong line gets an error before the connection ends; memcached ends it silently. The
//!   line of a `gat` may be as long as that of a `get`.
//! - A line that begins with the magic byte of the binary protocol ends the connection, with an
//!   error, since a client that mixes them waits for a reply that does not come.
//! - An error in the keys of a `get` voids that request's reply alone. memcached drops the replies
//!   to earlier requests of the same batch, too.
//! - `extstore` and `refresh_certs` are unknown commands. The words of `slabs`, `lru_crawler` and
//!   `watch` are not looked at: they answer as where memcached has turned them off.
//! - The data of a refused `ms` must end where it says. memcached does not look.
//! - A `get` whose line is longer than [`Limits::get_line_bytes_max`] is refused. memcached takes
//!   any length.
//!
//! Source: `doc/protocol.txt` of memcached.

pub mod base64;
pub mod binary;
mod error;
mod line;
mod meta;
mod reply;
mod request;
mod statistics;

pub use error::{CloseReason, RequestError};
pub use meta::{KeyBuffer, MetaError, MetaFlags, OPAQUE_BYTES_MAX, WAIT_MS_MAX, parse_flags};
pub use reply::Writer;
pub use request::{
    Administration, Keys, Meta, MetaData, MetaVerb, Request, Store, StoreVerb, Tokens,
    VALUE_TOO_LARGE,
};
pub use statistics::{StatForm, Statistics};

use super::scan::find_byte;
use line::Line;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 250;
/// The longest line of any command but the retrievals with many keys, in bytes.
pub const LINE_BYTES_MAX: usize = 2048;
/// The longest value that a request can announce, in bytes, whatever the limits say.
pub const VALUE_BYTES_LIMIT: u32 = i32::MAX as u32 - 2;

/// A long line may begin with so many spaces and no more, so that its command is found fast.
const LONG_LINE_SPACES_MAX: usize = 100;
/// No text command begins with this byte. Binary requests hold line feeds at odd places if at all,
/// so that waiting for one would leave both sides waiting.
const BINARY_MAGIC: u8 = binary::MAGIC;
/// What ends a data block.
const BLOCK_END: &[u8; 2] = b"\r\n";

const _: () = assert!(KEY_BYTES_MAX + LONG_LINE_SPACES_MAX < LINE_BYTES_MAX);
const _: () = assert!(size_of::<Progress>() == 16);

/// What a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value, in bytes; larger ones are refused and their data is dropped.
    pub value_bytes_max: u32,
    /// The longest line of `get`, `gets`, `gat` and `gats`, in bytes.
    pub get_line_bytes_max: u32,
}

impl Default for Limits {
    /// 1 MiB values, as memcached, and lines of 1 MiB: four thousand of the longest keys.
    fn default() -> Self {
        Self { value_bytes_max: 1 << 20, get_line_bytes_max: 1 << 20 }
    }
}

/// How far the request at the head of a connection's input has been followed, and how much of
/// the data of a refused one is still to be dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many bytes are known to hold no line feed.
    scanned: u32,
    /// The length of the line with its end, once its data block is what is missing; else 0.
    line_bytes: u32,
    /// The length of that block without its end.
    data_bytes: u32,
    /// Bytes of refused data that are still to be dropped.
    swallow_bytes: u32,
}

impl Progress {
    /// Forgets the request. [`parse`] does it by itself when a request is complete or refused.
    #[inline]
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The data block that is still arriving, if there is one: see [`parse_open`] for the
    /// request that it belongs to.
    #[inline]
    #[must_use]
    pub fn open_block(&self) -> Option<OpenBlock> {
        (self.line_bytes != 0)
            .then_some(OpenBlock { start: self.line_bytes, length_bytes: self.data_bytes })
    }
}

/// A data block that is still arriving, see [`Progress::open_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBlock {
    /// Where the data begins, in bytes from the start of the request.
    pub start: u32,
    /// How long it is without its line end; within the limits.
    pub length_bytes: u32,
}

/// The outcome of [`parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse<'a> {
    /// A request of `consumed` bytes. After one whose value is too large, its data is dropped by
    /// the next calls.
    Complete {
        /// What is asked.
        request: Request<'a>,
        /// The length of the request in bytes, at least 1.
        consumed: usize,
    },
    /// A request that is refused: reply with the error unless `noreply`, and go on.
    Refused {
        /// Why.
        error: RequestError,
        /// The client wants no reply, not even this one.
        noreply: bool,
        /// The length of the request in bytes, at least 1.
        consumed: usize,
    },
    /// Data of a refused request: drop the bytes, and go on.
    Swallowed {
        /// How many bytes, at least 1.
        consumed: usize,
    },
    /// The request goes on beyond the bytes given. Call again with the same bytes and more.
    Incomplete {
        /// At least so many bytes are still to come, at least 1.
        bytes_missing_min: usize,
    },
    /// The stream cannot be understood any further: reply if there is a reply, then close.
    Close(CloseReason),
}

/// Parses the request at the start of `bytes`.
///
/// `progress` is the connection's own and starts as its default; between a call that returned
/// [`Parse::Incomplete`] and the next, bytes may be appended, not changed or removed.
///
/// Cost: linear in the line, independent of the data's length; calls that find a request still
/// incomplete look only at what is new. Does not allocate.
#[inline]
pub fn parse<'a>(bytes: &'a [u8], progress: &mut Progress, limits: &Limits) -> Parse<'a> {
    if progress.swallow_bytes != 0 {
        return swallow(bytes, progress);
    }
    if let Some(open) = progress.open_block() {
        let needed = open.start as usize + open.length_bytes as usize + BLOCK_END.len();
        if bytes.len() < needed {
            return Parse::Incomplete { bytes_missing_min: needed - bytes.len() };
        }
    }
    let length = match find_line(bytes, progress, limits) {
        Ok(length) => length,
        Err(outcome) => return outcome,
    };
    progress.reset();
    let consumed = length + 1;
    match line::parse(without_return(&bytes[..length]), limits) {
        Line::Complete(request) => Parse::Complete { request, consumed },
        Line::Refused { error, noreply } => Parse::Refused { error, noreply, consumed },
        Line::Close(reason) => Parse::Close(reason),
        Line::TooLarge { request, data_bytes } => {
            progress.swallow_bytes = data_bytes + BLOCK_END.len() as u32;
            Parse::Complete { request, consumed }
        }
        Line::WithData { request, data_bytes } => {
            complete_data(bytes, consumed, request, data_bytes, progress)
        }
    }
}

/// The request whose data block is still arriving, with the part of the data that is there.
/// `None` if [`Progress::open_block`] is.
///
/// `bytes` are those of the last [`parse`], which returned `Incomplete` with this `progress`; it
/// is not changed. Cost: parses the line again.
#[must_use]
pub fn parse_open<'a>(bytes: &'a [u8], progress: &Progress) -> Option<(Request<'a>, OpenBlock)> {
    let open = progress.open_block()?;
    let (line, data) = bytes.split_at_checked(open.start as usize)?;
    let line = without_return(line.strip_suffix(b"\n")?);
    let limits = Limits { value_bytes_max: VALUE_BYTES_LIMIT, get_line_bytes_max: 0 };
    match line::parse(line, &limits) {
        Line::WithData { request, .. } => {
            let arrived = data.len().min(open.length_bytes as usize);
            Some((request.with_data(&data[..arrived]), open))
        }
        _ => None,
    }
}

/// The length of the first line without its line feed.
#[inline]
fn find_line<'a>(
    bytes: &[u8],
    progress: &mut Progress,
    limits: &Limits,
) -> Result<usize, Parse<'a>> {
    if progress.line_bytes != 0 {
        return Ok(progress.line_bytes as usize - 1);
    }
    let fresh = bytes.get(progress.scanned as usize..).unwrap_or_default();
    let found = find_byte(fresh, b'\n').map(|at| progress.scanned as usize + at);
    // Without a line feed the line is at least one byte longer than what is there.
    let length = found.unwrap_or(bytes.len());
    if length > LINE_BYTES_MAX {
        check_long_line(bytes, length, progress, limits).map_err(Parse::Close)?;
    }
    if let Some(length) = found {
        return Ok(length);
    }
    if bytes.first() == Some(&BINARY_MAGIC) {
        return Err(Parse::Close(CloseReason::BinaryProtocol));
    }
    progress.scanned = bytes.len() as u32;
    Err(Parse::Incomplete { bytes_missing_min: 1 })
}

/// Whether a line of at least `length` bytes may be that long. Constant work, since a torn line is
/// asked about at every piece.
#[cold]
fn check_long_line(
    bytes: &[u8],
    length: usize,
    progress: &mut Progress,
    limits: &Limits,
) -> Result<(), CloseReason> {
    if bytes.first() == Some(&BINARY_MAGIC) {
        return Err(CloseReason::BinaryProtocol);
    }
    let spaces = bytes.iter().take(LONG_LINE_SPACES_MAX).take_while(|&&byte| byte == b' ');
    let may_be_long = line::is_retrieval(&bytes[spaces.count()..]);
    if !may_be_long || length > limits.get_line_bytes_max as usize {
        progress.reset();
        return Err(CloseReason::LineTooLong);
    }
    Ok(())
}

/// (memcached leaves the return of an otherwise empty line in place. As a word it is an unknown
/// command, and so is the empty line.)
#[inline]
fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[inline]
fn complete_data<'a>(
    bytes: &'a [u8],
    start: usize,
    request: Request<'a>,
    data_bytes: u32,
    progress: &mut Progress,
) -> Parse<'a> {
    let end = start + data_bytes as usize;
    let consumed = end + BLOCK_END.len();
    match bytes.get(end..consumed) {
        Some(block_end) if block_end == BLOCK_END => {
            Parse::Complete { request: request.with_data(&bytes[start..end]), consumed }
        }
        Some(_) => Parse::Refused {
            error: RequestError::BadDataChunk,
            noreply: request.noreply(),
            consumed,
        },
        None => {
            progress.line_bytes = start as u32;
            progress.data_bytes = data_bytes;
            Parse::Incomplete { bytes_missing_min: consumed - bytes.len() }
        }
    }
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
