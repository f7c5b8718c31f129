//! Random stores, leases, marks and deletes against a plain map, in a shard that evicts nothing and
//! in one that evicts.

use std::collections::HashMap;

use pinion_engine::{
    Deadline, Deleted, Eviction, Limits, Marks, SetOptions, Shard, ShardConfig, Stored,
};

const TIMEOUT_MS: u64 = 500;
const LEASED: Marks = Marks { stale: false, token_sent: true };

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: Vec<u8>,
    version: u64,
    deadline_ms: Option<u64>,
    marks: Marks,
    leased_ms: u64,
}

fn seed() -> u64 {
    let seed = std::env::var("PINION_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(0x5EED_1EA5);
    println!("PINION_SEED={seed}");
    seed
}

fn run(eviction: Eviction, total_bytes: usize, keys: u64, steps: u64) {
    let evicts = eviction != Eviction::None;
    let limits = Limits { total_bytes, data: None };
    let mut shard =
        Shard::new(&ShardConfig { limits, eviction, ..ShardConfig::default() }).expect("a shard");
    shard.set_lease_timeout(Some(TIMEOUT_MS));
    let mut random = Random(seed());
    let mut model: HashMap<u64, Item> = HashMap::new();
    let mut now_ms = 1;
    for step in 0..steps {
        now_ms += random.below(20);
        let number = random.below(keys);
        let key = number.to_le_bytes();
        let hash = shard.hash(&key);
        model.retain(|_, item| item.deadline_ms.is_none_or(|at_ms| at_ms > now_ms));
        let seen = shard.peek(hash, &key, now_ms).map(|entry| {
            (entry.value.to_vec(), entry.version(), entry.deadline_ms(), entry.marks())
        });
        if evicts && seen.is_none() {
            model.remove(&number);
        }
        let expected = model
            .get(&number)
            .map(|item| (item.value.clone(), item.version, item.deadline_ms, item.marks));
        assert_eq!(seen, expected, "step {step}");
        match random.below(10) {
            0..4 => {
                let marks = if random.below(3) == 0 { LEASED } else { Marks::NONE };
                let value = vec![step as u8; random.below(300) as usize];
                let deadline_ms = (random.below(3) == 0).then(|| now_ms + 1 + random.below(5_000));
                let options = SetOptions {
                    marks,
                    deadline: deadline_ms.map_or(Deadline::None, Deadline::At),
                    version: (random.below(5) == 0).then(|| (1 << 60) + step),
                    ..SetOptions::default()
                };
                let stored = shard.set(hash, &key, &value, &options, now_ms).expect("room");
                let Stored::Stored { version } = stored else { panic!("unconditional") };
                let had_lease = model.get(&number).filter(|item| item.marks.token_sent);
                let leased_ms = had_lease.map_or(now_ms, |item| item.leased_ms);
                model.insert(number, Item { value, version, deadline_ms, marks, leased_ms });
            }
            4..6 => {
                let granted = shard.grant_lease(hash, &key, now_ms).expect("room");
                // Making room for the mark may evict the item itself.
                assert!(granted.is_some() == model.contains_key(&number) || evicts);
                if let (Some(version), Some(item)) = (granted, model.get_mut(&number)) {
                    let was_out = item.marks.token_sent;
                    assert_eq!(version != item.version, was_out, "a second one has a new version");
                    item.version = version;
                    item.marks.token_sent = true;
                    item.leased_ms = now_ms;
                }
            }
            6 | 7 => {
                let marked = shard.mark_stale(hash, &key, None, now_ms).expect("room");
                assert!(marked.is_some() == model.contains_key(&number) || evicts);
                if let (Some(version), Some(item)) = (marked, model.get_mut(&number)) {
                    assert_ne!(version, item.version);
                    item.version = version;
                    item.marks = Marks { stale: true, token_sent: false };
                }
            }
            _ => {
                let deleted = shard.delete(hash, &key, None, now_ms) == Deleted::Deleted;
                assert_eq!(model.remove(&number).is_some(), deleted, "step {step}");
            }
        }
        if let Some(item) = model.get(&number).filter(|item| item.marks.token_sent) {
            let until_ms = item.leased_ms + TIMEOUT_MS;
            let expected = Some(until_ms).filter(|&until_ms| until_ms > now_ms);
            assert_eq!(shard.lease_until_ms(hash, now_ms), expected, "step {step}");
        }
        while shard.ended_lease().is_some() {}
        shard.expire(now_ms, 4);
        if step % 5_000 == 0 {
            shard.validate().unwrap_or_else(|error| panic!("step {step}: {error}"));
        }
    }
    shard.validate().expect("invariants");
}

#[test]
fn leases_agree_with_a_map() {
    run(Eviction::None, 64 << 20, 100, 100_000);
}

#[test]
fn leases_survive_eviction() {
    run(Eviction::TinyLfu, 2 << 20, 20_000, 150_000);
}
