//! Keys of sixteen bytes, and random numbers that belong to them.

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// A key in text: a letter and its number in fifteen digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; KEY_BYTES]);

impl Key {
    /// The key of a number below 10^15.
    pub(crate) fn new(number: u64) -> Key {
        debug_assert!(number < 1_000_000_000_000_000);
        let mut bytes = [b'k'; KEY_BYTES];
        let mut left = number;
        for digit in bytes[1..].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        Key(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A number that looks random and depends on both numbers alone (the finalizer of SplitMix64;
/// Steele, Lea, Flood 2014).
pub(crate) fn mix(number: u64, salt: u64) -> u64 {
    let mut z = number.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_in_digits() {
        assert_eq!(Key::new(0).bytes(), b"k000000000000000");
        assert_eq!(Key::new(999_999_999_999_999).bytes(), b"k999999999999999");
        assert_eq!(Key::new(1_234).bytes(), b"k000000000001234");
    }

    #[test]
    fn numbers_depend_on_key_and_salt() {
        assert_eq!(mix(1, 2), mix(1, 2));
        assert!(mix(1, 2) != mix(2, 2) && mix(1, 2) != mix(1, 3));
    }
}
