//! Which items stay: eviction policies over FIFO queues of items with one CLOCK bit each.
//!
//! A policy does not own the items. It sees them through [`Residents`]: three first-in-first-out
//! queues of which only the oldest item can be seen, moved or evicted. So the same policy drives
//! the log of a shard, where order is the position in a segment and a move is a copy, and the
//! small arrays of the duel (`duel`), which run it on a sample of the keys.
//!
//! ```text
//!   insert --> Window --contest--> Probation --used there--> Protected
//!                |  ^                  |   ^                    |  ^
//!        evicted <  used: again        |   +---- unused --------+  used: again
//!                          evicted <---+
//! ```
//!
//! - P1. One call of [`Policy::step`] moves at most one item and evicts at most one. The caller
//!   decides how many steps a write may take, and asks for [`Demand::forced`] ones when it must
//!   have room at once. Unforced steps end too: an insert takes a few dozen at most.
//! - P2. [`Step::Idle`] means that the demand fits, or that no item is left. Queues that are above
//!   their share may be left to the steps of later inserts.
//! - P3. `forced` steps always evict while there is a resident.
//!
//! Every policy takes inserts in `Queue::Window`. The plain ones use the queues in their own ways
//! (`queues`).

mod ageing;
mod core;
mod duel;
mod ghost;
mod lines;
mod queues;
mod random;
mod shadow;
mod sketch;
mod tiny_lfu;
mod window;

pub(crate) use ghost::GhostLine;
pub(crate) use queues::{Lfu, Lru, RandomChoice};
pub(crate) use sketch::SketchLine;
pub(crate) use tiny_lfu::{TinyLfu, TinyLfuStats};

use std::io;
use std::ops::Range;

use crate::bounds::{
    GHOST_ITEMS_PER_LINE, SKETCH_ITEMS_PER_LINE, SKETCH_ITEMS_PER_LINE_SMALL, SKETCH_LINES_MIN,
};
use crate::config::Eviction;
use crate::hash::KeyHash;

/// The queues of a store. Within a queue items are ordered by when they were appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Queue {
    /// Where every new item begins.
    #[default]
    Window,
    /// The main part's items that were not used since they came there: it gives the victims.
    Probation,
    /// The main part's items that were used in probation.
    Protected,
}

/// Queues of a store.
pub(crate) const QUEUES: usize = 3;

impl Queue {
    /// All queues, in the order of their numbers.
    pub(crate) const ALL: [Queue; QUEUES] = [Queue::Window, Queue::Probation, Queue::Protected];
}

/// An item as a policy sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// The hash of its key.
    pub(crate) hash: KeyHash,
    /// What it takes of the capacity.
    pub(crate) cost: u64,
    /// Its counter of uses, halved for every epoch that has passed ([`Policy::epoch`]); 0 to 15.
    pub(crate) frequency: u8,
    /// Its CLOCK bit: used since it was appended to its queue.
    pub(crate) referenced: bool,
}

/// The items of a store, as a policy sees them.
pub(crate) trait Residents {
    /// Items in all queues.
    fn items(&self) -> u64;

    /// The sum of the costs of a queue's items.
    fn cost(&self, queue: Queue) -> u64;

    /// The oldest item of a queue.
    fn oldest(&mut self, queue: Queue) -> Option<Resident>;

    /// Moves the oldest item of `from`, which has one, to the young end of `to`, and clears its
    /// CLOCK bit. Both may be the same queue.
    fn advance(&mut self, from: Queue, to: Queue);

    /// Drops the oldest item of a queue, which has one.
    fn evict(&mut self, queue: Queue);
}

/// What a store wants from a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    /// What the costs of all residents may sum to.
    pub(crate) capacity: u64,
    /// The cost of the item that is about to be inserted.
    pub(crate) need: u64,
    /// An item must go even though the costs would fit: the store lacks room of another kind.
    pub(crate) full: bool,
    /// The store cannot afford to move items: one must go, used or not.
    pub(crate) forced: bool,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing, as there was nothing to do (P2).
    Idle,
    /// One item was moved.
    Moved,
    /// One item was evicted, and at most one other moved.
    Evicted,
}

/// Lines of the structures that remember absent keys.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    sketch_lines_min: usize,
    sketch_lines_max: usize,
    ghost_lines_max: usize,
}

impl Sizes {
    /// For a cache of at most about `items` items; at least for `side_max` items.
    fn for_items(items: u64, side_max: u64) -> Sizes {
        let lines = |items_per_line: u64| items.div_ceil(items_per_line).max(1) as usize;
        let sketch_lines_min =
            SKETCH_LINES_MIN.min(lines(SKETCH_ITEMS_PER_LINE_SMALL)).min(side_max.max(1) as usize);
        Sizes {
            sketch_lines_min,
            sketch_lines_max: lines(SKETCH_ITEMS_PER_LINE).max(sketch_lines_min),
            ghost_lines_max: lines(GHOST_ITEMS_PER_LINE),
        }
    }
}

/// A shard's eviction policy.
#[derive(Debug)]
pub(crate) enum Policy {
    /// [`Kind::TinyLfu`].
    TinyLfu(Box<TinyLfu>),
    /// [`Kind::Lru`].
    Lru(Lru),
    /// [`Kind::Lfu`].
    Lfu(Lfu),
    /// [`Kind::Fifo`].
    Fifo,
    /// [`Kind::Random`].
    Random(RandomChoice),
}

