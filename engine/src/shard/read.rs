//! Lookups, and the two stages of prefetching that come before a batch of them.
//!
//! A server hashes the keys of a whole batch, calls `prefetch_line` for each, then
//! `prefetch_item` for each, then `get`: the memory latencies of the batch overlap.

use super::{Found, Shard};
use crate::bounds::PAGE_ID_BYTES;
use crate::hash::KeyHash;
use crate::value::{Entry, Value};

impl Shard {
    /// First stage of a batch: asks for the table line of a key.
    #[inline]
    pub fn prefetch_line(&self, hash: KeyHash) {
        self.table.prefetch(hash);
    }

    /// Second stage of a batch: reads the table line and asks for each item whose tag matches
    /// (one, but for three keys in a hundred), for as many bytes as a typical item has.
    #[inline]
    pub fn prefetch_item(&self, hash: KeyHash) {
        self.table.candidates(hash, |offset| {
            self.log.prefetch(offset, self.typical_item_bytes);
        });
    }

    /// Looks a key up, and counts it as a use of the item. An item whose deadline has come
    /// (`now_ms >= deadline`) is not found, and dropped. `hash` is this shard's hash of `key`.
    /// Does not allocate or copy.
    #[inline]
    pub fn get(&mut self, hash: KeyHash, key: &[u8], now_ms: u64) -> Option<Entry<'_>> {
        self.tick(now_ms);
        let Some(found) = self.find_live(hash, key) else {
            self.counters.misses += 1;
            return None;
        };
        self.counters.hits += 1;
        let frequency = self.mark_used(hash, &found);
        Some(self.entry(&found, frequency))
    }

    /// Looks a key up as [`Shard::get`] does, but does not count it as a use, nor as hit or miss.
    pub fn peek(&mut self, hash: KeyHash, key: &[u8], now_ms: u64) -> Option<Entry<'_>> {
        self.tick(now_ms);
        let found = self.find_live(hash, key)?;
        Some(self.entry(&found, self.table.slot(found.slot).frequency))
    }

    #[inline]
    pub(super) fn entry(&self, found: &Found, frequency: u8) -> Entry<'_> {
        let header = &found.header;
        let body = &self.log.at(found.offset)[found.header_bytes + header.key_bytes..];
        let value = if header.paged {
            let pages = header.pages(self.log.page_bytes());
            let (memory, page_bytes) = (self.log.memory(), self.log.page_bytes());
            Value::paged(header.value_bytes, &body[..pages * PAGE_ID_BYTES], memory, page_bytes)
        } else {
            Value::inline(&body[..header.value_bytes])
        };
        Entry {
            value,
            flags: header.flags,
            version: header.version.number(),
            deadline_ms: header.deadline.resolve(self.now_ms),
            frequency,
        }
    }
}
