//! Numbers as INCRBYFLOAT computes with them: the 80-bit format of x86 (`long double`), which has
//! 64 bits of mantissa, in integer arithmetic.
//!
//! Reading, adding and writing round to the nearest number, ties to even, so that results are those
//! of Redis on x86-64, digit by digit. Two things are narrower than the format: a number has
//! at most [`TEXT_BYTES_MAX`] characters, and its magnitude stays below 10^400 (the format ends at
//! 10^4932). Smaller ones than 10^-400 are read as 0, which no result of 17 decimals can tell.
//!
//! Cost: for usual numbers some hundred nanoseconds, at most some 50 us for the longest texts;
//! nothing allocates.

/// The longest text of a number.
pub(super) const TEXT_BYTES_MAX: usize = 512;
/// Places of the decimal point that a number's first digit may be away from it.
const PLACES_MAX: i64 = 400;
/// The place of the smallest number that the format has; C refuses smaller ones.
const SMALLEST_PLACE: i64 = -4_951;
/// Binary exponents from here on are too large: 10^400 is below 2 to the power of this.
const BITS_MAX: i64 = 1_330;
/// Decimals of a result, of which zeros at the end are not written.
const DECIMALS: usize = 17;
/// 64-bit words of the longest number met while reading: some 920 decimal places and 67 bits.
const WORDS: usize = 64;
/// The largest power of ten in a word.
const TEN_19: u64 = 10_u64.pow(19);

const _: () = assert!((TEXT_BYTES_MAX + PLACES_MAX as usize) * 10 / 3 + 2 * 67 < WORDS * 64);

/// A finite number: `mantissa * 2^exponent`. The mantissa's top bit is set unless it is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extended {
    is_negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A number.
    Finite(Extended),
    /// Infinity of either sign.
    Infinite,
}

impl Extended {
    const ZERO: Extended = Extended { is_negative: false, mantissa: 0, exponent: 0 };

    /// Reads what C's `strtold` reads: decimal or hexadecimal with a point and an exponent, or
    /// infinity. `None` for anything else, NaN, leading spaces and numbers out of range.
    pub(super) fn parse(text: &[u8]) -> Option<Parsed> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (is_negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(Parsed::Infinite);
        }
        let number = match text {
            [b'0', b'x' | b'X', digits @ ..] => parse_hexadecimal(digits)?,
            digits => parse_decimal(digits)?,
        };
        let is_small = number.mantissa == 0 || number.top_bit() < BITS_MAX;
        is_small.then_some(Parsed::Finite(Extended { is_negative, ..number }))
    }

    /// The sum, or `None` if it is out of range.
    pub(super) fn plus(self, other: Extended) -> Option<Extended> {
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let magnitude = |number: &Extended| (number.exponent, number.mantissa);
        let (large, small) =
            if magnitude(&self) >= magnitude(&other) { (self, other) } else { (other, self) };
        // 63 bits behind the mantissas, and one before them for a carry.
        let wide = u128::from(large.mantissa) << 63;
        let distance = large.exponent.abs_diff(small.exponent).min(127);
        let shifted = (u128::from(small.mantissa) << 63) >> distance;
        let is_exact = shifted << distance == u128::from(small.mantissa) << 63;
        let sum = if large.is_negative == small.is_negative {
            wide + shifted
        } else {
            // What was shifted out is taken away too: the difference lies below.
            wide - shifted - u128::from(!is_exact)
        };
        if sum == 0 {
            return Some(Extended::ZERO);
        }
        let number = rounded(sum, !is_exact, large.exponent - 63);
        (number.top_bit() < BITS_MAX)
            .then_some(Extended { is_negative: large.is_negative, ..number })
    }

    /// The position of the highest bit.
    fn top_bit(&self) -> i64 {
        i64::from(self.exponent) + 63
    }

    /// The text with 17 decimals at most, without zeros at the end.
    pub(super) fn text(&self) -> Text {
        let mut text = Text { bytes: [0; TEXT_BYTES_MAX], start: TEXT_BYTES_MAX };
        let (whole, fraction) = self.parts();
        let mut decimals = (DECIMALS, fraction);
        while decimals.0 > 0 && decimals.1.is_multiple_of(10) {
            decimals = (decimals.0 - 1, decimals.1 / 10);
        }
        if decimals.0 > 0 {
            text.digits(decimals.1, decimals.0);
            text.push(b'.');
        }
        let is_zero = fraction == 0 && whole.len == 0;
        text.whole(whole);
        if self.is_negative && !is_zero {
            text.push(b'-');
        }
        text
    }

    /// The magnitude's whole part, and its fraction in units of the last decimal.
    fn parts(&self) -> (Words, u64) {
        let mut whole = Words::new();
        if self.exponent >= 0 {
            whole.multiply_add(1, self.mantissa);
            whole.shift_left(self.exponent.unsigned_abs() as usize);
            return (whole, 0);
        }
        let shift = self.exponent.unsigned_abs();
        let mut units = self.mantissa.checked_shr(shift).unwrap_or(0);
        let below = self.mantissa - units.checked_shl(shift).unwrap_or(0);
        let scale = 10_u64.pow(DECIMALS as u32);
        let scaled = u128::from(below) * u128::from(scale);
        // Beyond 127 bits there is less than half a unit: the product has 121.
        let mut fraction = scaled.checked_shr(shift).unwrap_or(0) as u64;
        if shift < 128 {
            let (rest, half) = (scaled & ((1 << shift) - 1), 1_u128 << (shift - 1));
            fraction += u64::from(rest > half || (rest == half && fraction % 2 == 1));
        }
        if fraction == scale {
            (units, fraction) = (units + 1, 0);
        }
        whole.multiply_add(1, units);
        (whole, fraction)
    }
}

