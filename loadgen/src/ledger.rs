//! What the run knows about the versions of every key: the memory of the witness.
//!
//! Every write (a set or a delete) gets the next version of its key before it is sent. A read
//! notes the key's *floor* before it is sent: the oldest version that the server may still return.
//! A value older than that was overwritten or deleted by an acknowledged write: it is wrong.
//!
//! Writes of one key can be in flight on several connections at once, and then the server may
//! execute them in any order. So each write carries a *base*: the oldest version that may still
//! come after it. Without another write of the key in flight the base is its own version; else it
//! is the floor. The base travels in the value, and an acknowledgement raises the floor to it.
//!
//! Invariants:
//! - I1. Every version in flight is at least the floor. (A write sent alone raises the floor to
//!   itself only once it is acknowledged or seen; a write sent beside others raises it no further
//!   than the floor that it found.)
//! - I2. The floor never goes down, and no server that executes the commands of a connection in
//!   order, and a command before its reply, can return a version below it.
//! - I3. All workers share the ledger, so I2 covers values that another worker wrote.
//!
//! A word per key: version (32 bits), distance to the floor (22), clean-delete flag (1), writes in
//! flight (9). A counter that reaches its end stays there, which only makes the check milder.
//!
//! Cost: 8 bytes per key; a load per read, two compare-and-swaps per write. No lock.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU64, Ordering};

const IN_FLIGHT_BITS: u32 = 9;
const LAG_BITS: u32 = 22;
const IN_FLIGHT_MAX: u64 = (1 << IN_FLIGHT_BITS) - 1;
const LAG_MAX: u64 = (1 << LAG_BITS) - 1;
const VERSION_MAX: u64 = u32::MAX as u64;
const DELETED_SHIFT: u32 = IN_FLIGHT_BITS;
const LAG_SHIFT: u32 = IN_FLIGHT_BITS + 1;
const VERSION_SHIFT: u32 = LAG_SHIFT + LAG_BITS;
const _: () = assert!(VERSION_SHIFT == 32);

/// The version of a write, and how far back the values beside it may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Version of this write; the first write of a key has version 1.
    pub(crate) version: u32,
    /// Oldest version that the server may return once this write has been executed.
    pub(crate) base: u32,
}

/// The versions of all keys of a run.
pub(crate) struct Ledger {
    words: Vec<AtomicU64>,
}

/// The fields of a word, unpacked.
#[derive(Debug, Clone, Copy)]
struct Entry {
    version: u64,
    lag: u64,
    deleted: bool,
    in_flight: u64,
}

impl Entry {
    fn unpack(word: u64) -> Entry {
        Entry {
            version: word >> VERSION_SHIFT,
            lag: (word >> LAG_SHIFT) & LAG_MAX,
            deleted: (word >> DELETED_SHIFT) & 1 == 1,
            in_flight: word & IN_FLIGHT_MAX,
        }
    }

    fn pack(self) -> u64 {
        (self.version << VERSION_SHIFT)
            | (self.lag << LAG_SHIFT)
            | (u64::from(self.deleted) << DELETED_SHIFT)
            | self.in_flight
    }

    /// A full distance means that the floor has been lost sight of: nothing is too old then.
    fn floor(self) -> u64 {
        if self.lag == LAG_MAX { 0 } else { self.version.saturating_sub(self.lag) }
    }

    fn raise(&mut self, base: u64) -> bool {
        if base <= self.floor() || base > self.version {
            return false;
        }
        self.lag = (self.version - base).min(LAG_MAX);
        self.deleted = false;
        true
    }
}

impl Ledger {
    /// A ledger of `keys` keys that nobody has written yet.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn new(keys: u64) -> Result<Ledger, TryReserveError> {
        let mut words = Vec::new();
        words.try_reserve_exact(keys as usize)?;
        words.extend((0..keys).map(|_| AtomicU64::new(0)));
        Ok(Ledger { words })
    }

    /// The version of the next write of `key`, to be taken right before it is sent.
    pub(crate) fn issue(&self, key: u64) -> Stamp {
        let before = self.update(key, |entry| {
            entry.version = (entry.version + 1).min(VERSION_MAX);
            entry.lag = (entry.lag + 1).min(LAG_MAX);
            entry.in_flight = (entry.in_flight + 1).min(IN_FLIGHT_MAX);
        });
        let version = (before.version + 1).min(VERSION_MAX);
        let base = if before.in_flight == 0 { version } else { before.floor() };
        Stamp { version: version as u32, base: base as u32 }
    }

    /// The server has acknowledged the write.
    pub(crate) fn acknowledge(&self, key: u64, stamp: Stamp, is_delete: bool) {
        self.update(key, |entry| {
            land(entry);
            if entry.raise(u64::from(stamp.base)) {
                entry.deleted = is_delete && stamp.base == stamp.version;
            }
        });
    }

    /// The server has refused the write: it has been handled, and changed nothing.
    ///
    /// A write whose answer never came must not be given up: it may still be executed at any time,
    /// so it stays in flight for good.
    pub(crate) fn give_up(&self, key: u64) {
        self.update(key, land);
    }

    /// A read has returned a value with this stamp: what lies before its base is gone.
    pub(crate) fn seen(&self, key: u64, stamp: Stamp) {
        let entry = self.entry(key);
        // Nearly always the floor is there already, and the word stays unwritten.
        if u64::from(stamp.base) > entry.floor() {
            self.update(key, |entry| {
                entry.raise(u64::from(stamp.base));
            });
        }
    }

    /// The oldest version that a read sent now may return; 0 if no write has been acknowledged.
    #[inline]
    pub(crate) fn floor(&self, key: u64) -> u32 {
        self.entry(key).floor() as u32
    }

    /// The newest version that has been sent.
    #[inline]
    pub(crate) fn newest(&self, key: u64) -> u32 {
        self.entry(key).version as u32
    }

    /// Whether the floor of `key` is a deletion.
    pub(crate) fn floor_is_delete(&self, key: u64) -> bool {
        self.entry(key).deleted
    }

    #[inline]
    fn entry(&self, key: u64) -> Entry {
        Entry::unpack(self.words[key as usize].load(Ordering::Acquire))
    }

    fn update(&self, key: u64, change: impl Fn(&mut Entry)) -> Entry {
        let word = &self.words[key as usize];
        let mut before = word.load(Ordering::Acquire);
        loop {
            let mut entry = Entry::unpack(before);
            change(&mut entry);
            let swap = word.compare_exchange_weak(
                before,
                entry.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swap {
                Ok(_) => return Entry::unpack(before),
                Err(now) => before = now,
            }
        }
    }
}

