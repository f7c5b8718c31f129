//! Decimal integers in both protocols: strict parsing, and writing without `core::fmt`.
//!
//! Overflow is an error everywhere, never a wrap. No function here allocates, apart from the
//! growth of an output buffer whose capacity does not suffice.

/// The most bytes that the decimal form of a 64-bit integer takes, sign included.
pub const DECIMAL_BYTES_MAX: usize = 20;

/// Reads an integer as Redis reads one (`string2ll`): the canonical form only.
///
/// An optional `-`, then digits without a leading zero; `0` alone is zero. A plus sign, spaces,
/// `-0`, an empty slice and anything outside the 64-bit range are `None`.
#[inline]
#[must_use]
pub fn parse_i64_strict(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'0'] => Some(0),
        [b'-', digits @ ..] if starts_like_a_number(digits) => {
            0_i64.checked_sub_unsigned(digits_to_u64(digits)?)
        }
        digits if starts_like_a_number(digits) => i64::try_from(digits_to_u64(digits)?).ok(),
        _ => None,
    }
}

/// Reads a signed integer as memcached's text protocol does: an optional sign, then digits,
/// of which the first may be zero. Out of range is `None` (memcached 1.6 truncates instead).
#[inline]
#[must_use]
pub fn parse_i64_lenient(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [b'-', digits @ ..] => 0_i64.checked_sub_unsigned(digits_to_u64(digits)?),
        [b'+', digits @ ..] | digits => i64::try_from(digits_to_u64(digits)?).ok(),
    }
}

/// Reads an unsigned integer as memcached's text protocol does: an optional `+`, then digits,
/// of which the first may be zero. A negative number is `None`, unless it is zero.
#[inline]
#[must_use]
pub fn parse_u64_lenient(bytes: &[u8]) -> Option<u64> {
    match bytes {
        [b'-', digits @ ..] => digits_to_u64(digits).filter(|&number| number == 0),
        [b'+', digits @ ..] | digits => digits_to_u64(digits),
    }
}

/// Appends the decimal form of `number`.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(Decimal::new(number).as_bytes());
}

/// Appends the decimal form of `number`.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    write_u64(out, number.unsigned_abs());
}

/// The decimal form of an unsigned integer, on the stack.
pub struct Decimal {
    digits: [u8; DECIMAL_BYTES_MAX],
    start: usize,
}

impl Decimal {
    /// Formats `number`, two digits at a step.
    #[inline]
    #[must_use]
    pub fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; DECIMAL_BYTES_MAX];
        let mut start = DECIMAL_BYTES_MAX;
        while number >= 100 {
            let pair = PAIRS[(number % 100) as usize];
            number /= 100;
            start -= 2;
            digits[start] = pair[0];
            digits[start + 1] = pair[1];
        }
        let pair = PAIRS[number as usize];
        start -= 1;
        digits[start] = pair[1];
        if number >= 10 {
            start -= 1;
            digits[start] = pair[0];
        }
        Self { digits, start }
    }

    /// The digits, without leading zeros.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// `00` to `99`: halves the number of divisions.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

#[inline]
fn starts_like_a_number(digits: &[u8]) -> bool {
    matches!(digits, [b'1'..=b'9', ..])
}

/// Nineteen digits always fit in 64 bits, so that only longer forms need checked arithmetic.
#[inline]
fn digits_to_u64(digits: &[u8]) -> Option<u64> {
    const DIGITS_SAFE: usize = 19;
    if digits.is_empty() {
        return None;
    }
    let (safe, rest) = digits.split_at(digits.len().min(DIGITS_SAFE));
    let mut number = 0_u64;
    for &byte in safe {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    for &byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [i128; 16] = [
        0,
        1,
        9,
        10,
        99,
        100,
        12_345,
        i32::MAX as i128,
        u32::MAX as i128,
        i64::MAX as i128 - 1,
        i64::MAX as i128,
        i64::MAX as i128 + 1,
        u64::MAX as i128 - 1,
        u64::MAX as i128,
        u64::MAX as i128 + 1,
        u64::MAX as i128 * 10,
    ];

    #[test]
    fn round_trips_at_the_edges_of_every_width() {
        for edge in EDGES.into_iter().flat_map(|edge| [edge, -edge]) {
            let text = edge.to_string();
            let bytes = text.as_bytes();
            assert_eq!(parse_i64_strict(bytes), i64::try_from(edge).ok(), "{text}");
            assert_eq!(parse_i64_lenient(bytes), i64::try_from(edge).ok(), "{text}");
            assert_eq!(parse_u64_lenient(bytes), u64::try_from(edge).ok(), "{text}");
            let mut out = Vec::new();
            if let Ok(number) = u64::try_from(edge) {
                write_u64(&mut out, number);
                assert_eq!(out, bytes);
            }
            if let Ok(number) = i64::try_from(edge) {
                out.clear();
                write_i64(&mut out, number);
                assert_eq!(out, bytes);
            }
        }
    }

    #[test]
    fn powers_of_ten_and_their_neighbours_are_written_right() {
        for power in 0..20 {
            let ten = 10_u64.pow(power);
            for number in [ten - 1, ten, ten + 1] {
                assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn strict_refuses_all_but_the_canonical_form() {
        for text in ["", "-", "+1", "01", "-0", "00", " 1", "1 ", "1a", "0x1", "--1", "1.0"] {
            assert_eq!(parse_i64_strict(text.as_bytes()), None, "{text:?}");
        }
        for text in ["00000000000000000000000000001", "111111111111111111111111111111"] {
            assert_eq!(parse_i64_strict(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn lenient_takes_a_sign_and_leading_zeros_but_no_garbage() {
        assert_eq!(parse_u64_lenient(b"+007"), Some(7));
        assert_eq!(parse_u64_lenient(b"-0"), Some(0));
        assert_eq!(parse_i64_lenient(b"-007"), Some(-7));
        assert_eq!(parse_u64_lenient(b"00000000000000000000000000005"), Some(5));
        for text in ["", "+", "-", "+-1", "1x", "x", " 1", "1\t", "-1"] {
            assert_eq!(parse_u64_lenient(text.as_bytes()), None, "{text:?}");
        }
        for text in ["", "+", "-", "+-1", "1x", " 1"] {
            assert_eq!(parse_i64_lenient(text.as_bytes()), None, "{text:?}");
        }
    }
}