impl Policy {
    /// The policy of that name for a cache of at most about `items_max` items; `None` for none.
    /// What it remembers grows with the items; what it needs at once is for `side_max` items at
    /// most, at about a hundred bytes each.
    ///
    /// # Errors
    ///
    /// The kernel's, when memory cannot be reserved.
    pub(crate) fn new(
        eviction: Eviction,
        seed: u64,
        items_max: u64,
        side_max: u64,
    ) -> io::Result<Option<Policy>> {
        Ok(Some(match eviction {
            Eviction::TinyLfu => {
                Policy::TinyLfu(Box::new(TinyLfu::new(seed, items_max, side_max)?))
            }
            Eviction::Lru => Policy::Lru(Lru::new(seed)),
            Eviction::Lfu => Policy::Lfu(Lfu::new()),
            Eviction::Fifo => Policy::Fifo,
            Eviction::Random => Policy::Random(RandomChoice::new(seed)),
            Eviction::None => return Ok(None),
        }))
    }

    /// Counts a hit of a resident whose counter stood at `frequency_before`. The store raises the
    /// counter and sets the CLOCK bit. The closures tell the item's cost, and whether it is in
    /// `Queue::Window`; they are called for samples only. A handful of instructions otherwise.
    #[inline(always)]
    pub(crate) fn hit(
        &mut self,
        hash: KeyHash,
        frequency_before: u8,
        cost: impl FnOnce() -> u64,
        in_window: impl FnOnce() -> bool,
    ) {
        match self {
            Policy::TinyLfu(policy) => policy.hit(hash, frequency_before, cost, in_window),
            Policy::Lfu(policy) => policy.ageing.count(frequency_before),
            Policy::Lru(_) | Policy::Fifo | Policy::Random(_) => (),
        }
    }

    /// Counts the insertion of a key that was absent, before the steps that make room for its
    /// `cost`. Returns the frequency that its slot begins with.
    #[inline]
    pub(crate) fn insert(&mut self, hash: KeyHash, cost: u64) -> u8 {
        match self {
            Policy::TinyLfu(policy) => policy.insert(hash, cost),
            Policy::Lru(policy) => policy.insert(),
            Policy::Lfu(policy) => policy.insert(),
            Policy::Fifo | Policy::Random(_) => 0,
        }
    }

    /// Whether it is time for `tend`.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        match self {
            Policy::TinyLfu(policy) => policy.is_due(),
            _ => false,
        }
    }

    /// Looks at the size of things if it is time.
    #[inline]
    pub(crate) fn tend(&mut self, residents: &impl Residents, capacity: u64) {
        if let Policy::TinyLfu(policy) = self {
            policy.tend(residents, capacity);
        }
    }

    /// Asks for the memory that `insert` will touch, or `step` when the key's item is the oldest.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        if let Policy::TinyLfu(policy) = self {
            policy.prefetch(hash);
        }
    }

    /// One step towards the demand (P1 to P3).
    pub(crate) fn step(&mut self, residents: &mut impl Residents, demand: &Demand) -> Step {
        match self {
            Policy::TinyLfu(policy) => policy.step(residents, demand),
            Policy::Lru(policy) => policy.step(residents, demand),
            Policy::Lfu(policy) => policy.step(residents, demand),
            Policy::Fifo => queues::fifo_step(residents, demand),
            Policy::Random(policy) => policy.step(residents, demand),
        }
    }

    /// What a queue's items may cost together, where items go on to the next queue beyond that.
    pub(crate) fn share_max(&self, queue: Queue, capacity: u64) -> Option<u64> {
        match (self, queue) {
            (Policy::TinyLfu(policy), Queue::Window) => Some(policy.window_max(capacity)),
            (Policy::Lru(_), Queue::Window | Queue::Probation) => {
                Some(Lru::share_max(queue, capacity))
            }
            _ => None,
        }
    }

    /// The present epoch's bit: a counter that was last written under the other bit is halved once
    /// before it is used. May change in `insert` only.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> bool {
        match self {
            Policy::TinyLfu(policy) => policy.epoch(),
            Policy::Lfu(policy) => policy.ageing.epoch(),
            Policy::Lru(_) | Policy::Fifo | Policy::Random(_) => false,
        }
    }

    /// The lines (or buckets) of the store's table, which has `lines`, to bring up to date with the
    /// epoch now: at most `AGEING_LINES_PER_CALL`. To be asked with every insert, as no epoch
    /// ends before its sweep; a line that is added must be up to date.
    #[inline]
    pub(crate) fn table_lines_due(&mut self, lines: usize) -> Range<usize> {
        match self {
            Policy::TinyLfu(policy) => policy.table_lines_due(lines),
            Policy::Lfu(policy) => policy.ageing.table_lines_due(lines),
            Policy::Lru(_) | Policy::Fifo | Policy::Random(_) => 0..0,
        }
    }

    /// Bytes that the policy takes beside the items.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Policy::TinyLfu(policy) => policy.bytes(),
            Policy::Lru(_) | Policy::Lfu(_) | Policy::Fifo | Policy::Random(_) => 0,
        }
    }

    /// Counters and gauges; zero for policies that count nothing.
    pub(crate) fn stats(&self) -> TinyLfuStats {
        match self {
            Policy::TinyLfu(policy) => policy.stats(),
            _ => TinyLfuStats::default(),
        }
    }
}

#[cfg(test)]
mod tests;
