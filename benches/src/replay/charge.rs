//! What a capacity counts, and what items it is counted for.
//!
//! | charge | an item weighs | used for |
//! |---|---|---|
//! | `Objects` | 1 | published ratios by number of entries |
//! | `Bytes` | the size of its value, at least 1 | published ratios by bytes |
//! | `DataLimit` | header, key and value, as in the server | what `pinion --data-limit` gives |
//!
//! The shard is told by its cost function; keys and values are the same for all charges.

use std::str::FromStr;

use pinion_engine::{Cost, Eviction, LOG_BYTES_MAX, Limits, ShardConfig};
use pinion_loadgen::trace::Trace;

use super::unique;

/// Bytes of a key; enough for the prefix and every number that a trace can have.
const KEY_BYTES: usize = 16;
const KEY_PREFIX: &[u8; 4] = b"obj:";
/// The largest value; a larger one is not stored, as by a server with this `--value-max`.
const VALUE_BYTES_MAX: usize = 512 << 20;
/// What the shard may take at least in all, so that only the limit on items is ever reached. It
/// is what a server with `--memory 256MiB` gives its shard.
const TOTAL_BYTES_MIN: u64 = 232 << 20;
/// Length of every value where items weigh the same.
const EQUAL_VALUE_BYTES: u32 = 16;

/// What a capacity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Entries of equal weight.
    Objects,
    /// Bytes of values, as the trace has them.
    Bytes,
    /// Bytes of whole items, as the server's limit counts them.
    DataLimit,
}

impl Charge {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Charge::Objects => "objects",
            Charge::Bytes => "bytes",
            Charge::DataLimit => "data-limit",
        }
    }
}

impl FromStr for Charge {
    type Err = String;

    fn from_str(text: &str) -> Result<Charge, String> {
        [Charge::Objects, Charge::Bytes, Charge::DataLimit]
            .into_iter()
            .find(|charge| charge.name() == text)
            .ok_or_else(|| format!("'{text}' is not objects, bytes or data-limit"))
    }
}

/// A trace, and what its items weigh.
#[derive(Debug)]
pub struct Prepared<'a> {
    trace: &'a Trace,
    charge: Charge,
    unsized_bytes: u32,
}

impl<'a> Prepared<'a> {
    /// Settles what the items of a trace weigh. Values of a trace without sizes have
    /// `unsized_bytes`.
    pub fn new(trace: &'a Trace, charge: Charge, unsized_bytes: u32) -> Prepared<'a> {
        Prepared { trace, charge, unsized_bytes }
    }

    /// The trace.
    pub fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// What a capacity of `fraction` of the unique keys or bytes comes to, rounded; at least 1.
    pub fn share(&self, fraction: f64) -> u64 {
        let (keys, bytes) = unique(self.trace, self.unsized_bytes);
        let whole = if self.charge == Charge::Objects { keys } else { bytes };
        ((whole as f64 * fraction).round() as u64).max(1)
    }

    /// The configuration of a shard that holds `capacity` by this charge.
    pub(super) fn shard_config(
        &self,
        capacity: u64,
        eviction: Eviction,
        hash_seed: u64,
    ) -> ShardConfig {
        let (cost, item_bytes) = match self.charge {
            Charge::Objects => (Cost::Items, u64::from(EQUAL_VALUE_BYTES) + 64),
            Charge::Bytes => (Cost::Values, 4),
            Charge::DataLimit => (Cost::Bytes, 2),
        };
        // Segments, their slack and the table must never be what is short.
        let total_bytes = capacity.saturating_mul(item_bytes).saturating_add(TOTAL_BYTES_MIN);
        let total_bytes = total_bytes.min(LOG_BYTES_MAX as u64 / 2);
        ShardConfig {
            hash_seed,
            limits: Limits { total_bytes: total_bytes as usize, data: Some(capacity) },
            eviction,
            cost,
            huge_pages: true,
            value_bytes_max: VALUE_BYTES_MAX,
            ..ShardConfig::default()
        }
    }

    /// Length of a key's value in the trace: what hits and requests are counted in.
    pub(super) fn value_bytes(&self, key: u32) -> u64 {
        let sizes = self.trace.key_sizes.as_ref();
        let size = sizes.map_or(self.unsized_bytes, |sizes| sizes[key as usize]);
        u64::from(size.max(1))
    }

    /// Length of the value that is stored for a key.
    pub(super) fn stored_bytes(&self, key: u32) -> usize {
        match self.charge {
            Charge::Objects => EQUAL_VALUE_BYTES as usize,
            Charge::Bytes | Charge::DataLimit => self.value_bytes(key) as usize,
        }
    }

    /// The longest value that is stored.
    pub(super) fn stored_bytes_max(&self) -> usize {
        let longest = self.trace.key_sizes.iter().flatten().copied().max();
        match self.charge {
            Charge::Objects => EQUAL_VALUE_BYTES as usize,
            Charge::Bytes | Charge::DataLimit => {
                longest.unwrap_or(self.unsized_bytes).max(1) as usize
            }
        }
    }

    /// A writer of keys.
    pub(super) fn key_text(&self) -> KeyText {
        let mut bytes = [b'0'; KEY_BYTES];
        bytes[..KEY_PREFIX.len()].copy_from_slice(KEY_PREFIX);
        KeyText { bytes }
    }
}

/// Writes the numbers of a trace as keys, as a load generator does.
pub(super) struct KeyText {
    bytes: [u8; KEY_BYTES],
}

impl KeyText {
    pub(super) fn of(&mut self, key: u32) -> &[u8] {
        let mut number = key;
        for digit in self.bytes[KEY_PREFIX.len()..].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_text() {
        let trace = Trace { keys: vec![], key_sizes: None, unique: 0, unique_bytes: 0 };
        let prepared = Prepared::new(&trace, Charge::Bytes, 64);
        assert_eq!(prepared.key_text().of(4_294_967_295), b"obj:004294967295");
    }

    #[test]
    fn charges_have_names() {
        for charge in [Charge::Objects, Charge::Bytes, Charge::DataLimit] {
            assert_eq!(charge.name().parse(), Ok(charge));
        }
        assert!("items".parse::<Charge>().unwrap_err().contains("data-limit"));
    }
}
