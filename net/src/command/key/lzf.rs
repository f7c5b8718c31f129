//! LZF, the compression of strings in Redis's dumps (Lehmann's format).
//!
//! ```text
//! 000LLLLL            L + 1 bytes follow as they are
//! LLLooooo oooooooo   L + 2 bytes (L from 1 to 6) from o + 1 bytes before the end of the output
//! 111ooooo LLLLLLLL oooooooo   the same for L + 9 bytes
//! ```
//!
//! A copy may reach into what it has just written. Unpacking goes on in pieces, for a few bytes may
//! stand for many; packing is done at once, and for short values only.

/// What a copy reaches back at most.
const OFFSET_MAX: usize = 1 << 13;
/// The shortest and the longest copy.
const COPY_BYTES_MIN: usize = 3;
const COPY_BYTES_MAX: usize = 264;
/// The longest run of bytes as they are.
const RUN_BYTES_MAX: usize = 32;

/// The packed bytes are not LZF, or do not give as many as were announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Unpacks a string piece by piece.
#[derive(Debug)]
pub(super) struct Unpacker {
    /// How much of the packed bytes is read.
    at: usize,
    out: Vec<u8>,
    /// The length that was announced.
    bytes: usize,
}

impl Unpacker {
    /// For a string of `bytes` in `packed_bytes`.
    ///
    /// # Errors
    /// When so many cannot be in so few.
    pub(super) fn new(bytes: usize, packed_bytes: usize) -> Result<Unpacker, Malformed> {
        // Three bytes copy the most.
        if bytes > packed_bytes.div_ceil(COPY_BYTES_MIN).saturating_mul(COPY_BYTES_MAX) {
            return Err(Malformed);
        }
        Ok(Unpacker { at: 0, out: Vec::new(), bytes })
    }

    /// Unpacks about `piece_bytes` more of `packed`, the same at each call. Whether that was all.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub(super) fn go_on(&mut self, packed: &[u8], piece_bytes: usize) -> Result<bool, Malformed> {
        if self.out.capacity() == 0 {
            self.out.reserve_exact(self.bytes);
        }
        let pause_at = self.out.len().saturating_add(piece_bytes);
        while self.at < packed.len() && self.out.len() < pause_at {
            self.token(&packed[self.at..])?;
            if self.out.len() > self.bytes {
                return Err(Malformed);
            }
        }
        match (self.at == packed.len(), self.out.len() == self.bytes) {
            (false, _) => Ok(false),
            (true, true) => Ok(true),
            (true, false) => Err(Malformed),
        }
    }

    /// Unpacks one token, which is there.
    fn token(&mut self, packed: &[u8]) -> Result<(), Malformed> {
        let first = usize::from(packed[0]);
        if first < RUN_BYTES_MAX {
            let run = packed.get(1..first + 2).ok_or(Malformed)?;
            self.out.extend_from_slice(run);
            self.at += first + 2;
            return Ok(());
        }
        let (length, low, used) = match (first >> 5, packed) {
            (7, [_, more, low, ..]) => (usize::from(*more) + 9, *low, 3),
            (1..7, [_, low, ..]) => ((first >> 5) + 2, *low, 2),
            _ => return Err(Malformed),
        };
        self.at += used;
        let back = ((first & 0x1f) << 8 | usize::from(low)) + 1;
        let start = self.out.len().checked_sub(back).ok_or(Malformed)?;
        if back >= length {
            self.out.extend_from_within(start..start + length);
        } else {
            // The copy repeats what it writes.
            for index in start..start + length {
                self.out.push(self.out[index]);
            }
        }
        Ok(())
    }

    /// What has been unpacked so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Gives away what has been unpacked.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Memory that it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.out.capacity()
    }
}

/// Places of the packer's table.
const HASH_BITS: u32 = 12;