/// The text of a number, on the stack; written from its end.
pub(super) struct Text {
    bytes: [u8; TEXT_BYTES_MAX],
    start: usize,
}

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    fn digits(&mut self, mut number: u64, count: usize) {
        for _ in 0..count {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
        }
    }

    fn whole(&mut self, mut whole: Words) {
        while whole.len > 1 {
            let low = whole.divide(TEN_19);
            self.digits(low, 19);
        }
        let high = whole.words[0];
        self.digits(high, high.checked_ilog10().unwrap_or(0) as usize + 1);
    }
}

/// A whole number of up to [`WORDS`] words, the lowest first; those from `len` on are 0.
struct Words {
    words: [u64; WORDS],
    len: usize,
}

impl Words {
    fn new() -> Words {
        Words { words: [0; WORDS], len: 0 }
    }

    fn multiply_add(&mut self, factor: u64, addend: u64) {
        let mut carry = addend;
        for word in &mut self.words[..self.len] {
            let wide = u128::from(*word) * u128::from(factor) + u128::from(carry);
            (*word, carry) = (wide as u64, (wide >> 64) as u64);
        }
        if carry > 0 {
            self.words[self.len] = carry;
            self.len += 1;
        }
    }

    /// Divides; returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut rest = 0;
        for word in self.words[..self.len].iter_mut().rev() {
            let wide = u128::from(rest) << 64 | u128::from(*word);
            *word = (wide / u128::from(divisor)) as u64;
            rest = (wide % u128::from(divisor)) as u64;
        }
        while self.len > 0 && self.words[self.len - 1] == 0 {
            self.len -= 1;
        }
        rest
    }

    fn shift_left(&mut self, bits: usize) {
        if self.len == 0 {
            return;
        }
        let (words, bits) = (bits / 64, bits % 64);
        self.words.copy_within(..self.len, words);
        self.words[..words].fill(0);
        self.len += words;
        self.multiply_add(1 << bits, 0);
    }

    fn bits(&self) -> usize {
        match self.len {
            0 => 0,
            len => len * 64 - self.words[len - 1].leading_zeros() as usize,
        }
    }

    /// This number times `2^exponent`, and a little more if `is_more`, which more than 64 bits
    /// must then precede.
    fn to_extended(&self, is_more: bool, exponent: i64) -> Extended {
        let mut top = [0; 2];
        let first = self.len.saturating_sub(2);
        top[..self.len - first].copy_from_slice(&self.words[first..self.len]);
        let is_more = is_more || self.words[..first].iter().any(|&word| word != 0);
        let top = u128::from(top[1]) << 64 | u128::from(top[0]);
        if top == 0 {
            Extended::ZERO
        } else {
            rounded(top, is_more, exponent as i32 + 64 * first as i32)
        }
    }
}

