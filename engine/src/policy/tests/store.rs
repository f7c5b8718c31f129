//! An exact store of keys without values, for tests and replays of the policies: arrays indexed
//! by dense keys, three singly linked queues, costs that sum to at most the capacity.

use crate::bounds::FREQUENCY_MAX;
use crate::hash::KeyHash;
use crate::policy::random::mix;
use crate::policy::{Demand, Policy, QUEUES, Queue, Resident, Residents, Step};

const NONE: u32 = u32::MAX;
const ABSENT: u8 = QUEUES as u8;
/// Keys that share a line of the simulated table.
const KEYS_PER_LINE: usize = 8;

#[derive(Clone, Copy)]
struct Item {
    cost: u32,
    next: u32,
    frequency: u8,
    queue: u8,
    referenced: bool,
    epoch: bool,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    youngest: u32,
    cost: u64,
}

/// The items of a replay.
struct Items {
    items: Vec<Item>,
    queues: [List; QUEUES],
    count: u64,
    epoch: bool,
    seed: u64,
    moved: u64,
}

impl Items {
    fn hash(&self, key: u32) -> KeyHash {
        KeyHash::from_bits(mix(mix(self.seed) ^ u64::from(key)))
    }

    fn settle(&mut self, key: u32) {
        let epoch = self.epoch;
        let item = &mut self.items[key as usize];
        if item.epoch != epoch {
            item.epoch = epoch;
            item.frequency >>= 1;
        }
    }

    fn push(&mut self, queue: Queue, key: u32) {
        let item = &mut self.items[key as usize];
        (item.next, item.queue, item.referenced) = (NONE, queue as u8, false);
        let list = &mut self.queues[queue as usize];
        list.cost += u64::from(item.cost);
        let before = std::mem::replace(&mut list.youngest, key);
        if before == NONE {
            list.oldest = key;
        } else {
            self.items[before as usize].next = key;
        }
    }

    fn pop(&mut self, queue: Queue) -> u32 {
        let list = &mut self.queues[queue as usize];
        let key = list.oldest;
        let item = &mut self.items[key as usize];
        list.oldest = item.next;
        list.cost -= u64::from(item.cost);
        if list.oldest == NONE {
            list.youngest = NONE;
        }
        key
    }
}

impl Residents for Items {
    fn items(&self) -> u64 {
        self.count
    }

    fn cost(&self, queue: Queue) -> u64 {
        self.queues[queue as usize].cost
    }

    fn oldest(&mut self, queue: Queue) -> Option<Resident> {
        let key = self.queues[queue as usize].oldest;
        if key == NONE {
            return None;
        }
        self.settle(key);
        let item = self.items[key as usize];
        Some(Resident {
            hash: self.hash(key),
            cost: u64::from(item.cost),
            frequency: item.frequency,
            referenced: item.referenced,
        })
    }

    fn advance(&mut self, from: Queue, to: Queue) {
        let key = self.pop(from);
        self.push(to, key);
        self.moved += 1;
    }

    fn evict(&mut self, queue: Queue) {
        let key = self.pop(queue);
        self.items[key as usize].queue = ABSENT;
        self.count -= 1;
    }
}

/// A cache of keys.
pub(super) struct Store {
    pub(super) policy: Policy,
    items: Items,
    capacity: u64,
    pub(super) hits: u64,
    pub(super) requests: u64,
    hit_cost: u64,
    request_cost: u64,
    pub(super) steps_max: u32,
}

impl Store {
    /// A cache for the keys `0..keys`.
    pub(super) fn new(policy: Policy, keys: usize, capacity: u64, seed: u64) -> Store {
        let absent = Item {
            cost: 0,
            next: NONE,
            frequency: 0,
            queue: ABSENT,
            referenced: false,
            epoch: false,
        };
        let items = Items {
            items: vec![absent; keys],
            queues: [List { oldest: NONE, youngest: NONE, cost: 0 }; QUEUES],
            count: 0,
            epoch: false,
            seed,
            moved: 0,
        };
        Store {
            policy,
            items,
            capacity,
            hits: 0,
            requests: 0,
            hit_cost: 0,
            request_cost: 0,
            steps_max: 0,
        }
    }

    /// Looks a key up, and stores it if it is absent and fits. Returns whether it was a hit.
    pub(super) fn access(&mut self, key: u32, cost: u32) -> bool {
        self.requests += 1;
        self.request_cost += u64::from(cost);
        let hash = self.items.hash(key);
        if self.items.items[key as usize].queue != ABSENT {
            self.items.settle(key);
            let item = &mut self.items.items[key as usize];
            let (before, in_window) = (item.frequency, item.queue == Queue::Window as u8);
            item.frequency = (before + 1).min(FREQUENCY_MAX);
            item.referenced = true;
            self.policy.hit(hash, before, || u64::from(item.cost), || in_window);
            self.hits += 1;
            self.hit_cost += u64::from(cost);
            return true;
        }
        let need = u64::from(cost);
        if need > self.capacity {
            return false;
        }
        self.policy.prefetch(hash);
        let frequency = self.policy.insert(hash, need);
        self.items.epoch = self.policy.epoch();
        let lines = self.items.items.len().div_ceil(KEYS_PER_LINE);
        for line in self.policy.table_lines_due(lines) {
            for key in
                line * KEYS_PER_LINE..((line + 1) * KEYS_PER_LINE).min(self.items.items.len())
            {
                self.items.settle(key as u32);
            }
        }
        let mut steps = 0;
        loop {
            let forced = steps > 1_000;
            let demand = Demand { capacity: self.capacity, need, full: false, forced };
            if forced && self.cost() + need <= self.capacity {
                break;
            }
            if self.policy.step(&mut self.items, &demand) == Step::Idle {
                break;
            }
            steps += 1;
        }
        self.steps_max = self.steps_max.max(steps);
        let epoch = self.items.epoch;
        let item = &mut self.items.items[key as usize];
        (item.cost, item.frequency, item.epoch) = (cost, frequency, epoch);
        self.items.push(Queue::Window, key);
        self.items.count += 1;
        assert!(self.cost() <= self.capacity, "{} of {}", self.cost(), self.capacity);
        false
    }

    pub(super) fn cost(&self) -> u64 {
        self.items.queues.iter().map(|list| list.cost).sum()
    }

    pub(super) fn moved(&self) -> u64 {
        self.items.moved
    }

    pub(super) fn hit_percent(&self) -> f64 {
        100.0 * self.hits as f64 / self.requests.max(1) as f64
    }

    /// The part of the requested costs that were hits.
    pub(super) fn cost_hit_percent(&self) -> f64 {
        100.0 * self.hit_cost as f64 / self.request_cost.max(1) as f64
    }

    /// Checks the queues against the items.
    pub(super) fn validate(&self) {
        let mut linked = 0;
        for (queue, list) in self.items.queues.iter().enumerate() {
            let (mut at, mut cost) = (list.oldest, 0);
            while at != NONE {
                let item = &self.items.items[at as usize];
                assert_eq!(usize::from(item.queue), queue);
                cost += u64::from(item.cost);
                linked += 1;
                at = item.next;
            }
            assert_eq!(cost, list.cost);
        }
        assert_eq!(linked, self.items.count);
        let present = self.items.items.iter().filter(|item| item.queue != ABSENT).count();
        assert_eq!(present as u64, self.items.count);
    }
}
