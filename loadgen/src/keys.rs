//! Key numbers as key texts.
//!
//! A key is a prefix and its number in decimal, padded with zeros to its length, as
//! `key:000000000042`; without the prefix where the length leaves no room for it. The length is
//! the same for all keys, or drawn by a digest of the number. Neither depends on the seed. Replays
//! have a prefix of their own, because a run on the same server would
//! take their values, whose lengths come from the trace, for damaged ones.
//!
//! Cost: one copy of the pattern and a division per digit, and a look into a table of 1 KiB where
//! lengths differ; no allocation beyond the output.

use crate::config::KeySize;
use crate::rng::mix64;

/// Prefix of the keys of a run.
pub(crate) const RUN_PREFIX: [u8; 4] = *b"key:";
/// Prefix of the keys of a replay.
pub(crate) const REPLAY_PREFIX: [u8; 4] = *b"obj:";
/// Prefix of the counters of a run.
pub(crate) const COUNTER_PREFIX: [u8; 4] = *b"ctr:";

/// Makes the digest of a number that decides its length unrelated to all others.
const LENGTH_SALT: u64 = 0x6b65_7973_697a_6573;
/// Lengths are taken from so many quantiles of their law: a tenth of a percent of resolution.
const LENGTHS: usize = 1024;

/// The form of all keys of a run.
#[derive(Debug, Clone)]
pub(crate) struct KeyFormat {
    /// The prefix and zeros, as long as the longest key.
    pattern: Vec<u8>,
    /// Zeros alone, for keys without room for the prefix.
    bare: Vec<u8>,
    /// Shortest key with a prefix.
    prefixed_min: usize,
    /// The length of a key, by ten bits of the digest of its number; empty if all are alike.
    lengths: Vec<u8>,
}

impl KeyFormat {
    /// Keys of `key_bytes` bytes, wide enough for every number below `keys` (checked by
    /// [`KeySize::validate`]).
    #[cfg(test)]
    pub(crate) fn new(prefix: [u8; 4], key_bytes: usize, keys: u64) -> KeyFormat {
        KeyFormat::sized(prefix, &KeySize::fixed(key_bytes), keys)
    }

    /// Keys of these lengths.
    pub(crate) fn sized(prefix: [u8; 4], size: &KeySize, keys: u64) -> KeyFormat {
        let digits = keys.saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1;
        let prefixed_min = digits + prefix.len();
        let longest = size.ends().1;
        let mut pattern = vec![b'0'; longest.max(prefix.len())];
        pattern[..prefix.len()].copy_from_slice(&prefix);
        let mut lengths = Vec::new();
        if size.one().is_none() {
            let shortest = if *size == KeySize::Etc { prefixed_min } else { 1 };
            lengths.extend((0..LENGTHS).map(|at| {
                let drawn = size.at((at as f64 + 0.5) / LENGTHS as f64);
                drawn.clamp(shortest, longest) as u8
            }));
        }
        pattern.truncate(longest);
        KeyFormat { pattern, bare: vec![b'0'; longest], prefixed_min, lengths }
    }

    /// Bytes of every key, if all have the same length.
    pub(crate) fn one_len(&self) -> Option<usize> {
        self.lengths.is_empty().then_some(self.pattern.len())
    }

    /// Bytes of the longest key.
    pub(crate) fn longest(&self) -> usize {
        self.pattern.len()
    }

    /// Bytes of key `number`.
    #[inline]
    pub(crate) fn len_of(&self, number: u64) -> usize {
        let digest = mix64(number ^ LENGTH_SALT) as usize % LENGTHS;
        self.lengths.get(digest).map_or(self.pattern.len(), |&length| usize::from(length))
    }

    /// What key `number` has before its digits.
    #[inline]
    fn padding(&self, number: u64) -> &[u8] {
        let length = self.len_of(number);
        let full = if length >= self.prefixed_min { &self.pattern } else { &self.bare };
        &full[..length]
    }

    /// Appends the text of key `number`.
    #[inline]
    pub(crate) fn append(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.padding(number));
        let mut rest = number;
        for digit in out.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }

    /// Whether `text` is the text of key `number`.
    pub(crate) fn matches(&self, number: u64, text: &[u8]) -> bool {
        let padding = self.padding(number);
        if text.len() != padding.len() {
            return false;
        }
        let mut rest = number;
        text.iter().zip(padding).rev().all(|(&byte, &padding)| {
            let expected = if rest == 0 { padding } else { b'0' + (rest % 10) as u8 };
            rest /= 10;
            byte == expected
        })
    }

    /// The text of key `number`, for messages.
    pub(crate) fn text(&self, number: u64) -> String {
        let mut out = Vec::new();
        self.append(number, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_width_and_are_distinct() {
        assert_eq!(KeyFormat::new(RUN_PREFIX, 16, 10_000).text(42), "key:000000000042");
        assert_eq!(KeyFormat::new(RUN_PREFIX, 16, 10_000).text(0), "key:000000000000");
        assert_eq!(KeyFormat::new(RUN_PREFIX, 6, 1000).text(999), "000999");
        assert_eq!(KeyFormat::new(RUN_PREFIX, 7, 1000).text(999), "key:999");
        assert_eq!(KeyFormat::new(REPLAY_PREFIX, 7, 1000).text(1), "obj:001");
        assert_eq!(KeyFormat::new(RUN_PREFIX, 10, 1 << 32).text(u64::from(u32::MAX)), "4294967295");
    }

    #[test]
    fn a_key_matches_its_own_text_alone() {
        let format = KeyFormat::new(RUN_PREFIX, 12, 100_000);
        let mut text = b"before".to_vec();
        for number in [0, 7, 10, 99, 12_345, 99_999] {
            text.truncate(6);
            format.append(number, &mut text);
            assert_eq!(text.len(), 6 + format.len_of(number));
            assert!(format.matches(number, &text[6..]));
            assert!(!format.matches(number + 1, &text[6..]));
            assert!(!format.matches(number, &text[5..]));
        }
    }

    #[test]
    fn lengths_follow_their_law_and_keys_stay_distinct() {
        for size in ["etc", "5..60", "list:6=1,9=2,30=1"] {
            let size: KeySize = size.parse().expect("a size");
            let format = KeyFormat::sized(RUN_PREFIX, &size, 100_000);
            let mut seen = std::collections::HashSet::new();
            let mut lengths = Vec::new();
            for number in 0..100_000 {
                let text = format.text(number);
                assert!(format.matches(number, text.as_bytes()), "{text}");
                assert_eq!((text.len(), format.one_len()), (format.len_of(number), None));
                lengths.push(text.len());
                assert!(seen.insert(text), "{number}");
            }
            lengths.sort_unstable();
            // The quantiles of so many draws lie within 1.63 / sqrt(n) of the law's with 99 %
            // (Kolmogorov and Smirnov), besides the resolution of the table.
            let slack = 1.63 / 100_000_f64.sqrt() + 1.0 / LENGTHS as f64;
            for at in 1..100 {
                let q = f64::from(at) / 100.0;
                let seen = lengths[(q * 100_000.0) as usize];
                let (low, high) = (size.at(q - slack), size.at(q + slack));
                assert!((low..=high.max(9)).contains(&seen), "{size} {q}: {seen} {low} {high}");
            }
        }
    }
}
