//! The bytes of an item in the log.
//!
//! ```text
//! format 1 | version 6 | key length 1 | [key length 1] | [attributes 1 | [version 2]]
//!          | value length 1/2/4 | [client flags 4] | [deadline 4/6]
//!          | key | value, or page numbers of 4 bytes
//!
//! format      bits 0-1  deadline in ms on the shard's clock: 0 none, 1 its low 32 bits,
//!                       2 six bytes: 47 bits, and the expiry plane in the top bit; 3 as 1, with
//!                       expiry plane 1
//!             bit 2     client flags follow
//!             bits 3-4  value length in 1, 2 or 4 bytes; 3 = 4 bytes and the value is in pages
//!             bit 5     the attributes byte follows
//!             bit 6     dead: overwritten, deleted or expired
//!             bit 7     key length in 2 bytes
//! attributes  bit 0     two more bytes of the version
//!             bits 1-2  the marks of `shard::lease`: the value is stale, a lease was handed out
//!             bits 3-7  the space (see `shard::databases`)
//! ```
//!
//! Integers are little-endian, nothing is padded or aligned: a 16-byte key with a 64-byte value
//! has 9 bytes of header. The low bytes of version and key length are at the same place in every
//! item, so that one load of eight bytes has all that most lookups compare (`Front`).

mod deadline;
mod front;

pub(crate) use deadline::{DEADLINE_MS_MAX, StoredDeadline};
pub(crate) use front::{Front, key_is};

use crate::bounds::{DEADLINE_BITS, PAGE_ID_BYTES};
use crate::hash::SPACES;
use crate::request::Marks;

const DEADLINE_MASK: u8 = 0b11;
const DEADLINE_NEAR: u8 = 1;
const DEADLINE_FAR: u8 = 2;
const DEADLINE_NEAR_PLANE: u8 = 3;
const FAR_PLANE: u64 = 1 << DEADLINE_BITS;
const FLAGS: u8 = 1 << 2;
const VALUE_SHIFT: u32 = 3;
const VALUE_MASK: u8 = 0b11;
const VALUE_PAGED: u8 = 3;
const ATTRIBUTES: u8 = 1 << 5;
const DEAD: u8 = 1 << 6;
const LONG_KEY: u8 = 1 << 7;
const WIDE_VERSION: u8 = 1;
const STALE: u8 = 1 << 1;
const TOKEN_SENT: u8 = 1 << 2;
const SPACE_SHIFT: u32 = 3;
const _: () = assert!(SPACES == 1 << (u8::BITS - SPACE_SHIFT));

/// Where the first eight bytes have the low bits of version and key length.
const VERSION_SHIFT: u32 = 8;
const KEY_BYTES_SHIFT: u32 = 56;
/// Bytes of the value's length, by form.
const VALUE_LENGTH_BYTES: [usize; 4] = [1, 2, 4, 4];

/// Versions of the shard's counter that six bytes hold.
const NARROW_VERSION_BITS: u32 = 48;
const NARROW_VERSION_MAX: u64 = (1 << NARROW_VERSION_BITS) - 1;

/// The longest header.
pub(crate) const HEADER_BYTES_MAX: usize = 1 + 1 + 2 + 4 + 8 + 4 + 6;
/// The shortest header.
pub(crate) const HEADER_BYTES_MIN: usize = 1 + 1 + 1 + 6;

/// Header bytes by format byte, for an item with a narrow version.
const HEADER_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut format = 0;
    while format < 256 {
        let f = format as u8;
        let deadline = [0, 4, 6, 4][(f & DEADLINE_MASK) as usize];
        let flags = if f & FLAGS != 0 { 4 } else { 0 };
        let value = VALUE_LENGTH_BYTES[(f >> VALUE_SHIFT & VALUE_MASK) as usize] as u8;
        let attributes = (f & ATTRIBUTES != 0) as u8;
        let key = if f & LONG_KEY != 0 { 2 } else { 1 };
        table[format] = 1 + attributes + key + value + 6 + flags + deadline;
        format += 1;
    }
    table
};

/// An item's version and who chose it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    /// From the shard's counter, six bytes.
    Counted(u64),
    /// Eight bytes: set by a client, or past what six bytes hold.
    Wide(u64),
}

impl Version {
    /// A value of the shard's counter.
    pub(crate) fn counted(counter: u64) -> Version {
        if counter <= NARROW_VERSION_MAX {
            Version::Counted(counter)
        } else {
            Version::Wide(counter)
        }
    }

