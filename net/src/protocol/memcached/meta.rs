//! The flags of meta commands: one letter each, some with a word behind it.
//!
//! Every known flag is taken by every meta command, as in memcached, and means something to some
//! of them. memcached 1.6.18 knows all of them but `E` (a version of the client's), `x` (take the
//! value away), which came later, and `w`, which is an extension: see [`MetaFlags::wait_ms`].
//!
//! Cost: one pass over the words; a key in base64 is decoded into a buffer of the caller's.

use super::base64;
use super::request::Tokens;
use super::{KEY_BYTES_MAX, LINE_BYTES_MAX};
use crate::protocol::number::{parse_i64_lenient, parse_u64_lenient};

/// The longest opaque word, with its letter.
pub const OPAQUE_BYTES_MAX: usize = 32;
/// The longest time that `w` may ask for, in milliseconds.
pub const WAIT_MS_MAX: u32 = 60_000;

/// A key that was in base64.
pub type KeyBuffer = [u8; KEY_BYTES_MAX];

const _: () = assert!(KEY_BYTES_MAX < LINE_BYTES_MAX);

/// Why the flags of a meta command are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// A flag that is there twice, or is not ASCII.
    Duplicate,
    /// A flag that nobody knows.
    Unknown,
    /// The key is not base64 although `b` says so.
    Key,
    /// A word behind a flag is not a number.
    Number,
    /// The client's flags are not a number.
    ClientFlags,
    /// The mode has not one letter.
    ModeLength,
    /// The initial value of a counter is not a number.
    Initial,
    /// The delta is not a number.
    Delta,
    /// The time to wait is not a number, or too long.
    Wait,
}

impl MetaError {
    /// The reply without its line end.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Duplicate => "CLIENT_ERROR duplicate flag",
            Self::Unknown => "CLIENT_ERROR invalid flag",
            Self::Key => "CLIENT_ERROR error decoding key",
            Self::Number => "CLIENT_ERROR bad token in command line format",
            Self::ClientFlags => "CLIENT_ERROR bad command line format",
            Self::ModeLength => "CLIENT_ERROR incorrect length for M token",
            Self::Initial => "CLIENT_ERROR invalid numeric initial value",
            Self::Delta => "CLIENT_ERROR invalid numeric delta value",
            Self::Wait => "CLIENT_ERROR invalid wait: milliseconds up to 60000",
        }
    }
}

/// The flags of a meta command. Times are in seconds, as memcached counts them: see
/// [`super::Store::exptime`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFlags {
    /// The letters that are there, as bits.
    letters: u128,
    /// `T`: the time to live to set.
    pub ttl: i64,
    /// `N`: the time to live of an item that is made on a miss.
    pub vivify_ttl: i64,
    /// `R`: an item with less time left than this is to be fetched again.
    pub recache: i64,
    /// `F`: the client's flags of a new value.
    pub client_flags: u32,
    /// `C`: the version that the item must have.
    pub compare: u64,
    /// `E`: the version that the item gets.
    pub version: u64,
    /// `M`: how to store or to count; 0 if it does not say.
    pub mode: u8,
    /// `J`: what a counter that is made on a miss begins with.
    pub initial: u64,
    /// `D`: by how much to count.
    pub delta: u64,
    /// `O` has more than [`OPAQUE_BYTES_MAX`] bytes. This is complained about after all else.
    pub opaque_is_too_long: bool,
    /// `w`: how long a reader waits for another client to fetch the value, in milliseconds.
    pub wait_ms: u32,
}

impl MetaFlags {
    /// Whether a flag is there.
    #[inline]
    #[must_use]
    pub fn has(&self, letter: u8) -> bool {
        debug_assert!(letter < 128);
        self.letters >> (letter & 127) & 1 != 0
    }

    /// The flag's number, if it is there.
    #[must_use]
    pub fn given<T>(&self, letter: u8, number: T) -> Option<T> {
        self.has(letter).then_some(number)
    }

    /// Reads the number behind a flag; `false` if there is none.
    fn read(&mut self, letter: u8, word: &[u8]) -> Option<()> {
        match letter {
            b'N' => self.vivify_ttl = parse_i64_lenient(word)?,
            b'T' => self.ttl = parse_i64_lenient(word)?,
            b'R' => self.recache = parse_i64_lenient(word)?,
            b'F' => self.client_flags = u32::try_from(parse_u64_lenient(word)?).ok()?,
            b'C' => self.compare = parse_u64_lenient(word)?,
            b'E' => self.version = parse_u64_lenient(word)?,
            b'J' => self.initial = parse_u64_lenient(word)?,
            b'D' => self.delta = parse_u64_lenient(word)?,
            b'M' => match *word {
                [mode] => self.mode = mode,
                _ => return None,
            },
            b'w' => {
                let wait_ms = u32::try_from(parse_u64_lenient(word)?).ok()?;
                self.wait_ms = Some(wait_ms).filter(|&wait_ms| wait_ms <= WAIT_MS_MAX)?;
            }
            _ => {}
        }
        Some(())
    }
}

