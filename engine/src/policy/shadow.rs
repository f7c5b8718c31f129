//! A small cache of keys without values that runs W-TinyLFU with one setting pinned, to see how
//! many hits that setting would bring.
//!
//! ```text
//! index (open addressing) --> entries: hash, cost, state, next
//!                               ^  three queues and a free list, singly linked through `next`
//! ```
//!
//! It is fed with the keys of a sample and has the sample's part of the capacity; so it decides
//! as the whole cache would (Waldspurger et al., "Cache modeling and optimization using
//! miniature simulations", USENIX ATC 2017).
//!
//! - H1. Every entry is in exactly one queue and in the index, or in the free list, or above
//!   `fresh`.
//! - H2. The index has at least twice as many places as there are entries, so a probe is short and
//!   always ends.
//!
//! Nothing is allocated after construction. Cost: about 100 ns an access. 20 bytes an entry.

use std::io;

use super::core::Core;
use super::random::mix;
use super::{Demand, QUEUES, Queue, Resident, Residents, Sizes, Step};
use crate::bounds::{FREQUENCY_MAX, SHADOW_COST_SHARE, SHADOW_STEPS_FAIR, SHADOW_STEPS_MAX};
use crate::hash::KeyHash;

/// No entry.
const NONE: u16 = u16::MAX;

const FREQUENCY_MASK: u16 = FREQUENCY_MAX as u16;
const REFERENCED: u16 = 1 << 4;
const EPOCH: u16 = 1 << 5;
const QUEUE_SHIFT: u32 = 6;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    cost: u32,
    next: u16,
    /// Bits 0-3 frequency, bit 4 CLOCK, bit 5 the epoch of the frequency, bits 6-7 queue.
    state: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);
const _: () = assert!(QUEUES <= 4);

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u16,
    youngest: u16,
    cost: u64,
}

const EMPTY: List = List { oldest: NONE, youngest: NONE, cost: 0 };

/// The entries of a shadow.
#[derive(Debug)]
struct Store {
    entries: Box<[Entry]>,
    index: Box<[u16]>,
    queues: [List; QUEUES],
    free: u16,
    /// Entries from here on were never used.
    fresh: u16,
    used: u16,
    epoch: bool,
}

impl Store {
    fn new(entries: usize) -> Store {
        debug_assert!(entries < usize::from(NONE));
        let blank = Entry { hash: 0, cost: 0, next: NONE, state: 0 };
        Store {
            entries: vec![blank; entries].into(),
            index: vec![NONE; (2 * entries).next_power_of_two()].into(),
            queues: [EMPTY; QUEUES],
            free: NONE,
            fresh: 0,
            used: 0,
            epoch: false,
        }
    }

    fn clear(&mut self) {
        self.index.fill(NONE);
        self.queues = [EMPTY; QUEUES];
        self.free = NONE;
        self.fresh = 0;
        self.used = 0;
    }

    fn is_full(&self) -> bool {
        usize::from(self.used) == self.entries.len()
    }

    fn mask(&self) -> usize {
        self.index.len() - 1
    }

    /// Where probing for a hash begins. The sample is chosen by plain bits of the hash.
    fn home(&self, hash: u64) -> usize {
        (mix(hash) >> 40) as usize & self.mask()
    }

    /// The place in the index of a hash, or the empty place where its probe ends.
    fn place(&self, hash: u64) -> usize {
        let mut place = self.home(hash);
        while self.index[place] != NONE && self.entries[usize::from(self.index[place])].hash != hash
        {
            place = (place + 1) & self.mask();
        }
        place
    }

    fn find(&self, hash: u64) -> Option<u16> {
        let found = self.index[self.place(hash)];
        (found != NONE).then_some(found)
    }

    /// Counts a use of an entry. Returns its frequency before, and its queue.
    fn touch(&mut self, entry: u16) -> (u8, usize) {
        self.settle(entry);
        let state = &mut self.entries[usize::from(entry)].state;
        let frequency = *state & FREQUENCY_MASK;
        if frequency < FREQUENCY_MASK {
            *state += 1;
        }
        *state |= REFERENCED;
        (frequency as u8, usize::from(*state >> QUEUE_SHIFT))
    }

    /// Brings an entry's frequency up to date with the epoch.
    fn settle(&mut self, entry: u16) {
        let epoch = self.epoch;
        let state = &mut self.entries[usize::from(entry)].state;
        if (*state & EPOCH != 0) != epoch {
            let halved = (*state & FREQUENCY_MASK) >> 1;
            *state = (*state & !FREQUENCY_MASK ^ EPOCH) | halved;
        }
    }

