//! What a lookup reads of an item: whether the key is the wanted one, whether it may be served,
//! and where the value lies. No more than that, and with few branches.
//!
//! Nearly all items are *plain*: in space 0, with a key of less than 256 bytes, a version of the
//! shard's counter, no deadline or a near one, and the value beside the key. Their first eight bytes tell format,
//! version and key length, and the format tells the length of the header. All others, and one at
//! the very end of the log, are decoded in full, out of the way.

use super::deadline::{NO_NEAR, left_ms};
use super::{
    ATTRIBUTES, DEADLINE_FAR, DEADLINE_MASK, HEADER_BYTES, HEADER_BYTES_MAX, Header,
    KEY_BYTES_SHIFT, LONG_KEY, NARROW_VERSION_MAX, VALUE_MASK, VALUE_PAGED, VALUE_SHIFT,
    VERSION_SHIFT, array,
};

/// The bits of a value's length in the four bytes where it begins, by form.
const VALUE_LENGTH_MASKS: [u32; 4] = [0xff, 0xffff, u32::MAX, u32::MAX];

/// Whether an item of this format is plain.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut format = 0;
    while format < 256 {
        let f = format as u8;
        table[format] = f & (ATTRIBUTES | LONG_KEY) == 0
            && f & DEADLINE_MASK != DEADLINE_FAR
            && f >> VALUE_SHIFT & VALUE_MASK != VALUE_PAGED;
        format += 1;
    }
    table
};

/// Where the parts of a plain item lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    /// Bytes of the header.
    pub(crate) header_bytes: usize,
    /// Bytes of the value.
    pub(crate) value_bytes: usize,
}

impl Front {
    /// Reads the item at the front of `bytes`, if it is plain and may be served at `now_ms`, after a
    /// flush of all versions up to `version_floor`. If not, it is to be decoded.
    #[inline(always)]
    pub(crate) fn of_live(bytes: &[u8], version_floor: u64, now_ms: u64) -> Option<Front> {
        let start = bytes.first_chunk::<HEADER_BYTES_MAX>()?;
        let word = u64::from_le_bytes(array(start, 0));
        let format = word as u8;
        let header_bytes = usize::from(HEADER_BYTES[usize::from(format)]);
        let version = word >> VERSION_SHIFT & NARROW_VERSION_MAX;
        // Without a deadline these are the last bytes of the header, whatever they are: all
        // conditions are computed, so that there is one branch to predict.
        let low_ms = u32::from_le_bytes(array(start, header_bytes - 4));
        let has_time =
            (format & DEADLINE_MASK == 0) | (low_ms == NO_NEAR) | (left_ms(low_ms, now_ms) > 0);
        if !(PLAIN[usize::from(format)] & has_time & (version > version_floor)) {
            return None;
        }
        let value_form = usize::from(format >> VALUE_SHIFT & VALUE_MASK);
        let value_bytes = u32::from_le_bytes(array(start, 8)) & VALUE_LENGTH_MASKS[value_form];
        Some(Front { header_bytes, value_bytes: value_bytes as usize })
    }
}

/// Whether the item at the front of `bytes` has this key of this space. Reads the header's lengths and the key.
#[inline(always)]
pub(crate) fn key_is(bytes: &[u8], key: &[u8], space: u8) -> bool {
    let word = u64::from_le_bytes(array(bytes, 0));
    let format = word as u8;
    if format & (ATTRIBUTES | LONG_KEY) != 0 {
        return decoded_key_is(bytes, key, space);
    }
    let header_bytes = usize::from(HEADER_BYTES[usize::from(format)]);
    let key_bytes = (word >> KEY_BYTES_SHIFT) as usize;
    space == 0
        && key_bytes == key.len()
        && same_bytes(&bytes[header_bytes..header_bytes + key_bytes], key)
}

#[cold]
#[inline(never)]
fn decoded_key_is(bytes: &[u8], key: &[u8], space: u8) -> bool {
    let (header, header_bytes) = Header::decode_with_length(bytes);
    header.space == space && &bytes[header_bytes..header_bytes + header.key_bytes] == key
}

/// Whether both, of the same length, have the same bytes. 8 to 32 bytes are compared by two loads
/// that overlap, without a call.
#[inline(always)]
fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    match one.len() {
        8..=16 => both_ends::<8>(one, other),
        17..=32 => both_ends::<16>(one, other),
        _ => one == other,
    }
}

/// Whether the first `N` bytes are the same, and the last.
#[inline(always)]
fn both_ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
    (one.first_chunk::<N>() == other.first_chunk::<N>())
        & (one.last_chunk::<N>() == other.last_chunk::<N>())
}

#[cfg(test)]
mod tests {
    use super::same_bytes;

    #[test]
    fn keys_of_every_length_are_compared_to_the_last_byte() {
        for bytes in 0..70 {
            let one: Vec<u8> = (0..bytes).collect();
            assert!(same_bytes(&one, &one.clone()));
            for index in 0..one.len() {
                let mut other = one.clone();
                other[index] ^= 0x80;
                assert!(!same_bytes(&one, &other), "byte {index} of {bytes}");
            }
        }
    }
}