    /// The number that clients see.
    #[inline]
    pub(crate) fn number(self) -> u64 {
        match self {
            Version::Counted(number) | Version::Wide(number) => number,
        }
    }
}

/// Everything of an item but its key and value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Overwritten, deleted or expired.
    pub(crate) dead: bool,
    /// The value lies in pages.
    pub(crate) paged: bool,
    pub(crate) key_bytes: usize,
    /// Bytes of the value, wherever it lies.
    pub(crate) value_bytes: usize,
    pub(crate) version: Version,
    pub(crate) flags: u32,
    pub(crate) deadline: StoredDeadline,
    /// The plane of the expiry entry that this item's deadline relies on (see `expiry`). `false`
    /// in an item without a deadline field.
    pub(crate) plane: bool,
    /// The key's space.
    pub(crate) space: u8,
    /// What leases have marked the item with.
    pub(crate) marks: Marks,
}

impl Header {
    /// Bytes of the header itself.
    pub(crate) fn header_bytes(&self) -> usize {
        let wide = matches!(self.version, Version::Wide(_));
        usize::from(HEADER_BYTES[usize::from(self.format())]) + if wide { 2 } else { 0 }
    }

    /// Pages of `page_bytes` that the value takes.
    #[inline]
    pub(crate) fn pages(&self, page_bytes: usize) -> usize {
        if self.paged { self.value_bytes.div_ceil(page_bytes) } else { 0 }
    }

    /// Bytes of the whole item in the log: header, key, and value or page numbers.
    pub(crate) fn item_bytes(&self, page_bytes: usize) -> usize {
        let tail =
            if self.paged { self.pages(page_bytes) * PAGE_ID_BYTES } else { self.value_bytes };
        self.header_bytes() + self.key_bytes + tail
    }

    /// Writes the header to the front of `bytes` and returns its length.
    pub(crate) fn encode(&self, bytes: &mut [u8]) -> usize {
        let mut out = Writer { bytes: [0; HEADER_BYTES_MAX + 8], at: 8 };
        let version = self.version.number();
        let word = u64::from(self.format())
            | (version & NARROW_VERSION_MAX) << VERSION_SHIFT
            | (self.key_bytes as u64) << KEY_BYTES_SHIFT;
        out.bytes[..8].copy_from_slice(&word.to_le_bytes());
        if self.key_bytes > 0xff {
            out.push(self.key_bytes as u64 >> 8, 1);
        }
        let attributes = self.attributes();
        if attributes != 0 {
            out.push(u64::from(attributes), 1);
        }
        if attributes & WIDE_VERSION != 0 {
            out.push(version >> NARROW_VERSION_BITS, 2);
        }
        out.push(self.value_bytes as u64, VALUE_LENGTH_BYTES[usize::from(self.value_form())]);
        if self.flags != 0 {
            out.push(u64::from(self.flags), 4);
        }
        match self.deadline {
            StoredDeadline::None => {}
            StoredDeadline::Near(ms) => out.push(u64::from(ms), 4),
            StoredDeadline::Far(ms) => out.push(if self.plane { ms | FAR_PLANE } else { ms }, 6),
        }
        bytes[..out.at].copy_from_slice(&out.bytes[..out.at]);
        out.at
    }

