//! Redis's serialization of a string, as DUMP gives and RESTORE takes it.
//!
//! ```text
//! type (0) | string | version, 2 bytes | checksum of all before, 8 bytes      little-endian
//!
//! string:  length, bytes
//!          0xc0 i8  |  0xc1 i16  |  0xc2 i32       an integer in its decimal form
//!          0xc3 packed length, length, packed bytes                            LZF
//! length:  00LLLLLL  |  01LLLLLL LLLLLLLL  |  0x80, 4 bytes  |  0x81, 8 bytes  big-endian
//! ```
//!
//! The version written is that of the first Redis with DUMP, since the form of strings has not
//! changed since: so any Redis restores what was dumped here.
//!
//! Sources: the format as Redis 2.6 to 8.0 writes it, <https://rdb.fnordig.de/file_format.html>.

use super::lzf;
use crate::protocol::number;

/// The version in what is written: Redis 2.6.
const VERSION_WRITTEN: u16 = 6;
/// The latest version that is known: Redis 7.4 and 8.0.
const VERSION_KNOWN_MAX: u16 = 12;
/// Version and checksum.
pub(super) const FOOTER_BYTES: usize = 10;
/// The type of a string, and a length in its longest form.
const PREFIX_BYTES_MAX: usize = 10;
/// Values up to this length may be integers.
const INTEGER_BYTES_MAX: usize = 11;
/// Values from this length on are packed, if that makes them shorter by
const PACKED_VALUE_BYTES_MIN: usize = 21;
/// this much.
const PACKED_GAIN_BYTES_MIN: usize = 4;

/// What the payload holds that is not a string, by its type number.
const OTHER_TYPES: [(u8, &str); 21] = [
    (1, "a list"),
    (2, "a set"),
    (3, "a sorted set"),
    (4, "a hash"),
    (5, "a sorted set"),
    (6, "a module's value"),
    (7, "a module's value"),
    (9, "a hash"),
    (10, "a list"),
    (11, "a set"),
    (12, "a sorted set"),
    (13, "a hash"),
    (14, "a list"),
    (15, "a stream"),
    (16, "a hash"),
    (17, "a sorted set"),
    (18, "a list"),
    (19, "a stream"),
    (20, "a set"),
    (21, "a stream"),
    (24, "a hash"),
];

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadError {
    /// Too short, of an unknown version, or damaged.
    Footer,
    /// Not a value in a form that is known.
    Format,
    /// A value of another type.
    Type(&'static str),
    /// A string longer than allowed.
    TooLong,
    /// There is no memory to unpack it.
    NoRoom,
}

/// Where the string is in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An integer.
    Integer(i32),
    /// As it is.
    Plain {
        /// Where it begins.
        start: usize,
        /// Its length.
        bytes: usize,
    },
    /// Packed by LZF.
    Packed {
        /// Where the packed bytes begin.
        start: usize,
        /// How many they are.
        packed_bytes: usize,
        /// The string's length.
        bytes: usize,
    },
}

/// The checksum that a payload states, and how many bytes it covers.
///
/// # Errors
/// When it is too short, or its version is not known.
pub(super) fn footer(payload: &[u8]) -> Result<(u64, usize), PayloadError> {
    let Some((body, footer)) = payload.split_last_chunk::<FOOTER_BYTES>() else {
        return Err(PayloadError::Footer);
    };
    let [v0, v1, sum @ ..] = *footer;
    if u16::from_le_bytes([v0, v1]) > VERSION_KNOWN_MAX {
        return Err(PayloadError::Footer);
    }
    Ok((u64::from_le_bytes(sum), body.len() + 2))
}

/// Appends the footer to a payload whose bytes so far, with the version, have this checksum.
pub(super) fn put_checksum(out: &mut Vec<u8>, sum: u64) {
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Appends the version, the first part of the footer.
pub(super) fn put_version(out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION_WRITTEN.to_le_bytes());
}

