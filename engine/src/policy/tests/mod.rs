//! The policies over an exact store: what they must be good at, compared with exact references.

mod speed;
mod store;
mod traces;

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::random::{Random, mix};
use super::{Demand, Policy, Queue, Resident, Residents, Step};
use crate::config::Eviction;
use crate::hash::KeyHash;
use store::Store;

const KINDS: [Eviction; 5] =
    [Eviction::TinyLfu, Eviction::Lru, Eviction::Lfu, Eviction::Fifo, Eviction::Random];

fn policy(kind: Eviction, items_max: u64) -> Policy {
    Policy::new(kind, 1, items_max, items_max).unwrap().unwrap()
}

/// Steps that one insert of one item may take, whatever was used before.
const STEPS_PER_INSERT_MAX: u32 = 100;

fn store(kind: Eviction, keys: usize, capacity: u64) -> Store {
    Store::new(policy(kind, keys as u64), keys, capacity, 1)
}

/// Keys by Zipf's law with exponent 1, most popular first: by the inverse of the sums.
struct Zipf {
    sums: Vec<f64>,
    random: Random,
}

impl Zipf {
    fn new(keys: usize, seed: u64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=keys).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Zipf { sums: sums.collect(), random: Random::new(seed) }
    }

    fn next(&mut self) -> u32 {
        let whole = *self.sums.last().unwrap();
        let wanted = self.random.next() as f64 / u64::MAX as f64 * whole;
        self.sums.partition_point(|&sum| sum < wanted).min(self.sums.len() - 1) as u32
    }

    /// Hits of a cache that always holds the `items` most popular keys.
    fn ideal_percent(&self, items: usize) -> f64 {
        100.0 * self.sums[items - 1] / self.sums.last().unwrap()
    }
}

/// An exact LRU cache of equal items.
struct ExactLru {
    capacity: usize,
    clock: u64,
    used: HashMap<u32, u64>,
    order: BTreeMap<u64, u32>,
}

impl ExactLru {
    fn new(capacity: usize) -> ExactLru {
        ExactLru { capacity, clock: 0, used: HashMap::new(), order: BTreeMap::new() }
    }

    fn access(&mut self, key: u32) -> bool {
        self.clock += 1;
        let before = self.used.insert(key, self.clock);
        if let Some(before) = before {
            self.order.remove(&before);
        } else if self.used.len() > self.capacity {
            let (_, oldest) = self.order.pop_first().unwrap();
            self.used.remove(&oldest);
        }
        self.order.insert(self.clock, key);
        before.is_some()
    }
}

fn replay(kind: Eviction, keys: usize, capacity: u64, requests: &[u32]) -> Store {
    let mut store = store(kind, keys, capacity);
    for &key in requests {
        store.access(key, 1);
    }
    store.validate();
    assert!(store.steps_max <= STEPS_PER_INSERT_MAX, "{kind:?}: {} steps", store.steps_max);
    store
}

fn exact_lru_percent(capacity: usize, requests: &[u32]) -> f64 {
    let mut lru = ExactLru::new(capacity);
    let hits = requests.iter().filter(|&&key| lru.access(key)).count();
    100.0 * hits as f64 / requests.len() as f64
}

#[test]
fn a_loop_wider_than_the_cache_is_held_in_part() {
    let requests: Vec<u32> = (0..400_000).map(|at| at % 2_000).collect();
    let tiny = replay(Eviction::TinyLfu, 2_000, 1_000, &requests).hit_percent();
    let lru = replay(Eviction::Lru, 2_000, 1_000, &requests).hit_percent();
    assert!(tiny > 40.0, "{tiny}");
    assert!(lru < 1.0, "{lru}");
}

#[test]
fn popular_keys_are_held_and_scans_do_not_flush_them() {
    let mut zipf = Zipf::new(20_000, 5);
    let popular: Vec<u32> = (0..300_000).map(|_| zipf.next()).collect();
    let ideal = zipf.ideal_percent(1_000);
    let tiny = replay(Eviction::TinyLfu, 20_000, 1_000, &popular).hit_percent();
    let lru = replay(Eviction::Lru, 20_000, 1_000, &popular).hit_percent();
    assert!(tiny > ideal - 4.0 && tiny > lru + 4.0, "{tiny} of {ideal}, lru {lru}");

    // Every other request belongs to a scan that never comes back.
    let mixed: Vec<u32> =
        popular.iter().enumerate().flat_map(|(at, &key)| [key, 20_000 + at as u32]).collect();
    let tiny = 2.0 * replay(Eviction::TinyLfu, 320_000, 1_000, &mixed).hit_percent();
    let lru = 2.0 * replay(Eviction::Lru, 320_000, 1_000, &mixed).hit_percent();
    assert!(tiny > ideal - 6.0 && tiny > lru + 9.0, "{tiny} of {ideal}, lru {lru}");
}

#[test]
fn old_favourites_are_forgotten() {
    let mut zipf = Zipf::new(10_000, 7);
    let first: Vec<u32> = (0..200_000).map(|_| zipf.next()).collect();
    let second: Vec<u32> = (0..200_000).map(|_| 10_000 + zipf.next()).collect();
    for kind in [Eviction::TinyLfu, Eviction::Lfu] {
        let mut store = replay(kind, 20_000, 500, &first);
        for &key in &second[..100_000] {
            store.access(key, 1);
        }
        let (hits, requests) = (store.hits, store.requests);
        second[100_000..].iter().for_each(|&key| {
            store.access(key, 1);
        });
        let late = 100.0 * (store.hits - hits) as f64 / (store.requests - requests) as f64;
        let ideal = zipf.ideal_percent(500);
        assert!(late > ideal - 6.0, "{kind:?}: {late} of {ideal}");
    }
}

