//! Key numbers as key texts.
//!
//! All keys of a run have one width: a prefix and the number in decimal, padded with zeros, as
//! `key:000000000042`; without the prefix where the width leaves no room for it. The text does not
//! depend on the seed. Replays have a prefix of their own, because a run on the same server would
//! take their values, whose lengths come from the trace, for damaged ones.
//!
//! Cost: one copy of the pattern and a division per two digits; no allocation beyond the output.

/// Prefix of the keys of a run.
pub(crate) const RUN_PREFIX: [u8; 4] = *b"key:";
/// Prefix of the keys of a replay.
pub(crate) const REPLAY_PREFIX: [u8; 4] = *b"obj:";

/// The form of all keys of a run.
#[derive(Debug, Clone)]
pub(crate) struct KeyFormat {
    pattern: Vec<u8>,
}

impl KeyFormat {
    /// Keys of `key_bytes` bytes, wide enough for every number below `keys` (checked by
    /// [`crate::config::check_key_bytes`]).
    pub(crate) fn new(prefix: [u8; 4], key_bytes: usize, keys: u64) -> KeyFormat {
        let digits = keys.saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1;
        let mut pattern = vec![b'0'; key_bytes];
        if key_bytes >= digits + prefix.len() {
            pattern[..prefix.len()].copy_from_slice(&prefix);
        }
        KeyFormat { pattern }
    }

    /// Bytes of every key.
    pub(crate) fn len(&self) -> usize {
        self.pattern.len()
    }

    /// Appends the text of key `number`.
    #[inline]
    pub(crate) fn append(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pattern);
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
        if text.len() != self.pattern.len() {
            return false;
        }
        let mut rest = number;
        text.iter().zip(&self.pattern).rev().all(|(&byte, &padding)| {
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
            assert_eq!(text.len(), 6 + format.len());
            assert!(format.matches(number, &text[6..]));
            assert!(!format.matches(number + 1, &text[6..]));
            assert!(!format.matches(number, &text[5..]));
        }
    }
}
