//! From a key to its slot, as the Redis Cluster specification defines it.
//!
//! A slot is the CRC16/XMODEM of the key modulo 16384. If the key contains a *hash tag* - a `{`
//! with a later `}` and at least one byte between the first `{` and the first `}` after it - only
//! the tag is summed, so that an application can keep keys that belong together in one slot.
//! Keys are bytes, not text.
//!
//! Cost: one search and one sum over the key, eight bytes at a time; no allocation.

use crate::crc16;
use std::fmt;

/// How many slots the key space is divided into. Fixed by the Redis Cluster protocol.
pub const SLOT_COUNT: u16 = 16_384;

// The modulo is taken with a mask, which only a power of two allows.
const _: () = assert!(SLOT_COUNT.is_power_of_two());

/// The number of a slot: always below [`SLOT_COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, or `None` if there is no such slot.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOT_COUNT { Some(Self(number)) } else { None }
    }

    /// The number of this slot, below [`SLOT_COUNT`].
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// All slots in ascending order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + DoubleEndedIterator {
        (0..SLOT_COUNT).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// The slot of `key`. What `CLUSTER KEYSLOT` answers for the same key.
///
/// ```
/// use pinion_router::slot;
///
/// assert_eq!(slot(b"foo").number(), 12182);
/// // Only the hash tag counts.
/// assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
/// ```
#[inline]
#[must_use]
pub fn slot(key: &[u8]) -> Slot {
    Slot(crc16::checksum(hash_tag(key)) & (SLOT_COUNT - 1))
}

/// The part of `key` that decides its slot: the hash tag if there is one, else the whole key.
///
/// ```
/// use pinion_router::hash_tag;
///
/// assert_eq!(hash_tag(b"a{b}c{d}"), b"b");
/// assert_eq!(hash_tag(b"a{}b{c}"), b"a{}b{c}"); // An empty tag counts as none.
/// assert_eq!(hash_tag(b"a{{b}}"), b"{b");
/// ```
#[inline]
#[must_use]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = find(b'{', key) else {
        return key;
    };
    let after = &key[open + 1..];
    match find(b'}', after) {
        None | Some(0) => key,
        Some(close) => &after[..close],
    }
}

/// The index of the first `needle` in `bytes`.
///
/// Looks at eight bytes at once: a byte of `word ^ pattern` is zero where the needle is, and
/// `(x - 0x01..) & !x & 0x80..` marks the lowest zero byte of `x` exactly (bytes above it may be
/// marked wrongly by the borrow, which does not matter for the first).
#[inline]
fn find(needle: u8, bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let pattern = u64::from_ne_bytes([needle; 8]);
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let differing = u64::from_le_bytes(*word) ^ pattern;
        let marks = differing.wrapping_sub(LOW) & !differing & HIGH;
        if marks != 0 {
            return Some(index * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    tail.iter().position(|&byte| byte == needle).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::{SLOT_COUNT, Slot, find, hash_tag, slot};
    use proptest::prelude::*;

    #[test]
    fn slot_numbers_are_bounded() {
        assert_eq!(Slot::new(0).map(Slot::number), Some(0));
        assert_eq!(Slot::new(SLOT_COUNT - 1).map(Slot::number), Some(16_383));
        assert_eq!(Slot::new(SLOT_COUNT), None);
        assert_eq!(Slot::new(u16::MAX), None);
        assert_eq!(Slot::all().len(), usize::from(SLOT_COUNT));
        assert_eq!(Slot::new(42).map(|slot| slot.to_string()), Some("42".to_owned()));
    }

    #[test]
    fn hash_tags_at_every_edge() {
        let cases: [(&[u8], &[u8]); 16] = [
            (b"", b""),
            (b"plain", b"plain"),
            (b"{tag}", b"tag"),
            (b"before{tag}", b"tag"),
            (b"{tag}after", b"tag"),
            (b"{", b"{"),
            (b"}", b"}"),
            (b"{}", b"{}"),
            (b"}{", b"}{"),
            (b"{open", b"{open"),
            (b"close}", b"close}"),
            (b"}x{tag}", b"tag"),
            (b"{}{tag}", b"{}{tag}"),
            (b"{{tag}}", b"{tag"),
            (b"{one}{two}", b"one"),
            (b"\x00\xff{\x00}\xff", b"\x00"),
        ];
        for (key, tag) in cases {
            assert_eq!(hash_tag(key), tag, "key {:?}", key.escape_ascii().to_string());
        }
    }

    /// The definition, byte by byte.
    fn hash_tag_by_bytes(key: &[u8]) -> &[u8] {
        let Some(open) = key.iter().position(|&byte| byte == b'{') else {
            return key;
        };
        let Some(close) = key[open..].iter().position(|&byte| byte == b'}') else {
            return key;
        };
        if close == 1 { key } else { &key[open + 1..open + close] }
    }

    proptest! {
        #[test]
        fn tags_agree_with_the_definition(key in r"[a{}]{0,40}") {
            prop_assert_eq!(hash_tag(key.as_bytes()), hash_tag_by_bytes(key.as_bytes()));
        }

        /// Neighbours of the needle and zero bytes are what the borrow could confuse.
        #[test]
        fn find_agrees_with_a_loop(
            bytes in prop::collection::vec(
                prop::sample::select(&[0, 1, b'z', b'{', b'|', 0x80, 0xfb, 0xff][..]), 0..40),
        ) {
            prop_assert_eq!(find(b'{', &bytes), bytes.iter().position(|&byte| byte == b'{'));
        }

        #[test]
        fn every_key_has_a_slot(key in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(slot(&key).number() < SLOT_COUNT);
        }

        #[test]
        fn a_tag_alone_decides(
            tag in "[a-z]{1,20}", before in "[a-z}]{0,20}", after in "[a-z{}]{0,20}",
        ) {
            let tagged = format!("{before}{{{tag}}}{after}");
            prop_assert_eq!(slot(tagged.as_bytes()), slot(tag.as_bytes()));
        }
    }
}
