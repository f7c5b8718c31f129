//! Databases: key spaces of their own that share the shard's memory, its policy and its clock.
//!
//! A database has a *space*, whose number is part of each key's hash and of each item. Which space
//! that is may change: two databases swap their spaces, and a database that is flushed while
//! others hold items gets a fresh one. The old space is *abandoned*: no key leads to its items any
//! more, and they go bit by bit, by eviction, by expiry, or by a walk over the table that
//! `maintain` does. When the walk has passed, the space is free again.
//!
//! - B1. No two databases have the same space, and none has one that is abandoned.
//! - B2. A space that is neither a database's nor abandoned holds no item.
//!
//! Cost: every call but the walk is O(1).

use super::{Found, Shard};
use crate::hash::{KeyHash, SPACES};
use crate::item::Header;
use crate::log::State;
use crate::policy::QUEUES;
use crate::stats::DatabaseStats;
use crate::table::Stop;
use crate::value::Entry;

/// Databases of a shard, numbered from 0.
pub const DATABASES: usize = 16;

const _: () = assert!(DATABASES < SPACES && SPACES <= 32, "spaces are bits of a word");

/// See the module's page.
#[derive(Debug)]
pub(super) struct Databases {
    /// The space of each database.
    spaces: [u8; DATABASES],
    /// Live items of each space.
    items: [u64; SPACES],
    /// Those of each space that have a deadline.
    volatile: [Volatile; SPACES],
    /// Live items of abandoned spaces.
    lost_items: u64,
    /// The abandoned spaces, as bits.
    abandoned: u32,
    /// The walk over the table, if there is one.
    walk: Option<Walk>,
}

/// Items with a deadline, and the sum of their deadlines.
#[derive(Clone, Copy, Debug, Default)]
struct Volatile {
    items: u64,
    deadlines_ms: u128,
}

/// A walk that empties the spaces that were abandoned when it began.
#[derive(Clone, Copy, Debug)]
struct Walk {
    position: u32,
    spaces: u32,
}

impl Databases {
    pub(super) fn new() -> Databases {
        Databases {
            spaces: std::array::from_fn(|database| database as u8),
            items: [0; SPACES],
            volatile: [Volatile::default(); SPACES],
            lost_items: 0,
            abandoned: 0,
            walk: None,
        }
    }

    /// Counts an item that was added.
    #[inline]
    pub(super) fn note_added(&mut self, space: u8) {
        self.items[usize::from(space)] += 1;
    }

    /// Counts that a live item's deadline has changed; `None` stands for no deadline or no item.
    #[inline]
    pub(super) fn count_deadline(&mut self, space: u8, old_ms: Option<u64>, new_ms: Option<u64>) {
        let volatile = &mut self.volatile[usize::from(space)];
        if let Some(ms) = old_ms {
            volatile.items -= 1;
            volatile.deadlines_ms -= u128::from(ms);
        }
        if let Some(ms) = new_ms {
            volatile.items += 1;
            volatile.deadlines_ms += u128::from(ms);
        }
    }

    /// Counts an item with this deadline that is taken out of the table, being in `state`.
    #[inline]
    pub(super) fn note_end(&mut self, space: u8, deadline_ms: Option<u64>, state: State) {
        if state == State::Flushed {
            return;
        }
        self.count_deadline(space, deadline_ms, None);
        self.items[usize::from(space)] -= 1;
        self.lost_items -= u64::from(self.abandoned >> space & 1);
    }

    /// Items that a key leads to, of all that live.
    #[inline]
    pub(super) fn reachable(&self, live_items: u64) -> u64 {
        live_items - self.lost_items
    }

    /// All items were flushed.
    pub(super) fn clear(&mut self) {
        self.items = [0; SPACES];
        self.volatile = [Volatile::default(); SPACES];
        self.lost_items = 0;
        self.abandoned = 0;
        self.walk = None;
    }

    /// Gives a database a fresh space. `false` when all are being emptied.
    fn renew(&mut self, database: usize) -> bool {
        let taken = self.spaces.iter().fold(self.abandoned, |taken, space| taken | 1 << space);
        let fresh = (!taken).trailing_zeros();
        if fresh as usize >= SPACES {
            return false;
        }
        let old = std::mem::replace(&mut self.spaces[database], fresh as u8);
        self.abandoned |= 1 << old;
        self.lost_items += self.items[usize::from(old)];
        true
    }

    /// Whether items of abandoned spaces wait to be dropped.
    #[inline]
    pub(super) fn walk_is_due(&self) -> bool {
        self.abandoned != 0
    }

    /// Checks B1, B2 and the counts against the items of each space.
    pub(super) fn check(&self, found: &[u64; SPACES]) -> Result<(), String> {
        let mut taken = self.abandoned;
        for (database, &space) in self.spaces.iter().enumerate() {
            if taken >> space & 1 != 0 {
                return Err(format!("space {space} of database {database} is not its own (B1)"));
            }
            taken |= 1 << space;
        }
        if *found != self.items {
            return Err(format!("spaces hold {found:?} items, counted {:?}", self.items));
        }
        let held = |space: usize| taken >> space & 1 != 0 || self.items[space] == 0;
        if !(0..SPACES).all(held) {
            return Err("a space without a database holds items (B2)".into());
        }
        let lost = (0..SPACES).filter(|&space| self.abandoned >> space & 1 != 0);
        let lost: u64 = lost.map(|space| self.items[space]).sum();
        if lost != self.lost_items {
            return Err(format!("{lost} items in abandoned spaces, counted {}", self.lost_items));
        }
        Ok(())
    }
}