/// Finds the string of a payload whose footer is right. What follows it is ignored, as Redis does.
///
/// # Errors
/// See [`PayloadError`].
pub(super) fn find(payload: &[u8], value_bytes_max: usize) -> Result<Form, PayloadError> {
    let body = payload.len().saturating_sub(FOOTER_BYTES);
    let mut reader = Reader { bytes: &payload[..body], at: 0 };
    let kind = reader.byte()?;
    if kind != 0 {
        let other = OTHER_TYPES.iter().find(|(number, _)| *number == kind);
        return Err(other.map_or(PayloadError::Format, |(_, name)| PayloadError::Type(name)));
    }
    let form = match reader.length()? {
        Length::Plain(bytes) => {
            let bytes = usize::try_from(bytes).map_err(|_| PayloadError::Format)?;
            Form::Plain { start: reader.take(bytes)?, bytes }
        }
        Length::Special(0) => Form::Integer(i32::from(reader.byte()? as i8)),
        Length::Special(1) => Form::Integer(i32::from(i16::from_le_bytes(reader.array()?))),
        Length::Special(2) => Form::Integer(i32::from_le_bytes(reader.array()?)),
        Length::Special(3) => {
            let (packed_bytes, bytes) = (reader.plain_length()?, reader.plain_length()?);
            Form::Packed { start: reader.take(packed_bytes)?, packed_bytes, bytes }
        }
        Length::Special(_) => return Err(PayloadError::Format),
    };
    match form {
        Form::Plain { bytes, .. } | Form::Packed { bytes, .. } if bytes > value_bytes_max => {
            Err(PayloadError::TooLong)
        }
        form => Ok(form),
    }
}

enum Length {
    Plain(u64),
    Special(u8),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Passes `count` bytes; where they begin.
    fn take(&mut self, count: usize) -> Result<usize, PayloadError> {
        if count > self.bytes.len() - self.at {
            return Err(PayloadError::Format);
        }
        self.at += count;
        Ok(self.at - count)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PayloadError> {
        let start = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[start..start + N]);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, PayloadError> {
        self.array().map(|[byte]| byte)
    }

    fn length(&mut self) -> Result<Length, PayloadError> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match (first >> 6, first) {
            (0, _) => Length::Plain(u64::from(low)),
            (1, _) => Length::Plain(u64::from(u16::from_be_bytes([low, self.byte()?]))),
            (_, 0x80) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (_, 0x81) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (2, _) => return Err(PayloadError::Format),
            _ => Length::Special(low),
        })
    }

    fn plain_length(&mut self) -> Result<usize, PayloadError> {
        match self.length()? {
            Length::Plain(bytes) => usize::try_from(bytes).map_err(|_| PayloadError::Format),
            Length::Special(_) => Err(PayloadError::Format),
        }
    }
}

/// Appends type and string of a short value, fewer than 64 KiB: as an integer where that gives the
/// same bytes back, packed where that is shorter.
pub(super) fn put_short(out: &mut Vec<u8>, value: &[u8]) {
    let begin = out.len();
    out.push(0);
    if value.len() <= INTEGER_BYTES_MAX
        && let Some(number) = number::parse_i64_strict(value)
        && put_integer(out, number)
    {
        return;
    }
    if value.len() >= PACKED_VALUE_BYTES_MIN {
        out.push(0xc3);
        // Packed elsewhere, since its length comes first and is not known yet.
        let mut packed = Vec::with_capacity(value.len());
        let packed_bytes_max = value.len() - PACKED_GAIN_BYTES_MIN;
        if let Some(packed_bytes) = lzf::pack(value, packed_bytes_max, &mut packed) {
            put_length(out, packed_bytes);
            put_length(out, value.len());
            out.extend_from_slice(&packed);
            return;
        }
        out.truncate(begin + 1);
    }
    put_length(out, value.len());
    out.extend_from_slice(value);
}

/// Type and length of a string whose bytes follow as they are.
pub(super) fn plain_prefix(value_bytes: usize) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(PREFIX_BYTES_MAX);
    prefix.push(0);
    put_length(&mut prefix, value_bytes);
    prefix
}