/// `bits * 2^exponent`, and a little more if `is_more`, with 64 bits of mantissa.
fn rounded(bits: u128, is_more: bool, exponent: i32) -> Extended {
    let zeros = bits.leading_zeros();
    let wide = bits << zeros;
    let (mantissa, rest) = ((wide >> 64) as u64, wide as u64);
    let exponent = exponent - zeros as i32 + 64;
    let half = 1 << 63;
    let is_up = rest > half || (rest == half && (is_more || mantissa % 2 == 1));
    match mantissa.checked_add(u64::from(is_up)) {
        Some(mantissa) => Extended { is_negative: false, mantissa, exponent },
        None => Extended { is_negative: false, mantissa: half, exponent: exponent + 1 },
    }
}

/// Digits with at most one point among them, and at least one digit: what to do with each, how many
/// stand behind the point, and what follows.
fn scan(text: &[u8], radix: u32, mut digit: impl FnMut(u64)) -> Option<(i64, &[u8])> {
    let (mut count, mut behind, mut has_point) = (0, 0, false);
    let mut length = 0;
    for &byte in text {
        match char::from(byte).to_digit(radix) {
            Some(value) => {
                digit(u64::from(value));
                count += 1;
                behind += i64::from(has_point);
            }
            None if byte == b'.' && !has_point => has_point = true,
            None => break,
        }
        length += 1;
    }
    (count > 0).then_some((behind, &text[length..]))
}

