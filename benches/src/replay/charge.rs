//! What a capacity counts, and how the shard is made to count it.
//!
//! | charge | an item weighs | used for |
//! |---|---|---|
//! | `Objects` | 1 | published ratios by number of entries |
//! | `Bytes` | the trace's size of the value, at least 1 | published ratios by bytes |
//! | `DataLimit` | header, key and value, as in the server | what `pinion --data-limit` gives |
//!
//! The shard itself counts whole items (`Limits::data_bytes`). The two published charges are had
//! exactly through the lengths of what is stored, without a word to the shard:
//!
//! - `Objects`: every item has the same length, and the limit is as many times that.
//! - `Bytes`: the value stored is shorter than the trace's by the key and the header, so that the
//!   whole item weighs what the trace says. Keys take four bytes, so that this works down to
//!   values of 13 bytes. [`Prepared::misweighed_keys`] counts those for which it does not: smaller
//!   ones, which weigh 13, and those above 32 KiB, which weigh whole pages.
//!
//! [`Prepared::shard_config`] is the only place that tells the shard what to count: a cost
//! function of the engine, when it has one, goes there and into [`stored_lengths`].
//!
//! Cost: one pass over the keys of a sized trace, a few hundred nanoseconds for each length.

use std::collections::HashMap;
use std::str::FromStr;

use pinion_engine::{EngineError, Eviction, Limits, SetOptions, Shard, ShardConfig};
use pinion_loadgen::trace::Trace;

use super::unique;

/// Bytes of a key in text; enough for the prefix and every number that a trace can have.
const TEXT_KEY_BYTES: usize = 16;
const KEY_PREFIX: &[u8; 4] = b"obj:";
/// Bytes of a key where as little as possible shall be charged for it.
const SHORT_KEY_BYTES: usize = 4;
/// The largest value; a larger one is not stored, as by a server with this `--value-max`.
const VALUE_BYTES_MAX: usize = 512 << 20;
/// What the shard may take at least in all, so that only the limit on items is ever reached. It
/// is what a server with `--memory 256MiB` gives its shard.
const TOTAL_BYTES_MIN: u64 = 232 << 20;
/// Length of values where every item weighs the same.
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
    lengths: Lengths,
    /// Bytes of the item that every key has, where all weigh the same.
    equal_item_bytes: u64,
    misweighed_keys: u64,
}

/// Lengths of the values stored.
#[derive(Debug)]
enum Lengths {
    Equal(u32),
    PerKey(Vec<u32>),
}

impl<'a> Prepared<'a> {
    /// Settles what the items of a trace weigh. Values of a trace without sizes have
    /// `unsized_bytes`.
    ///
    /// # Errors
    /// If no shard can be made to weigh items with.
    pub fn new(
        trace: &'a Trace,
        charge: Charge,
        unsized_bytes: u32,
    ) -> Result<Prepared<'a>, EngineError> {
        let mut prepared = Prepared {
            trace,
            charge,
            unsized_bytes,
            lengths: Lengths::Equal(unsized_bytes),
            equal_item_bytes: 0,
            misweighed_keys: 0,
        };
        match (charge, &trace.key_sizes) {
            (Charge::Objects, _) => {
                prepared.lengths = Lengths::Equal(EQUAL_VALUE_BYTES);
                let mut scale = Scale::new(TEXT_KEY_BYTES)?;
                prepared.equal_item_bytes = scale.item_bytes(EQUAL_VALUE_BYTES);
            }
            (Charge::DataLimit, None) => {}
            (Charge::DataLimit, Some(sizes)) => {
                prepared.lengths = Lengths::PerKey(sizes.iter().map(|&size| size.max(1)).collect());
            }
            (Charge::Bytes, sizes) => {
                let constant = [unsized_bytes];
                let sizes = sizes.as_deref().unwrap_or(&constant);
                let (lengths, misweighed_keys) = stored_lengths(sizes)?;
                prepared.misweighed_keys = misweighed_keys;
                prepared.lengths = match (trace.key_sizes.is_some(), lengths.as_slice()) {
                    (false, &[length]) => Lengths::Equal(length),
                    _ => Lengths::PerKey(lengths),
                };
            }
        }
        Ok(prepared)
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

    /// Keys whose items weigh something else than the charge says.
    pub fn misweighed_keys(&self) -> u64 {
        self.misweighed_keys
    }

