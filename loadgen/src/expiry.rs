//! What the run knows about deadlines: when a version that comes back must be gone.
//!
//! A write is executed before its acknowledgement arrives, so its value is gone at the latest one
//! lifetime after that arrival, plus a slack for the clock of the server. A read that was *sent*
//! after that must not return this version. Only acknowledged versions have a deadline here, and
//! a read of any other version is not judged.
//!
//! A touch moves the deadline of a version that nobody can name for sure (another write may be on
//! its way). From right before it is sent, the key has no deadline until a version that was
//! issued after its answer is acknowledged.
//!
//! Invariants:
//! - I1. A deadline belongs to exactly the version beside it.
//! - I2. No deadline is known while a touch of the key is unanswered, and none afterwards for a
//!   version issued before the answer. So no correct server is ever accused.
//!
//! A word per key: deadline (32 bits, milliseconds after the start), version (28), touches
//! without an answer (4). A field that reaches its end stays there, which only makes the check
//! milder.
//!
//! Cost: 8 bytes per key, one load per hit, one compare-and-swap per write; none without lifetimes.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::monotonic_ns;

const TOUCHES_BITS: u32 = 4;
const VERSION_BITS: u32 = 28;
const TOUCHES_MAX: u64 = (1 << TOUCHES_BITS) - 1;
const VERSION_MAX: u64 = (1 << VERSION_BITS) - 1;
const DEADLINE_SHIFT: u32 = TOUCHES_BITS + VERSION_BITS;
/// No deadline is known.
const NEVER_MS: u64 = u32::MAX as u64;
const _: () = assert!(DEADLINE_SHIFT == 32);

/// Clocks of servers that are read once per turn of their loop, and turns that take long.
const SLACK_MS: u64 = 100;
/// Two clocks may run apart by 500 parts in a million before they are out of order.
const DRIFT_DIVISOR: u64 = 2000;

/// The deadlines of all keys of a run.
pub(crate) struct Expiry {
    words: Vec<AtomicU64>,
    start_ns: u64,
    /// The tick of the server's clock, in milliseconds.
    tick_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    deadline_ms: u64,
    version: u64,
    touches: u64,
}

impl Entry {
    fn unpack(word: u64) -> Entry {
        Entry {
            deadline_ms: word >> DEADLINE_SHIFT,
            version: (word >> TOUCHES_BITS) & VERSION_MAX,
            touches: word & TOUCHES_MAX,
        }
    }

    fn pack(self) -> u64 {
        (self.deadline_ms << DEADLINE_SHIFT) | (self.version << TOUCHES_BITS) | self.touches
    }
}

