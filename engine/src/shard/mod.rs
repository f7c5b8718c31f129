//! The shard: one owner's cache, made of a table and a log.
//!
//! ```text
//! read:   hash -> table line -> item            (find_live; drops what has expired on the way)
//! write:  make_room (tail cursor) -> append at the head -> slot -> one split or merge
//! expire: entry -> table line -> item: removed, or filed again
//! upkeep: maintain: due items, flushed memory, lowered limits, the table's size
//! ```
//!
//! - S1. Every item in the log that is ahead of the tail cursor and not marked dead has exactly
//!   one slot in the table, and every slot refers to such an item. So an item leaves both at once.
//! - S2. At most one such item has a given key and may be served.
//! - S3. The shard's clock never runs backwards: a reading earlier than the last counts as the
//!   last.
//! - S4. No item is overdue by more than `OVERDUE_MS_MAX` and a `CLOCK_CHECK_MS`, as its deadline
//!   could not be told any more (D1 of `item`). Expiry removes overdue items within milliseconds;
//!   but a host that was suspended for weeks, or a caller that never calls `expire`, may bring a
//!   clock reading that finds older ones: then everything is flushed, as a cache may always miss.
//!
//! Cost: a lookup reads about 1.1 table lines and the item. A write does besides a bounded number
//! of tail steps and at most one split or merge. Nothing here asks the allocator for memory.

mod age;
mod ahead;
mod databases;
mod edit;
mod errands;
mod expire;
mod large;
mod lease;
mod read;
mod rename;
mod residents;
mod room;
mod upkeep;
mod validate;
mod write;

use std::io;

use age::Ages;
use ahead::Ahead;
pub use databases::DATABASES;
use databases::Databases;
pub use edit::Editor;
pub use expire::Expired;
pub use large::{LargeWrite, PinLimit, PinnedValue};
use lease::Leases;
use residents::Seen;

use crate::bounds::{
    BYTES_PER_SIDE_ITEM, CLOCK_CHECK_MS, LINE_BYTES, OVERDUE_MS_MAX, OVERFLOW_LINES_MAX,
    PREFETCH_BYTES_MAX,
};
use crate::config::{EngineError, Limits, ShardConfig};
use crate::expiry::{Expiry, ExpiryLags};
use crate::hash::KeyHash;
use crate::item::{self, HEADER_BYTES_MIN, Header};
use crate::log::{Log, State};
use crate::policy::{Policy, QUEUES, Queue};
use crate::stats::{Counters, PolicyStats, ShardStats, Work};
use crate::table::{SlotRef, Table};

/// A cache owned by one thread.
///
/// Every call that depends on time takes `now_ms`: milliseconds on a monotonic clock of the
/// caller's, from any origin. Deadlines are points on that clock.
#[derive(Debug)]
pub struct Shard {
    table: Table,
    log: Log,
    expiry: Expiry,
    databases: Databases,
    leases: Leases,
    hash_seed: u64,
    limits: Limits,
    reserve_bytes: usize,
    /// Who goes when there is no room; `None` refuses writes instead.
    policy: Option<Policy>,
    key_bytes_max: usize,
    value_bytes_max: usize,
    /// The latest clock reading handed in (S3).
    now_ms: u64,
    /// The reading from which on overdue items are looked for (S4).
    clock_check_ms: u64,
    /// The counter that versions come from: the number of mutations so far.
    version: u64,
    /// How often items have gone, or changed places, a database at a time.
    wipes: u64,
    ages: Ages,
    /// What the shard may hold while it is above a lowered limit.
    ceiling: Option<Ceiling>,
    /// The next items at the tail of each queue, whose table lines were asked for.
    ahead: [Ahead; QUEUES],
    seen: Seen,
    /// Bytes of what the policy remembers, as of its last look.
    policy_bytes: usize,
    /// What the window may cost, with some slack, as of the policy's last look.
    window_max: u64,
    /// Bytes of the mean item, within what a prefetch may ask for.
    typical_item_bytes: usize,
    /// Whether another thread sees to memory of this shard.
    errand_is_out: bool,
    /// Whether items that are due stay until somebody looks at them.
    expiry_is_held: bool,
    /// Whether all memory was touched at start, to stay.
    is_prefaulted: bool,
    /// The node that the kernel agreed to take memory from.
    numa_node: Option<usize>,
    counters: Counters,
    work: Work,
}

/// An item that may be served, and where it is.
#[derive(Clone, Copy, Debug)]
struct Found {
    slot: SlotRef,
    offset: u64,
    header: Header,
    header_bytes: usize,
}

/// The bounds of a shard that is above a lowered limit: what it held when it was last looked at.
/// So it cannot grow, and no single write has to shrink it.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    /// Segments, with the one that copying needs.
    segments: usize,
    cost: u64,
}

/// What an item takes at least: a header, and its share of the table.
const ITEM_BYTES_MIN: usize = HEADER_BYTES_MIN + LINE_BYTES / 7;

