//! RESP requests, incrementally: arrays of bulk strings, and inline commands.
//!
//! The connection passes the bytes that it has, beginning at the first byte of a frame, and keeps
//! one [`Progress`]; the core keeps one [`Args`]. A frame that is there as a whole is parsed in
//! one pass. A torn one is first followed to its end with O(1) state, each byte looked at once,
//! and then sliced in one pass.
//!
//! The behaviour is that of Redis 7, texts included, with these exceptions, all on input that no
//! client library sends:
//!
//! - The two bytes after a payload and the byte after the carriage return of a length must be
//!   right. Redis skips them unseen, so that a client that miscounts its bytes silently stores a
//!   cut value; here it gets an error.
//! - A NUL byte in an inline command is an error. Redis never finds the end of such a line.
//! - A frame has a limit, see [`Limits::frame_bytes_max`].
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

mod args;
mod array;
mod error;
mod inline;
mod reply;

pub use args::{Args, Range32};
pub use array::parse_open;
pub use error::ProtocolError;
pub use reply::{Version, Writer};

/// The longest bulk string by default: 512 MiB, as `proto-max-bulk-len` of Redis.
pub const BULK_BYTES_MAX: u32 = 512 << 20;
/// The longest line: 64 KiB, as Redis.
pub const INLINE_BYTES_MAX: u32 = 64 << 10;
/// The most arguments by default.
pub const ARGS_MAX: u32 = 1 << 20;
/// The longest frame by default: 1 GiB, as `client-query-buffer-limit` of Redis.
pub const FRAME_BYTES_MAX: u32 = 1 << 30;

/// The most arguments that a client may send before it has authenticated, as Redis.
const UNAUTHENTICATED_ARGS_MAX: u32 = 10;
/// The longest bulk string that a client may send before it has authenticated, as Redis.
const UNAUTHENTICATED_BULK_BYTES_MAX: u32 = 16 << 10;
/// `$0\r\n\r\n`: what an argument takes at the least.
const ARG_BYTES_MIN: usize = 6;

const _: () = assert!(BULK_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(INLINE_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(UNAUTHENTICATED_BULK_BYTES_MAX < BULK_BYTES_MAX);
const _: () = assert!(size_of::<Progress>() <= 24);

/// What a request may take. A request beyond a limit is a [`ProtocolError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most arguments of an array. (Those of an inline command are bound by its length.)
    pub args_max: u32,
    /// The longest argument, in bytes.
    pub bulk_bytes_max: u32,
    /// The longest inline command or length line without its line end, in bytes.
    pub inline_bytes_max: u32,
    /// The longest frame up to the end of its last payload, in bytes.
    pub frame_bytes_max: u32,
    /// The client must still authenticate: only what AUTH and HELLO need is let in, so that
    /// strangers cannot make the server buffer much. It belongs to the moment of execution: while
    /// an AUTH of the same connection is not executed yet, later frames must not be parsed.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            args_max: ARGS_MAX,
            bulk_bytes_max: BULK_BYTES_MAX,
            inline_bytes_max: INLINE_BYTES_MAX,
            frame_bytes_max: FRAME_BYTES_MAX,
            unauthenticated: false,
        }
    }
}

/// How far the torn frame at the head of a connection's input has been followed.
///
/// The default is a frame of which nothing has been looked at. Offsets count from the frame's
/// first byte, so that the connection may move the bytes between calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where the element begins that is not complete: a length line, or an open payload.
    at: u32,
    /// How many bytes of an incomplete line are known to hold no line end.
    scanned: u32,
    /// The number of arguments of the array; 0 while it is not known.
    arg_count: u32,
    /// How many of them are not complete.
    args_left: u32,
    /// The length of the payload that begins at `at`.
    open_bytes: Option<u32>,
}

impl Progress {
    /// Forgets the frame. [`parse`] does it by itself when a frame is complete or wrong; the
    /// connection does it when it drops the bytes of a torn frame.
    #[inline]
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The argument whose length is known and whose payload is not complete, if there is one.
    ///
    /// Its declared length has passed the limits, but nothing says that the bytes will come.
    #[inline]
    #[must_use]
    pub fn open_bulk(&self) -> Option<OpenBulk> {
        self.open_bytes.map(|length_bytes| OpenBulk {
            arg_index: self.arg_count - self.args_left,
            arg_count: self.arg_count,
            start: self.at,
            length_bytes,
        })
    }

    #[inline]
    fn is_fresh(&self) -> bool {
        self.arg_count == 0 && self.scanned == 0
    }
}

/// An argument that is still arriving, see [`Progress::open_bulk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBulk {
    /// Which argument it is, from 0; those before it are complete, see [`parse_open`].
    pub arg_index: u32,
    /// How many arguments the command has.
    pub arg_count: u32,
    /// Where the payload begins, in bytes from the start of the frame.
    pub start: u32,
    /// How long the payload is, without its line end.
    pub length_bytes: u32,
}

/// The outcome of [`parse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// A frame of `consumed` bytes; `Args` holds its arguments. Without any (an empty line, an
    /// array of no elements) there is nothing to execute and nothing to reply.
    Complete {
        /// The length of the frame in bytes, at least 1.
        consumed: usize,
    },
    /// The frame goes on beyond the bytes given. Call again with the same bytes and more.
    Incomplete {
        /// At least so many bytes are still to come, at least 1. It is what the peer announced:
        /// good for sizing a buffer within the connection's budget, not a reason to exceed it.
        bytes_missing_min: usize,
    },
    /// The stream cannot be understood any further: reply with the error, then close.
    Error(ProtocolError),
}

/// Parses the frame at the start of `bytes`.
///
/// `progress` is the connection's own and starts as its default; between a call that returned
/// [`Parse::Incomplete`] and the next, bytes may be appended, not changed or removed. `args` may be
/// shared by all connections: what it holds is valid after [`Parse::Complete`] alone, and until
/// the next call.
///
/// Cost: linear in lines and headers, independent of payload lengths; calls that find a frame
/// still incomplete look only at what is new. Does not allocate, except where a command has more
/// arguments or longer quoted text than any that this `args` held before.
#[inline]
pub fn parse(bytes: &[u8], progress: &mut Progress, args: &mut Args, limits: &Limits) -> Parse {
    match bytes.first() {
        Some(b'*') => array::parse(bytes, progress, args, limits),
        Some(_) => inline::parse(bytes, progress, args, limits),
        None => Parse::Incomplete { bytes_missing_min: 1 },
    }
}

#[cfg(test)]
mod tests;
