//! What the tests share: a seeded generator, and short forms of the usual calls.
#![expect(dead_code, reason = "each test file uses a part of it")]

use pinion_engine::{
    Deadline, Eviction, Limits, PinnedValue, SetError, SetOptions, Shard, ShardConfig, Stored,
    Value,
};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    /// A generator whose seed is printed, and replaced by `PINION_SEED` if that is set.
    pub(crate) fn announced(default_seed: u64) -> Random {
        let seed = match std::env::var("PINION_SEED") {
            Ok(text) => text.parse().expect("PINION_SEED is a number"),
            Err(_) => default_seed,
        };
        println!("PINION_SEED={seed}");
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A length up to `max`, with all orders of magnitude alike.
    pub(crate) fn length(&mut self, max: usize) -> usize {
        let bits = self.below(u64::from(max.ilog2()) + 2) as u32;
        self.below(1 << bits) as usize % (max + 1)
    }
}

/// A value that tells whom it belongs to and which write made it, in every byte's place.
pub(crate) fn value_of(key: u64, write: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random(key.wrapping_mul(31).wrapping_add(write));
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(bytes);
    value
}

pub(crate) fn config(total_bytes: usize) -> ShardConfig {
    ShardConfig {
        hash_seed: 42,
        limits: Limits { total_bytes, data: None },
        ..ShardConfig::default()
    }
}

pub(crate) fn shard(total_bytes: usize) -> Shard {
    Shard::new(&config(total_bytes)).unwrap()
}

pub(crate) fn shard_with(eviction: Eviction, total_bytes: usize) -> Shard {
    Shard::new(&ShardConfig { eviction, ..config(total_bytes) }).unwrap()
}

pub(crate) fn shard_without_eviction(total_bytes: usize) -> Shard {
    shard_with(Eviction::None, total_bytes)
}

pub(crate) fn set(shard: &mut Shard, key: &[u8], value: &[u8]) -> Result<Stored, SetError> {
    let hash = shard.hash(key);
    shard.set(hash, key, value, &SetOptions::default(), 0)
}

pub(crate) fn set_until(
    shard: &mut Shard,
    key: &[u8],
    value: &[u8],
    deadline_ms: u64,
    now_ms: u64,
) {
    let options = SetOptions { deadline: Deadline::At(deadline_ms), ..SetOptions::default() };
    let hash = shard.hash(key);
    shard.set(hash, key, value, &options, now_ms).unwrap();
}

pub(crate) fn get(shard: &mut Shard, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    let hash = shard.hash(key);
    shard.get(hash, key, now_ms).map(|entry| entry.value.to_vec())
}

pub(crate) fn is_equal(value: Value<'_>, expected: &[u8]) -> bool {
    value == *expected
}

/// A pinned value, read chunk by chunk.
pub(crate) fn read_pinned(shard: &Shard, pinned: &PinnedValue) -> Vec<u8> {
    let mut value = Vec::new();
    while value.len() < pinned.len() {
        let chunk = shard.pinned_chunk(pinned, value.len());
        assert!(!chunk.is_empty());
        value.extend_from_slice(chunk);
    }
    assert!(shard.pinned_chunk(pinned, value.len()).is_empty());
    value
}