impl Expiry {
    /// Deadlines of `keys` keys on a server whose clock ticks every `tick_ms`.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn new(keys: u64, tick_ms: u64) -> Result<Expiry, TryReserveError> {
        let mut words = Vec::new();
        words.try_reserve_exact(keys as usize)?;
        let unknown = Entry { deadline_ms: NEVER_MS, version: 0, touches: 0 }.pack();
        words.extend((0..keys).map(|_| AtomicU64::new(unknown)));
        Ok(Expiry { words, start_ns: monotonic_ns(), tick_ms })
    }

    /// A write with this version and lifetime has been acknowledged at `done_ns`.
    pub(crate) fn written(&self, key: u64, version: u32, done_ns: u64, ttl_ms: u64) {
        let version = u64::from(version);
        let slack_ms = SLACK_MS + self.tick_ms + ttl_ms / DRIFT_DIVISOR;
        let done_ms = done_ns.saturating_sub(self.start_ns).div_ceil(1_000_000);
        let deadline_ms = done_ms.saturating_add(ttl_ms).saturating_add(slack_ms);
        self.update(key, |entry| {
            // Older versions, and those that a touch may have reached (I2).
            if version <= entry.version || version > VERSION_MAX {
                return;
            }
            let known = entry.touches == 0 && deadline_ms < NEVER_MS;
            entry.version = version;
            entry.deadline_ms = if known { deadline_ms } else { NEVER_MS };
        });
    }

    /// A touch is about to be sent.
    pub(crate) fn before_touch(&self, key: u64) {
        self.update(key, |entry| {
            entry.touches = (entry.touches + 1).min(TOUCHES_MAX);
            entry.deadline_ms = NEVER_MS;
        });
    }

    /// A touch has been answered; `newest` is the newest version that has been sent.
    pub(crate) fn touched(&self, key: u64, newest: u32) {
        self.update(key, |entry| {
            if entry.touches < TOUCHES_MAX {
                entry.touches = entry.touches.saturating_sub(1);
            }
            entry.version = entry.version.max(u64::from(newest).min(VERSION_MAX));
            entry.deadline_ms = NEVER_MS;
        });
    }

    /// Judges a hit of `version` by a read that was sent at `issued_ns` or later.
    ///
    /// # Errors
    /// By how many milliseconds it came too late, the slack included.
    #[inline]
    pub(crate) fn check(&self, key: u64, version: u32, issued_ns: u64) -> Result<(), u64> {
        let entry = Entry::unpack(self.words[key as usize].load(Ordering::Acquire));
        if entry.version != u64::from(version) || entry.deadline_ms == NEVER_MS {
            return Ok(());
        }
        let issued_ms = issued_ns.saturating_sub(self.start_ns) / 1_000_000;
        if issued_ms > entry.deadline_ms { Err(issued_ms - entry.deadline_ms) } else { Ok(()) }
    }

    fn update(&self, key: u64, change: impl Fn(&mut Entry)) {
        let word = &self.words[key as usize];
        let mut before = word.load(Ordering::Acquire);
        loop {
            let mut entry = Entry::unpack(before);
            change(&mut entry);
            let after = entry.pack();
            match word.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const MS: u64 = 1_000_000;

    fn expiry() -> Expiry {
        let mut expiry = Expiry::new(1, 1).expect("memory");
        expiry.start_ns = 0;
        expiry
    }

    #[test]
    fn only_the_acknowledged_version_has_a_deadline() {
        let expiry = expiry();
        expiry.written(0, 3, 0, 1000);
        assert_eq!(expiry.check(0, 3, 1101 * MS), Ok(()));
        assert_eq!(expiry.check(0, 3, 1110 * MS), Err(9), "1 s, 100 ms slack, a tick of 1 ms");
        assert_eq!(expiry.check(0, 4, 9999 * MS), Ok(()), "version 4 is not acknowledged");
        expiry.written(0, 2, 5000 * MS, 1000);
        assert_eq!(expiry.check(0, 3, 1110 * MS), Err(9), "an older version changes nothing");
        expiry.written(0, 5, 0, 50 * 24 * 3600 * 1000);
        assert_eq!(expiry.check(0, 5, u64::MAX), Ok(()), "beyond what the word can say");
    }

    /// A correct server that executes what is in flight in any order is never accused.
    #[test]
    fn no_correct_server_is_ever_accused() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed, 5);
            let expiry = expiry();
            let (mut now_ms, mut version) = (0, 0_u32);
            // (is a write, its version, lifetime)
            let mut sent: Vec<(bool, u32, u64)> = Vec::new();
            let mut executed: Vec<(bool, u32, u64)> = Vec::new();
            let mut stored: Option<(u32, u64)> = None;
            for _ in 0..400 {
                now_ms += rng.below(300);
                if stored.is_some_and(|(_, deadline_ms)| deadline_ms <= now_ms) {
                    stored = None;
                }
                match rng.below(8) {
                    0 | 1 if sent.len() < 5 => {
                        version += 1;
                        sent.push((true, version, 500 + rng.below(2000)));
                    }
                    2 if sent.len() < 5 => {
                        expiry.before_touch(0);
                        sent.push((false, 0, 500 + rng.below(2000)));
                    }
                    3 | 4 if !sent.is_empty() => {
                        let action = sent.swap_remove(rng.below(sent.len() as u64) as usize);
                        let (is_write, version, ttl_ms) = action;
                        if is_write {
                            stored = Some((version, now_ms + ttl_ms));
                        } else if let Some((_, deadline_ms)) = &mut stored {
                            *deadline_ms = now_ms + ttl_ms;
                        }
                        executed.push(action);
                    }
                    5 | 6 if !executed.is_empty() => {
                        let at = rng.below(executed.len() as u64) as usize;
                        let (is_write, acknowledged, ttl_ms) = executed.swap_remove(at);
                        if is_write {
                            expiry.written(0, acknowledged, now_ms * MS, ttl_ms);
                        } else {
                            expiry.touched(0, version);
                        }
                    }
                    _ => {
                        if let Some((version, _)) = stored {
                            let verdict = expiry.check(0, version, now_ms * MS);
                            assert_eq!(verdict, Ok(()), "seed {seed}");
                        }
                    }
                }
            }
        }
    }
}
