//! CRC16/XMODEM: polynomial 0x1021, initial value 0, most significant bit first, no final XOR.
//!
//! This is the checksum that the Redis Cluster specification prescribes for key slots. The check
//! value of the catalogue is `checksum(b"123456789") == 0x31c3`.
//!
//! The sum is computed eight bytes at a time ("slicing by 8"): because a CRC is linear, the sum of
//! eight bytes is the XOR of eight independent table look-ups, which a CPU overlaps, where the
//! usual loop over single bytes waits for one look-up after the other. The initial value 0 makes
//! leading zero bytes invisible, so a first group of fewer than eight bytes is padded in front
//! and needs no second kind of loop.
//!
//! Cost: 4 KiB of tables, built at compile time; eight look-ups for each started group of eight
//! bytes; no allocation. Carry-less multiplication would be faster on long keys only, and needs
//! unsafe code.

/// x^16 + x^12 + x^5 + 1, without its leading term.
const POLYNOMIAL: u16 = 0x1021;

/// How many bytes one step consumes.
const STEP_BYTES: usize = 8;

/// `TABLES[k][b]` is the sum of the byte `b` followed by `k` zero bytes.
static TABLES: [[u16; 256]; STEP_BYTES] = tables();

/// The CRC16/XMODEM of `data`; 0 for no data.
#[inline]
pub(crate) fn checksum(data: &[u8]) -> u16 {
    let (head, groups) = data.as_rchunks::<STEP_BYTES>();
    let mut sum = 0;
    if !head.is_empty() {
        sum = step(0, head.iter().fold(0, |group, &byte| group << 8 | u64::from(byte)));
    }
    for group in groups {
        sum = step(sum, u64::from_be_bytes(*group));
    }
    sum
}

/// Extends `sum` by the eight bytes of `group`, whose first byte is the most significant.
#[inline]
fn step(sum: u16, group: u64) -> u16 {
    let bytes = (group ^ u64::from(sum) << 48).to_be_bytes();
    TABLES[7][usize::from(bytes[0])]
        ^ TABLES[6][usize::from(bytes[1])]
        ^ TABLES[5][usize::from(bytes[2])]
        ^ TABLES[4][usize::from(bytes[3])]
        ^ TABLES[3][usize::from(bytes[4])]
        ^ TABLES[2][usize::from(bytes[5])]
        ^ TABLES[1][usize::from(bytes[6])]
        ^ TABLES[0][usize::from(bytes[7])]
}

const fn tables() -> [[u16; 256]; STEP_BYTES] {
    let mut tables = [[0; 256]; STEP_BYTES];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = shift_8((byte as u16) << 8);
        let mut zeros = 0;
        while zeros < STEP_BYTES {
            tables[zeros][byte] = sum;
            sum = shift_8(sum);
            zeros += 1;
        }
        byte += 1;
    }
    tables
}

/// Divides by the polynomial for eight more bits: the definition, one bit at a time.
const fn shift_8(mut sum: u16) -> u16 {
    let mut bit = 0;
    while bit < 8 {
        let carry = sum & 0x8000 != 0;
        sum <<= 1;
        if carry {
            sum ^= POLYNOMIAL;
        }
        bit += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{checksum, shift_8};
    use proptest::prelude::*;

    /// The definition of the sum, without any table.
    fn checksum_by_bits(data: &[u8]) -> u16 {
        data.iter().fold(0, |sum, &byte| shift_8(sum ^ u16::from(byte) << 8))
    }

    #[test]
    fn catalogue_check_value() {
        assert_eq!(checksum_by_bits(b"123456789"), 0x31c3);
        assert_eq!(checksum(b"123456789"), 0x31c3);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn every_length_and_every_single_byte_agree_with_the_definition() {
        let data: Vec<u8> = (0..=255).collect();
        for start in 0..8 {
            for end in start..=data.len() {
                let part = &data[start..end];
                assert_eq!(checksum(part), checksum_by_bits(part), "{start}..{end}");
            }
        }
        for byte in 0..=255 {
            assert_eq!(checksum(&[byte]), checksum_by_bits(&[byte]), "byte {byte}");
        }
    }

    proptest! {
        #[test]
        fn random_data_agrees_with_the_definition(
            data in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert_eq!(checksum(&data), checksum_by_bits(&data));
        }
    }
}
