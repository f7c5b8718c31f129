//! Values that say what they are.
//!
//! A value of 32 bytes or more starts with a header, and the rest is a pseudo-random stream that
//! derives from the header and the seed, so that any change of any byte shows:
//!
//! | offset | bytes | field |
//! | ---: | ---: | --- |
//! | 0 | 2 | magic |
//! | 2 | 2 | tag of the seed |
//! | 4 | 4 | length of the value |
//! | 8 | 8 | number of the key |
//! | 16 | 4 | run that wrote it |
//! | 20 | 4 | version, counted per key and run |
//! | 24 | 4 | base: oldest version that may still come after this one |
//! | 28 | 4 | check sum of the header, keyed by the seed |
//!
//! A shorter value is a pure function of seed, key and length: it shows damage and swapped keys,
//! but not its age. All numbers are little-endian.
//!
//! A server that was filled with another seed returns values with another tag, and every one of
//! them is reported: give the same seed, or an empty server. Values of an earlier run with the
//! same seed are accepted until this run's first acknowledged write of their key (short ones only
//! if their length is possible in this run). Two runs at the same time on the same keys accuse the
//! server of each other's writes.
//!
//! Cost: about 1 ns per 8 bytes to write or to check; no allocation.

use crate::config::{Protocol, Ttl, ValueSize, Verify};
use crate::dist::{draw_size, draw_ttl_ms};
use crate::ledger::Stamp;
use crate::rng::{GAMMA, Rng, mix64};

/// Bytes of the header; shorter values have none.
pub(crate) const HEADER_BYTES: usize = 32;

const MAGIC: u16 = 0x7650;

/// How long the value of a key is.
#[derive(Debug, Clone)]
pub(crate) enum Sizes {
    /// Drawn, as a pure function of seed, key and version.
    Drawn(ValueSize),
    /// Fixed for each key, as in a trace.
    PerKey(Vec<u32>),
}

/// Makes and checks the values of one run.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    seed: u64,
    run: u32,
    sizes: Sizes,
    ttl: Option<Ttl>,
    /// The lifetime of each key in seconds, as in a trace; 0 is none.
    key_ttls_s: Option<Vec<u32>>,
    /// The unit of lifetimes that the protocol can say, in milliseconds.
    ttl_step_ms: u64,
}

/// What a checked value says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Written by this run.
    ThisRun(Stamp),
    /// Written by an earlier run with the same seed.
    OtherRun,
    /// Too short to say.
    Unknown,
}

/// What is wrong with a value, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Not written by this tool, or damaged at its very start.
    NotOurs,
    /// Written with another seed.
    OtherSeed,
    /// The check sum of the header does not fit.
    HeaderDamaged,
    /// The value of another key.
    OtherKey(u64),
    /// Not as long as it was written.
    Length {
        /// The length it was written with.
        expected: usize,
    },
    /// The first byte of the body that differs.
    Body {
        /// Its offset in the value.
        offset: usize,
    },
}

impl Values {
    /// The values of the run numbered `run` of `seed`, with lifetimes as `protocol` can say them.
    pub(crate) fn new(
        seed: u64,
        run: u32,
        sizes: Sizes,
        ttl: Option<Ttl>,
        protocol: Protocol,
    ) -> Values {
        let ttl_step_ms = if protocol.is_memcached() { 1000 } else { 1 };
        Values { seed: mix64(seed ^ GAMMA), run, sizes, ttl, key_ttls_s: None, ttl_step_ms }
    }

    /// The same values with a lifetime of its own for each key, in seconds; 0 is none.
    #[must_use]
    pub(crate) fn with_key_ttls(self, key_ttls_s: Vec<u32>) -> Values {
        Values { key_ttls_s: Some(key_ttls_s), ..self }
    }

    /// Length of the value that write `version` of `key` gives it.
    #[inline]
    pub(crate) fn size_bytes(&self, key: u64, version: u32) -> usize {
        match &self.sizes {
            Sizes::Drawn(ValueSize::Range { bytes_min, bytes_max }) if bytes_min == bytes_max => {
                *bytes_min
            }
            Sizes::Drawn(size) => draw_size(size, &mut self.stream(key, version, 0)),
            Sizes::PerKey(sizes) => sizes[key as usize].max(1) as usize,
        }
    }

    /// Lifetime that write (or touch) `version` of `key` gives it, in milliseconds.
    #[inline]
    pub(crate) fn ttl_ms(&self, key: u64, version: u32) -> Option<u64> {
        if let Some(ttls_s) = &self.key_ttls_s {
            let ttl_s = u64::from(ttls_s[key as usize]);
            return (ttl_s > 0).then(|| ttl_s * 1000);
        }
        let ttl = self.ttl.as_ref()?;
        let ttl_ms = draw_ttl_ms(ttl, &mut self.stream(key, version, 1));
        Some(ttl_ms.next_multiple_of(self.ttl_step_ms))
    }

    /// The unit of lifetimes in milliseconds; `None` if nothing expires.
    pub(crate) fn ttl_step_ms(&self) -> Option<u64> {
        (self.ttl.is_some() || self.key_ttls_s.is_some()).then_some(self.ttl_step_ms)
    }

