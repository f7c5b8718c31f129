//! Leases: which client fetches the value of a key that many ask for.
//!
//! ```text
//! miss: an empty item, marked "token sent" ---+          +-- stored: the marks go
//! due or stale: grant_lease marks the item ---+-- lease -+-- deleted: the item goes
//!                                              (is out)  +-- timed out: it may be granted again
//! ```
//!
//! - E1. Whether a lease was ever handed out stands in the item (`Marks::token_sent`). *When* it
//!   was is kept here, in a table of fixed size: a lease that has timed out, or whose time was
//!   forgotten for newer ones, is not out any more.
//! - E2. A lease that is granted while the one before it was never answered gives the item a new
//!   version. So what the old holder stores under the condition of its version is refused: the
//!   version is the fence.
//! - E3. Whatever becomes of the item ends its lease: a store, a delete, expiry, a mark as stale.
//!   Those who wait for the holder learn of it by `ended_lease`; an eviction, a flush or a rename
//!   is not told, so they must look now and then by themselves.
//!
//! Cost: 64 KiB, from the first lease on. A look at the table reads eight places, which are two
//! cache lines; items without marks are never looked up here.

use super::Shard;
use crate::bounds::{LEASE_TIMEOUT_MS, LEASE_WAYS, LEASES_ENDED_MAX, LEASES_MAX};
use crate::hash::KeyHash;
use crate::item::{Header, Version};
use crate::request::{Marks, SetError};
use crate::stats::LeaseStats;

const SETS: usize = LEASES_MAX / LEASE_WAYS;

/// The time of one lease. `until_ms` is 0 in a free place.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    hash: u64,
    until_ms: u64,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Leases {
    /// Sets of places; empty until the first lease.
    sets: Vec<[Place; LEASE_WAYS]>,
    /// Hashes of keys whose lease has ended, for `Shard::ended_lease`.
    ended: Vec<u64>,
    /// How long a lease is out; `None` until the item goes.
    timeout_ms: Option<u64>,
    counts: LeaseStats,
}

impl Leases {
    pub(super) fn new() -> Leases {
        Leases {
            sets: Vec::new(),
            ended: Vec::new(),
            timeout_ms: Some(LEASE_TIMEOUT_MS),
            counts: LeaseStats::default(),
        }
    }

    /// Notes that a lease is out from now on. It takes a free place of its set, or that of the
    /// lease that ends first.
    fn begin(&mut self, hash: KeyHash, now_ms: u64) {
        self.counts.granted += 1;
        let Some(timeout_ms) = self.timeout_ms else { return };
        if self.sets.is_empty() {
            self.sets = vec![[Place::default(); LEASE_WAYS]; SETS];
        }
        let set = &mut self.sets[set_of(hash)];
        let same = set.iter().position(|place| place.hash == hash.bits());
        let first = || (0..LEASE_WAYS).min_by_key(|&way| set[way].until_ms);
        if let Some(way) = same.or_else(first) {
            let until_ms = now_ms.saturating_add(timeout_ms).max(1);
            set[way] = Place { hash: hash.bits(), until_ms };
        }
    }

    /// What has become of them.
    pub(super) fn stats(&self) -> LeaseStats {
        self.counts
    }

    /// Until when a lease is out, if it is.
    fn until_ms(&self, hash: KeyHash, now_ms: u64) -> Option<u64> {
        if self.timeout_ms.is_none() {
            return Some(u64::MAX);
        }
        let place = self.sets.get(set_of(hash))?.iter().find(|place| place.hash == hash.bits())?;
        Some(place.until_ms).filter(|&until_ms| until_ms > now_ms)
    }

    /// Notes that an item was stored, which had a lease before or has one now.
    pub(super) fn stored(&mut self, hash: KeyHash, had: bool, has: bool, now_ms: u64) {
        if !has {
            self.end(hash);
        } else if !had {
            self.begin(hash, now_ms);
        }
    }

    /// Notes that a lease has ended.
    #[cold]
    pub(super) fn end(&mut self, hash: KeyHash) {
        if let Some(set) = self.sets.get_mut(set_of(hash)) {
            for place in set.iter_mut().filter(|place| place.hash == hash.bits()) {
                *place = Place::default();
            }
        }
        if self.ended.len() < LEASES_ENDED_MAX {
            self.ended.push(hash.bits());
        }
    }
}

/// The low bits choose the bucket of the table, and keys that meet there should not meet here.
fn set_of(hash: KeyHash) -> usize {
    (hash.bits() >> 40) as usize % SETS
}

impl Shard {
    /// Says how long a lease is out before it may be granted again, in milliseconds; `None`: until
    /// its item is stored, deleted, or gone. 10 s if never called. Leases that are out keep theirs.
    pub fn set_lease_timeout(&mut self, timeout_ms: Option<u64>) {
        self.leases.timeout_ms = timeout_ms;
    }

