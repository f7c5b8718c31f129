//! W-TinyLFU for a shard: the core, and the duel that sets its admission of ghosts.

use std::io;
use std::ops::Range;

use super::core::{Core, CoreStats};
use super::duel::Duel;
use super::random::Random;
use super::{Demand, Residents, Sizes, Step};
use crate::bounds::{HIT_SAMPLE_ITEMS, HIT_SAMPLE_MAX};
use crate::hash::KeyHash;

/// What a policy has done and how it stands.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct TinyLfuStats {
    /// Events of the core.
    pub(crate) core: CoreStats,
    /// The window's share of the capacity, 0 to 1.
    pub(crate) window_share: f64,
    /// Whether recently evicted keys are admitted now.
    pub(crate) ghost_admits: bool,
    /// How often that has changed.
    pub(crate) duel_changes: u64,
    /// Times that all frequencies were halved.
    pub(crate) epochs: u64,
    /// Lines of the sketch.
    pub(crate) sketch_lines: usize,
    /// Bytes of sketch, ghost and duel.
    pub(crate) bytes: usize,
}

/// W-TinyLFU with a climbing window and a duel about ghosts.
#[derive(Debug)]
pub(crate) struct TinyLfu {
    core: Core,
    duel: Duel,
    random: Random,
    /// Hits until the next one that the climber sees, and how many it then stands for.
    hits_to_sample: u32,
    hits_sampled: u32,
    /// The mean of `hits_sampled`.
    sample_every: u32,
}

impl TinyLfu {
    /// A policy for a cache of at most about `items_max` items: it reserves memory for so many,
    /// and uses it as items come. The least sketch and the duel are for `side_max` items at most.
    ///
    /// # Errors
    ///
    /// The kernel's, when memory cannot be reserved.
    pub(crate) fn new(seed: u64, items_max: u64, side_max: u64) -> io::Result<TinyLfu> {
        Ok(TinyLfu {
            core: Core::new(seed, &Sizes::for_items(items_max, side_max))?,
            duel: Duel::new(seed, items_max.min(side_max))?,
            random: Random::new(seed),
            hits_to_sample: 1,
            hits_sampled: 1,
            sample_every: 1,
        })
    }

    /// A hit of a resident whose counter stood at `frequency_before`. The two closures are asked
    /// only for sampled keys and hits. A handful of instructions otherwise.
    #[inline(always)]
    pub(crate) fn hit(
        &mut self,
        hash: KeyHash,
        frequency_before: u8,
        cost: impl FnOnce() -> u64,
        in_window: impl FnOnce() -> bool,
    ) {
        self.core.ageing.count(frequency_before);
        self.hits_to_sample -= 1;
        if self.hits_to_sample == 0 {
            self.sample_hit(in_window());
        }
        if self.duel.samples(hash) {
            self.duel_access(hash, cost());
        }
    }

    /// A key that is absent is about to be stored, at `cost`. Returns the frequency for its slot.
    /// To be called before the steps that make room for it.
    pub(crate) fn insert(&mut self, hash: KeyHash, cost: u64) -> u8 {
        if self.duel.samples(hash) {
            self.duel_access(hash, cost);
        }
        self.core.insert(hash)
    }

    /// Asks for the memory that inserting or evicting the key will touch.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        self.core.prefetch(hash);
    }

    /// One step towards the demand: see [`super::Policy::step`].
    pub(crate) fn step(&mut self, residents: &mut impl Residents, demand: &Demand) -> Step {
        self.tend(residents, demand.capacity);
        self.core.step(residents, demand)
    }

    /// Looks at the size of things if it is time: see [`super::Policy::tend`].
    #[inline]
    pub(crate) fn tend(&mut self, residents: &impl Residents, capacity: u64) {
        if self.core.survey(residents, capacity) {
            let items_max = self.core.items_max();
            self.duel.follow(items_max, capacity);
            let every = (items_max / HIT_SAMPLE_ITEMS).clamp(1, u64::from(HIT_SAMPLE_MAX));
            self.sample_every = every as u32;
        }
    }

    /// Whether it is time for `tend`.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.core.is_due()
    }

    /// What the window's items may cost together.
    pub(crate) fn window_max(&self, capacity: u64) -> u64 {
        self.core.window.cost_max(capacity)
    }

    /// The present epoch: counters that were written in another one are to be halved once.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> bool {
        self.core.ageing.epoch()
    }

    /// The lines (or buckets) of the table, which has `lines`, that are to be brought up to date
    /// with the epoch now. To be called with every insert; at most `AGEING_LINES_PER_CALL`.
    #[inline]
    pub(crate) fn table_lines_due(&mut self, lines: usize) -> Range<usize> {
        self.core.ageing.table_lines_due(lines)
    }

    /// Bytes of sketch, ghost and duel.
    pub(crate) fn bytes(&self) -> usize {
        self.core.bytes() + self.duel.bytes()
    }

    /// Counters and gauges.
    pub(crate) fn stats(&self) -> TinyLfuStats {
        TinyLfuStats {
            core: self.core.stats,
            window_share: self.core.window.share(),
            ghost_admits: self.core.ghost_admits,
            duel_changes: self.duel.changes(),
            epochs: self.core.ageing.epochs(),
            sketch_lines: self.core.sketch_lines(),
            bytes: self.bytes(),
        }
    }

    #[cold]
    fn sample_hit(&mut self, in_window: bool) {
        self.core.window.hit(in_window, u64::from(self.hits_sampled));
        // Random distances, as a fixed one might keep step with a loop of the clients.
        self.hits_sampled = 1 + self.random.below(2 * self.sample_every - 1);
        self.hits_to_sample = self.hits_sampled;
    }

    #[cold]
    fn duel_access(&mut self, hash: KeyHash, cost: u64) {
        if self.duel.access(hash, cost) {
            self.core.ghost_admits = self.duel.ghost_admits();
        }
    }
}