impl Shard {
    /// The hash of `key` in a database below [`DATABASES`], which every call about it wants. It
    /// holds until the database is flushed or swapped ([`Shard::is_of`]).
    ///
    /// # Panics
    ///
    /// If there is no such database.
    #[inline]
    #[must_use]
    pub fn hash_in(&self, database: u8, key: &[u8]) -> KeyHash {
        KeyHash::of_space(key, self.hash_seed, self.databases.spaces[usize::from(database)])
    }

    /// Whether a hash is of this database, as the databases are now.
    #[inline]
    #[must_use]
    pub fn is_of(&self, hash: KeyHash, database: u8) -> bool {
        hash.space() == self.databases.spaces[usize::from(database)]
    }

    /// What a database holds: O(1). Items that have expired without having been looked at are
    /// counted.
    #[must_use]
    pub fn database_stats(&self, database: u8) -> DatabaseStats {
        let space = usize::from(self.databases.spaces[usize::from(database)]);
        let Volatile { items, deadlines_ms } = self.databases.volatile[space];
        let mean_ms = deadlines_ms.checked_div(u128::from(items)).unwrap_or(0) as u64;
        DatabaseStats {
            items: self.databases.items[space],
            volatile_items: items,
            mean_left_ms: mean_ms.saturating_sub(self.now_ms),
        }
    }

    /// Removes all items of a database: O(1). The memory comes back as writes and
    /// [`Shard::maintain`] pass over it.
    pub fn flush_database(&mut self, database: u8) {
        self.wipes += 1;
        let space = self.databases.spaces[usize::from(database)];
        if self.databases.items[usize::from(space)] == self.log.live_items() {
            self.flush();
            return;
        }
        while !self.databases.renew(usize::from(database)) {
            // Sixteen flushes are being worked off. This one pays for the oldest of them.
            self.walk_some(usize::MAX);
        }
    }

    /// Swaps the items of two databases: O(1).
    pub fn swap_databases(&mut self, one: u8, other: u8) {
        self.wipes += 1;
        self.databases.spaces.swap(usize::from(one), usize::from(other));
    }

    /// A number that another flush of whatever database changes, and another swap. Who works on an
    /// item over some time can tell by it that the item must not come back.
    #[inline]
    #[must_use]
    pub fn wipes(&self) -> u64 {
        self.wipes
    }

    /// Calls `f` with each item of a database in the bucket at `position`, and returns the
    /// position of the next bucket, `None` behind the last. A walk begins at 0. An item that is
    /// there from a walk's begin to its end is met at least once, however the table grows and
    /// shrinks between; others may be met or not, and some twice. Does not count as a use.
    ///
    /// Cost: the items of one bucket, eight on average, of all databases.
    pub fn scan(
        &self,
        database: u8,
        position: u32,
        now_ms: u64,
        mut f: impl FnMut(&[u8], &Entry<'_>),
    ) -> Option<u32> {
        let now_ms = self.now_ms.max(now_ms);
        let space = self.databases.spaces[usize::from(database)];
        let stop = self.table.stop_at(position);
        self.table.each_of(stop, |at| {
            self.log.prefetch(self.table.offset(at), self.typical_item_bytes);
        });
        self.table.each_of(stop, |slot| {
            let offset = self.table.offset(slot);
            let (header, header_bytes) = Header::decode_with_length(self.log.at(offset));
            if header.space != space || self.log.state(offset, &header, now_ms) != State::Live {
                return;
            }
            let found = Found { slot, offset, header, header_bytes };
            let entry = self.entry(&found, self.table.slot(slot).frequency);
            f(self.log.key(offset, &found.header), &entry);
        });
        stop.next
    }

    /// Drops items of abandoned spaces from a number of buckets. Returns how many it passed.
    pub(super) fn walk_some(&mut self, buckets_max: usize) -> usize {
        let mut done = 0;
        while done < buckets_max && self.databases.walk_is_due() {
            let begin = Walk { position: 0, spaces: self.databases.abandoned };
            let walk = self.databases.walk.unwrap_or(begin);
            let stop = self.table.stop_at(walk.position);
            self.drop_abandoned(stop, walk.spaces);
            let next = stop.next;
            done += 1;
            self.databases.walk = match next {
                Some(position) => Some(Walk { position, ..walk }),
                None => {
                    self.databases.abandoned &= !walk.spaces;
                    None
                }
            };
            if next.is_none() && buckets_max == usize::MAX {
                break;
            }
        }
        if done > 0 {
            self.seen = [None; QUEUES];
        }
        done
    }

    /// Drops the items of these spaces from a bucket.
    fn drop_abandoned(&mut self, stop: Stop, spaces: u32) {
        let mut found = None;
        loop {
            self.table.each_of(stop, |slot| {
                let offset = self.table.offset(slot);
                let header = self.log.header(offset);
                if spaces >> header.space & 1 != 0 {
                    found = Some((offset, header));
                }
            });
            let Some((offset, header)) = found.take() else { return };
            let hash = self.log.key_hash(offset, &header, self.hash_seed);
            let slot = self.table.find(hash, |candidate| candidate == offset).found;
            let slot = slot.expect("the item was just found by its slot (S1)");
            let state = self.log.state(offset, &header, self.now_ms);
            self.drop_slot(hash, slot, offset, &header, state);
        }
    }
}
