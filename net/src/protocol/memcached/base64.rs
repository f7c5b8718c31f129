//! Base64, in which meta commands with the flag `b` carry keys. Standard alphabet, padded.
//!
//! Decoding is as lenient as memcached's: characters outside the alphabet are passed over, and
//! what follows the first padded group is not looked at.
//!
//! Cost: one pass; nothing allocates but the growth of an output buffer.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PAD: u8 = b'=';
const OTHER: u8 = 0xFF;

/// What each byte stands for.
static VALUES: [u8; 256] = {
    let mut values = [OTHER; 256];
    let mut index = 0;
    while index < ALPHABET.len() {
        values[ALPHABET[index] as usize] = index as u8;
        index += 1;
    }
    values[PAD as usize] = 0;
    values
};

/// Appends the form of `bytes`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = word >> (18 - 6 * digit) & 0x3F;
            out.push(if digit <= group.len() { ALPHABET[value as usize] } else { PAD });
        }
    }
}

/// Decodes `text` into the front of `out`, and returns the length. `None` when it is not a whole
/// number of groups, has too much padding, stands for nothing, or does not fit.
pub fn decode(text: &[u8], out: &mut [u8]) -> Option<usize> {
    let known = |byte: &&u8| VALUES[usize::from(**byte)] != OTHER;
    let count = text.iter().filter(known).count();
    if !count.is_multiple_of(4) || count / 4 * 3 > out.len() {
        return None;
    }
    let (mut word, mut digits, mut pads, mut length) = (0u32, 0, 0, 0);
    for &byte in text.iter().filter(known) {
        word = word << 6 | u32::from(VALUES[usize::from(byte)]);
        digits += 1;
        pads += usize::from(byte == PAD);
        if digits == 4 {
            out[length..length + 3].copy_from_slice(&word.to_be_bytes()[1..]);
            length += 3;
            if pads > 0 {
                length = if pads <= 2 { length - pads } else { 0 };
                break;
            }
            (word, digits) = (0, 0);
        }
    }
    (length > 0).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_byte_round_trips() {
        for length in 1..60 {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 37 + length * 11) as u8).collect();
            let (mut text, mut back) = (Vec::new(), [0; 64]);
            encode(&bytes, &mut text);
            assert_eq!(text.len() % 4, 0);
            assert_eq!(decode(&text, &mut back), Some(bytes.len()));
            assert_eq!(&back[..bytes.len()], bytes);
        }
        let mut text = Vec::new();
        encode(b"foo", &mut text);
        encode(b"fo", &mut text);
        encode(b"f", &mut text);
        assert_eq!(text, b"Zm9vZm8=Zg==");
    }

    #[test]
    fn what_is_no_base64_is_refused_and_strangers_are_passed_over() {
        let mut out = [0; 9];
        for text in ["", "Z", "Zm9", "Zg=", "Z===", "====", "!!!!", "Zm9vZm9vZm9vZm9v"] {
            assert_eq!(decode(text.as_bytes(), &mut out), None, "{text}");
        }
        assert_eq!(decode(b"Z-m9v!", &mut out), Some(3));
        assert_eq!(&out[..3], b"foo");
    }
}
