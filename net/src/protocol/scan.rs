//! Finding bytes in a line, eight at a time.
//!
//! The searches use the classic word-parallel zero-byte test on little-endian words. Its false
//! positives lie only above a true hit, so the lowest set bit is always exact. Lines are short
//! (tens of bytes), where this beats a call into a vectorised search with its set-up cost.
//!
//! Cost: about one nanosecond for eight bytes; no allocation.

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// The index of the first `needle` in `haystack`.
#[inline]
pub(super) fn find_byte(haystack: &[u8], needle: u8) -> Option<usize> {
    let pattern = LOW_BITS * u64::from(needle);
    find(haystack, |word| zero_bytes(word ^ pattern), |byte| byte == needle)
}

/// The index of the first byte that cannot be part of a memcached key: a control character
/// (below 0x20, or 0x7F) or a space.
#[inline]
pub(super) fn find_key_end(haystack: &[u8]) -> Option<usize> {
    const SPACES_NEXT: u64 = LOW_BITS * 0x21;
    const DELETES: u64 = LOW_BITS * 0x7F;
    find(
        haystack,
        |word| (word.wrapping_sub(SPACES_NEXT) & !word & HIGH_BITS) | zero_bytes(word ^ DELETES),
        |byte| byte <= b' ' || byte == 0x7F,
    )
}

#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS
}

/// The first index at which `hits` reports a byte of a word, or `hit` a byte of the tail.
#[inline]
fn find(haystack: &[u8], hits: impl Fn(u64) -> u64, hit: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, tail) = haystack.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = hits(u64::from_le_bytes(*word));
        if found != 0 {
            let at = index * 8 + found.trailing_zeros() as usize / 8;
            count_scanned(at + 1);
            return Some(at);
        }
    }
    let found = tail.iter().position(|&byte| hit(byte)).map(|at| words.len() * 8 + at);
    count_scanned(found.map_or(haystack.len(), |at| at + 1));
    found
}

/// Notes that `bytes` were looked at, so that tests can prove that the work is linear.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn count_scanned(_bytes: usize) {}

#[cfg(test)]
pub(super) fn count_scanned(bytes: usize) {
    tests::SCANNED.with(|scanned| scanned.set(scanned.get() + bytes));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Bytes that the searches of this thread have looked at.
        pub(super) static SCANNED: Cell<usize> = const { Cell::new(0) };
    }

    /// Runs `work` and returns how many bytes the searches looked at meanwhile.
    pub(in super::super) fn scanned_during(work: impl FnOnce()) -> usize {
        let before = SCANNED.with(Cell::get);
        work();
        SCANNED.with(Cell::get) - before
    }

    #[test]
    fn finds_the_first_of_every_byte_at_every_place() {
        for needle in 0..=255_u8 {
            for length in 0..40 {
                for at in 0..=length {
                    // The neighbours differ by one bit or by a borrow: the hard cases.
                    let mut bytes = vec![needle ^ 1; length];
                    if at < length {
                        bytes[at..].fill(needle);
                    }
                    let want = (at < length).then_some(at);
                    assert_eq!(find_byte(&bytes, needle), want, "{needle} {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn key_end_is_any_control_character_or_space() {
        for filler in [b'!', b'~', 0x80, 0xFF, b'k'] {
            for byte in 0..=255_u8 {
                for at in 0..20 {
                    let mut bytes = [filler; 20];
                    bytes[at] = byte;
                    let ends = byte <= b' ' || byte == 0x7F;
                    assert_eq!(find_key_end(&bytes), ends.then_some(at), "{byte} at {at}");
                }
            }
        }
    }
}