/// One write fewer is in flight; a counter that has overflowed no longer knows, and stays.
fn land(entry: &mut Entry) {
    debug_assert!(entry.in_flight > 0);
    if entry.in_flight < IN_FLIGHT_MAX {
        entry.in_flight = entry.in_flight.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn writes_one_after_another_leave_one_version() {
        let ledger = Ledger::new(1).expect("memory");
        for version in 1..100 {
            let stamp = ledger.issue(0);
            assert_eq!(stamp, Stamp { version, base: version });
            assert_eq!((ledger.floor(0), ledger.newest(0)), (version - 1, version));
            ledger.acknowledge(0, stamp, version % 2 == 0);
            assert_eq!(ledger.floor(0), version);
            assert_eq!(ledger.floor_is_delete(0), version % 2 == 0);
        }
    }

    #[test]
    fn a_refused_write_does_not_raise_the_floor() {
        let ledger = Ledger::new(1).expect("memory");
        let first = ledger.issue(0);
        ledger.acknowledge(0, first, false);
        ledger.issue(0);
        ledger.give_up(0);
        assert_eq!(ledger.floor(0), 1);
        let third = ledger.issue(0);
        assert_eq!(third.base, 3, "nothing was in flight any more");
    }

    #[test]
    fn a_lost_floor_accuses_nobody() {
        let ledger = Ledger::new(1).expect("memory");
        let first = ledger.issue(0);
        ledger.acknowledge(0, first, false);
        for _ in 0..LAG_MAX + 10 {
            ledger.issue(0);
            ledger.give_up(0);
        }
        assert_eq!(ledger.floor(0), 0);
        let stamp = ledger.issue(0);
        ledger.acknowledge(0, stamp, false);
        assert_eq!(ledger.floor(0), stamp.version);
    }

    /// Writes in flight on several connections of a correct server that executes them in any
    /// order: no read may ever be accused, and a key at rest must have a strict floor.
    #[test]
    fn no_correct_server_is_ever_accused() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed, 77);
            let ledger = Ledger::new(1).expect("memory");
            let mut sent: Vec<(Stamp, bool)> = Vec::new();
            let mut executed: Vec<(Stamp, bool)> = Vec::new();
            let mut stored: Option<Stamp> = None;
            let mut reads: Vec<u32> = Vec::new();
            for _ in 0..400 {
                match rng.below(10) {
                    0..3 if sent.len() < 6 => sent.push((ledger.issue(0), rng.below(4) == 0)),
                    3..5 if !sent.is_empty() => {
                        let write = sent.swap_remove(rng.below(sent.len() as u64) as usize);
                        stored = (!write.1).then_some(write.0);
                        executed.push(write);
                    }
                    5..7 if !executed.is_empty() => {
                        let index = rng.below(executed.len() as u64) as usize;
                        let (stamp, is_delete) = executed.swap_remove(index);
                        ledger.acknowledge(0, stamp, is_delete);
                    }
                    7 => reads.push(ledger.floor(0)),
                    _ => {
                        if let (Some(floor), Some(stamp)) = (reads.pop(), stored) {
                            assert!(stamp.version >= floor, "seed {seed}: {stamp:?} {floor}");
                            assert!(stamp.version <= ledger.newest(0), "seed {seed}");
                            ledger.seen(0, stamp);
                            // A read can be answered before earlier ones; they stay valid.
                        }
                    }
                }
            }
            for (stamp, is_delete) in sent.drain(..).chain(executed.drain(..)) {
                ledger.acknowledge(0, stamp, is_delete);
            }
            let stamp = ledger.issue(0);
            ledger.acknowledge(0, stamp, false);
            assert_eq!(ledger.floor(0), stamp.version, "seed {seed}: strict again at rest");
        }
    }

    #[test]
    fn an_overflowing_number_of_writes_in_flight_stays_mild() {
        let ledger = Ledger::new(1).expect("memory");
        let stamps: Vec<Stamp> = (0..IN_FLIGHT_MAX + 5).map(|_| ledger.issue(0)).collect();
        for stamp in stamps {
            ledger.acknowledge(0, stamp, false);
        }
        let stamp = ledger.issue(0);
        assert!(stamp.base < stamp.version, "the counter no longer knows that nothing flies");
    }
}