/// An exponent behind one of these letters, or nothing. So far from zero that it matters no more,
/// it may be another one.
fn parse_exponent(text: &[u8], letter: u8) -> Option<i64> {
    let digits = match text {
        [] => return Some(0),
        [first, b'+' | b'-', digits @ ..] | [first, digits @ ..]
            if first.eq_ignore_ascii_case(&letter) =>
        {
            digits
        }
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: i64, digit: &u8| (sum * 10 + i64::from(digit - b'0')).min(1_000_000);
    let magnitude = digits.iter().fold(0, add);
    Some(if text[1] == b'-' { -magnitude } else { magnitude })
}

fn parse_decimal(text: &[u8]) -> Option<Extended> {
    let mut number = Words::new();
    // Digits are collected in a word before they reach the number; `places` has as many zeros.
    let (mut word, mut places) = (0, 1);
    let (behind, rest) = scan(text, 10, |digit| {
        (word, places) = (word * 10 + digit, places * 10);
        if places == TEN_19 {
            number.multiply_add(places, word);
            (word, places) = (0, 1);
        }
    })?;
    number.multiply_add(places, word);
    let exponent = parse_exponent(rest, b'e')? - behind;
    // The first digit stands at this place, or one beside it.
    let place = number.bits() as i64 * 3 / 10 + exponent;
    if number.len == 0 {
        return Some(Extended::ZERO);
    }
    if place < -PLACES_MAX {
        // The format itself has smaller numbers, down to a place.
        return (place >= SMALLEST_PLACE).then_some(Extended::ZERO);
    }
    if place > PLACES_MAX {
        return None;
    }
    let power = exponent.unsigned_abs();
    if exponent >= 0 {
        for _ in 0..power / 19 {
            number.multiply_add(TEN_19, 0);
        }
        number.multiply_add(10_u64.pow((power % 19) as u32), 0);
        return Some(number.to_extended(false, 0));
    }
    // As many bits as the division takes away, and 67 to be left.
    let shift = (power as usize * 10 / 3 + 68).saturating_sub(number.bits());
    number.shift_left(shift);
    let mut is_more = false;
    for _ in 0..power / 19 {
        is_more |= number.divide(TEN_19) != 0;
    }
    is_more |= number.divide(10_u64.pow((power % 19) as u32)) != 0;
    Some(number.to_extended(is_more, -(shift as i64)))
}

fn parse_hexadecimal(text: &[u8]) -> Option<Extended> {
    let mut number = Words::new();
    let (behind, rest) = scan(text, 16, |digit| number.multiply_add(16, digit))?;
    let exponent = parse_exponent(rest, b'p')? - 4 * behind;
    if number.len == 0 || number.bits() as i64 + exponent < -BITS_MAX {
        return Some(Extended::ZERO);
    }
    (number.bits() as i64 + exponent <= BITS_MAX).then(|| number.to_extended(false, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Extended {
        match Extended::parse(text.as_bytes()) {
            Some(Parsed::Finite(number)) => number,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn sum(left: &str, right: &str) -> String {
        let sum = number(left).plus(number(right)).expect("in range");
        String::from_utf8(sum.text().as_bytes().to_vec()).expect("ASCII")
    }

    /// What Redis on x86-64 answers.
    #[test]
    fn sums_are_those_of_the_80_bit_format() {
        for (left, right, wanted) in [
            ("0", "0.1", "0.1"),
            ("10", "1e5", "100010"),
            ("10", ".5", "10.5"),
            ("10", "5.", "15"),
            ("10", "+5", "15"),
            ("3.0e3", "200", "3200"),
            ("5.0e3", "200.5", "5200.5"),
            ("0.1", "0.2", "0.3"),
            ("1e17", "0.1", "100000000000000000.1015625"),
            ("-1.5", "1.5", "0"),
            ("0", "-0.0", "0"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "4.9e-18", "0"),
            ("0", "-1e-18", "0"),
            ("0", "1e20", "100000000000000000000"),
            ("0", "3.14159265358979323846264338327950288", "3.14159265358979324"),
            ("123456789012345678901234567890", "1", "123456789012345678899921813504"),
            ("10", "0x10", "26"),
            ("10", "0x1p-2", "10.25"),
            ("0x.8", "-0X8.8P1", "-16.5"),
            ("10", "1e-4950", "10"),
        ] {
            assert_eq!(sum(left, right), wanted, "{left} + {right}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "e5",
            "1e-9999999999999",
            "1e",
            "1e+",
            "--1",
            "+-1",
            "0x",
            ".",
            "1.2.3",
            "nan",
            "1e401",
            "1\0",
            "1e5000",
            "infinit",
            "0xp1",
            "1e99999999999999999999999",
        ] {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text:?}");
        }
        for text in ["inf", "-Infinity", "+INF"] {
            assert_eq!(Extended::parse(text.as_bytes()), Some(Parsed::Infinite));
        }
        assert_eq!(Extended::parse(&[b'1'; TEXT_BYTES_MAX + 1]), None);
        let large = number("1e399");
        let mut sum = Some(large);
        for _ in 0..200 {
            sum = sum.and_then(|sum| sum.plus(sum));
        }
        assert_eq!(sum, None, "out of range");
        assert_eq!(large.text().as_bytes().len(), 400);
    }

    /// Whole numbers and binary fractions below 64 bits are exact, so sums can be checked.
    #[test]
    fn exact_sums_are_exact() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..20_000 {
            let (left, right) =
                (next() as i64 >> (2 + next() % 60), next() as i64 >> (2 + next() % 60));
            assert_eq!(sum(&left.to_string(), &right.to_string()), (left + right).to_string());
            // Sixteenths have four decimals at most.
            let sixteenths = |number: i64| {
                let (number, part) = (number >> 6, (number >> 2) & 15);
                let tenth = number * 10_000 + part * 625;
                (
                    tenth,
                    format!(
                        "{}{}.{:04}",
                        if tenth < 0 { "-" } else { "" },
                        (tenth / 10_000).abs(),
                        (tenth % 10_000).abs()
                    ),
                )
            };
            let ((a, left), (b, right)) = (sixteenths(left >> 14), sixteenths(right >> 14));
            let wanted = number(&sixteenths_text(a + b));
            assert_eq!(number(&left).plus(number(&right)), Some(wanted), "{left} {right} {round}");
        }
    }

    fn sixteenths_text(tenth: i64) -> String {
        let sign = if tenth < 0 { "-" } else { "" };
        format!("{sign}{}.{:04}", (tenth / 10_000).abs(), (tenth % 10_000).abs())
    }

    #[test]
    fn doubles_are_read_exactly() {
        let mut state = 7_u64;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let double = f64::from_bits(state);
            if !double.is_normal() || double.abs() > 1e200 || double.abs() < 1e-200 {
                continue;
            }
            // `{:e}` is exact only with all digits; 60 decimals are more than 80 bits tell.
            let read = number(&format!("{double:.60e}"));
            let (mantissa, exponent) = (
                double.to_bits() & ((1 << 52) - 1) | 1 << 52,
                (double.to_bits() >> 52) as i32 & 0x7ff,
            );
            assert_eq!(
                (read.mantissa, read.exponent),
                (mantissa << 11, exponent - 1075 - 11),
                "{double:e}"
            );
            assert_eq!(read.is_negative, double < 0.0);
        }
    }
}
