//! The bytes of an item in the log.
//!
//! ```text
//! format 1 | [attributes 1] | key length 1/2 | value length 1/2/4 | version 6/8
//!          | [client flags 4] | [deadline 4/6] | key | value, or page numbers of 4 bytes
//!
//! format      bits 0-1  deadline in ms on the shard's clock: 0 none, 1 its low 32 bits,
//!                       2 six bytes: 47 bits, and the expiry plane in the top bit; 3 as 1, with
//!                       expiry plane 1
//!             bit 2     client flags follow
//!             bits 3-4  value length in 1, 2 or 4 bytes; 3 = 4 bytes and the value is in pages
//!             bit 5     the attributes byte follows
//!             bit 6     dead: overwritten, deleted or expired
//!             bit 7     key length in 2 bytes
//! attributes  bit 0     the version takes 8 bytes; bits 1 (stale) and 2 (lease token sent) are
//!                       reserved and 0; bits 3-7 the space (see `shard::databases`)
//! ```
//!
//! Integers are little-endian, nothing is padded or aligned: a 16-byte key with a 64-byte value
//! has 9 bytes of header. A deadline field of all ones means "no deadline", so that a deadline
//! can be taken away in place.
//!
//! D1. A deadline of four bytes is read as the one nearest to the clock that has these low bits. So
//! it is written for the next 24.8 days only, and no item may be overdue by as much: the shard
//! sees to that (`OVERDUE_MS_MAX`). Nothing beside the item has to be read for it, and an item moves
//! as it is.

use crate::bounds::{DEADLINE_BITS, PAGE_ID_BYTES};
use crate::hash::SPACES;

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
const SPACE_SHIFT: u32 = 3;
const _: () = assert!(SPACES == 1 << (u8::BITS - SPACE_SHIFT));

/// Versions of the shard's counter that six bytes hold.
const NARROW_VERSION_MAX: u64 = (1 << 48) - 1;
const NO_NEAR: u32 = u32::MAX;
const NO_FAR: u64 = (1 << DEADLINE_BITS) - 1;
/// How far away a deadline of four bytes may be when it is written (D1).
const NEAR_MS_MAX: u64 = i32::MAX as u64;
/// The latest deadline that an item can carry, in milliseconds: some 4,400 years.
pub(crate) const DEADLINE_MS_MAX: u64 = NO_FAR - 1;

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
        let value = [1, 2, 4, 4][(f >> VALUE_SHIFT & VALUE_MASK) as usize];
        let attributes = (f & ATTRIBUTES != 0) as u8;
        let key = if f & LONG_KEY != 0 { 2 } else { 1 };
        table[format] = 1 + attributes + key + value + 6 + flags + deadline;
        format += 1;
    }
    table
};

/// A deadline as the item stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StoredDeadline {
    /// No field.
    None,
    /// The low 32 bits (D1); `NO_NEAR` for no deadline.
    Near(u32),
    /// All of it; `NO_FAR` for no deadline.
    Far(u64),
}

impl StoredDeadline {
    /// The shortest form of `deadline_ms`, which is after `now_ms`.
    pub(crate) fn shortest(deadline_ms: Option<u64>, now_ms: u64) -> StoredDeadline {
        let Some(deadline_ms) = deadline_ms else { return StoredDeadline::None };
        let is_near = deadline_ms.checked_sub(now_ms).is_some_and(|ms| ms <= NEAR_MS_MAX);
        if is_near && deadline_ms as u32 != NO_NEAR {
            StoredDeadline::Near(deadline_ms as u32)
        } else {
            StoredDeadline::Far(deadline_ms.min(DEADLINE_MS_MAX))
        }
    }

    /// `deadline_ms` in the form that is there already, if that form can say it.
    pub(crate) fn same_form(self, deadline_ms: Option<u64>, now_ms: u64) -> Option<Self> {
        match (self, StoredDeadline::shortest(deadline_ms, now_ms)) {
            (StoredDeadline::None, StoredDeadline::None) => Some(self),
            (StoredDeadline::None, _) => None,
            (StoredDeadline::Near(_), StoredDeadline::None) => Some(StoredDeadline::Near(NO_NEAR)),
            (StoredDeadline::Near(_), StoredDeadline::Far(_)) => None,
            (StoredDeadline::Near(_), near) => Some(near),
            (StoredDeadline::Far(_), _) => {
                let ms = deadline_ms.map_or(NO_FAR, |ms| ms.min(DEADLINE_MS_MAX));
                Some(StoredDeadline::Far(ms))
            }
        }
    }

    /// The deadline in milliseconds on the shard's clock, which reads `now_ms` (D1).
    #[inline]
    pub(crate) fn resolve(self, now_ms: u64) -> Option<u64> {
        match self {
            StoredDeadline::None => None,
            StoredDeadline::Near(NO_NEAR) => None,
            StoredDeadline::Near(low_ms) => {
                Some(now_ms.saturating_add_signed(i64::from(left_ms(low_ms, now_ms))))
            }
            StoredDeadline::Far(NO_FAR) => None,
            StoredDeadline::Far(ms) => Some(ms),
        }
    }

