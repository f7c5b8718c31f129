//! Replies in RESP2 and RESP3.
//!
//! A [`Writer`] is a thin view of a connection's output. What RESP2 has no type for is written
//! the way Redis downgrades it: maps as flat arrays, sets as arrays, doubles, big numbers and
//! verbatim strings as bulk strings, booleans as integers.
//!
//! Cost: each reply is one or a few appends; no allocation while the capacity suffices, and no
//! `core::fmt` except for doubles that are not whole.

use crate::protocol::number::{DECIMAL_BYTES_MAX, Decimal};
use std::fmt::Write as _;

/// The version that a connection has agreed on with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The version of a new connection.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// Appends replies to an output buffer.
///
/// The caller keeps the structure: after a header of n elements it writes n replies (2n for a
/// map).
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

impl<'a> Writer<'a> {
    /// A writer at the end of `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// The version that it writes.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// `+text`, for short fixed texts. A line end in `text` is written as a space.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// `-text`; `text` begins with the code, for instance `ERR`. A line end in it, which might
    /// stem from a client's argument, is written as a space.
    #[inline]
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// The same for a text with bytes of a client's argument in it.
    #[inline]
    pub fn error_bytes(&mut self, text: &[u8]) {
        // An argument at its end may bring a line end, which Redis drops.
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let end = text.iter().rposition(|byte| !is_end(byte)).map_or(0, |last| last + 1);
        self.line(b'-', &text[..end]);
    }

