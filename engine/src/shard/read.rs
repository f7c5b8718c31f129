//! Lookups, and the two stages of prefetching that come before a batch of them.
//!
//! A server hashes the keys of a whole batch, calls `prefetch_line` for each, then
//! `prefetch_item` for each, then `get`: the memory latencies of the batch overlap.

use super::{Found, Shard, count_use};
use crate::bounds::{LINE_BYTES, PAGE_ID_BYTES};
use crate::hash::KeyHash;
use crate::item::{self, Front};
use crate::table::SlotRef;
use crate::value::{Entry, Value};

impl Shard {
    /// First stage of a batch: asks for the table line of a key.
    #[inline]
    pub fn prefetch_line(&self, hash: KeyHash) {
        self.table.prefetch(hash);
    }

    /// Second stage of a batch: reads the table line and asks for the first item whose tag matches
    /// (it is the wanted one, but for three keys in a hundred), for as many bytes as a typical item
    /// has.
    #[inline]
    pub fn prefetch_item(&self, hash: KeyHash) {
        self.log.prefetch(self.table.candidate(hash), self.typical_item_bytes);
    }

    /// Looks a key up, and counts it as a use of the item. An item whose deadline has come
    /// (`now_ms >= deadline`) is not found, and dropped. `hash` is this shard's hash of `key`.
    /// Does not allocate or copy.
    #[inline]
    pub fn get(&mut self, hash: KeyHash, key: &[u8], now_ms: u64) -> Option<Entry<'_>> {
        self.tick(now_ms);
        let log = &self.log;
        let is_wanted = |offset| {
            // Where the value lies is known only when the first line is here.
            log.prefetch_rest(offset, self.typical_item_bytes);
            item::key_is(log.at(offset), key, hash.space())
        };
        let Some(used) = self.table.find_and_use(hash, is_wanted) else {
            self.counters.misses += 1;
            return None;
        };
        let item = log.at(used.offset);
        let Some(front) = Front::of_live(item, log.version_floor(), self.now_ms) else {
            return self.get_decoded(hash, used.slot, used.frequency);
        };
        self.counters.hits += 1;
        count_use(&mut self.policy, &self.log, hash, used.offset, used.frequency);
        let item = self.log.at(used.offset);
        let (header, body) = item.split_at(front.header_bytes);
        let value = Value::inline(&body[key.len()..key.len() + front.value_bytes]);
        Some(Entry::new(value, used.frequency, header, self.now_ms))
    }

    /// The rest of `get` for an item that is not plain, or not live: drops it in the latter case.
    #[cold]
    #[inline(never)]
    fn get_decoded(&mut self, hash: KeyHash, slot: SlotRef, frequency: u8) -> Option<Entry<'_>> {
        let Some(found) = self.keep_if_live(hash, slot, self.table.offset(slot)) else {
            self.counters.misses += 1;
            return None;
        };
        self.counters.hits += 1;
        count_use(&mut self.policy, &self.log, hash, found.offset, frequency);
        Some(self.entry(&found, frequency))
    }

    /// Looks a key up as [`Shard::get`] does, but does not count it as a use, nor as hit or miss.
    pub fn peek(&mut self, hash: KeyHash, key: &[u8], now_ms: u64) -> Option<Entry<'_>> {
        self.tick(now_ms);
        let found = self.find_live(hash, key)?;
        Some(self.entry(&found, self.table.slot(found.slot).frequency))
    }

    /// Bytes that the item of a key takes: in the log, in pages, and its share of the table. O(1);
    /// does not count as a use.
    pub fn item_bytes(&mut self, hash: KeyHash, key: &[u8], now_ms: u64) -> Option<u64> {
        self.tick(now_ms);
        let found = self.find_live(hash, key)?;
        let table_bytes = (self.table.lines() * LINE_BYTES) as u64;
        Some(self.log.footprint(&found.header) + table_bytes.div_ceil(self.table.slots().max(1)))
    }

    pub(super) fn entry(&self, found: &Found, frequency: u8) -> Entry<'_> {
        let header = &found.header;
        let (start, body) = self.log.at(found.offset).split_at(found.header_bytes);
        let body = &body[header.key_bytes..];
        let value = if header.paged {
            let pages = header.pages(self.log.page_bytes());
            let (memory, page_bytes) = (self.log.memory(), self.log.page_bytes());
            Value::paged(header.value_bytes, &body[..pages * PAGE_ID_BYTES], memory, page_bytes)
        } else {
            Value::inline(&body[..header.value_bytes])
        };
        Entry::new(value, frequency, start, self.now_ms)
    }
}
