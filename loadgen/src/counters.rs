//! What the run knows about its counters: an increment must bring the next number, and no other.
//!
//! Every increment is by one. Let F be the highest number that a reply has brought, and n the
//! increments without a reply. Then
//! - the reply to an increment that was the only one under way is above F, or the counter went
//!   *back*;
//! - a reply is at most F + n: all increments that the server has executed beyond F are among those
//!   n. Else it *skipped* a number;
//! - when no increment is under way, F has grown by exactly the replies that came since the last
//!   such moment, or increments were *lost* (two replies brought the same number).
//!
//! The server is a cache, so a counter may be gone at any time, and begins again at 1. If the
//! increment that meets this was the only one under way, the next number is known again at once,
//! and this is told apart from going back: 1 is right, everything else up to F is not. Beside
//! others under way the order is not known: after a number that is not above the F that its
//! request found when it was sent, F is unknown, and the key is not judged, until the reply to an
//! increment that is alone.
//!
//! Invariants:
//! - I1. No server that executes every increment once, before its reply, is ever accused, whether
//!   it loses counters or not.
//! - I2. A counter whose increments come one at a time is judged strictly: any single lost,
//!   repeated or invented one shows at once.
//!
//! A word per counter: F (44 bits; 0 is unknown), replies minus growth since rest (10, biased),
//! increments under way (9), and whether there were several since rest. What overflows is not
//! judged any more.
//!
//! Cost: 8 bytes per key if the mix has increments; two compare-and-swaps per increment.

use std::collections::TryReserveError;
use std::sync::atomic::{AtomicU64, Ordering};

const CROWDED_BITS: u32 = 1;
const FLYING_BITS: u32 = 9;
const DEBT_BITS: u32 = 10;
const DEBT_SHIFT: u32 = CROWDED_BITS + FLYING_BITS;
const VALUE_SHIFT: u32 = DEBT_SHIFT + DEBT_BITS;
const FLYING_MAX: u64 = (1 << FLYING_BITS) - 1;
const DEBT_BIAS: i64 = 1 << (DEBT_BITS - 1);
/// Largest number that is judged.
const VALUE_MAX: u64 = (1 << (64 - VALUE_SHIFT)) - 1;
const _: () = assert!(VALUE_SHIFT == 20);

/// How a counter was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CounterFlaw {
    /// Below what was acknowledged before the increment was sent.
    Back {
        /// The number that it had to exceed.
        above: u64,
    },
    /// Above what all increments together can have reached.
    Skipped {
        /// The highest possible number.
        at_most: u64,
    },
    /// At rest, the highest number and the number of increments do not fit.
    Lost {
        /// The number that the counter must have.
        expected: u64,
    },
}

/// What an increment brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A number that fits.
    Fits,
    /// The counter had been lost, and began again.
    Restarted,
}

/// The counters of a run.
pub(crate) struct Counters {
    words: Vec<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The highest number that came; 0 is unknown, until one comes alone.
    value: u64,
    /// Replies since rest, minus what the value has grown since.
    debt: i64,
    flying: u64,
    /// Two increments have been under way at once since rest.
    crowded: bool,
}

impl Entry {
    fn unpack(word: u64) -> Entry {
        Entry {
            value: word >> VALUE_SHIFT,
            debt: ((word >> DEBT_SHIFT) & ((1 << DEBT_BITS) - 1)) as i64 - DEBT_BIAS,
            flying: (word >> CROWDED_BITS) & FLYING_MAX,
            crowded: word & 1 != 0,
        }
    }

    fn pack(self) -> u64 {
        (self.value << VALUE_SHIFT)
            | (((self.debt + DEBT_BIAS) as u64) << DEBT_SHIFT)
            | (self.flying << CROWDED_BITS)
            | u64::from(self.crowded)
    }

    /// One increment fewer is under way; an overflown counter no longer knows, and stays.
    fn land(&mut self) {
        debug_assert!(self.flying > 0, "every reply has its request");
        if self.flying < FLYING_MAX {
            self.flying = self.flying.saturating_sub(1);
        }
    }

    /// Once nothing is under way, the books must balance, and a new account begins.
    fn rest(&mut self) -> Result<(), CounterFlaw> {
        if self.flying > 0 {
            return Ok(());
        }
        let lost = if self.value > 0 { self.debt } else { 0 };
        let expected = self.value.saturating_add_signed(lost);
        (self.debt, self.crowded) = (0, false);
        if lost == 0 { Ok(()) } else { Err(CounterFlaw::Lost { expected }) }
    }