    /// A stream of random numbers for one purpose of one write.
    fn stream(&self, key: u64, version: u32, purpose: u64) -> Rng {
        Rng::new(self.seed ^ mix64(key), (u64::from(version) << 1) | purpose)
    }

    /// Fills `out` with the value of `key`; its length is [`Values::size_bytes`].
    pub(crate) fn write(&self, key: u64, stamp: Stamp, out: &mut [u8]) {
        let length = out.len();
        if length < HEADER_BYTES {
            fill(self.small_seed(key, length), out);
            return;
        }
        let (header, body) = out.split_at_mut(HEADER_BYTES);
        header[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        header[2..4].copy_from_slice(&self.seed_tag().to_le_bytes());
        header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        header[8..16].copy_from_slice(&key.to_le_bytes());
        header[16..20].copy_from_slice(&self.run.to_le_bytes());
        header[20..24].copy_from_slice(&stamp.version.to_le_bytes());
        header[24..28].copy_from_slice(&stamp.base.to_le_bytes());
        let digest = self.digest(header);
        header[28..32].copy_from_slice(&(digest as u32).to_le_bytes());
        fill(digest, body);
    }

    /// Checks a value that came back for `key`.
    ///
    /// # Errors
    /// What is wrong with the value itself; whether it is too old is for the ledger to say.
    pub(crate) fn check(&self, key: u64, data: &[u8], level: Verify) -> Result<Origin, Flaw> {
        if level == Verify::Off {
            return Ok(Origin::Unknown);
        }
        if data.len() < HEADER_BYTES {
            return self.check_small(key, data, level);
        }
        let (header, body) = data.split_at(HEADER_BYTES);
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4"));
        let u16_at = |at: usize| u16::from_le_bytes(header[at..at + 2].try_into().expect("2"));
        if u16_at(0) != MAGIC {
            return Err(Flaw::NotOurs);
        }
        if u16_at(2) != self.seed_tag() {
            return Err(Flaw::OtherSeed);
        }
        let digest = self.digest(header);
        if u32_at(28) != digest as u32 {
            return Err(Flaw::HeaderDamaged);
        }
        let owner = u64::from_le_bytes(header[8..16].try_into().expect("8"));
        if owner != key {
            return Err(Flaw::OtherKey(owner));
        }
        let this_run = u32_at(16) == self.run;
        let stamp = Stamp { version: u32_at(20), base: u32_at(24) };
        let written = u32_at(4) as usize;
        if written != data.len() || (this_run && written != self.size_bytes(key, stamp.version)) {
            return Err(Flaw::Length { expected: written });
        }
        if level == Verify::Full
            && let Some(offset) = first_difference(digest, body)
        {
            return Err(Flaw::Body { offset: HEADER_BYTES + offset });
        }
        Ok(if this_run { Origin::ThisRun(stamp) } else { Origin::OtherRun })
    }

    fn check_small(&self, key: u64, data: &[u8], level: Verify) -> Result<Origin, Flaw> {
        let possible = match &self.sizes {
            Sizes::Drawn(size) => {
                let (min, max) = size.ends();
                (min..=max).contains(&data.len())
            }
            Sizes::PerKey(_) => self.size_bytes(key, 0) == data.len(),
        };
        if !possible {
            return Err(Flaw::Length { expected: self.size_bytes(key, 1) });
        }
        if level == Verify::Full
            && let Some(offset) = first_difference(self.small_seed(key, data.len()), data)
        {
            return Err(Flaw::Body { offset });
        }
        Ok(Origin::Unknown)
    }

    fn seed_tag(&self) -> u16 {
        (self.seed >> 48) as u16
    }

    fn small_seed(&self, key: u64, length: usize) -> u64 {
        mix64(self.seed ^ mix64(key).wrapping_add(length as u64))
    }

    /// A digest of the header's fields (bytes 4 to 28): its check sum and the seed of the body.
    fn digest(&self, header: &[u8]) -> u64 {
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8"));
        let first = mix64(self.seed ^ u64_at(4));
        let second = mix64(first ^ u64_at(12));
        mix64(second ^ u64_at(20))
    }
}

#[inline]
fn word(seed: u64, index: usize) -> u64 {
    mix64(seed.wrapping_add((index as u64 + 1).wrapping_mul(GAMMA)))
}

fn fill(seed: u64, out: &mut [u8]) {
    let mut chunks = out.chunks_exact_mut(8);
    let mut index = 0;
    for chunk in &mut chunks {
        chunk.copy_from_slice(&word(seed, index).to_le_bytes());
        index += 1;
    }
    let rest = chunks.into_remainder();
    let last = word(seed, index).to_le_bytes();
    rest.copy_from_slice(&last[..rest.len()]);
}

fn first_difference(seed: u64, data: &[u8]) -> Option<usize> {
    let mut chunks = data.chunks_exact(8);
    let mut index = 0;
    for chunk in &mut chunks {
        let expected = word(seed, index).to_le_bytes();
        if chunk != expected {
            let at = chunk.iter().zip(expected).position(|(a, b)| *a != b).unwrap_or(0);
            return Some(index * 8 + at);
        }
        index += 1;
    }
    let last = word(seed, index).to_le_bytes();
    let at = chunks.remainder().iter().zip(last).position(|(a, b)| *a != b)?;
    Some(index * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { version: 9, base: 8 };

    fn drawn(seed: u64, run: u32, bytes_min: usize, bytes_max: usize) -> Values {
        let sizes = Sizes::Drawn(ValueSize::range(bytes_min, bytes_max));
        Values::new(seed, run, sizes, None, Protocol::Resp)
    }

    fn values(bytes_min: usize, bytes_max: usize) -> Values {
        drawn(3, 77, bytes_min, bytes_max)
    }

    fn made(values: &Values, key: u64) -> Vec<u8> {
        let mut value = vec![0; values.size_bytes(key, STAMP.version)];
        values.write(key, STAMP, &mut value);
        value
    }

    #[test]
    fn a_value_passes_its_own_check() {
        for length in [1, 7, 8, 9, 31, 32, 33, 39, 40, 64, 1000, 100_000] {
            let values = values(length, length);
            let value = made(&values, 5);
            assert_eq!(value.len(), length);
            let expected =
                if length < HEADER_BYTES { Origin::Unknown } else { Origin::ThisRun(STAMP) };
            assert_eq!(values.check(5, &value, Verify::Full), Ok(expected));
            assert_eq!(values.check(5, &value, Verify::Header), Ok(expected));
        }
    }

    #[test]
    fn a_change_of_any_bit_shows() {
        for length in [3, 31, 32, 45, 64] {
            let values = values(length, length);
            let mut value = made(&values, 5);
            for bit in 0..length * 8 {
                value[bit / 8] ^= 1 << (bit % 8);
                assert!(values.check(5, &value, Verify::Full).is_err(), "{length} {bit}");
                value[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_change_of_any_length_shows() {
        for length in [3, 31, 32, 45] {
            let values = values(length, length);
            let mut value = made(&values, 5);
            for shorter in 0..length {
                assert!(values.check(5, &value[..shorter], Verify::Full).is_err());
                assert!(values.check(5, &value[..shorter], Verify::Header).is_err());
            }
            value.push(0);
            assert!(values.check(5, &value, Verify::Full).is_err());
        }
    }

    #[test]
    fn flaws_are_named() {
        let ours = values(64, 64);
        let value = made(&ours, 5);
        assert_eq!(ours.check(6, &value, Verify::Header), Err(Flaw::OtherKey(5)));
        let other_seed = drawn(4, 77, 64, 64);
        assert_eq!(other_seed.check(5, &value, Verify::Header), Err(Flaw::OtherSeed));
        let other_run = drawn(3, 78, 64, 64);
        assert_eq!(other_run.check(5, &value, Verify::Full), Ok(Origin::OtherRun));
        assert_eq!(ours.check(5, &[b'x'; 64], Verify::Full), Err(Flaw::NotOurs));
        assert_eq!(ours.check(5, &[b'x'; 64], Verify::Off), Ok(Origin::Unknown));
        let mut torn = value.clone();
        torn[50] ^= 1;
        assert_eq!(ours.check(5, &torn, Verify::Full), Err(Flaw::Body { offset: 50 }));
        assert_eq!(ours.check(5, &torn, Verify::Header), Ok(Origin::ThisRun(STAMP)));
    }

    #[test]
    fn lengths_fill_their_range_and_follow_the_trace() {
        let values = values(64, 127);
        let mut seen = [0_u32; 64];
        for key in 0..6400 {
            seen[values.size_bytes(key, 1) - 64] += 1;
        }
        assert!(seen.iter().all(|&count| (50..=160).contains(&count)), "{seen:?}");
        assert_ne!(
            (0..9).map(|v| values.size_bytes(1, v)).collect::<Vec<_>>(),
            vec![values.size_bytes(1, 0); 9]
        );
        let traced = Values::new(1, 1, Sizes::PerKey(vec![0, 40]), None, Protocol::Resp);
        assert_eq!((traced.size_bytes(0, 5), traced.size_bytes(1, 5)), (1, 40));
    }
    #[test]
    fn lifetimes_are_what_the_protocol_can_say() {
        let ttl: Ttl = "1500ms..10s".parse().expect("a range");
        let sizes = || Sizes::Drawn(ValueSize::fixed(64));
        let resp = Values::new(1, 1, sizes(), Some(ttl.clone()), Protocol::Resp);
        let text = Values::new(1, 1, sizes(), Some(ttl), Protocol::Memcached);
        for version in 0..1000 {
            let ttl_ms = resp.ttl_ms(3, version).expect("a lifetime");
            assert!((1500..=10_000).contains(&ttl_ms));
            assert_eq!(resp.ttl_ms(3, version), Some(ttl_ms), "a pure function");
            assert_eq!(text.ttl_ms(3, version), Some(ttl_ms.next_multiple_of(1000)));
        }
        assert_eq!(values(64, 64).ttl_ms(3, 1), None);
    }
}