impl Shard {
    /// Makes an empty shard. Reserves address space for its limit, and commits next to nothing.
    ///
    /// # Errors
    ///
    /// Says which number of the configuration is not possible, or that the kernel did not reserve
    /// the memory.
    pub fn new(config: &ShardConfig) -> Result<Shard, EngineError> {
        let plan = config.plan()?;
        let reserve = |error: io::Error| EngineError::Reserve { bytes: plan.reserve_bytes, error };
        let segments_max = plan.reserve_bytes / plan.segment_bytes;
        // The shortest items fill the limit together with their share of the table's lines before
        // the table runs out of buckets, at whatever size it is.
        let lines_max = plan.reserve_bytes / (6 * ITEM_BYTES_MIN) + 64;
        let overflow_max = (lines_max / 2).clamp(64, OVERFLOW_LINES_MAX);
        let mut table = Table::new(lines_max, overflow_max, config.huge_pages).map_err(reserve)?;
        let mut log = Log::new(segments_max, plan.segment_bytes, config.cost, config.huge_pages)
            .map_err(reserve)?;
        let items_max = (plan.reserve_bytes / ITEM_BYTES_MIN) as u64;
        let side_max = (config.limits.total_bytes / BYTES_PER_SIDE_ITEM) as u64;
        let policy = Policy::new(config.eviction, config.hash_seed, items_max, side_max);
        let policy = policy.map_err(reserve)?;
        let expiry = Expiry::new(plan.reserve_bytes).map_err(reserve)?;
        let agreed = |&node: &usize| table.prefer_node(node) && log.prefer_node(node);
        let numa_node = config.numa_node.filter(agreed);
        Ok(Shard {
            table,
            log,
            expiry,
            databases: Databases::new(),
            leases: Leases::new(),
            hash_seed: config.hash_seed,
            limits: config.limits,
            reserve_bytes: plan.reserve_bytes,
            policy_bytes: policy.as_ref().map_or(0, Policy::bytes),
            policy,
            key_bytes_max: config.key_bytes_max,
            value_bytes_max: config.value_bytes_max,
            now_ms: 0,
            clock_check_ms: 0,
            version: 0,
            wipes: 0,
            ages: Ages::new(),
            ceiling: None,
            ahead: [Ahead::default(); QUEUES],
            seen: [None; QUEUES],
            window_max: u64::MAX,
            typical_item_bytes: PREFETCH_BYTES_MAX / 2,
            errand_is_out: false,
            expiry_is_held: false,
            is_prefaulted: false,
            numa_node,
            counters: Counters::default(),
            work: Work::default(),
        })
    }