/// Reads the flags of a command, and its key, which lies in `decoded` if it came in base64.
///
/// # Errors
///
/// The first flag that is there twice or unknown; otherwise the last that is not what it should
/// be, as in memcached.
#[inline]
pub fn parse_flags<'k>(
    key: &'k [u8],
    flags: Tokens<'_>,
    decoded: &'k mut Option<KeyBuffer>,
) -> Result<(MetaFlags, &'k [u8]), MetaError> {
    let mut found = MetaFlags { delta: 1, ..MetaFlags::default() };
    let mut length = None;
    let mut error = None;
    for flag in flags {
        let Some((&letter, word)) = flag.split_first() else { continue };
        if letter >= 127 || found.has(letter) {
            return Err(MetaError::Duplicate);
        }
        found.letters |= 1 << letter;
        let wrong = match letter {
            b'v' | b'k' | b's' | b't' | b'c' | b'f' | b'h' | b'l' | b'u' | b'q' | b'x' | b'I'
            | b'P' | b'L' => continue,
            b'O' => {
                found.opaque_is_too_long = flag.len() > OPAQUE_BYTES_MAX;
                continue;
            }
            b'b' => {
                length = base64::decode(key, decoded.insert([0; KEY_BYTES_MAX]));
                if length.is_some() {
                    continue;
                }
                MetaError::Key
            }
            b'N' | b'T' | b'R' | b'C' | b'E' => MetaError::Number,
            b'F' => MetaError::ClientFlags,
            b'M' => MetaError::ModeLength,
            b'J' => MetaError::Initial,
            b'D' => MetaError::Delta,
            b'w' => MetaError::Wait,
            _ => return Err(MetaError::Unknown),
        };
        if wrong == MetaError::Key || found.read(letter, word).is_none() {
            error = Some(wrong);
        }
    }
    match (error, decoded, length) {
        (Some(error), _, _) => Err(error),
        (None, Some(decoded), Some(length)) => Ok((found, &decoded[..length])),
        (None, _, _) => Ok((found, key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str, flags: &str) -> Result<(MetaFlags, Vec<u8>), MetaError> {
        let mut decoded = None;
        parse_flags(key.as_bytes(), Tokens::new(flags.as_bytes()), &mut decoded)
            .map(|(flags, key)| (flags, key.to_vec()))
    }

    #[test]
    fn flags_have_numbers_behind_them() {
        let (flags, key) = parsed("k", "v T30 N-1 R+5 F7 C18446744073709551615 w60000").unwrap();
        assert_eq!(key, b"k");
        assert_eq!((flags.ttl, flags.vivify_ttl, flags.recache), (30, -1, 5));
        assert_eq!((flags.client_flags, flags.compare, flags.wait_ms), (7, u64::MAX, 60_000));
        assert_eq!((flags.delta, flags.initial, flags.mode), (1, 0, 0));
        assert!(flags.has(b'v') && !flags.has(b'k') && !flags.has(b'E'));
        assert_eq!((flags.given(b'C', 1), flags.given(b'E', 1)), (Some(1), None));
        let (flags, _) = parsed("k", "E9 J10 D2 MD").unwrap();
        assert_eq!((flags.version, flags.initial, flags.delta, flags.mode), (9, 10, 2, b'D'));
    }

    #[test]
    fn a_key_may_be_in_base64() {
        assert_eq!(parsed("Zm9v", "v b q").unwrap().1, b"foo");
        assert_eq!(parsed("Zm9", "b"), Err(MetaError::Key));
        assert_eq!(parsed("Zm9", "v").unwrap().1, b"Zm9");
    }

    #[test]
    fn wrong_flags_are_refused_in_memcacheds_order() {
        for (flags, error) in [
            ("v v", MetaError::Duplicate),
            ("S", MetaError::Unknown),
            ("\u{e4}", MetaError::Duplicate),
            ("Tx", MetaError::Number),
            ("T", MetaError::Number),
            ("F-1", MetaError::ClientFlags),
            ("F4294967296", MetaError::ClientFlags),
            ("M", MetaError::ModeLength),
            ("MSS", MetaError::ModeLength),
            ("Jx", MetaError::Initial),
            ("D-1", MetaError::Delta),
            ("w60001", MetaError::Wait),
            ("w", MetaError::Wait),
            // The last of several, but what is unknown or there twice comes first.
            ("Tx Jx", MetaError::Initial),
            ("Tx v v", MetaError::Duplicate),
            ("Tx ?", MetaError::Unknown),
        ] {
            assert_eq!(parsed("k", flags), Err(error), "{flags}");
        }
        let opaque = |length: usize| parsed("k", &format!("O{}", "1".repeat(length))).unwrap().0;
        assert!(!opaque(31).opaque_is_too_long && opaque(32).opaque_is_too_long);
    }
}