/// Appends an integer of up to 32 bits; `false` for a larger one.
fn put_integer(out: &mut Vec<u8>, number: i64) -> bool {
    if let Ok(number) = i8::try_from(number) {
        out.extend_from_slice(&[0xc0, number as u8]);
    } else if let Ok(number) = i16::try_from(number) {
        out.push(0xc1);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(0xc2);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        return false;
    }
    true
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    match length {
        0..0x40 => out.push(length as u8),
        0x40..0x4000 => out.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes()),
        0x4000..0x1_0000_0000 => {
            out.push(0x80);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
        _ => {
            out.push(0x81);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::crc64;
    use super::*;

    const MAX: usize = 1 << 30;

    fn dump(value: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        put_short(&mut payload, value);
        put_version(&mut payload);
        let sum = crc64::extend(0, &payload);
        put_checksum(&mut payload, sum);
        payload
    }

    fn restore(payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
        let (sum, covered) = footer(payload)?;
        if crc64::extend(0, &payload[..covered]) != sum {
            return Err(PayloadError::Footer);
        }
        match find(payload, MAX)? {
            Form::Integer(number) => Ok(number.to_string().into_bytes()),
            Form::Plain { start, bytes } => Ok(payload[start..start + bytes].to_vec()),
            Form::Packed { start, packed_bytes, bytes } => {
                let packed = &payload[start..start + packed_bytes];
                let malformed = |_| PayloadError::Format;
                let mut unpacker = lzf::Unpacker::new(bytes, packed_bytes).map_err(malformed)?;
                while !unpacker.go_on(packed, 100).map_err(malformed)? {}
                Ok(unpacker.take_bytes())
            }
        }
    }

    #[test]
    fn payloads_of_redis_are_understood() {
        // From DUMP of Redis 7.0: "hello", 123, 100 times "a".
        let dumped: [(&[u8], Vec<u8>); 3] = [
            (b"\x00\x05hello", b"hello".to_vec()),
            (b"\x00\xc0\x7b", b"123".to_vec()),
            (b"\x00\xc3\x09\x40\x64\x01aa\xe0\x57\x00\x01aa", vec![b'a'; 100]),
        ];
        for (body, value) in dumped {
            let mut payload = [body, b"\x0a\x00"].concat();
            let sum = crc64::extend(0, &payload);
            put_checksum(&mut payload, sum);
            assert_eq!(restore(&payload), Ok(value));
        }
    }

    #[test]
    fn every_form_comes_back() {
        let numbers = ["0", "-1", "127", "128", "-129", "32768", "2147483647", "2147483648"];
        for text in numbers.iter().chain(&["-2147483648", "01", "+1", "", "1.5", "-0"]) {
            assert_eq!(restore(&dump(text.as_bytes())), Ok(text.as_bytes().to_vec()), "{text}");
        }
        assert_eq!(dump(b"-1")[..3], [0, 0xc0, 0xff]);
        for length in [0, 1, 20, 21, 63, 64, 16_383, 16_384, 40_000] {
            let same = vec![b'x'; length];
            let mixed: Vec<u8> = (0..length).map(|n| ((n * n * 7) >> 5) as u8).collect();
            for value in [same, mixed] {
                assert_eq!(restore(&dump(&value)), Ok(value));
            }
        }
        assert!(dump(&[b'x'; 1_000]).len() < 60, "it is packed");
        assert_eq!(plain_prefix(5), [0, 5]);
        assert_eq!(plain_prefix(1 << 33).len(), PREFIX_BYTES_MAX);
    }

    #[test]
    fn what_is_not_a_string_is_named() {
        let payload = |body: &[u8]| [body, &[0; FOOTER_BYTES]].concat();
        assert_eq!(find(&payload(b"\x04\x01"), MAX), Err(PayloadError::Type("a hash")));
        for broken in [&b""[..], b"\x63", b"\x00", b"\x00\x05hell", b"\x00\xc4", b"\x00\x82\x01"] {
            assert_eq!(find(&payload(broken), MAX), Err(PayloadError::Format), "{broken:?}");
        }
        let huge = b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(find(&payload(huge), MAX), Err(PayloadError::Format));
        assert_eq!(find(&payload(b"\x00\x05hello"), 4), Err(PayloadError::TooLong));
        assert_eq!(footer(b"\x00\x05hello"), Err(PayloadError::Footer));
        assert_eq!(footer(&[13; 40]), Err(PayloadError::Footer), "a version to come");
    }

    #[test]
    fn damaged_payloads_are_refused_and_repaired_ones_do_no_harm() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize
        };
        for round in 0..20_000 {
            let length = random() % 300;
            let letters = 1 + random() % 30;
            let value: Vec<u8> = (0..length).map(|_| (random() % letters) as u8).collect();
            let mut payload = dump(&value);
            let at = random() % payload.len();
            payload[at] ^= 1 + (random() % 255) as u8;
            assert_eq!(restore(&payload), Err(PayloadError::Footer), "round {round}");
            // The same with a right checksum: any outcome but a panic.
            let covered = payload.len() - 8;
            payload.truncate(covered);
            payload[covered - 1] = 0;
            let sum = crc64::extend(0, &payload);
            put_checksum(&mut payload, sum);
            if let Ok(restored) = restore(&payload) {
                assert!(restored.len() <= 300 * 264);
            }
        }
    }
}
