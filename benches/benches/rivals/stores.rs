//! The stores that are compared, behind the few calls that the loops need.
//!
//! Every store is given room for twice the items, so that none of them evicts, and has its own
//! default hasher. Keys and values have sizes known when compiling, which the maps get to keep in
//! line, without a pointer to follow: that is kinder to them than the sizes of a server's items.

use std::time::Duration;

use pinion_engine::{Deadline, Limits, SetOptions, Shard, ShardConfig};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;
/// Bytes of a value: eight words.
pub(crate) const VALUE_BYTES: usize = 64;

/// A key.
pub(crate) type Key = [u8; KEY_BYTES];
/// A value.
pub(crate) type Value = [u8; VALUE_BYTES];

/// Memory that our shard may take per item; it takes two thirds of that.
const SHARD_BYTES_PER_ITEM: usize = 192;
/// Memory that segcache's heap has per item, header included.
const SEGCACHE_BYTES_PER_ITEM: usize = 192;
/// Its heap is a whole number of segments, which have this size by default.
const SEGCACHE_SEGMENT_BYTES: usize = 1 << 20;
/// Memory of both besides.
const SPARE_BYTES: usize = 64 << 20;
/// How far away deadlines are, where a store has them.
const TTL: Duration = Duration::from_secs(3600);

/// The key of a number: its hexadecimal digits as letters. A handful of instructions.
#[inline(always)]
pub(crate) fn key_of(number: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    for (index, digit) in key.iter_mut().enumerate() {
        *digit = b'a' + ((number >> (4 * index)) & 15) as u8;
    }
    key
}

/// The value of a number: words that differ, and whose exclusive or is 0.
pub(crate) fn value_of(number: u64) -> Value {
    let mut value = [0; VALUE_BYTES];
    let mut rest = 0;
    for (index, word) in value.chunks_exact_mut(8).enumerate() {
        let last = index == VALUE_BYTES / 8 - 1;
        let bits =
            if last { rest } else { number.wrapping_mul(2 * index as u64 + 3) ^ index as u64 };
        rest ^= bits;
        word.copy_from_slice(&bits.to_le_bytes());
    }
    value
}

/// The exclusive or of a value's words: reads all of it. 0 for every sound value, which no
/// compiler can know.
#[inline(always)]
pub(crate) fn fold(value: &[u8]) -> u64 {
    let words = value.chunks_exact(8);
    words.fold(0, |sum, word| sum ^ u64::from_le_bytes(word.try_into().expect("eight bytes")))
}

/// A store of items.
pub(crate) trait Store {
    /// Stores an item.
    fn insert(&mut self, key: &Key, value: &Value);
    /// Reads an item in full: [`fold`] of its value, or `None` if it is not there.
    fn read(&mut self, key: &Key) -> Option<u64>;
}

/// hashbrown's map: no eviction, no expiry, no limit.
pub(crate) struct HashMap(hashbrown::HashMap<Key, Value>);

impl HashMap {
    /// An empty map that grows as it fills.
    pub(crate) fn new() -> HashMap {
        HashMap(hashbrown::HashMap::new())
    }
}

impl Store for HashMap {
    fn insert(&mut self, key: &Key, value: &Value) {
        self.0.insert(*key, *value);
    }

    #[inline(always)]
    fn read(&mut self, key: &Key) -> Option<u64> {
        self.0.get(key).map(|value| fold(value))
    }
}

/// quick_cache, for one thread.
pub(crate) struct QuickCache(quick_cache::unsync::Cache<Key, Value>);

impl QuickCache {
    /// A cache for so many items.
    pub(crate) fn new(items: usize) -> QuickCache {
        QuickCache(quick_cache::unsync::Cache::new(items * 2))
    }
}

impl Store for QuickCache {
    fn insert(&mut self, key: &Key, value: &Value) {
        self.0.insert(*key, *value);
    }

    #[inline(always)]
    fn read(&mut self, key: &Key) -> Option<u64> {
        self.0.get(key).map(|value| fold(value))
    }
}

/// moka, which is for many threads alone and hands out copies.
pub(crate) struct Moka(moka::sync::Cache<Key, Value>);

impl Moka {
    /// A cache for so many items.
    pub(crate) fn new(items: usize) -> Moka {
        Moka(moka::sync::Cache::new(items as u64 * 2))
    }
}

impl Store for Moka {
    fn insert(&mut self, key: &Key, value: &Value) {
        self.0.insert(*key, *value);
    }

    #[inline(always)]
    fn read(&mut self, key: &Key) -> Option<u64> {
        self.0.get(key).map(|value| fold(&value))
    }
}

/// segcache: items in segments, with deadlines.
pub(crate) struct Segcache(segcache::Segcache);

impl Segcache {
    /// A cache for so many items.
    ///
    /// # Errors
    /// If its memory cannot be had.
    pub(crate) fn new(items: usize) -> std::io::Result<Segcache> {
        // A table of 2^n has room for 7/8 of that, in buckets of which some fill up before others.
        let hash_power = (items * 3).next_power_of_two().ilog2().max(7) as u8;
        let cache = segcache::Segcache::builder()
            .hash_power(hash_power)
            .heap_size(
                (items * SEGCACHE_BYTES_PER_ITEM + SPARE_BYTES)
                    .next_multiple_of(SEGCACHE_SEGMENT_BYTES),
            )
            .build()?;
        Ok(Segcache(cache))
    }
}

impl Store for Segcache {
    fn insert(&mut self, key: &Key, value: &Value) {
        // A failed insert shows when the item is read.
        let _ = self.0.insert(key, &value[..], None, TTL);
    }

    #[inline(always)]
    fn read(&mut self, key: &Key) -> Option<u64> {
        match self.0.get(key)?.value() {
            segcache::Value::Bytes(bytes) => Some(fold(bytes)),
            segcache::Value::U64(_) => None,
        }
    }
}

/// Our shard, with its default policy, versions, and a deadline on every item.
pub(crate) struct Pinion {
    /// The shard.
    pub(crate) shard: Shard,
    /// What its clock reads, in milliseconds.
    pub(crate) now_ms: u64,
}

impl Pinion {
    /// A shard for so many items.
    ///
    /// # Errors
    /// If its memory cannot be reserved.
    pub(crate) fn new(
        items: usize,
        huge_pages: bool,
    ) -> Result<Pinion, pinion_engine::EngineError> {
        let total_bytes = items * SHARD_BYTES_PER_ITEM + SPARE_BYTES;
        let shard = Shard::new(&ShardConfig {
            hash_seed: 1,
            limits: Limits { total_bytes, ..ShardConfig::default().limits },
            huge_pages,
            ..ShardConfig::default()
        })?;
        Ok(Pinion { shard, now_ms: 1 })
    }
}

impl Store for Pinion {
    fn insert(&mut self, key: &Key, value: &Value) {
        let hash = self.shard.hash(key);
        let deadline = Deadline::At(self.now_ms + TTL.as_millis() as u64);
        let options = SetOptions { deadline, ..SetOptions::default() };
        // A failed write shows when the item is read.
        let _ = self.shard.set(hash, key, value, &options, self.now_ms);
    }

    #[inline(always)]
    fn read(&mut self, key: &Key) -> Option<u64> {
        let hash = self.shard.hash(key);
        let entry = self.shard.get(hash, key, self.now_ms)?;
        entry.value.as_slice().map(fold)
    }
}