    /// The hash of `key` in database 0, which every call about it wants: a few nanoseconds.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.hash_in(0, key)
    }

    /// Items stored in all databases: O(1). Items that have expired without having been looked at
    /// are counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.databases.reachable(self.log.live_items())
    }

    /// Whether no item is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The present limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Address space reserved, in bytes: the highest limit that can be set.
    #[must_use]
    pub fn reserve_bytes(&self) -> usize {
        self.reserve_bytes
    }

    /// The node of the machine that memory comes from, where that was asked for and granted.
    #[must_use]
    pub fn numa_node(&self) -> Option<usize> {
        self.numa_node
    }

    /// The longest key that a write accepts, in bytes.
    #[must_use]
    pub fn key_bytes_max(&self) -> usize {
        self.key_bytes_max
    }

    /// The longest value that a write accepts, in bytes. A small shard may refuse shorter ones.
    #[must_use]
    pub fn value_bytes_max(&self) -> usize {
        self.value_bytes_max
    }

    /// Counters and gauges: O(1).
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            items: self.len(),
            live_bytes: self.log.live_bytes(),
            dead_bytes: self.log.dead_bytes(),
            log_bytes: (self.log.segments_in_use() * self.log.segment_bytes()) as u64,
            page_bytes: self.log.page_bytes_used(),
            arriving_bytes: (self.log.arriving_pages() * self.log.page_bytes()) as u64,
            pinned_bytes: (self.log.pinned_pages() * self.log.page_bytes()) as u64,
            table_bytes: (self.table.lines() * LINE_BYTES) as u64,
            table_resident_bytes: (self.table.lines_resident() * LINE_BYTES) as u64,
            warm_bytes: (self.log.warm_segments() * self.log.segment_bytes()) as u64,
            away_bytes: (self.log.away_segments() * self.log.segment_bytes()) as u64,
            table_slots: self.table.slots(),
            overflow_lines: self.table.overflow_lines() as u64,
            expiry: self.expiry.stats(self.now_ms),
            policy: self.policy_stats(),
            leases: self.leases.stats(),
            counters: self.counters,
            work: self.work,
        }
    }

    /// How late items that expired were removed: O(1), a reference.
    #[must_use]
    pub fn expiry_lags(&self) -> &ExpiryLags {
        self.expiry.lags()
    }

    fn policy_stats(&self) -> PolicyStats {
        let stats = self.policy.as_ref().map(Policy::stats).unwrap_or_default();
        PolicyStats {
            window_share_permille: (stats.window_share * 1_000.0).round() as u32,
            queue_costs: Queue::ALL.map(|queue| self.log.queue_cost(queue)),
            admitted: stats.core.admitted,
            rejected: stats.core.rejected,
            admitted_as_ghost: stats.core.admitted_as_ghost,
            ghost_admits: stats.ghost_admits,
            duel_changes: stats.duel_changes,
            epochs: stats.epochs,
            bytes: stats.bytes as u64,
        }
    }

    /// Takes the clock's reading (S3).
    #[inline]
    fn tick(&mut self, now_ms: u64) {
        if now_ms > self.now_ms {
            self.advance(now_ms);
        }
    }

    #[inline(never)]
    fn advance(&mut self, now_ms: u64) {
        if now_ms >= self.clock_check_ms {
            self.check_clock(now_ms);
        }
        self.now_ms = now_ms;
    }

    /// Sees to S4, before an item is read at `now_ms`: every day, or when the clock has jumped.
    /// Looks at a constant number of groups.
    #[cold]
    fn check_clock(&mut self, now_ms: u64) {
        self.clock_check_ms = now_ms.saturating_add(CLOCK_CHECK_MS);
        let overdue_since_ms = now_ms.saturating_sub(OVERDUE_MS_MAX);
        if self.expiry.has_entries_before(overdue_since_ms) {
            self.flush();
            self.counters.clock_flushes += 1;
        }
    }

    /// Begins a call that may change the shard.
    fn begin(&mut self, now_ms: u64) {
        self.tick(now_ms);
        self.work = Work::default();
        if self.ceiling.is_some() {
            self.lower_ceiling();
        }
    }

    /// The item of `key` that may be served. Drops one that has expired or was flushed.
    fn find_live(&mut self, hash: KeyHash, key: &[u8]) -> Option<Found> {
        let probe =
            self.table.find(hash, |offset| item::key_is(self.log.at(offset), key, hash.space()));
        self.work.lines_read += u64::from(probe.lines);
        self.counters.chain_lines_max = self.counters.chain_lines_max.max(probe.lines.into());
        let slot = probe.found?;
        self.keep_if_live(hash, slot, self.table.offset(slot))
    }

    /// Decodes the item of a slot, and drops it if it may not be served.
    fn keep_if_live(&mut self, hash: KeyHash, slot: SlotRef, offset: u64) -> Option<Found> {
        let (header, header_bytes) = Header::decode_with_length(self.log.at(offset));
        let found = Found { slot, offset, header, header_bytes };
        match self.log.state(offset, &header, self.now_ms) {
            State::Live => Some(found),
            state => {
                self.drop_item(hash, &found, state);
                None
            }
        }
    }

    /// Counts a write as a use of an item.
    fn mark_used(&mut self, hash: KeyHash, slot: SlotRef, offset: u64) {
        let frequency = self.table.mark_used(slot);
        count_use(&mut self.policy, &self.log, hash, offset, frequency);
    }

    /// Counts a key that is about to be stored anew. Returns the frequency that it begins with.
    fn count_insert(&mut self, hash: KeyHash, cost: u64) -> u8 {
        let Some(policy) = &mut self.policy else { return 0 };
        let frequency = policy.insert(hash, cost);
        self.table.set_epoch(policy.epoch());
        for line in policy.table_lines_due(self.table.lines_to_renew()) {
            self.table.renew(line);
        }
        frequency
    }

    /// Takes an item out of the table and the log (S1).
    #[cold]
    fn drop_item(&mut self, hash: KeyHash, found: &Found, state: State) {
        self.drop_slot(hash, found.slot, found.offset, &found.header, state);
    }

    /// Takes the item of a slot out of the table and the log (S1).
    fn drop_slot(
        &mut self,
        hash: KeyHash,
        slot: SlotRef,
        offset: u64,
        header: &Header,
        state: State,
    ) {
        let deadline_ms = header.deadline.resolve(self.now_ms);
        self.expiry.note_end(deadline_ms, state, self.now_ms);
        self.databases.note_end(header.space, deadline_ms, state);
        if header.marks.token_sent {
            self.leases.end(hash);
        }
        self.counters.expired += u64::from(state == State::Expired);
        self.log.bury(offset, header, state);
        self.table.remove(hash, slot);
    }
}

/// Tells the policy of a use of the item at `offset`, whose frequency was this before.
#[inline(always)]
fn count_use(policy: &mut Option<Policy>, log: &Log, hash: KeyHash, offset: u64, frequency: u8) {
    let cost = || log.cost_of(&log.header(offset));
    let in_window = || log.queue_of(offset) == Queue::Window;
    match policy {
        Some(Policy::TinyLfu(policy)) => policy.hit(hash, frequency, cost, in_window),
        policy => count_use_otherwise(policy, hash, frequency),
    }
}

/// The same for policies that ask for nothing about the item: apart, as the one above is to have
/// no jump table.
#[inline(never)]
fn count_use_otherwise(policy: &mut Option<Policy>, hash: KeyHash, frequency: u8) {
    if let Some(policy) = policy {
        policy.hit(hash, frequency, || 0, || false);
    }
}

#[cfg(test)]
mod expire_tests;
#[cfg(test)]
mod tests;
