//! Replies of the binary protocol.
//!
//! Cost: a few appends each; no allocation while the capacity suffices.

use super::HEADER_BYTES;

/// The first byte of every reply.
const MAGIC: u8 = 0x81;

/// What a reply repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Which command it was.
    pub opcode: u8,
    /// Whatever the client has sent.
    pub opaque: [u8; 4],
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// As asked.
    Success = 0x00,
    /// There is no such key.
    NotFound = 0x01,
    /// There is one, or it has another version.
    Exists = 0x02,
    /// The value is too large.
    TooLarge = 0x03,
    /// The lengths of the request are not those of its command.
    InvalidArguments = 0x04,
    /// The value was not extended.
    NotStored = 0x05,
    /// The value is no number.
    NotANumber = 0x06,
    /// Wrong password, or none was told.
    AuthError = 0x20,
    /// Go on with the next message.
    AuthContinue = 0x21,
    /// There is no such command.
    UnknownCommand = 0x81,
    /// There is no memory for it.
    OutOfMemory = 0x82,
    /// Not now.
    TemporaryFailure = 0x86,
}

impl Status {
    /// The body of the reply that only tells this, in memcached's words; empty if it is no error.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Status::Success | Status::AuthContinue => "",
            Status::NotFound => "Not found",
            Status::Exists => "Data exists for key.",
            Status::TooLarge => "Too large.",
            Status::InvalidArguments => "Invalid arguments",
            Status::NotStored => "Not stored.",
            Status::NotANumber => "Non-numeric server-side value for incr or decr",
            Status::AuthError => "Auth failure.",
            Status::UnknownCommand => "Unknown command",
            Status::OutOfMemory => "Out of memory",
            Status::TemporaryFailure => "Temporary failure",
        }
    }
}

/// What a reply has before its value.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Of the request.
    pub tag: Tag,
    /// How it ended.
    pub status: Status,
    /// The version of the item, 0 if there is none to tell.
    pub version: u64,
    /// Extras.
    pub extras: &'a [u8],
    /// The key.
    pub key: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A reply to a request, without anything.
    #[inline]
    #[must_use]
    pub fn to(tag: Tag, status: Status) -> Reply<'a> {
        Reply { tag, status, version: 0, extras: &[], key: &[] }
    }

    /// Writes it, with a value.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, value: &[u8]) {
        // One check of the capacity instead of several.
        out.reserve(HEADER_BYTES + self.extras.len() + self.key.len() + value.len());
        self.write_head(out, value.len());
        out.extend_from_slice(value);
    }

    /// Writes it up to its value of `value_bytes`, which the caller appends.
    #[inline]
    pub fn write_head(&self, out: &mut Vec<u8>, value_bytes: usize) {
        let body_bytes = self.extras.len() + self.key.len() + value_bytes;
        let mut header = [0; HEADER_BYTES];
        (header[0], header[1]) = (MAGIC, self.tag.opcode);
        header[2..4].copy_from_slice(&(self.key.len() as u16).to_be_bytes());
        header[4] = self.extras.len() as u8;
        header[6..8].copy_from_slice(&(self.status as u16).to_be_bytes());
        header[8..12].copy_from_slice(&(body_bytes as u32).to_be_bytes());
        header[12..16].copy_from_slice(&self.tag.opaque);
        header[16..].copy_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.extras);
        out.extend_from_slice(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_repeats_what_it_answers() {
        let tag = Tag { opcode: 0x0C, opaque: *b"abcd" };
        let mut out = Vec::with_capacity(HEADER_BYTES + 7);
        let reply =
            Reply { version: 0x0102, extras: &[9], key: b"key", ..Reply::to(tag, Status::Success) };
        reply.write(&mut out, b"val");
        let header = [
            0x81, 0x0C, 0, 3, 1, 0, 0, 0, 0, 0, 0, 7, b'a', b'b', b'c', b'd', 0, 0, 0, 0, 0, 0, 1,
            2,
        ];
        assert_eq!(out, [&header[..], &[9], b"key", b"val"].concat());
        out.clear();
        Reply::to(tag, Status::OutOfMemory).write(&mut out, Status::OutOfMemory.text().as_bytes());
        assert_eq!(
            (&out[6..8], &out[8..12], &out[24..]),
            (&[0, 0x82][..], &[0, 0, 0, 13][..], &b"Out of memory"[..])
        );
    }
}
