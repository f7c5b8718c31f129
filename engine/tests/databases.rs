//! Databases against a map for each: sets, deletes, deadlines, flushes, swaps and walks, while the
//! table grows and shrinks, with deep checks on the way.

use std::collections::{BTreeMap, BTreeSet};

use pinion_engine::{DATABASES, Deadline, Deleted, Limits, SetOptions, Shard, ShardConfig};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

type Model = Vec<BTreeMap<u64, (Vec<u8>, Option<u64>)>>;

fn shard(total_bytes: usize) -> Shard {
    let limits = Limits { total_bytes, data: None };
    Shard::new(&ShardConfig { limits, ..ShardConfig::default() }).expect("address space")
}

/// Walks over a database as SCAN does, with changes to others between the steps.
fn walk(
    shard: &mut Shard,
    database: u8,
    now_ms: u64,
    mut between: impl FnMut(&mut Shard),
) -> BTreeSet<Vec<u8>> {
    let (mut keys, mut position) = (BTreeSet::new(), Some(0));
    while let Some(at) = position {
        position = shard.scan(database, at, now_ms, |key, _| _ = keys.insert(key.to_vec()));
        between(shard);
    }
    keys
}

fn expected(model: &Model, database: u8) -> BTreeSet<Vec<u8>> {
    model[usize::from(database)].keys().map(|key| key.to_le_bytes().to_vec()).collect()
}

#[test]
fn databases_behave_like_maps() {
    for seed in 1..12u64 {
        println!("seed {seed}");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut shard = shard(64 << 20);
        let mut model: Model = vec![BTreeMap::new(); DATABASES];
        let mut now_ms = 1_000;
        for step in 0..6_000 {
            now_ms += random.below(3);
            for database in &mut model {
                database.retain(|_, (_, deadline)| deadline.is_none_or(|at| at > now_ms));
            }
            let database = (random.below(DATABASES as u64 * 2) % DATABASES as u64) as u8;
            let number = random.below(300);
            let key = number.to_le_bytes();
            let hash = shard.hash_in(database, &key);
            assert!(shard.is_of(hash, database));
            let map = &mut model[usize::from(database)];
            match random.below(100) {
                0..50 => {
                    let value = vec![step as u8; random.below(200) as usize];
                    let deadline = (random.below(4) == 0).then(|| now_ms + 1 + random.below(900));
                    let options = SetOptions {
                        deadline: deadline.map_or(Deadline::None, Deadline::At),
                        ..SetOptions::default()
                    };
                    shard.set(hash, &key, &value, &options, now_ms).expect("room");
                    map.insert(number, (value, deadline));
                }
                50..80 => {
                    let found = shard.get(hash, &key, now_ms).map(|entry| entry.value.to_vec());
                    assert_eq!(found, map.get(&number).map(|(value, _)| value.clone()));
                }
                80..93 => {
                    let deleted = shard.delete(hash, &key, None, now_ms) == Deleted::Deleted;
                    assert_eq!(deleted, map.remove(&number).is_some());
                }
                93..95 => {
                    shard.flush_database(database);
                    map.clear();
                }
                95..97 => {
                    let other = random.below(DATABASES as u64) as u8;
                    shard.swap_databases(database, other);
                    model.swap(usize::from(database), usize::from(other));
                }
                97 if random.below(20) == 0 => {
                    shard.flush();
                    model.iter_mut().for_each(BTreeMap::clear);
                }
                98 => {
                    let met = walk(&mut shard, database, now_ms, |shard| {
                        shard.maintain(now_ms, 3);
                    });
                    assert_eq!(met, expected(&model, database));
                }
                _ => _ = shard.maintain(now_ms, 5),
            }
            if step % 500 == 0 {
                shard.validate().expect("invariants");
            }
        }
        // Expiry works by groups of some milliseconds.
        now_ms += 10;
        for database in &mut model {
            database.retain(|_, (_, deadline)| deadline.is_none_or(|at| at > now_ms));
        }
        while shard.maintain(now_ms, 64) > 0 {}
        shard.validate().expect("invariants");
        for database in 0..DATABASES as u8 {
            let map = &model[usize::from(database)];
            let stats = shard.database_stats(database);
            assert_eq!(stats.items, map.len() as u64);
            let volatile = map.values().filter(|(_, deadline)| deadline.is_some()).count();
            assert_eq!(stats.volatile_items, volatile as u64);
        }
        assert_eq!(shard.len(), model.iter().map(|map| map.len() as u64).sum::<u64>());
        let stats = shard.stats();
        assert_eq!(stats.table_slots, shard.len(), "what was abandoned is gone");
    }
}

#[test]
fn a_full_shard_keeps_its_databases_apart() {
    let mut shard = shard(4 << 20);
    let mut random = Random(77);
    for step in 0..60_000u64 {
        let database = random.below(4) as u8;
        let key = random.below(40_000).to_le_bytes();
        let hash = shard.hash_in(database, &key);
        if step % 3 == 0 {
            if let Some(entry) = shard.get(hash, &key, step) {
                assert_eq!(entry.value.as_slice(), Some(&[database; 100][..]));
            }
        } else {
            shard.set(hash, &key, &[database; 100], &SetOptions::default(), step).expect("room");
        }
        if step % 9_000 == 0 {
            shard.flush_database(database);
            assert_eq!(shard.database_stats(database).items, 0);
            shard.validate().expect("invariants");
        }
    }
    shard.validate().expect("invariants");
}

#[test]
fn many_flushes_in_a_row_find_a_space() {
    let mut shard = shard(16 << 20);
    let set = |shard: &mut Shard, database: u8, key: &[u8]| {
        let hash = shard.hash_in(database, key);
        shard.set(hash, key, b"v", &SetOptions::default(), 0).expect("room");
    };
    set(&mut shard, 9, b"stays");
    for round in 0..100u64 {
        for number in 0..20u64 {
            set(&mut shard, 3, &(round * 20 + number).to_le_bytes());
        }
        shard.flush_database(3);
        assert_eq!((shard.database_stats(3).items, shard.len()), (0, 1));
    }
    shard.validate().expect("invariants");
    let hash = shard.hash_in(9, b"stays");
    assert!(shard.get(hash, b"stays", 0).is_some());
}