/// Appends `bytes` in packed form to `out`, unless that would take more than `packed_bytes_max`:
/// then `out` is as before. `bytes` are fewer than 64 KiB. Returns the packed length.
pub(super) fn pack(bytes: &[u8], packed_bytes_max: usize, out: &mut Vec<u8>) -> Option<usize> {
    debug_assert!(bytes.len() < usize::from(u16::MAX));
    // Where three bytes with this hash were seen last, plus one.
    let mut seen = [0u16; 1 << HASH_BITS];
    let begin = out.len();
    let (mut at, mut run_start) = (0, 0);
    while at + COPY_BYTES_MIN <= bytes.len() {
        let place = &mut seen[hash(&bytes[at..])];
        let candidate = usize::from(std::mem::replace(place, at as u16 + 1));
        let length = match candidate.checked_sub(1) {
            Some(from) if at - from <= OFFSET_MAX => common_bytes(bytes, from, at),
            _ => 0,
        };
        if length < COPY_BYTES_MIN {
            at += 1;
            continue;
        }
        let back = at - candidate;
        put_runs(&bytes[run_start..at], out);
        match length - 2 {
            short @ ..7 => out.push((short << 5 | back >> 8) as u8),
            long => out.extend_from_slice(&[(7 << 5 | back >> 8) as u8, (long - 7) as u8]),
        }
        out.push(back as u8);
        at += length;
        run_start = at;
        if out.len() - begin > packed_bytes_max {
            break;
        }
    }
    put_runs(&bytes[run_start..], out);
    let packed_bytes = out.len() - begin;
    if packed_bytes > packed_bytes_max {
        out.truncate(begin);
        return None;
    }
    Some(packed_bytes)
}

/// Appends bytes as they are.
fn put_runs(bytes: &[u8], out: &mut Vec<u8>) {
    for run in bytes.chunks(RUN_BYTES_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

/// How many bytes from `from` on equal those from `at` on, up to the longest copy.
fn common_bytes(bytes: &[u8], from: usize, at: usize) -> usize {
    let pairs = bytes[at..].iter().zip(&bytes[from..]).take(COPY_BYTES_MAX);
    pairs.take_while(|(a, b)| a == b).count()
}

/// A hash of the three bytes at the front.
fn hash(bytes: &[u8]) -> usize {
    let three = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    (three.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8], bytes: usize, piece_bytes: usize) -> Result<Vec<u8>, Malformed> {
        let mut unpacker = Unpacker::new(bytes, packed.len())?;
        while !unpacker.go_on(packed, piece_bytes)? {}
        Ok(unpacker.take_bytes())
    }

    fn random(state: &mut u64) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 33) as usize
    }

    #[test]
    fn tokens_are_what_the_format_says() {
        assert_eq!(unpack(b"\x02abc", 3, 1), Ok(b"abc".to_vec()));
        // "ab", then 3 bytes from 2 back; then 9 bytes from 1 back.
        assert_eq!(unpack(b"\x01ab\x20\x01\xe0\x00\x00", 14, 1), Ok(b"ababaaaaaaaaaa".to_vec()));
        for broken in
            [&b"\x02ab"[..], b"\x20", b"\x20\x00", b"\x00a\x20\x01", b"\x00a\xe0\x00", b""]
        {
            assert_eq!(unpack(broken, 4, 1), Err(Malformed), "{broken:?}");
        }
        assert_eq!(unpack(b"\x02abc", 2, 99), Err(Malformed), "too many");
        assert_eq!(unpack(b"\x02abc", 4, 99), Err(Malformed), "too few");
        assert_eq!(unpack(b"\x02abc", 1 << 30, 99), Err(Malformed), "announced without hope");
    }

    #[test]
    fn what_is_packed_unpacks_in_any_pieces() {
        for seed in 0..300u64 {
            println!("seed {seed}");
            let mut state = seed;
            let length = random(&mut state) % if seed % 10 == 0 { 60_000 } else { 400 };
            let letters = 1 + random(&mut state) % 20;
            let bytes: Vec<u8> =
                (0..length).map(|_| (random(&mut state) % letters) as u8).collect();
            let mut out = b"before".to_vec();
            let Some(packed_bytes) = pack(&bytes, usize::MAX, &mut out) else {
                panic!("no bound was given");
            };
            assert_eq!((&out[..6], out.len()), (&b"before"[..], 6 + packed_bytes));
            let piece_bytes = 1 + random(&mut state) % 5_000;
            assert_eq!(unpack(&out[6..], length, piece_bytes), Ok(bytes.clone()));
            let mut bounded = Vec::new();
            let fits = pack(&bytes, packed_bytes.saturating_sub(1), &mut bounded);
            assert!(packed_bytes == 0 || fits.is_none() && bounded.is_empty());
            assert!(letters > 1 || length < 100 || packed_bytes * 20 < length);
        }
    }

    #[test]
    fn any_bytes_unpack_to_something_or_are_refused() {
        for seed in 0..20_000u64 {
            let mut state = seed;
            let length = random(&mut state) % 40;
            let packed: Vec<u8> = (0..length).map(|_| random(&mut state) as u8).collect();
            let bytes = random(&mut state) % 600;
            if let Ok(unpacked) = unpack(&packed, bytes, 1 + random(&mut state) % 50) {
                assert_eq!(unpacked.len(), bytes, "seed {seed}");
            }
        }
    }
}