    /// Takes the reply `number` to a request that had found `above`.
    fn count(&mut self, above: u64, number: u64) -> Result<Counted, CounterFlaw> {
        // Those under way, this one included.
        let flying = self.flying;
        let overflows = flying == FLYING_MAX || number > VALUE_MAX;
        let is_alone = !self.crowded && flying == 1;
        self.land();
        let mut counted = Counted::Fits;
        match (overflows, is_alone, self.value) {
            (true, _, _) => self.value = 0,
            (_, true, 0) => self.value = number,
            (_, false, 0) => {}
            (_, _, value) if number > value + flying => {
                return Err(CounterFlaw::Skipped { at_most: value + flying });
            }
            (_, true, _) if number <= above && number > 1 => {
                return Err(CounterFlaw::Back { above });
            }
            (_, _, _) if number <= above => {
                // It was lost. Beside others the order of the numbers is not known.
                (self.value, self.debt) = (if is_alone { number } else { 0 }, 0);
                counted = Counted::Restarted;
            }
            (_, _, value) => {
                let grown = number.saturating_sub(value) as i64;
                self.debt = (self.debt + 1 - grown).clamp(1 - DEBT_BIAS, DEBT_BIAS - 1);
                self.value = value.max(number);
            }
        }
        self.rest().map(|()| counted)
    }
}

