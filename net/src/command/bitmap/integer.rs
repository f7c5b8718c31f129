//! The integers of BITFIELD: signed ones of 1 to 64 bits, unsigned ones of 1 to 63, with the three
//! ways to treat overflow. The highest bit comes first, and an integer may begin at any bit.

use super::super::string::Target;
use crate::protocol::number;

/// Bytes that an integer touches at most.
pub(super) const BYTES_MAX: usize = 9;

/// The kind of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    is_signed: bool,
    pub(super) bits: u32,
}

/// What happens to a result that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// Its lowest bits are taken.
    Wrap,
    /// It becomes the nearest that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl Kind {
    /// `i` or `u` and the number of bits.
    pub(super) fn parse(text: &[u8]) -> Option<Kind> {
        let (is_signed, bits, bits_max) = match text {
            [b'i', bits @ ..] => (true, bits, 64),
            [b'u', bits @ ..] => (false, bits, 63),
            _ => return None,
        };
        let bits = number::parse_i64_strict(bits).filter(|bits| (1..=bits_max).contains(bits))?;
        Some(Kind { is_signed, bits: bits as u32 })
    }

    /// Reads the integer that begins at a bit. Bits beyond the value's end are 0.
    pub(super) fn read(self, target: &Target<'_>, offset: u64) -> i64 {
        let mut bytes = [0; BYTES_MAX];
        target.read((offset / 8) as usize, &mut bytes);
        self.decode(&bytes, offset)
    }

    /// The same, when the bytes from the one with that bit on are these.
    pub(super) fn decode(self, there: &[u8; BYTES_MAX], offset: u64) -> i64 {
        let mut bytes = [0; 16];
        bytes[..BYTES_MAX].copy_from_slice(there);
        let word = u128::from_be_bytes(bytes) << (offset % 8);
        // The integer's highest bit is the word's now.
        let shift = 128 - self.bits;
        if self.is_signed { (word as i128 >> shift) as i64 } else { (word >> shift) as i64 }
    }

    /// Writes the lowest bits of a number as the integer that begins at a bit.
    pub(super) fn write(self, target: &mut Target<'_>, offset: u64, number: i64) {
        let (first, skip) = ((offset / 8) as usize, offset as u32 % 8);
        let count = (skip + self.bits).div_ceil(8) as usize;
        let mut bytes = [0; 16];
        target.read(first, &mut bytes[..count]);
        let shift = 128 - self.bits - skip;
        let mask = ((1_u128 << self.bits) - 1) << shift;
        let word = u128::from_be_bytes(bytes) & !mask | (number as u128) << shift & mask;
        target.write(first, &word.to_be_bytes()[..count]);
    }

    /// What `number + increment` becomes. `None`: it does not fit, and nothing is to be written.
    pub(super) fn plus(self, number: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(number) + i128::from(increment), overflow)
    }

    /// What a client's number becomes. A negative one is very large as an unsigned integer. Redis
    /// measures how far a number is from the largest signed one in 64 bits, where the distance of
    /// the most negative ones wraps: they become the largest, and so they do here.
    pub(super) fn set(self, number: i64, overflow: Overflow) -> Option<i64> {
        if !self.is_signed {
            return self.fit(i128::from(number as u64), overflow);
        }
        let max = i64::MAX >> (64 - self.bits);
        let wraps = self.bits < 64 && max.checked_sub(number).is_none();
        if wraps && overflow == Overflow::Saturate {
            return Some(max);
        }
        self.fit(i128::from(number), overflow)
    }

    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = match self.is_signed {
            true => (-1 << (self.bits - 1), (1 << (self.bits - 1)) - 1),
            false => (0, (1_i128 << self.bits) - 1),
        };
        let fits = (min..=max).contains(&number);
        match overflow {
            _ if fits => Some(number as i64),
            Overflow::Fail => None,
            Overflow::Saturate => Some(number.clamp(min, max) as i64),
            Overflow::Wrap => {
                let top = (number as u128) << (128 - self.bits);
                let shift = 128 - self.bits;
                Some(if self.is_signed {
                    (top as i128 >> shift) as i64
                } else {
                    (top >> shift) as i64
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Kind {
        Kind::parse(text.as_bytes()).expect("a kind")
    }

    #[test]
    fn kinds_have_a_sign_and_a_width() {
        assert_eq!(kind("i64"), Kind { is_signed: true, bits: 64 });
        assert_eq!(kind("u1"), Kind { is_signed: false, bits: 1 });
        for wrong in ["", "i", "u64", "i65", "i0", "u-1", "I8", "U8", "8", "i08", "u1x"] {
            assert_eq!(Kind::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn integers_come_back_from_any_bit_and_leave_the_others() {
        for bits in 1..=64 {
            for is_signed in [false, true] {
                if bits == 64 && !is_signed {
                    continue;
                }
                let kind = Kind { is_signed, bits };
                for offset in 0..20 {
                    for background in [0, 0xff] {
                        let mut bytes = [background; 12];
                        let mut target = Target::Copy(&mut bytes);
                        let number = 0x5a5a_a5a5_1234_fedc_u64 as i64 >> (64 - bits);
                        kind.write(&mut target, offset, number);
                        let wanted = kind.fit(i128::from(number), Overflow::Wrap);
                        assert_eq!(Some(kind.read(&target, offset)), wanted);
                        // Put the background back: all bytes are as they were.
                        kind.write(&mut target, offset, if background == 0 { 0 } else { -1 });
                        assert_eq!(bytes, [background; 12]);
                    }
                }
            }
        }
        let mut bytes = [0xff; 2];
        assert_eq!(kind("u16").read(&Target::Copy(&mut bytes), 8), 0xff00, "zeros follow");
        assert_eq!(kind("i8").read(&Target::Copy(&mut bytes), 100), 0);
    }

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        use Overflow::{Fail, Saturate, Wrap};
        let (i8, u8, i64) = (kind("i8"), kind("u8"), kind("i64"));
        assert_eq!(
            [Wrap, Saturate, Fail].map(|way| i8.plus(127, 1, way)),
            [Some(-128), Some(127), None]
        );
        assert_eq!(
            [Wrap, Saturate, Fail].map(|way| i8.plus(-128, -1, way)),
            [Some(127), Some(-128), None]
        );
        assert_eq!(
            [Wrap, Saturate, Fail].map(|way| u8.plus(255, 2, way)),
            [Some(1), Some(255), None]
        );
        assert_eq!(
            [Wrap, Saturate, Fail].map(|way| u8.plus(1, -2, way)),
            [Some(255), Some(0), None]
        );
        assert_eq!([Wrap, Saturate, Fail].map(|way| u8.set(-1, way)), [Some(255), Some(255), None]);
        assert_eq!(
            [Wrap, Saturate, Fail].map(|way| i8.set(-129, way)),
            [Some(127), Some(-128), None]
        );
        let far = i64::MIN + 127;
        assert_eq!([far, far + 1].map(|number| i8.set(number, Saturate)), [Some(127), Some(-128)]);
        assert_eq!((i8.set(far, Wrap), i8.set(far, Fail)), (Some(127), None));
        assert_eq!(i64.set(i64::MIN, Saturate), Some(i64::MIN));
        assert_eq!(i64.plus(i64::MAX, 1, Wrap), Some(i64::MIN));
        assert_eq!(i64.plus(i64::MIN, -1, Saturate), Some(i64::MIN));
        assert_eq!(kind("u63").plus(i64::MAX, i64::MAX, Wrap), Some(i64::MAX - 1));
        assert_eq!(i8.plus(100, 20, Fail), Some(120));
    }
}
