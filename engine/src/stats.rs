//! What a shard counts: plain numbers of its own, copied out on demand.

/// What a database holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DatabaseStats {
    /// Items. Some may have expired without anybody having noticed yet.
    pub items: u64,
    /// Items with a deadline.
    pub volatile_items: u64,
    /// The mean time that these have left, in milliseconds.
    pub mean_left_ms: u64,
}

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
    /// Bytes of pages in use, those of arriving and pinned values among them.
    pub page_bytes: u64,
    /// Bytes of pages that values which are still arriving have taken.
    pub arriving_bytes: u64,
    /// Bytes of pages that readers hold, whether their item is still there or not.
    pub pinned_bytes: u64,
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
    /// Items with a deadline, and how they expire.
    pub expiry: ExpiryStats,
    /// The eviction policy, and what is in its queues.
    pub policy: PolicyStats,
    /// Leases handed out, and what became of them.
    pub leases: LeaseStats,
    /// Events since the shard was made.
    pub counters: Counters,
    /// Work of the last call that changes the shard.
    pub work: Work,
}

/// Leases since the shard was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaseStats {
    /// Leases handed out.
    pub granted: u64,
    /// Of these, those that were handed out since the one before was not answered in time, or its
    /// time was forgotten for newer ones.
    pub timed_out: u64,
}

/// The eviction policy, and what is in its queues. Zeros where a policy does not have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyStats {
    /// The window's share of the capacity, as the climber has set it, in thousandths.
    pub window_share_permille: u32,
    /// What the items of the window, on probation and protected cost.
    pub queue_costs: [u64; 3],
    /// Window items that won against the main part's victim.
    pub admitted: u64,
    /// Window items that lost and were evicted.
    pub rejected: u64,
    /// Items among `admitted` that their frequency alone would not have let in: they had been
    /// evicted lately (ghost hits).
    pub admitted_as_ghost: u64,
    /// Whether recently evicted keys are admitted now: what the duel has decided.
    pub ghost_admits: bool,
    /// How often the duel has changed its mind.
    pub duel_changes: u64,
    /// Times that all frequencies were halved.
    pub epochs: u64,
    /// Bytes of sketch, ghost filter and duel.
    pub bytes: u64,
}

/// Items with a deadline, and how they expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExpiryStats {
    /// Live items with a deadline. Some may have expired without anybody having noticed yet.
    pub items: u64,
    /// The mean time that these have left, in milliseconds: exact, from the sum of all deadlines.
    /// 0 when there are none.
    pub mean_ttl_ms: u64,
    /// Entries: about one an item, never much more than two an item and a constant.
    pub entries: u64,
    /// Groups in the heap, or being split.
    pub groups: u64,
    /// Bytes of the chunks that hold the entries.
    pub bytes: u64,
    /// Items removed because their deadline had come.
    pub lag_count: u64,
    /// The median time between deadline and removal in milliseconds, at most an eighth too long,
    /// as the following.
    pub lag_p50_ms: u64,
    /// The 99th percentile of the same.
    pub lag_p99_ms: u64,
    /// The longest of the same, exact.
    pub lag_max_ms: u64,
}

/// Events since the shard was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// `get` calls that found the key.
    pub hits: u64,
    /// `get` calls that did not.
    pub misses: u64,
    /// Values stored, over old ones or not.
    pub stores: u64,
    /// Live items dropped to make room: the sum of the following four.
    pub evictions: u64,
    /// Those that were in the window: new items that did not stay.
    pub evictions_window: u64,
    /// Those of the main part.
    pub evictions_main: u64,
    /// Those that the policy would have kept, but there was no time or room to move them.
    pub evictions_forced: u64,
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
    /// Items evicted because their table chain was full and no overflow line was left: the last
    /// reason.
    pub chain_evictions: u64,
    /// The most lines of a chain that one lookup read, other than a `get`.
    pub chain_lines_max: u64,
    /// Flushes because the clock had come weeks past a deadline whose item was still there: the host
    /// was suspended, or nobody called `expire`.
    pub clock_flushes: u64,
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
    /// Expiry entries looked at.
    pub expiry_entries: u64,
}
