//! Commands on values as arrays of bits. Bit 0 is the highest bit of the first byte, and beyond a
//! value's end all bits are 0.
//!
//! - `bit`: SETBIT, GETBIT
//! - `count`: BITCOUNT, BITPOS
//! - `op`: BITOP
//! - `field`: BITFIELD, BITFIELD_RO; `integer` has their arithmetic

mod bit;
mod count;
mod field;
mod integer;
mod op;

use super::spec::{KeySpec, Spec};
use crate::protocol::number;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("bitcount", -2, count::bitcount)
        .flags("readonly")
        .categories("@read @bitmap @slow")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("2.6.0")
        .cost("O(N) in the bytes of the range, in slices")
        .summary("Counts the bits of a value that are set."),
    Spec::new("bitfield", -2, field::bitfield)
        .flags("write denyoom")
        .categories("@write @bitmap @slow")
        .keys(&[KeySpec::new("RW access update variable_flags", 1, 0, 1)])
        .since("3.2.0")
        .cost("O(N) in the number of operations; the value is copied when it outgrows its place")
        .summary("Reads and changes integers of any width within a value."),
    Spec::new("bitfield_ro", -2, field::bitfield_ro)
        .flags("readonly fast")
        .categories("@read @bitmap @fast")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("6.0.0")
        .cost("O(N) in the number of operations")
        .summary("Reads integers of any width within a value."),
    Spec::new("bitop", -4, op::bitop)
        .flags("write denyoom")
        .categories("@write @bitmap @slow")
        .keys(&[KeySpec::new("OW update", 2, 0, 1), KeySpec::new("RO access", 3, -1, 1)])
        .since("2.6.0")
        .cost("O(N) in the bytes of all values, in slices")
        .summary("Combines values bit by bit and stores the result."),
    Spec::new("bitpos", -3, count::bitpos)
        .flags("readonly")
        .categories("@read @bitmap @slow")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("2.8.7")
        .cost("O(N) in the bytes up to the bit, in slices")
        .summary("Finds the first bit of a value that is set, or clear."),
    Spec::new("getbit", 3, bit::getbit)
        .flags("readonly fast")
        .categories("@read @bitmap @fast")
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .since("2.2.0")
        .summary("Tells one bit of a value."),
    Spec::new("setbit", 4, bit::setbit)
        .flags("write denyoom")
        .categories("@write @bitmap @slow")
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .since("2.2.0")
        .cost("O(1); the value is copied when it outgrows its place")
        .summary("Sets or clears one bit of a value and tells the old one."),
];

/// Bits that can be named: those of 512 MiB, the longest string of Redis.
const BITS_MAX: u64 = 512 << 23;

/// What a wrong offset is answered with.
const WRONG_OFFSET: &str = "ERR bit offset is not an integer or out of range";

/// The offset of a bit. Behind a `#` it counts in integers of `width` bits, if those may be.
fn bit_offset(text: &[u8], width: Option<u32>) -> Option<u64> {
    let (text, factor) = match (text, width) {
        ([b'#', rest @ ..], Some(width)) => (rest, u64::from(width)),
        _ => (text, 1),
    };
    let offset = u64::try_from(number::parse_i64_strict(text)?).ok()?.checked_mul(factor)?;
    (offset < BITS_MAX).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_bits_or_integers() {
        assert_eq!(bit_offset(b"0", None), Some(0));
        assert_eq!(bit_offset(b"4294967295", None), Some(BITS_MAX - 1));
        assert_eq!(bit_offset(b"#3", Some(5)), Some(15));
        for (text, width) in [
            ("4294967296", None),
            ("-1", None),
            ("#1", None),
            ("", None),
            ("x", Some(8)),
            ("#", Some(8)),
            ("#-1", Some(8)),
            ("#9223372036854775807", Some(64)),
            ("#67108864", Some(64)),
        ] {
            assert_eq!(bit_offset(text.as_bytes(), width), None, "{text}");
        }
    }
}