    /// Adds a key that is not here to the window. There is a free entry.
    fn insert(&mut self, hash: u64, cost: u32, frequency: u8) {
        let entry = if self.free != NONE {
            let entry = self.free;
            self.free = self.entries[usize::from(entry)].next;
            entry
        } else {
            self.fresh += 1;
            self.fresh - 1
        };
        let place = self.place(hash);
        self.index[place] = entry;
        let epoch = if self.epoch { EPOCH } else { 0 };
        let state = u16::from(frequency) | epoch;
        self.entries[usize::from(entry)] = Entry { hash, cost, next: NONE, state };
        self.used += 1;
        self.push(Queue::Window as usize, entry);
    }

    fn push(&mut self, queue: usize, entry: u16) {
        let item = &mut self.entries[usize::from(entry)];
        item.next = NONE;
        item.state = item.state & !(REFERENCED | 3 << QUEUE_SHIFT) | (queue as u16) << QUEUE_SHIFT;
        let list = &mut self.queues[queue];
        list.cost += u64::from(item.cost);
        let before = std::mem::replace(&mut list.youngest, entry);
        if before == NONE {
            list.oldest = entry;
        } else {
            self.entries[usize::from(before)].next = entry;
        }
    }

    /// Takes the oldest entry out of a queue, if it has one.
    fn pop(&mut self, queue: usize) -> Option<u16> {
        let list = &mut self.queues[queue];
        let entry = list.oldest;
        let item = self.entries.get(usize::from(entry))?;
        list.oldest = item.next;
        list.cost -= u64::from(item.cost);
        if list.oldest == NONE {
            list.youngest = NONE;
        }
        Some(entry)
    }

    /// Takes a hash out of the index, and moves later ones of its run up.
    fn unindex(&mut self, hash: u64) {
        let mut hole = self.place(hash);
        let mut place = hole;
        loop {
            place = (place + 1) & self.mask();
            let entry = self.index[place];
            if entry == NONE {
                break;
            }
            let home = self.home(self.entries[usize::from(entry)].hash);
            if (place.wrapping_sub(home) & self.mask()) >= (place.wrapping_sub(hole) & self.mask())
            {
                self.index[hole] = entry;
                hole = place;
            }
        }
        self.index[hole] = NONE;
    }
}

impl Residents for Store {
    fn items(&self) -> u64 {
        u64::from(self.used)
    }

    fn cost(&self, queue: Queue) -> u64 {
        self.queues[queue as usize].cost
    }

    fn oldest(&mut self, queue: Queue) -> Option<Resident> {
        let entry = self.queues[queue as usize].oldest;
        if entry == NONE {
            return None;
        }
        self.settle(entry);
        let item = &self.entries[usize::from(entry)];
        Some(Resident {
            hash: KeyHash::from_bits(item.hash),
            cost: u64::from(item.cost),
            frequency: (item.state & FREQUENCY_MASK) as u8,
            referenced: item.state & REFERENCED != 0,
        })
    }

    fn advance(&mut self, from: Queue, to: Queue) {
        if let Some(entry) = self.pop(from as usize) {
            self.push(to as usize, entry);
        }
    }

    fn evict(&mut self, queue: Queue) {
        if let Some(entry) = self.pop(queue as usize) {
            self.unindex(self.entries[usize::from(entry)].hash);
            self.entries[usize::from(entry)].next = self.free;
            self.free = entry;
            self.used -= 1;
        }
    }
}

/// A simulated cache.
#[derive(Debug)]
pub(super) struct Shadow {
    core: Core,
    store: Store,
}

impl Shadow {
    /// A shadow of at most `entries` entries, in which ghosts are admitted or not.
    ///
    /// # Errors
    ///
    /// The kernel's, when memory cannot be reserved.
    pub(super) fn new(seed: u64, ghost_admits: bool, entries: usize) -> io::Result<Shadow> {
        let sizes = Sizes::for_items(entries as u64);
        let mut core = Core::new(seed, &sizes)?;
        core.ghost_admits = ghost_admits;
        Ok(Shadow { core, store: Store::new(entries) })
    }

    /// Bytes in use, sketch and ghost included.
    pub(super) fn bytes(&self) -> usize {
        self.core.bytes() + size_of_val(&*self.store.entries) + size_of_val(&*self.store.index)
    }

