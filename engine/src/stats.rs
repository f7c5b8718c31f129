//! What a shard counts: plain numbers of its own, copied out on demand.

/// A shard's counters and gauges at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ShardStats {
    /// Items stored. Some may have expired without anybody having noticed yet.
    pub items: u64,
    /// Bytes of live items in the log: headers, keys, inline values and page numbers.
    pub live_bytes: u64,
    /// Bytes in the log of dead items that the tail has not passed yet.
    pub dead_bytes: u64,
    /// Bytes of segments in use, for items and for pages.
    pub log_bytes: u64,
    /// Bytes of pages in use.
    pub page_bytes: u64,
    /// Bytes of table lines in use.
    pub table_bytes: u64,
    /// Bytes of table lines that are in memory because they are or were in use; they count against
    /// the limit until they are given back.
    pub table_resident_bytes: u64,
    /// Bytes of free segments that are in memory.
    pub warm_bytes: u64,
    /// Bytes of free segments that another thread is populating or giving back.
    pub away_bytes: u64,
    /// Table slots in use: those of the items, and of flushed items that were not passed yet.
    pub table_slots: u64,
    /// Table lines in use beyond one a bucket.
    pub overflow_lines: u64,
    /// Events since the shard was made.
    pub counters: Counters,
    /// Work of the last call that changes the shard.
    pub work: Work,
}

/// Events since the shard was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// `get` calls that found the key.
    pub hits: u64,
    /// `get` calls that did not.
    pub misses: u64,
    /// Live items dropped to make room.
    pub evictions: u64,
    /// Bytes of these items, pages included.
    pub evicted_bytes: u64,
    /// Items dropped because their deadline had come.
    pub expired: u64,
    /// Items that the tail copied to the head.
    pub items_moved: u64,
    /// Bytes copied, pages included.
    pub bytes_moved: u64,
    /// Overwrites in place.
    pub overwrites_in_place: u64,
    /// Table buckets split.
    pub splits: u64,
    /// Table buckets merged.
    pub merges: u64,
    /// Items evicted because their table chain was full and no overflow line was left.
    pub chain_evictions: u64,
    /// The most lines of a chain that one lookup read.
    pub chain_lines_max: u64,
    /// Writes that failed for want of room.
    pub no_space: u64,
}

/// Work of one call, in units that do not depend on the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Steps of the tail cursor: items passed and segments freed.
    pub tail_steps: u64,
    /// Items copied from the tail to the head.
    pub items_moved: u64,
    /// Bytes copied from place to place; not the bytes that the call itself brought.
    pub bytes_copied: u64,
    /// Table lines read.
    pub lines_read: u64,
    /// Items whose headers a split read.
    pub split_items: u64,
    /// Buckets split or merged.
    pub resizes: u64,
}