    fn bytes(self) -> usize {
        match self {
            StoredDeadline::None => 0,
            StoredDeadline::Near(_) => 4,
            StoredDeadline::Far(_) => 6,
        }
    }
}

/// The time from `now_ms` to the deadline with these low bits (D1); 0 or less once it has come.
#[inline(always)]
fn left_ms(low_ms: u32, now_ms: u64) -> i32 {
    low_ms.wrapping_sub(now_ms as u32) as i32
}

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
        let mut out = Writer { bytes: [0; HEADER_BYTES_MAX], at: 0 };
        out.push(&[self.format()]);
        let wide = matches!(self.version, Version::Wide(_));
        if wide || self.space != 0 {
            out.push(&[(u8::from(wide) * WIDE_VERSION) | (self.space << SPACE_SHIFT)]);
        }
        let key = (self.key_bytes as u16).to_le_bytes();
        out.push(if self.key_bytes > 0xff { &key } else { &key[..1] });
        let value = (self.value_bytes as u32).to_le_bytes();
        out.push(match self.value_form() {
            0 => &value[..1],
            1 => &value[..2],
            _ => &value,
        });
        let version = self.version.number().to_le_bytes();
        out.push(if wide { &version } else { &version[..6] });
        if self.flags != 0 {
            out.push(&self.flags.to_le_bytes());
        }
        match self.deadline {
            StoredDeadline::None => {}
            StoredDeadline::Near(ms) => out.push(&ms.to_le_bytes()),
            StoredDeadline::Far(ms) => {
                let ms = if self.plane { ms | FAR_PLANE } else { ms };
                out.push(&ms.to_le_bytes()[..6]);
            }
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
        let format = bytes[0];
        let mut at = 1;
        let mut attributes = 0;
        if format & ATTRIBUTES != 0 {
            attributes = bytes[1];
            at = 2;
        }
        let mut key_bytes = usize::from(bytes[at]);
        at += 1;
        if format & LONG_KEY != 0 {
            key_bytes |= usize::from(bytes[at]) << 8;
            at += 1;
        }
        let value_form = format >> VALUE_SHIFT & VALUE_MASK;
        let (value_bytes, length_bytes) = match value_form {
            0 => (usize::from(bytes[at]), 1),
            1 => (usize::from(u16::from_le_bytes(array(bytes, at))), 2),
            _ => (u32::from_le_bytes(array(bytes, at)) as usize, 4),
        };
        at += length_bytes;
        let version = if attributes & WIDE_VERSION != 0 {
            at += 8;
            Version::Wide(u64::from_le_bytes(array(bytes, at - 8)))
        } else {
            at += 6;
            Version::Counted(six_bytes(bytes, at - 6))
        };
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
            | bit(matches!(self.version, Version::Wide(_)) || self.space != 0, ATTRIBUTES)
            | bit(self.dead, DEAD)
            | bit(self.key_bytes > 0xff, LONG_KEY)
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

/// Whether the item at the front of `bytes` has this key. Reads the header's lengths and the key.
#[inline(always)]
pub(crate) fn key_is(bytes: &[u8], key: &[u8], space: u8) -> bool {
    let format = bytes[0];
    let mut start = usize::from(HEADER_BYTES[usize::from(format)]);
    let mut at = 1;
    let mut attributes = 0;
    if format & ATTRIBUTES != 0 {
        attributes = bytes[1];
        start += usize::from(attributes & WIDE_VERSION) * 2;
        at = 2;
    }
    if attributes >> SPACE_SHIFT != space {
        return false;
    }
    let mut key_bytes = usize::from(bytes[at]);
    if format & LONG_KEY != 0 {
        key_bytes |= usize::from(bytes[at + 1]) << 8;
    }
    key_bytes == key.len() && &bytes[start..start + key_bytes] == key
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
    bytes: [u8; HEADER_BYTES_MAX],
    at: usize,
}

impl Writer {
    #[inline(always)]
    fn push(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
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
mod tests {
    use super::*;
    use crate::bounds::{CLOCK_CHECK_MS, OVERDUE_MS_MAX};

    const PLAIN: Header = Header {
        dead: false,
        paged: false,
        key_bytes: 16,
        value_bytes: 64,
        version: Version::Counted(1),
        flags: 0,
        deadline: StoredDeadline::None,
        plane: false,
        space: 0,
    };

    #[test]
    fn a_plain_small_item_has_nine_bytes_of_header() {
        assert_eq!(PLAIN.header_bytes(), 9);
        assert_eq!(PLAIN.header_bytes(), HEADER_BYTES_MIN);
        assert_eq!(PLAIN.item_bytes(16 << 10), 89);
    }

    #[test]
    fn every_combination_of_fields_reads_back() {
        let versions = [Version::Counted(0), Version::Counted(NARROW_VERSION_MAX)];
        let versions = versions.into_iter().chain([Version::Wide(1), Version::Wide(u64::MAX)]);
        let deadlines =
            [StoredDeadline::None, StoredDeadline::Near(5), StoredDeadline::Far(DEADLINE_MS_MAX)];
        let values = [0, 255, 256, 65_535, 65_536];
        for version in versions {
            for deadline in deadlines {
                let plane = version.number() == 1 && deadline != StoredDeadline::None;
                for (key_bytes, flags) in [(0, 0), (255, 1), (256, u32::MAX), (65_535, 9)] {
                    for (value_bytes, paged) in values.map(|bytes| (bytes, bytes > 256)) {
                        let header = Header {
                            key_bytes,
                            value_bytes,
                            paged,
                            version,
                            flags,
                            deadline,
                            plane,
                            ..PLAIN
                        };
                        let mut bytes = vec![0xaa; HEADER_BYTES_MAX + key_bytes];
                        let header_bytes = header.encode(&mut bytes);
                        assert_eq!(header_bytes, header.header_bytes());
                        assert_eq!(Header::decode_with_length(&bytes), (header, header_bytes));
                        let key = vec![7; key_bytes];
                        bytes.resize(header_bytes + key_bytes, 0);
                        bytes[header_bytes..].copy_from_slice(&key);
                        assert!(key_is(&bytes, &key, header.space));
                        assert!(!key_is(&bytes, &[&key[..], b"x"].concat(), header.space));
                        set_dead(&mut bytes);
                        assert_eq!(Header::decode(&bytes), Header { dead: true, ..header });
                    }
                }
            }
        }
    }

    #[test]
    fn four_byte_lengths_of_inline_values_read_back() {
        let header = Header { value_bytes: 100_000, ..PLAIN };
        let mut bytes = [0; HEADER_BYTES_MAX];
        assert_eq!(header.encode(&mut bytes), 12);
        assert_eq!(Header::decode(&bytes), header);
    }

    #[test]
    fn deadlines_choose_their_form_and_keep_it() {
        let now = 1_000_000;
        let near = StoredDeadline::shortest(Some(now + 9), now);
        assert_eq!(near, StoredDeadline::Near(now as u32 + 9));
        assert_eq!(near.resolve(now), Some(now + 9));
        let before = StoredDeadline::shortest(Some(now - 1), now);
        assert_eq!(before, StoredDeadline::Far(now - 1));
        let edge = now + NEAR_MS_MAX;
        assert_eq!(StoredDeadline::shortest(Some(edge), now).bytes(), 4);
        let far = StoredDeadline::shortest(Some(edge + 1), now);
        assert_eq!(far, StoredDeadline::Far(edge + 1));
        assert_eq!(near.same_form(Some(edge + 1), now), None);
        assert_eq!(far.same_form(Some(now + 9), now).unwrap().resolve(now), Some(now + 9));
        for stored in [near, far, StoredDeadline::None] {
            let without = stored.same_form(None, now).unwrap();
            assert_eq!(without.resolve(now), None);
            assert_eq!(without.bytes(), stored.bytes());
        }
        assert_eq!(StoredDeadline::None.same_form(Some(now), now), None);
        let forever = StoredDeadline::shortest(Some(u64::MAX), now);
        assert_eq!(forever.resolve(now), Some(DEADLINE_MS_MAX));
    }

    #[test]
    fn a_near_deadline_reads_back_until_long_after_it_has_come() {
        let wrap = 1 << 32;
        for now in [0, 1, wrap / 2, wrap - 1, wrap, 7 * wrap - 5, (1 << 46) + 12_345] {
            for away in [1, 2, 4, 1_000, NEAR_MS_MAX - 1, NEAR_MS_MAX] {
                let deadline = now + away;
                let stored = StoredDeadline::shortest(Some(deadline), now);
                if deadline as u32 == NO_NEAR {
                    assert_eq!(stored, StoredDeadline::Far(deadline), "the mark for none");
                } else {
                    assert_eq!(stored, StoredDeadline::Near(deadline as u32));
                }
                for later in [now, now + away / 2, deadline - 1, deadline] {
                    assert_eq!(stored.resolve(later), Some(deadline));
                }
                for overdue in [1, OVERDUE_MS_MAX, OVERDUE_MS_MAX + CLOCK_CHECK_MS] {
                    assert_eq!(stored.resolve(deadline + overdue), Some(deadline));
                }
            }
        }
    }

    #[test]
    fn a_deadline_is_overwritten_in_place() {
        let header = Header { deadline: StoredDeadline::Near(5), flags: 3, ..PLAIN };
        let mut bytes = [0; HEADER_BYTES_MAX];
        header.encode(&mut bytes);
        set_deadline(&mut bytes, &header, StoredDeadline::Near(77));
        let now = Header { deadline: StoredDeadline::Near(77), ..header };
        assert_eq!(Header::decode(&bytes), now);
        for plane in [true, false] {
            set_plane(&mut bytes, &now, plane);
            assert_eq!(Header::decode(&bytes), Header { plane, ..now });
        }
    }

    #[test]
    fn a_counter_past_six_bytes_goes_wide() {
        assert_eq!(Version::counted(1 << 48), Version::Wide(1 << 48));
        assert_eq!(Version::counted(9), Version::Counted(9));
    }
}