    /// The configuration of a shard that holds `capacity` by this charge.
    pub(super) fn shard_config(
        &self,
        capacity: u64,
        eviction: Eviction,
        hash_seed: u64,
    ) -> ShardConfig {
        let data_bytes = match self.charge {
            Charge::Objects => capacity.saturating_mul(self.equal_item_bytes),
            Charge::Bytes | Charge::DataLimit => capacity,
        };
        // Segments, their slack and the table must never be what is short.
        let total_bytes = data_bytes.saturating_mul(2).saturating_add(TOTAL_BYTES_MIN);
        ShardConfig {
            hash_seed,
            limits: Limits {
                total_bytes: usize::try_from(total_bytes).unwrap_or(usize::MAX),
                data_bytes: Some(data_bytes),
            },
            eviction,
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
        match &self.lengths {
            Lengths::Equal(bytes) => *bytes as usize,
            Lengths::PerKey(lengths) => lengths[key as usize] as usize,
        }
    }

    /// The longest value that is stored.
    pub(super) fn stored_bytes_max(&self) -> usize {
        match &self.lengths {
            Lengths::Equal(bytes) => *bytes as usize,
            Lengths::PerKey(lengths) => lengths.iter().copied().max().unwrap_or(0) as usize,
        }
    }

    /// A writer of keys.
    pub(super) fn key_text(&self) -> KeyText {
        let mut bytes = [b'0'; TEXT_KEY_BYTES];
        bytes[..KEY_PREFIX.len()].copy_from_slice(KEY_PREFIX);
        KeyText { bytes, is_short: self.charge == Charge::Bytes }
    }
}

/// Writes the numbers of a trace as keys: in text, as a load generator does, or in four bytes.
pub(super) struct KeyText {
    bytes: [u8; TEXT_KEY_BYTES],
    is_short: bool,
}

impl KeyText {
    pub(super) fn of(&mut self, key: u32) -> &[u8] {
        if self.is_short {
            self.bytes[..SHORT_KEY_BYTES].copy_from_slice(&key.to_le_bytes());
            return &self.bytes[..SHORT_KEY_BYTES];
        }
        let mut number = key;
        for digit in self.bytes[KEY_PREFIX.len()..].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.bytes
    }
}

/// For each size the length of a value whose item, with a short key, weighs that much, or the
/// nearest below it; and the number of sizes for which there is none.
fn stored_lengths(sizes: &[u32]) -> Result<(Vec<u32>, u64), EngineError> {
    let mut scale = Scale::new(SHORT_KEY_BYTES)?;
    let mut known: HashMap<u32, (u32, bool)> = HashMap::new();
    let mut misweighed = 0;
    let lengths = sizes
        .iter()
        .map(|&size| {
            let size = size.max(1);
            let entry = known.entry(size);
            let (length, is_exact) = *entry.or_insert_with(|| scale.length_that_weighs(size));
            misweighed += u64::from(!is_exact);
            length
        })
        .collect();
    Ok((lengths, misweighed))
}

/// A shard to weigh items with.
struct Scale {
    shard: Shard,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Scale {
    fn new(key_bytes: usize) -> Result<Scale, EngineError> {
        let shard = Shard::new(&ShardConfig {
            limits: Limits { total_bytes: TOTAL_BYTES_MIN as usize, data_bytes: None },
            value_bytes_max: VALUE_BYTES_MAX,
            ..ShardConfig::default()
        })?;
        Ok(Scale { shard, key: vec![b'k'; key_bytes], value: Vec::new() })
    }

    /// Bytes that the shard counts for an item with a value of this length; more than it could
    /// ever hold if it refuses the value.
    fn item_bytes(&mut self, value_bytes: u32) -> u64 {
        self.value.resize(value_bytes as usize, 0);
        let hash = self.shard.hash(&self.key);
        let options = SetOptions::default();
        if self.shard.set(hash, &self.key, &self.value, &options, 0).is_err() {
            return u64::MAX;
        }
        let stats = self.shard.stats();
        self.shard.delete(hash, &self.key, None, 0);
        stats.live_bytes + stats.page_bytes
    }

    /// The longest value whose item weighs at most `size`, or else an empty one; and whether it
    /// weighs just that.
    fn length_that_weighs(&mut self, size: u32) -> (u32, bool) {
        let (mut fits, mut too_long) = (0, size.saturating_add(1));
        while too_long - fits > 1 {
            let middle = fits + (too_long - fits) / 2;
            if self.item_bytes(middle) <= u64::from(size) {
                fits = middle;
            } else {
                too_long = middle;
            }
        }
        (fits, self.item_bytes(fits) == u64::from(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_made_to_weigh_what_the_trace_says() {
        let sizes = [0, 5, 12, 13, 14, 100, 267, 268, 5_000, 30_000];
        let (lengths, misweighed) = stored_lengths(&sizes).unwrap();
        let mut scale = Scale::new(SHORT_KEY_BYTES).unwrap();
        for (&size, &length) in sizes.iter().zip(&lengths) {
            let weight = scale.item_bytes(length);
            // One byte is lost where the length field grows.
            let exact = u64::from(size.max(13));
            assert!(weight == exact || weight + 1 == exact, "{size}: {length}, {weight}");
        }
        assert!((3..=4).contains(&misweighed), "{misweighed}");
        assert_eq!((lengths[0], lengths[3], lengths[5]), (0, 0, 87));
    }

    #[test]
    fn a_value_in_pages_is_not_exact_and_never_too_heavy() {
        let (lengths, misweighed) = stored_lengths(&[200_000]).unwrap();
        assert_eq!(misweighed, 1);
        let weight = Scale::new(SHORT_KEY_BYTES).unwrap().item_bytes(lengths[0]);
        assert!((170_000..=200_000).contains(&weight), "{weight}");
    }

    #[test]
    fn keys_are_written_in_both_ways() {
        let trace = Trace { keys: vec![], key_sizes: None, unique: 0, unique_bytes: 0 };
        let key = |charge| {
            let prepared = Prepared::new(&trace, charge, 64).unwrap();
            prepared.key_text().of(4_294_967_295).to_vec()
        };
        assert_eq!(key(Charge::Objects), b"obj:004294967295");
        assert_eq!(key(Charge::DataLimit), b"obj:004294967295");
        assert_eq!(key(Charge::Bytes), [255; 4]);
    }

    #[test]
    fn charges_have_names() {
        for charge in [Charge::Objects, Charge::Bytes, Charge::DataLimit] {
            assert_eq!(charge.name().parse(), Ok(charge));
        }
        assert!("items".parse::<Charge>().unwrap_err().contains("data-limit"));
    }
}