    /// Until when the lease of an item that is marked [`Marks::token_sent`] is out; `None` if it
    /// may be granted again. O(1).
    #[must_use]
    pub fn lease_until_ms(&self, hash: KeyHash, now_ms: u64) -> Option<u64> {
        self.leases.until_ms(hash, now_ms.max(self.now_ms))
    }

    /// Hands out the lease of an item: marks it [`Marks::token_sent`]. Returns the item's version,
    /// which is a new one if a lease was handed out before (E2), or `None` if there is no such
    /// item. Happens in place unless the item had no marks before; then it is rewritten.
    ///
    /// # Errors
    ///
    /// [`SetError::NoSpace`] and [`SetError::TooLarge`] when the item must be rewritten and cannot
    /// be. It then is as it was.
    pub fn grant_lease(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        now_ms: u64,
    ) -> Result<Option<u64>, SetError> {
        self.begin(now_ms);
        let next = Version::counted(self.version + 1);
        let granted = self.change_header(hash, key, |header| Header {
            version: if header.marks.token_sent { next } else { header.version },
            marks: Marks { token_sent: true, ..header.marks },
            ..*header
        })?;
        let Some(header) = granted else { return Ok(None) };
        self.leases.begin(hash, self.now_ms);
        let was_left = header.version == next;
        self.leases.counts.timed_out += u64::from(was_left);
        self.version += u64::from(was_left);
        self.sweep_some();
        Ok(Some(header.version.number()))
    }

    /// Marks an item as stale and voids its lease, so that the next who asks may fetch a new value.
    /// The item gets `version`, or the shard's next. Returns it, or `None` if there is no such
    /// item. Happens in place unless the item had no marks before, or the version takes another form.
    ///
    /// # Errors
    ///
    /// As [`Shard::grant_lease`].
    pub fn mark_stale(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        version: Option<u64>,
        now_ms: u64,
    ) -> Result<Option<u64>, SetError> {
        self.begin(now_ms);
        let version = version.map_or(Version::counted(self.version + 1), Version::Wide);
        let mut had_lease = false;
        let marked = self.change_header(hash, key, |header| {
            had_lease = header.marks.token_sent;
            Header { version, marks: Marks { stale: true, token_sent: false }, ..*header }
        })?;
        let Some(header) = marked else { return Ok(None) };
        if had_lease {
            self.leases.end(hash);
        }
        self.version += 1;
        self.sweep_some();
        Ok(Some(header.version.number()))
    }

    /// The hash ([`KeyHash::bits`]) of a key whose lease has ended since the last call, if there is
    /// one. The same hash may come again. Only so many are kept for who never asks (E3).
    pub fn ended_lease(&mut self) -> Option<u64> {
        self.leases.ended.pop()
    }