#[test]
fn keys_that_come_back_at_once_are_found() {
    // Each key is used twice within eight requests: recency is all there is.
    let requests: Vec<u32> = (0..200_000u32).flat_map(|at| [at, at.saturating_sub(4)]).collect();
    let best = exact_lru_percent(500, &requests);
    let tiny = replay(Eviction::TinyLfu, 200_000, 500, &requests);
    assert!(tiny.hit_percent() > best - 3.0, "{} of {best}", tiny.hit_percent());
}

#[test]
fn lru_is_near_the_exact_list() {
    let mut zipf = Zipf::new(20_000, 11);
    let requests: Vec<u32> = (0..300_000).map(|_| zipf.next()).collect();
    for capacity in [50, 500, 5_000] {
        let exact = exact_lru_percent(capacity, &requests);
        let ours = replay(Eviction::Lru, 20_000, capacity as u64, &requests).hit_percent();
        assert!((ours - exact).abs() < 0.5, "capacity {capacity}: {ours}, exact {exact}");
    }
}

#[test]
fn fifo_is_exact() {
    let mut zipf = Zipf::new(2_000, 13);
    let mut store = store(Eviction::Fifo, 2_000, 100);
    let mut queue = VecDeque::new();
    for _ in 0..20_000 {
        let key = zipf.next();
        let hit = queue.contains(&key);
        if !hit {
            queue.push_back(key);
            if queue.len() > 100 {
                queue.pop_front();
            }
        }
        assert_eq!(store.access(key, 1), hit);
    }
}

#[test]
fn a_full_cache_of_any_policy_beats_a_chance_tenth() {
    let mut zipf = Zipf::new(10_000, 17);
    let requests: Vec<u32> = (0..100_000).map(|_| zipf.next()).collect();
    for kind in KINDS {
        let percent = replay(kind, 10_000, 1_000, &requests).hit_percent();
        assert!(percent > 55.0, "{kind:?}: {percent}");
    }
}

#[test]
fn random_sizes_and_keys_keep_every_policy_within_its_capacity() {
    for kind in KINDS {
        for seed in 1..4u64 {
            println!("{kind:?}, seed {seed}");
            let mut random = Random::new(seed);
            let mut store = store(kind, 5_000, 100_000);
            for request in 0..60_000 {
                let key = random.below(5_000);
                let key = if request % 3 == 0 { key / 50 } else { key };
                // A key's size is its own; a few are far larger than the rest.
                let size = 1 + mix(u64::from(key)) % if key % 97 == 0 { 20_000 } else { 300 };
                store.access(key, size as u32);
                if request % 10_000 == 0 {
                    store.validate();
                }
            }
            store.validate();
            assert!(store.cost() > 80_000, "{kind:?} keeps {} of 100000", store.cost());
        }
    }
}

#[test]
fn equal_seeds_give_equal_decisions() {
    let mut zipf = Zipf::new(5_000, 19);
    let requests: Vec<u32> = (0..50_000).map(|_| zipf.next()).collect();
    for kind in KINDS {
        let (one, two) = (replay(kind, 5_000, 300, &requests), replay(kind, 5_000, 300, &requests));
        assert_eq!((one.hits, one.moved()), (two.hits, two.moved()), "{kind:?}");
    }
}

/// A store of one queue of items, of which all were used.
struct AllUsed {
    queue: Queue,
    items: u64,
}

impl Residents for AllUsed {
    fn items(&self) -> u64 {
        self.items
    }

    fn cost(&self, queue: Queue) -> u64 {
        if queue == self.queue { self.items } else { 0 }
    }

    fn oldest(&mut self, queue: Queue) -> Option<Resident> {
        (queue == self.queue && self.items > 0).then(|| Resident {
            hash: KeyHash::from_bits(mix(self.items)),
            cost: 1,
            frequency: 15,
            referenced: true,
        })
    }

    fn advance(&mut self, _: Queue, _: Queue) {
        panic!("a forced step moves nothing");
    }

    fn evict(&mut self, queue: Queue) {
        assert_eq!(queue, self.queue);
        self.items -= 1;
    }
}

#[test]
fn a_forced_step_evicts_from_any_queue_until_nothing_is_left() {
    let demand = Demand { capacity: 100, need: 1, full: true, forced: true };
    for kind in KINDS {
        for queue in [Queue::Window, Queue::Probation, Queue::Protected] {
            let mut policy = policy(kind, 100);
            let mut residents = AllUsed { queue, items: 50 };
            for left in (0..50).rev() {
                assert_eq!(policy.step(&mut residents, &demand), Step::Evicted, "{kind:?}");
                assert_eq!(residents.items, left);
            }
            assert_eq!(policy.step(&mut residents, &demand), Step::Idle, "{kind:?}");
        }
    }
}

#[test]
fn memory_follows_the_items() {
    let mut tiny = policy(Eviction::TinyLfu, 1 << 20);
    let fixed_bytes = tiny.bytes();
    assert!(fixed_bytes < 700 << 10, "{fixed_bytes}");
    let mut residents = AllUsed { queue: Queue::Window, items: 0 };
    let demand = Demand { capacity: 1 << 40, need: 1, full: false, forced: false };
    for key in 0..200_000 {
        tiny.insert(KeyHash::from_bits(mix(key)), 1);
        residents.items = key;
        assert_eq!(tiny.step(&mut residents, &demand), Step::Idle);
    }
    let grown_bytes = tiny.bytes() - fixed_bytes;
    assert!((700_000..1_100_000).contains(&grown_bytes), "{grown_bytes} for 200,000 items");
    let small = policy(Eviction::TinyLfu, 256);
    assert!(small.bytes() < 70 << 10, "{}", small.bytes());
}
