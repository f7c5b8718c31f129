//! How long ago items were written, to within a fiftieth of the shard's age.
//!
//! An item does not say when it was written, but its version says how many writes came before. So
//! it is enough to remember what the counter of versions stood at, at a few points in time: a mark
//! each second at first; when the marks are full, every other one goes, and they come half as often
//! from then on.
//!
//! - A1. Marks are in ascending order of both version and time.
//!
//! Cost: 2 KiB, and a comparison for each call of `maintain`; a binary search for each question.

use super::Shard;
use crate::bounds::{AGE_MARK_INTERVAL_MS, AGE_MARKS_MAX};
use crate::hash::KeyHash;
use crate::item::Version;

/// A point in time, and the last version that was given by then.
#[derive(Clone, Copy, Debug)]
struct Mark {
    version: u64,
    time_ms: u64,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Ages {
    marks: Vec<Mark>,
    /// The last time at which the counter had moved.
    latest: Mark,
    interval_ms: u64,
}

impl Ages {
    pub(super) fn new() -> Ages {
        Ages {
            marks: Vec::with_capacity(AGE_MARKS_MAX),
            latest: Mark { version: 0, time_ms: 0 },
            interval_ms: AGE_MARK_INTERVAL_MS,
        }
    }

    /// Remembers what the counter stands at, if it has moved.
    #[inline]
    pub(super) fn note(&mut self, version: u64, now_ms: u64) {
        if version != self.latest.version {
            self.latest = Mark { version, time_ms: now_ms };
            self.mark();
        }
    }

    /// Makes a mark of the latest point, if it is time for one.
    fn mark(&mut self) {
        let is_due = |last: &Mark| self.latest.time_ms >= last.time_ms + self.interval_ms;
        if !self.marks.last().is_none_or(is_due) {
            return;
        }
        if self.marks.len() == AGE_MARKS_MAX {
            let mut index = 0;
            self.marks.retain(|_| {
                index += 1;
                index % 2 == 0
            });
            self.interval_ms *= 2;
        }
        self.marks.push(self.latest);
    }

    /// When this version was given, at the latest. `None` if that was after the last note.
    fn written_by(&self, version: u64) -> Option<u64> {
        let index = self.marks.partition_point(|mark| mark.version < version);
        let mark = self.marks.get(index).unwrap_or(&self.latest);
        (version <= mark.version).then_some(mark.time_ms)
    }
}

impl Shard {
    /// About how long an item has not been used, in milliseconds; `None` when there is no such
    /// item. Does not count as a use.
    ///
    /// An item that was used since it came counts as used just now: see [`Shard::was_used`].
    /// Otherwise it is the time since it was written, which may be told too short by a fiftieth of
    /// the shard's age or a second, and 0 where a client chose the version.
    pub fn idle_ms(&mut self, hash: KeyHash, key: &[u8], now_ms: u64) -> Option<u64> {
        self.tick(now_ms);
        let found = self.find_live(hash, key)?;
        let was_used = self.table.slot(found.slot).referenced;
        let Version::Counted(version) = found.header.version else { return Some(0) };
        let written_ms = self.ages.written_by(version).filter(|_| !was_used);
        Some(written_ms.map_or(0, |written_ms| self.now_ms.saturating_sub(written_ms)))
    }

    /// Whether an item was read or overwritten since it came, or since the eviction policy has
    /// passed it and forgotten; `None` when there is no such item. Does not count as a use.
    pub fn was_used(&mut self, hash: KeyHash, key: &[u8], now_ms: u64) -> Option<bool> {
        self.tick(now_ms);
        let found = self.find_live(hash, key)?;
        Some(self.table.slot(found.slot).referenced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Eviction, ShardConfig};
    use crate::request::SetOptions;

    #[test]
    fn marks_thin_out_and_stay_within_a_fiftieth() {
        let mut ages = Ages::new();
        let mut written = Vec::new();
        // Ten hours of a write each 250 ms.
        for version in 1..144_000u64 {
            let now_ms = version * 250;
            ages.note(version, now_ms);
            ages.note(version, now_ms + 7);
            written.push((version, now_ms));
        }
        let last_ms = written[written.len() - 1].1;
        assert!(ages.marks.len() <= AGE_MARKS_MAX && ages.marks.capacity() == AGE_MARKS_MAX);
        let ordered =
            |pair: &[Mark]| pair[0].version < pair[1].version && pair[0].time_ms < pair[1].time_ms;
        assert!(ages.marks.windows(2).all(ordered), "A1");
        for (version, time_ms) in written {
            let told_ms = ages.written_by(version).expect("noted");
            assert!(told_ms >= time_ms && told_ms - time_ms <= last_ms / 50, "{version}");
        }
        assert_eq!(ages.written_by(144_000), None, "not yet noted");
    }

    #[test]
    fn an_item_is_idle_since_it_was_written_or_used() {
        let config = ShardConfig { eviction: Eviction::Lru, ..ShardConfig::default() };
        let mut shard = Shard::new(&config).expect("memory");
        let (a, b) = (shard.hash(b"a"), shard.hash(b"b"));
        let plain = SetOptions::default();
        shard.set(a, b"a", b"1", &plain, 1_000).expect("room");
        assert_eq!(shard.idle_ms(a, b"a", 1_000), Some(0), "maintenance has not seen it");
        shard.maintain(1_001, 10);
        shard.set(b, b"b", b"1", &SetOptions { version: Some(9), ..plain }, 5_000).expect("room");
        shard.maintain(5_000, 10);
        assert_eq!(shard.idle_ms(a, b"a", 11_001), Some(10_000));
        assert_eq!(shard.idle_ms(b, b"b", 11_001), Some(0), "a version of the client's");
        assert_eq!(shard.idle_ms(shard.hash(b"c"), b"c", 11_001), None);
        shard.get(a, b"a", 11_001);
        assert_eq!(shard.idle_ms(a, b"a", 12_000), Some(0), "it was used");
    }
}