    /// Writes an item's header anew, without a change of its deadline. The new one, or `None` if
    /// there is no such item.
    fn change_header(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        mut change: impl FnMut(&Header) -> Header,
    ) -> Result<Option<Header>, SetError> {
        let Some(found) = self.find_live(hash, key) else { return Ok(None) };
        let header = change(&found.header);
        if header.header_bytes() == found.header_bytes {
            let item = self.log.at_mut(found.offset, found.header_bytes);
            header.encode(item);
            return Ok(Some(header));
        }
        let queue = self.log.queue_of(found.offset);
        let Some(found) = self.open_for_rewrite(hash, key, &found, &header)? else {
            return Ok(None);
        };
        // Making room may have moved the item; what it says is the same.
        let header = change(&found.header);
        let offset = self.rewrite(&found, queue, &header);
        self.mark_used(hash, found.slot, offset);
        Ok(Some(header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ShardConfig;
    use crate::request::{Condition, Refusal, SetOptions, Stored};

    const LEASED: Marks = Marks { stale: false, token_sent: true };

    fn shard() -> Shard {
        Shard::new(&ShardConfig::default()).expect("memory")
    }

    fn marks(shard: &mut Shard, key: &[u8], now_ms: u64) -> Option<Marks> {
        let hash = shard.hash(key);
        shard.peek(hash, key, now_ms).map(|entry| entry.marks())
    }

    #[test]
    fn a_lease_is_out_until_its_time_has_come_and_is_fenced_by_the_version() {
        let mut shard = shard();
        shard.set_lease_timeout(Some(1_000));
        let hash = shard.hash(b"k");
        assert_eq!(shard.grant_lease(hash, b"k", 0), Ok(None), "there is no item");
        shard.set(hash, b"k", b"old", &SetOptions::default(), 0).expect("room");
        let first = shard.grant_lease(hash, b"k", 10).expect("room").expect("an item");
        assert_eq!(marks(&mut shard, b"k", 10), Some(LEASED));
        assert_eq!(shard.lease_until_ms(hash, 10), Some(1_010));
        assert_eq!(shard.lease_until_ms(hash, 1_010), None);
        let second = shard.grant_lease(hash, b"k", 1_010).expect("room").expect("an item");
        assert!(second > first);
        assert_eq!(shard.lease_until_ms(hash, 1_010), Some(2_010));
        let late = SetOptions { condition: Condition::IfVersion(first), ..SetOptions::default() };
        let refused = shard.set(hash, b"k", b"late", &late, 1_020);
        assert_eq!(refused, Ok(Stored::ConditionFailed(Refusal::VersionMismatch)));
        let fill = SetOptions { condition: Condition::IfVersion(second), ..SetOptions::default() };
        assert!(matches!(shard.set(hash, b"k", b"new", &fill, 1_020), Ok(Stored::Stored { .. })));
        assert_eq!(marks(&mut shard, b"k", 1_020), Some(Marks::default()));
        assert_eq!((shard.ended_lease(), shard.ended_lease()), (Some(hash.bits()), None));
        shard.validate().expect("valid");
    }

    #[test]
    fn stale_items_keep_their_value_deadline_and_flags() {
        let mut shard = shard();
        let (hash, small) = (shard.hash(b"k"), vec![7; 40]);
        let large = vec![9; 100_000];
        for value in [small, large] {
            let options = SetOptions {
                flags: Some(5),
                deadline: crate::Deadline::At(9_000),
                ..SetOptions::default()
            };
            shard.set(hash, b"k", &value, &options, 0).expect("room");
            shard.grant_lease(hash, b"k", 1).expect("room").expect("an item");
            let before = shard.peek(hash, b"k", 1).expect("an item").version();
            let version = shard.mark_stale(hash, b"k", None, 2).expect("room").expect("an item");
            assert!(version > before);
            assert_eq!(shard.ended_lease(), Some(hash.bits()));
            let entry = shard.get(hash, b"k", 3).expect("an item");
            assert!(entry.value == value[..]);
            assert_eq!((entry.flags(), entry.version()), (5, version));
            assert_eq!(entry.deadline_ms(), Some(9_000));
            assert_eq!(entry.marks(), Marks { stale: true, token_sent: false });
            let wide = shard.mark_stale(hash, b"k", Some(u64::MAX), 4).expect("room");
            assert_eq!(wide, Some(u64::MAX));
            assert!(shard.get(hash, b"k", 4).expect("an item").value == value[..]);
            shard.validate().expect("valid");
        }
        assert!(shard.get(hash, b"k", 9_000).is_none());
        assert_eq!(shard.mark_stale(hash, b"k", None, 9_000), Ok(None));
        shard.validate().expect("valid");
    }

    #[test]
    fn a_delete_or_an_end_of_time_ends_a_lease() {
        let mut shard = shard();
        let hash = shard.hash(b"k");
        let vivify = SetOptions {
            marks: LEASED,
            deadline: crate::Deadline::At(500),
            ..SetOptions::default()
        };
        shard.set(hash, b"k", b"", &vivify, 0).expect("room");
        assert_eq!(shard.lease_until_ms(hash, 0), Some(LEASE_TIMEOUT_MS));
        shard.delete(hash, b"k", None, 1);
        assert_eq!(shard.lease_until_ms(hash, 1), None);
        assert_eq!(shard.ended_lease(), Some(hash.bits()));
        shard.set(hash, b"k", b"", &vivify, 2).expect("room");
        assert!(shard.get(hash, b"k", 500).is_none());
        assert_eq!(shard.ended_lease(), Some(hash.bits()));
        shard.set_lease_timeout(None);
        shard.set(hash, b"k", b"", &SetOptions { marks: LEASED, ..vivify }, 0).expect("room");
        assert_eq!(shard.lease_until_ms(hash, u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn the_table_forgets_the_oldest_and_does_not_grow() {
        let mut leases = Leases::new();
        let keys: Vec<KeyHash> = (0..3 * LEASES_MAX as u64)
            .map(|number| KeyHash::of(&number.to_le_bytes(), 1))
            .collect();
        for (now_ms, &hash) in keys.iter().enumerate() {
            leases.begin(hash, now_ms as u64);
            assert!(leases.until_ms(hash, now_ms as u64).is_some(), "the newest is known");
        }
        let known = |leases: &Leases| {
            keys.iter().filter(|&&hash| leases.until_ms(hash, 0).is_some()).count()
        };
        let count = known(&leases);
        assert!(count <= LEASES_MAX && count > LEASES_MAX / 2, "{count}");
        keys.iter().for_each(|&hash| leases.end(hash));
        assert_eq!(known(&leases), 0);
        assert_eq!(leases.ended.len(), LEASES_ENDED_MAX);
    }
}