    /// `:number`.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        match number {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            2.. => self.header(b':', number as u64),
            _ => {
                self.out.extend_from_slice(b":-");
                self.out.extend_from_slice(Decimal::new(number.unsigned_abs()).as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        // One check of the capacity instead of three that may each grow it.
        self.out.reserve(value.len() + DECIMAL_BYTES_MAX + 5);
        self.header(b'$', value.len() as u64);
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }

    /// The header of a bulk string of `length_bytes` whose payload the caller appends, followed
    /// by [`bulk_end`](Self::bulk_end).
    #[inline]
    pub fn bulk_header(&mut self, length_bytes: usize) {
        self.header(b'$', length_bytes as u64);
    }

    /// Ends a bulk string that [`bulk_header`](Self::bulk_header) began.
    #[inline]
    pub fn bulk_end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer as a bulk string.
    #[inline]
    pub fn bulk_integer(&mut self, number: i64) {
        let digits = Decimal::new(number.unsigned_abs());
        let digits = digits.as_bytes();
        self.header(b'$', digits.len() as u64 + u64::from(number < 0));
        if number < 0 {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(digits);
        self.out.extend_from_slice(b"\r\n");
    }

    /// No value: `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// No array: `*-1` or `_`.
    #[inline]
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"*-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// An array of `count` elements follows.
    #[inline]
    pub fn array(&mut self, count: usize) {
        self.header(b'*', count as u64);
    }

    /// A map of `count` pairs follows, each a key and a value.
    #[inline]
    pub fn map(&mut self, count: usize) {
        match self.version {
            Version::Resp2 => self.header(b'*', 2 * count as u64),
            Version::Resp3 => self.header(b'%', count as u64),
        }
    }

    /// A set of `count` elements follows.
    #[inline]
    pub fn set(&mut self, count: usize) {
        self.header(self.by_version(b'*', b'~'), count as u64);
    }

    /// A message of `count` elements follows that answers no request.
    #[inline]
    pub fn push(&mut self, count: usize) {
        self.header(self.by_version(b'*', b'>'), count as u64);
    }

    /// True or false: `:1` and `:0`, or `#t` and `#f`.
    #[inline]
    pub fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.version, value) {
            (Version::Resp2, false) => b":0\r\n",
            (Version::Resp2, true) => b":1\r\n",
            (Version::Resp3, false) => b"#f\r\n",
            (Version::Resp3, true) => b"#t\r\n",
        });
    }

    /// A double in the shortest form that reads back as the same number, laid out as by Redis.
    pub fn double(&mut self, value: f64) {
        let text = DoubleText::new(value);
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.line(b',', text.as_bytes()),
        }
    }

    /// An integer of any size, given as its decimal digits.
    pub fn big_number(&mut self, digits: &str) {
        match self.version {
            Version::Resp2 => self.bulk(digits.as_bytes()),
            Version::Resp3 => self.line(b'(', digits.as_bytes()),
        }
    }

    /// Text for people; `format` is `txt` or `mkd` and is lost in RESP2.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                self.header(b'=', text.len() as u64 + 4);
                self.out.extend_from_slice(&format);
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn by_version(&self, resp2: u8, resp3: u8) -> u8 {
        match self.version {
            Version::Resp2 => resp2,
            Version::Resp3 => resp3,
        }
    }

    /// `kind`, a number and a line end.
    #[inline]
    fn header(&mut self, kind: u8, number: u64) {
        if number < 10 {
            self.out.extend_from_slice(&[kind, b'0' + number as u8, b'\r', b'\n']);
            return;
        }
        self.out.reserve(DECIMAL_BYTES_MAX + 3);
        self.out.push(kind);
        self.out.extend_from_slice(Decimal::new(number).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let start = self.out.len();
        self.out.extend_from_slice(text);
        for byte in &mut self.out[start..] {
            if matches!(*byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

/// The text of a double, on the stack.
///
/// The digits are the shortest that identify the number. Their layout follows Redis's
/// `fpconv_dtoa`: plain up to 7 trailing zeros, a point with up to 6 leading zeros, else with an
/// exponent.
struct DoubleText {
    bytes: [u8; Self::BYTES_MAX],
    length: usize,
}

impl DoubleText {
    /// 17 digits, sign, point, `0.`, 24 places of zeros or an exponent fit with room to spare.
    const BYTES_MAX: usize = 64;
    /// Whole numbers up to this (2 to the power of 62) are written as integers.
    const WHOLE_MAX: f64 = 4_611_686_018_427_387_904.0;

    fn new(value: f64) -> Self {
        let mut text = Self { bytes: [0; Self::BYTES_MAX], length: 0 };
        if value.is_nan() {
            text.push(b"nan");
        } else if value.is_infinite() {
            text.push(if value < 0.0 { b"-inf" } else { b"inf" });
        } else {
            if value.is_sign_negative() {
                text.push(b"-");
            }
            text.push_finite(value.abs());
        }
        text
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn push_zeros(&mut self, count: usize) {
        self.push(&b"00000000000000000000000000000000"[..count]);
    }

    fn push_finite(&mut self, value: f64) {
        if value.fract() == 0.0 && value <= Self::WHOLE_MAX {
            self.push(Decimal::new(value as u64).as_bytes());
            return;
        }
        // `{:e}` has the form `d.ddde-x`: the shortest digits, and the exponent of the first.
        let mut scientific = Self { bytes: [0; Self::BYTES_MAX], length: 0 };
        let written = write!(scientific, "{value:e}");
        debug_assert!(written.is_ok(), "the longest form fits");
        let mut digits = [0; 20];
        let mut digit_count = 0;
        let mut parts = scientific.as_bytes().split(|&byte| byte == b'e');
        for &byte in parts.next().unwrap_or_default() {
            if byte != b'.' {
                digits[digit_count] = byte;
                digit_count += 1;
            }
        }
        let exponent = parts.next().and_then(crate::protocol::number::parse_i64_strict);
        self.push_digits(&digits[..digit_count], exponent.unwrap_or(0) as i32);
    }

    /// The number is `d.ddd` times ten to the power of `exponent`.
    fn push_digits(&mut self, digits: &[u8], exponent: i32) {
        const TRAILING_ZEROS_MAX: i32 = 7;
        let count = digits.len() as i32;
        let last_place = exponent - (count - 1);
        if last_place >= 0 && exponent < count + TRAILING_ZEROS_MAX {
            self.push(digits);
            self.push_zeros(last_place as usize);
        } else if last_place < 0 && (last_place > -7 || exponent.abs() < 4) {
            if exponent < 0 {
                self.push(b"0.");
                self.push_zeros((-exponent - 1) as usize);
                self.push(digits);
            } else {
                let (whole, fraction) = digits.split_at(exponent as usize + 1);
                self.push(whole);
                self.push(b".");
                self.push(fraction);
            }
        } else {
            self.push(&digits[..1]);
            if count > 1 {
                self.push(b".");
                self.push(&digits[1..]);
            }
            self.push(if exponent < 0 { b"e-" } else { b"e+" });
            self.push(Decimal::new(u64::from(exponent.unsigned_abs())).as_bytes());
        }
    }
}

impl std::fmt::Write for DoubleText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.length + text.len() > Self::BYTES_MAX {
            return Err(std::fmt::Error);
        }
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Writer)) -> [String; 2] {
        [Version::Resp2, Version::Resp3].map(|version| {
            let mut out = Vec::new();
            write(&mut Writer::new(&mut out, version));
            String::from_utf8(out).expect("ASCII")
        })
    }

    #[test]
    fn types_of_both_versions() {
        assert_eq!(both(|w| w.simple("PONG")), ["+PONG\r\n"; 2]);
        assert_eq!(both(|w| w.ok()), ["+OK\r\n"; 2]);
        assert_eq!(both(|w| w.error("ERR no")), ["-ERR no\r\n"; 2]);
        assert_eq!(both(|w| w.error_bytes(b"ERR a\r\nb")), ["-ERR a  b\r\n"; 2]);
        assert_eq!(both(|w| w.bulk(b"")), ["$0\r\n\r\n"; 2]);
        assert_eq!(both(|w| w.bulk(b"0123456789")), ["$10\r\n0123456789\r\n"; 2]);
        assert_eq!(both(|w| w.bulk_integer(-42)), ["$3\r\n-42\r\n"; 2]);
        assert_eq!(both(|w| w.null()), ["$-1\r\n", "_\r\n"]);
        assert_eq!(both(|w| w.null_array()), ["*-1\r\n", "_\r\n"]);
        assert_eq!(both(|w| w.array(12)), ["*12\r\n"; 2]);
        assert_eq!(both(|w| w.map(12)), ["*24\r\n", "%12\r\n"]);
        assert_eq!(both(|w| w.set(3)), ["*3\r\n", "~3\r\n"]);
        assert_eq!(both(|w| w.push(3)), ["*3\r\n", ">3\r\n"]);
        assert_eq!(both(|w| w.boolean(true)), [":1\r\n", "#t\r\n"]);
        assert_eq!(both(|w| w.boolean(false)), [":0\r\n", "#f\r\n"]);
        assert_eq!(both(|w| w.big_number("-123")), ["$4\r\n-123\r\n", "(-123\r\n"]);
        assert_eq!(
            both(|w| w.verbatim(*b"txt", b"hi\n")),
            ["$3\r\nhi\n\r\n", "=7\r\ntxt:hi\n\r\n"]
        );
        let streamed = both(|w| {
            w.bulk_header(1);
            w.out.push(b'x');
            w.bulk_end();
        });
        assert_eq!(streamed, both(|w| w.bulk(b"x")));
    }

    #[test]
    fn integers_at_the_edges() {
        for number in [0, 1, 2, 9, 10, -1, -10, 99, 100, i64::MAX, i64::MIN] {
            let want = format!(":{number}\r\n");
            assert_eq!(both(|w| w.integer(number)), [want.as_str(); 2]);
        }
    }

    #[test]
    fn doubles_as_redis_lays_them_out() {
        for (value, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (3.25, "3.25"),
            (-12.625, "-12.625"),
            (1e15, "1000000000000000"),
            (4_503_599_627_370_495.0, "4503599627370495"),
            (1e17, "100000000000000000"),
            (4_611_686_018_427_387_904.0, "4611686018427387904"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (-1.5e300, "-1.5e+300"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e-5, "0.00001"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (0.001_234_567_89, "0.00123456789"),
            (0.000_123_456_789, "1.23456789e-4"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            let [resp2, resp3] = both(|w| w.double(value));
            assert_eq!(resp3, format!(",{want}\r\n"));
            assert_eq!(resp2, format!("${}\r\n{want}\r\n", want.len()));
            if value.is_finite() {
                let back: f64 = want.parse().expect("a number");
                assert_eq!(back.to_bits(), value.to_bits());
            }
        }
    }

    #[test]
    fn random_doubles_read_back_as_themselves() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = f64::from_bits(state ^ state >> 29);
            if value.is_finite() {
                let text = DoubleText::new(value);
                let text = std::str::from_utf8(text.as_bytes()).expect("ASCII");
                let back: f64 = text.parse().expect("a number");
                assert_eq!(back.to_bits(), value.to_bits(), "{text}");
            }
        }
    }

    #[test]
    fn nothing_allocates_when_the_capacity_suffices() {
        let mut out = Vec::with_capacity(4096);
        let place = out.as_ptr();
        for version in [Version::Resp2, Version::Resp3] {
            let mut writer = Writer::new(&mut out, version);
            writer.bulk(&[b'x'; 1000]);
            writer.integer(i64::MIN);
            writer.double(0.1);
            writer.error("ERR text");
        }
        assert_eq!(out.as_ptr(), place);
    }
}
