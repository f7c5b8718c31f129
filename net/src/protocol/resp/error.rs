//! What makes a RESP stream unreadable, in the words of Redis.

use std::fmt;

/// Why the bytes of a connection are not RESP. All are final: reply, then close.
///
/// Its `Display` is the text of the error reply without the leading `-` and the line end, which
/// is what [`Writer::error`](super::Writer::error) takes; [`write_reply`](Self::write_reply)
/// does not format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number of arguments is not a number, or beyond the limit.
    MultibulkLength,
    /// More arguments than a client may send before it has authenticated.
    UnauthenticatedMultibulkLength,
    /// The length of an argument is not a number, negative, or beyond the limit.
    BulkLength,
    /// A longer argument than a client may send before it has authenticated.
    UnauthenticatedBulkLength,
    /// An argument begins with another byte than `$`.
    ExpectedDollar(u8),
    /// The line with the number of arguments does not end.
    MultibulkCountTooBig,
    /// The line with the length of an argument does not end.
    BulkCountTooBig,
    /// A carriage return without a line feed, or an argument that is not followed by both: the
    /// length that the client sent is not that of its data. (Redis does not look.)
    MissingLineEnd,
    /// The whole request is beyond the limit. (Redis closes without a word.)
    FrameTooBig,
    /// The line of an inline command does not end.
    InlineTooBig,
    /// A quote that is not closed, or something right behind a closing quote.
    UnbalancedQuotes,
    /// A NUL byte in an inline command. (Redis waits for ever.)
    InlineNul,
}

impl ProtocolError {
    /// Appends the whole error reply, the same in RESP2 and RESP3.
    pub fn write_reply(self, out: &mut Vec<u8>) {
        let (text, byte) = self.parts();
        out.extend_from_slice(b"-ERR Protocol error: ");
        out.extend_from_slice(text.as_bytes());
        if let Some(byte) = byte {
            // A line end within an error would end the reply.
            out.push(if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
            out.push(b'\'');
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the request is larger than is allowed. (A length that is not a number counts, too.)
    pub fn is_size(self) -> bool {
        matches!(
            self,
            Self::MultibulkLength
                | Self::UnauthenticatedMultibulkLength
                | Self::BulkLength
                | Self::UnauthenticatedBulkLength
                | Self::FrameTooBig
                | Self::InlineTooBig
        )
    }

    fn parts(self) -> (&'static str, Option<u8>) {
        let text = match self {
            Self::MultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::BulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::ExpectedDollar(byte) => return ("expected '$', got '", Some(byte)),
            Self::MultibulkCountTooBig => "too big mbulk count string",
            Self::BulkCountTooBig => "too big bulk count string",
            Self::MissingLineEnd => "missing line end after length or data",
            Self::FrameTooBig => "too big request",
            Self::InlineTooBig => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::InlineNul => "NUL byte in inline request",
        };
        (text, None)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, byte) = self.parts();
        write!(formatter, "ERR Protocol error: {text}")?;
        match byte {
            Some(byte) => write!(formatter, "{}'", byte.escape_ascii()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ProtocolError {}
