//! When frequencies are halved, and the paced sweep that lets one bit a line say so.
//!
//! Frequencies count uses since some time ago: once a number of uses in proportion to the cache
//! was counted, all counters are halved, as TinyLFU does (Einziger, Friedman and Manes, "TinyLFU",
//! ACM TOS 2017). No call halves them all. An epoch begins; each line of counters, in the sketch
//! and in the table, has a bit that says whether it has been halved for this epoch; whoever touches
//! a line catches up, and a sweep visits all lines before the next epoch may begin.
//!
//! - A1. At most one epoch is between a line and the present, so its bit is unambiguous.
//! - A2. A sweep hands out each line of the epoch at least once, and at most
//!   `AGEING_LINES_PER_CALL` lines a call.
//!
//! The period is longer for small caches, in uses per item: a few dozen items need more uses to
//! tell them apart than ten each.

use std::ops::Range;

use crate::bounds::{
    AGEING_LINES_PER_CALL, AGEING_SWEEP_SHARE, AGEING_USES_LARGE, AGEING_USES_SMALL, FREQUENCY_MAX,
};

/// Items up to which a cache is small, and from which on it is large, for the period.
const ITEMS_SMALL: f64 = 64.0;
const ITEMS_LARGE: f64 = 16_384.0;

/// Progress of a sweep over lines of one kind.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    next: usize,
    done: bool,
}

impl Sweep {
    const DONE: Sweep = Sweep { next: 0, done: true };

    /// The lines to visit now, of `len`: `used` parts of `available` should be behind us.
    fn due(&mut self, len: usize, used: u64, available: u64) -> Range<usize> {
        if self.done {
            return 0..0;
        }
        let wanted = (len as f64 * (used as f64 / available.max(1) as f64)).ceil() as usize;
        let end = wanted.min(len).min(self.next + AGEING_LINES_PER_CALL);
        let due = self.next..end.max(self.next);
        self.next = due.end;
        self.done = self.next >= len;
        due
    }
}

/// The epochs of one cache.
#[derive(Debug)]
pub(super) struct Ageing {
    epoch: bool,
    /// Uses counted, halved with every epoch.
    uses: u64,
    /// `uses` when the epoch began.
    uses_at_start: u64,
    /// `uses` that end an epoch.
    period: u64,
    table: Sweep,
    sketch: Sweep,
    epochs: u64,
}

impl Ageing {
    /// The first epoch.
    pub(super) fn new() -> Ageing {
        Ageing {
            epoch: false,
            uses: 0,
            uses_at_start: 0,
            period: u64::MAX,
            table: Sweep::DONE,
            sketch: Sweep::DONE,
            epochs: 0,
        }
    }

    /// The present epoch's bit.
    #[inline(always)]
    pub(super) fn epoch(&self) -> bool {
        self.epoch
    }

    /// Epochs begun.
    pub(super) fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Counts a use of a key whose counter stood at `frequency`. A full counter counts nothing.
    #[inline(always)]
    pub(super) fn count(&mut self, frequency: u8) {
        self.uses += u64::from(frequency < FREQUENCY_MAX);
    }

    /// Sets the period for a cache that has room for `items`.
    pub(super) fn follow(&mut self, items: u64) {
        let items = items.max(1) as f64;
        let range = (ITEMS_LARGE / ITEMS_SMALL).ln();
        let large = (items.clamp(ITEMS_SMALL, ITEMS_LARGE) / ITEMS_SMALL).ln() / range;
        let uses = AGEING_USES_SMALL + (AGEING_USES_LARGE - AGEING_USES_SMALL) * large;
        self.period = (uses * items) as u64;
    }

    /// Begins the next epoch if it is time and the sweeps are over. Returns whether it did.
    #[inline]
    pub(super) fn advance(&mut self) -> bool {
        if self.uses < self.period || !self.table.done || !self.sketch.done {
            return false;
        }
        self.epoch = !self.epoch;
        self.epochs += 1;
        self.uses /= 2;
        self.uses_at_start = self.uses;
        let sweep = Sweep { next: 0, done: false };
        (self.table, self.sketch) = (sweep, sweep);
        true
    }

    /// The lines of the table, which has `len`, to bring up to date now (A2). Lines that are added
    /// during an epoch must be up to date from the start.
    #[inline]
    pub(super) fn table_lines_due(&mut self, len: usize) -> Range<usize> {
        let (used, available) = self.progress();
        self.table.due(len, used, available)
    }

    /// The same for the sketch.
    #[inline]
    pub(super) fn sketch_lines_due(&mut self, len: usize) -> Range<usize> {
        let (used, available) = self.progress();
        self.sketch.due(len, used, available)
    }

    /// Uses since the epoch began, and those by which the sweep should be over.
    #[inline]
    fn progress(&self) -> (u64, u64) {
        (self.uses - self.uses_at_start, self.period / AGEING_SWEEP_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_waits_for_both_sweeps_and_each_line_is_handed_out_once() {
        let mut ageing = Ageing::new();
        ageing.follow(1_000);
        for _ in 0..1_000 * AGEING_USES_SMALL as usize {
            ageing.count(0);
        }
        assert!(ageing.advance());
        assert!(ageing.epoch());
        let mut seen = vec![0; 900];
        let mut calls = 0;
        while seen.contains(&0) {
            ageing.count(3);
            let due = ageing.table_lines_due(seen.len());
            assert!(due.len() <= AGEING_LINES_PER_CALL);
            due.for_each(|line| seen[line] += 1);
            calls += 1;
        }
        assert!(seen.iter().all(|&count| count == 1));
        assert!(calls >= 900 / AGEING_LINES_PER_CALL);
        for _ in 0..100_000 {
            ageing.count(0);
        }
        assert!(!ageing.advance(), "the sketch was not swept");
        while !ageing.sketch_lines_due(50).is_empty() {}
        assert!(ageing.advance());
        assert!(!ageing.epoch());
    }

    #[test]
    fn full_counters_count_nothing_and_small_caches_age_late() {
        let mut ageing = Ageing::new();
        ageing.follow(20);
        assert_eq!(ageing.period, (20.0 * AGEING_USES_SMALL) as u64);
        ageing.follow(1 << 20);
        assert_eq!(ageing.period, (1 << 20) * AGEING_USES_LARGE as u64);
        ageing.follow(1);
        for _ in 0..1_000 {
            ageing.count(FREQUENCY_MAX);
        }
        assert!(!ageing.advance());
    }
}