    /// Reads the header at the front of `bytes`, which an `encode` wrote.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Header {
        Header::decode_with_length(bytes).0
    }

    /// Reads the header at the front of `bytes`, and returns its length in bytes with it.
    #[inline(always)]
    pub(crate) fn decode_with_length(bytes: &[u8]) -> (Header, usize) {
        let word = u64::from_le_bytes(array(bytes, 0));
        let format = word as u8;
        let mut at = 8;
        let mut key_bytes = (word >> KEY_BYTES_SHIFT) as usize;
        if format & LONG_KEY != 0 {
            key_bytes |= usize::from(bytes[at]) << 8;
            at += 1;
        }
        let version = word >> VERSION_SHIFT & NARROW_VERSION_MAX;
        let mut attributes = 0;
        if format & ATTRIBUTES != 0 {
            attributes = bytes[at];
            at += 1;
        }
        let version = if attributes & WIDE_VERSION != 0 {
            let high = u16::from_le_bytes(array(bytes, at));
            at += 2;
            Version::Wide(version | u64::from(high) << NARROW_VERSION_BITS)
        } else {
            Version::Counted(version)
        };
        let value_form = format >> VALUE_SHIFT & VALUE_MASK;
        let value_bytes = match value_form {
            0 => usize::from(bytes[at]),
            1 => usize::from(u16::from_le_bytes(array(bytes, at))),
            _ => u32::from_le_bytes(array(bytes, at)) as usize,
        };
        at += VALUE_LENGTH_BYTES[usize::from(value_form)];
        let mut flags = 0;
        if format & FLAGS != 0 {
            flags = u32::from_le_bytes(array(bytes, at));
            at += 4;
        }
        let mut plane = format & DEADLINE_MASK == DEADLINE_NEAR_PLANE;
        let deadline = match format & DEADLINE_MASK {
            0 => StoredDeadline::None,
            DEADLINE_FAR => {
                let ms = six_bytes(bytes, at);
                plane = ms & FAR_PLANE != 0;
                StoredDeadline::Far(ms & !FAR_PLANE)
            }
            _ => StoredDeadline::Near(u32::from_le_bytes(array(bytes, at))),
        };
        at += deadline.bytes();
        let header = Header {
            dead: format & DEAD != 0,
            paged: value_form == VALUE_PAGED,
            key_bytes,
            value_bytes,
            version,
            flags,
            deadline,
            plane,
            space: attributes >> SPACE_SHIFT,
            marks: marks_of(attributes),
        };
        (header, at)
    }

    fn format(&self) -> u8 {
        let deadline = match self.deadline {
            StoredDeadline::None => 0,
            StoredDeadline::Near(_) if self.plane => DEADLINE_NEAR_PLANE,
            StoredDeadline::Near(_) => DEADLINE_NEAR,
            StoredDeadline::Far(_) => DEADLINE_FAR,
        };
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        deadline
            | self.value_form() << VALUE_SHIFT
            | bit(self.flags != 0, FLAGS)
            | bit(self.attributes() != 0, ATTRIBUTES)
            | bit(self.dead, DEAD)
            | bit(self.key_bytes > 0xff, LONG_KEY)
    }

    /// The attributes byte, which is left out if it is 0.
    fn attributes(&self) -> u8 {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        bit(matches!(self.version, Version::Wide(_)), WIDE_VERSION)
            | bit(self.marks.stale, STALE)
            | bit(self.marks.token_sent, TOKEN_SENT)
            | self.space << SPACE_SHIFT
    }

    fn value_form(&self) -> u8 {
        match self.value_bytes {
            _ if self.paged => VALUE_PAGED,
            0..=0xff => 0,
            0x100..=0xffff => 1,
            _ => 2,
        }
    }
}

fn marks_of(attributes: u8) -> Marks {
    Marks { stale: attributes & STALE != 0, token_sent: attributes & TOKEN_SENT != 0 }
}

/// The marks of the item at the front of `bytes`: one byte says that most have none.
#[inline]
pub(crate) fn marks(bytes: &[u8]) -> Marks {
    if bytes[0] & ATTRIBUTES == 0 { Marks::NONE } else { Header::decode(bytes).marks }
}

/// Marks the item at the front of `bytes` dead.
pub(crate) fn set_dead(bytes: &mut [u8]) {
    bytes[0] |= DEAD;
}

/// Overwrites the deadline field of the item at the front of `bytes`, whose header is `header`,
/// by one of the same form.
pub(crate) fn set_deadline(bytes: &mut [u8], header: &Header, deadline: StoredDeadline) {
    debug_assert_eq!(header.deadline.bytes(), deadline.bytes());
    Header { deadline, ..*header }.encode(bytes);
}

/// Moves the item at the front of `bytes`, whose header is `header`, to another expiry plane.
pub(crate) fn set_plane(bytes: &mut [u8], header: &Header, plane: bool) {
    Header { plane, ..*header }.encode(bytes);
}

struct Writer {
    bytes: [u8; HEADER_BYTES_MAX + 8],
    at: usize,
}

impl Writer {
    /// Adds the low `bytes` bytes of a field. Writes eight: what comes next overwrites the rest.
    #[inline(always)]
    fn push(&mut self, field: u64, bytes: usize) {
        self.bytes[self.at..self.at + 8].copy_from_slice(&field.to_le_bytes());
        self.at += bytes;
    }
}

#[inline(always)]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[inline(always)]
fn six_bytes(bytes: &[u8], at: usize) -> u64 {
    let low = u32::from_le_bytes(array(bytes, at));
    let high = u16::from_le_bytes(array(bytes, at + 4));
    u64::from(low) | u64::from(high) << 32
}

#[cfg(test)]
mod tests;