    /// Forgets all entries, and keeps what is known about frequencies. Costs as much as filling
    /// 32 KiB.
    pub(super) fn clear(&mut self) {
        self.store.clear();
    }

    /// A request for a key. Returns whether it is a hit. Takes at most `SHADOW_STEPS_MAX` steps.
    pub(super) fn access(&mut self, hash: KeyHash, cost: u64, capacity: u64) -> bool {
        let Shadow { core, store } = self;
        if let Some(entry) = store.find(hash.bits()) {
            let (frequency, queue) = store.touch(entry);
            core.ageing.count(frequency);
            core.window.hit(queue == Queue::Window as usize, 1);
            return true;
        }
        // An item that is large for the sample would empty it; in the whole cache it would not.
        let cost = cost.min(capacity / SHADOW_COST_SHARE).clamp(1, u64::from(u32::MAX));
        let frequency = core.insert(hash);
        store.epoch = core.ageing.epoch();
        for entry in core.ageing.table_lines_due(store.entries.len()) {
            if entry < usize::from(store.fresh) {
                store.settle(entry as u16);
            }
        }
        core.survey(store, capacity);
        for step in 0..SHADOW_STEPS_MAX {
            let full = store.is_full();
            let forced = step >= SHADOW_STEPS_FAIR;
            let demand = Demand { capacity, need: cost, full, forced };
            let fits =
                !full && store.queues.iter().map(|list| list.cost).sum::<u64>() + cost <= capacity;
            if (forced && fits) || core.step(store, &demand) == Step::Idle {
                break;
            }
        }
        if !store.is_full() {
            store.insert(hash.bits(), cost as u32, frequency);
        }
        false
    }

    /// Checks H1 and H2, and that the queues' costs are the sums of their entries'.
    #[cfg(test)]
    pub(super) fn validate(&mut self) {
        let store = &self.store;
        assert!(store.index.len() >= 2 * store.entries.len());
        let mut linked = 0;
        for (queue, list) in store.queues.iter().enumerate() {
            let (mut at, mut cost, mut last) = (list.oldest, 0, NONE);
            while at != NONE {
                let entry = store.entries[usize::from(at)];
                assert_eq!(usize::from(entry.state >> QUEUE_SHIFT), queue);
                assert_eq!(store.find(entry.hash), Some(at));
                cost += u64::from(entry.cost);
                linked += 1;
                (last, at) = (at, entry.next);
            }
            assert_eq!(last, list.youngest);
            assert_eq!(cost, list.cost);
        }
        assert_eq!(linked, store.used);
        let indexed = store.index.iter().filter(|&&entry| entry != NONE).count();
        assert_eq!(indexed, usize::from(store.used));
        let (mut at, mut free) = (store.free, 0);
        while at != NONE {
            free += 1;
            at = store.entries[usize::from(at)].next;
        }
        assert_eq!(free + store.used, store.fresh);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::random::Random;

    #[test]
    fn random_accesses_keep_the_structure_whole() {
        for seed in 1..6 {
            println!("seed {seed}");
            let mut random = Random::new(seed);
            let mut shadow = Shadow::new(seed, seed % 2 == 0, 500).unwrap();
            for round in 0..60_000u32 {
                let capacity = if round < 30_000 { 40_000 } else { 15_000 };
                let key = u64::from(random.below(1 + random.clone().below(2_000)));
                let cost = 1 + u64::from(random.below(200));
                shadow.access(KeyHash::from_bits(mix(key)), cost, capacity);
                if round % 1_000 == 0 {
                    shadow.validate();
                    let cost: u64 = shadow.store.queues.iter().map(|list| list.cost).sum();
                    assert!(cost <= 40_000, "{cost}");
                }
                if round == 45_000 {
                    shadow.clear();
                    shadow.validate();
                }
            }
            let cost: u64 = shadow.store.queues.iter().map(|list| list.cost).sum();
            assert!(cost > 10_000 && cost <= 15_000, "{cost}");
        }
    }

    #[test]
    fn an_item_larger_than_the_sample_does_not_empty_it() {
        let mut shadow = Shadow::new(1, false, 100).unwrap();
        for key in 0..100u64 {
            shadow.access(KeyHash::from_bits(mix(key)), 10, 1_000);
        }
        shadow.access(KeyHash::from_bits(mix(1_000)), u64::MAX, 1_000);
        shadow.validate();
        assert!(shadow.store.items() > 50);
    }
}