impl Counters {
    /// `keys` counters of which nothing is known.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(crate) fn new(keys: u64) -> Result<Counters, TryReserveError> {
        let mut words = Vec::new();
        words.try_reserve_exact(keys as usize)?;
        let unknown = Entry { value: 0, debt: 0, flying: 0, crowded: false };
        words.extend((0..keys).map(|_| AtomicU64::new(unknown.pack())));
        Ok(Counters { words })
    }

    /// An increment is about to be sent; what it must exceed goes to [`Counters::counted`].
    pub(crate) fn before(&self, key: u64) -> u64 {
        self.update(key, |entry| {
            entry.crowded |= entry.flying > 0;
            entry.flying = (entry.flying + 1).min(FLYING_MAX);
            entry.value
        })
    }

    /// The server answered with `number` to the increment that had found `above`.
    ///
    /// # Errors
    /// Why no correct server can have said so.
    pub(crate) fn counted(
        &self,
        key: u64,
        above: u64,
        number: u64,
    ) -> Result<Counted, CounterFlaw> {
        self.update(key, |entry| entry.count(above, number))
    }

    /// The server answered that there is no such counter.
    pub(crate) fn missing(&self, key: u64) {
        self.update(key, |entry| {
            entry.land();
            entry.value = 0;
            // What is unknown is not judged.
            let _ = entry.rest();
        });
    }

    /// The server refused the increment, and did not carry it out.
    ///
    /// One that was never answered stays under way for good: it may still be carried out.
    pub(crate) fn refused(&self, key: u64) {
        self.update(key, |entry| {
            entry.land();
            // A number is judged when a reply brings one; here nobody has said any.
            if entry.rest().is_err() {
                entry.value = 0;
            }
        });
    }

    fn update<T>(&self, key: u64, change: impl Fn(&mut Entry) -> T) -> T {
        let word = &self.words[key as usize];
        let mut before = word.load(Ordering::Acquire);
        loop {
            let mut entry = Entry::unpack(before);
            let result = change(&mut entry);
            let swap = word.compare_exchange_weak(
                before,
                entry.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swap {
                Ok(_) => return result,
                Err(now) => before = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn counters() -> Counters {
        Counters::new(1).expect("memory")
    }

    /// One increment alone, answered with `number`.
    fn alone(counters: &Counters, number: u64) -> Result<Counted, CounterFlaw> {
        let above = counters.before(0);
        counters.counted(0, above, number)
    }

    #[test]
    fn a_counter_at_rest_is_judged_strictly() {
        let counters = counters();
        assert_eq!(alone(&counters, 500), Ok(Counted::Fits), "from an earlier run");
        assert_eq!(alone(&counters, 501), Ok(Counted::Fits));
        assert_eq!(alone(&counters, 501), Err(CounterFlaw::Back { above: 501 }));
        let counters = self::counters();
        assert_eq!(alone(&counters, 7), Ok(Counted::Fits));
        assert_eq!(alone(&counters, 9), Err(CounterFlaw::Skipped { at_most: 8 }));
        let counters = self::counters();
        assert_eq!(alone(&counters, 7), Ok(Counted::Fits));
        assert_eq!(alone(&counters, 2), Err(CounterFlaw::Back { above: 7 }));
        let counters = self::counters();
        assert_eq!(alone(&counters, 7), Ok(Counted::Fits));
        assert_eq!(alone(&counters, 1), Ok(Counted::Restarted), "it was evicted");
        assert_eq!(alone(&counters, 2), Ok(Counted::Fits));
        assert_eq!(alone(&counters, 4), Err(CounterFlaw::Skipped { at_most: 3 }));
    }

    #[test]
    fn a_lost_increment_shows_when_the_counter_rests() {
        let counters = counters();
        assert_eq!(alone(&counters, 10), Ok(Counted::Fits));
        let (first, second) = (counters.before(0), counters.before(0));
        assert_eq!(counters.counted(0, first, 11), Ok(Counted::Fits));
        let lost = counters.counted(0, second, 11);
        assert_eq!(lost, Err(CounterFlaw::Lost { expected: 12 }));
    }

    #[test]
    fn refusals_and_absences_are_no_increments() {
        let counters = counters();
        assert_eq!(alone(&counters, 10), Ok(Counted::Fits));
        counters.before(0);
        counters.refused(0);
        assert_eq!(alone(&counters, 11), Ok(Counted::Fits));
        counters.before(0);
        counters.missing(0);
        assert_eq!(alone(&counters, 1), Ok(Counted::Fits));
        assert_eq!(alone(&counters, 3), Err(CounterFlaw::Skipped { at_most: 2 }));
    }

    #[test]
    fn numbers_and_flights_beyond_the_word_accuse_nobody() {
        let counters = counters();
        assert_eq!(alone(&counters, u64::MAX), Ok(Counted::Fits));
        assert_eq!(alone(&counters, 3), Ok(Counted::Fits));
        let flights: Vec<u64> = (0..FLYING_MAX + 9).map(|_| counters.before(0)).collect();
        for (at, above) in flights.into_iter().enumerate() {
            assert!(counters.counted(0, above, 4 + at as u64).is_ok());
        }
        assert_eq!(alone(&counters, 2), Ok(Counted::Fits), "too many were under way");
    }

    /// What a simulated server does to increments.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Fault {
        Repeat,
        Skip,
        Back,
    }

    /// Increments under way on several connections, executed in any order by a server that may
    /// lose the counter, and, with a fault, gets one of them wrong. Returns the accusations.
    fn simulate(seed: u64, crowd: usize, losses: bool, fault: Option<Fault>) -> u32 {
        let mut rng = Rng::new(seed, 31);
        let counters = counters();
        let (mut sent, mut executed) = (Vec::new(), Vec::new());
        let (mut number, mut accused) = (rng.below(5), 0);
        let mut wrong_from = 200 + rng.below(100);
        for step in 0..800 {
            match rng.below(8) {
                0..3 if sent.len() + executed.len() < crowd => sent.push(counters.before(0)),
                3..5 if !sent.is_empty() => {
                    let above = sent.swap_remove(rng.below(sent.len() as u64) as usize);
                    number += 1;
                    if step >= wrong_from {
                        wrong_from = if fault.is_some() { u64::MAX } else { wrong_from };
                        match fault {
                            None => {}
                            Some(Fault::Repeat) => number -= 1,
                            Some(Fault::Skip) => number += 1,
                            Some(Fault::Back) => number -= 2,
                        }
                    }
                    executed.push((above, number));
                }
                5..7 if !executed.is_empty() => {
                    let at = rng.below(executed.len() as u64) as usize;
                    let (above, number) = executed.swap_remove(at);
                    accused += u32::from(counters.counted(0, above, number).is_err());
                }
                7 if losses && rng.below(6) == 0 => number = 0,
                _ => {}
            }
        }
        for above in sent {
            number += 1;
            executed.push((above, number));
        }
        for (above, number) in executed {
            accused += u32::from(counters.counted(0, above, number).is_err());
        }
        accused
    }

    #[test]
    fn no_correct_server_is_ever_accused() {
        for seed in 0..2000 {
            for (crowd, losses) in [(1, true), (2, true), (8, true), (8, false)] {
                let accused = simulate(seed, crowd, losses, None);
                assert_eq!(accused, 0, "seed {seed} crowd {crowd} losses {losses}");
            }
        }
    }

    #[test]
    fn a_single_wrong_increment_shows() {
        for fault in [Fault::Repeat, Fault::Skip, Fault::Back] {
            let caught = |crowd| {
                (0..300).filter(|&seed| simulate(seed, crowd, false, Some(fault)) > 0).count()
            };
            assert_eq!(caught(1), 300, "{fault:?}: alone, every time");
            // Beside others, a number that is too low passes for a counter that was lost.
            let least = if fault == Fault::Back { 5 } else { 75 };
            assert!(caught(2) >= least, "{fault:?}: {} of 300", caught(2));
        }
    }
}
