//! Random histories against a plain map: conditions, versions, flags, deadlines, flushes, limits.
//!
//! Without eviction every answer must be the model's. With eviction a key may be missing, but a
//! value that is there must be the last one written, with its flags, version and deadline.

mod common;

use std::collections::HashMap;

use common::{Random, config, value_of};
use pinion_engine::{
    Condition, Deadline, Deleted, Eviction, Limits, Refusal, SetError, SetOptions, Shard,
    ShardConfig, Stored,
};

const DAY_MS: u64 = 86_400_000;

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: Vec<u8>,
    flags: u32,
    version: u64,
    deadline_ms: Option<u64>,
}

struct Run {
    shard: Shard,
    model: HashMap<u64, Item>,
    random: Random,
    now_ms: u64,
    keys: u64,
    value_bytes_max: usize,
    may_miss: bool,
    writes: u64,
    found: u64,
    no_space: u64,
}

fn key_bytes(key: u64) -> Vec<u8> {
    // Keys of different lengths, some beyond one length byte, the empty one among them.
    let mut bytes = key.to_le_bytes()[..8.min(key as usize)].to_vec();
    if key % 50 == 7 {
        bytes.resize(300, 1);
    }
    bytes
}

impl Run {
    fn new(config: &ShardConfig, keys: u64, value_bytes_max: usize, random: Random) -> Run {
        Run {
            shard: Shard::new(config).unwrap(),
            model: HashMap::new(),
            random,
            now_ms: 1_000,
            keys,
            value_bytes_max,
            may_miss: config.eviction != Eviction::None,
            writes: 0,
            found: 0,
            no_space: 0,
        }
    }

    /// Forgets what has expired, and brings model and shard together on `key`.
    fn sync(&mut self, key: u64) -> Option<Item> {
        let now_ms = self.now_ms;
        if self.model.get(&key).is_some_and(|item| item.deadline_ms.is_some_and(|d| d <= now_ms)) {
            self.model.remove(&key);
        }
        let bytes = key_bytes(key);
        let hash = self.shard.hash(&bytes);
        let found = self.shard.peek(hash, &bytes, now_ms).map(|entry| Item {
            value: entry.value.to_vec(),
            flags: entry.flags(),
            version: entry.version(),
            deadline_ms: entry.deadline_ms(),
        });
        match (&found, self.model.get(&key)) {
            (None, Some(_)) if self.may_miss => {
                self.model.remove(&key);
            }
            (found, expected) => assert_eq!(found.as_ref(), expected, "key {key}"),
        }
        self.found += u64::from(found.is_some());
        found
    }

    fn options(&mut self, old: Option<&Item>) -> SetOptions {
        let condition = match self.random.below(8) {
            0 => Condition::IfAbsent,
            1 => Condition::IfPresent,
            2 => Condition::IfVersion(old.map_or(1, |item| item.version)),
            3 => Condition::IfVersion(self.random.below(1_000)),
            _ => Condition::Always,
        };
        let deadline = match self.random.below(8) {
            0 => Deadline::At(self.now_ms + self.random.below(2_000)),
            4 => Deadline::At(self.now_ms + self.random.below(40 * DAY_MS)),
            1 => Deadline::At(self.now_ms + (1 << 32) + self.random.below(2_000) - 1_000),
            2 => Deadline::At(self.now_ms - self.random.below(2)),
            3 => Deadline::Keep,
            _ => Deadline::None,
        };
        let flags = match self.random.below(4) {
            0 => Some(self.random.next() as u32),
            1 => Some(0),
            _ => None,
        };
        let version = self.random.one_in(10).then(|| self.random.next() >> self.random.below(64));
        SetOptions { condition, flags, deadline, version, ..SetOptions::default() }
    }

    fn set(&mut self, key: u64) {
        let old = self.sync(key);
        let options = self.options(old.as_ref());
        let same_size = old.as_ref().filter(|_| self.random.one_in(3));
        let bytes = match same_size {
            Some(old) => old.value.len(),
            None => self.random.length(self.value_bytes_max),
        };
        self.writes += 1;
        let value = value_of(key, self.writes, bytes);
        let name = key_bytes(key);
        let hash = self.shard.hash(&name);
        let outcome = self.shard.set(hash, &name, &value, &options, self.now_ms);
        let refusal = match (options.condition, &old) {
            (Condition::IfAbsent, Some(_)) => Some(Refusal::Present),
            (Condition::IfPresent | Condition::IfVersion(_), None) => Some(Refusal::Absent),
            (Condition::IfVersion(wanted), Some(old)) if wanted != old.version => {
                Some(Refusal::VersionMismatch)
            }
            _ => None,
        };
        let version = match outcome {
            Ok(Stored::ConditionFailed(reason)) => {
                assert_eq!(Some(reason), refusal);
                return;
            }
            Err(SetError::NoSpace) if !self.may_miss => {
                self.no_space += 1;
                self.sync(key);
                return;
            }
            Err(SetError::TooLarge) => {
                assert!(
                    bytes * 8 > self.shard.limits().total_bytes
                        || self.shard.limits().data.is_some_and(|max| bytes as u64 * 2 > max)
                );
                return;
            }
            Err(error) => panic!("{error} for {bytes} bytes"),
            Ok(Stored::Stored { version }) => version,
        };
        assert_eq!(refusal, None);
        if let Some(wanted) = options.version {
            assert_eq!(version, wanted);
        }
        let deadline_ms = match options.deadline {
            Deadline::None => None,
            Deadline::At(deadline_ms) => Some(deadline_ms),
            Deadline::Keep => old.as_ref().and_then(|old| old.deadline_ms),
        };
        let flags = options.flags.or(old.map(|old| old.flags)).unwrap_or(0);
        self.model.insert(key, Item { value, flags, version, deadline_ms });
    }

    fn touch(&mut self, key: u64) {
        let old = self.sync(key);
        let deadline_ms = match self.random.below(4) {
            0 => None,
            1 => Some(self.now_ms),
            2 => Some(self.now_ms + self.random.below(1 << 34)),
            _ => Some(self.now_ms + self.random.below(3_000)),
        };
        let name = key_bytes(key);
        let hash = self.shard.hash(&name);
        let outcome = self.shard.set_deadline(hash, &name, deadline_ms, self.now_ms);
        match outcome {
            Err(SetError::NoSpace) if !self.may_miss => self.no_space += 1,
            Err(error) => panic!("{error}"),
            // Making room for the wider header may evict the item itself.
            Ok(None) if self.may_miss => {
                self.model.remove(&key);
            }
            Ok(version) => {
                assert_eq!(version, old.map(|old| old.version));
                if let Some(item) = self.model.get_mut(&key) {
                    item.deadline_ms = deadline_ms;
                }
            }
        }
    }

    fn delete(&mut self, key: u64) {
        let old = self.sync(key);
        let wanted = match self.random.below(3) {
            0 => Some(old.as_ref().map_or(1, |old| old.version)),
            1 => Some(self.random.below(1_000)),
            _ => None,
        };
        let name = key_bytes(key);
        let hash = self.shard.hash(&name);
        let expected = match (&old, wanted) {
            (None, _) => Deleted::Absent,
            (Some(old), Some(wanted)) if old.version != wanted => Deleted::VersionMismatch,
            _ => Deleted::Deleted,
        };
        assert_eq!(self.shard.delete(hash, &name, wanted, self.now_ms), expected);
        if expected == Deleted::Deleted {
            self.model.remove(&key);
        }
    }

    /// Moves the clock by days. Over so many that deadlines could not be told, all is flushed.
    fn jump(&mut self, ms: u64) {
        self.now_ms += ms;
        let flushes = self.shard.stats().counters.clock_flushes;
        self.shard.maintain(self.now_ms, 0);
        let flushed = self.shard.stats().counters.clock_flushes - flushes;
        assert!(flushed <= 1);
        if flushed > 0 {
            assert_eq!(self.shard.len(), 0);
            self.model.clear();
        }
    }

    fn step(&mut self) {
        // Half of the steps go to a tenth of the keys.
        let range = if self.random.one_in(2) { self.keys } else { self.keys / 10 };
        let key = self.random.below(range.max(1));
        match self.random.below(100) {
            0..55 => self.set(key),
            55..63 => self.delete(key),
            63..70 => self.touch(key),
            70..80 => self.now_ms += self.random.below(5),
            80 if self.random.one_in(200) => {
                self.shard.flush();
                self.model.clear();
                assert_eq!(self.shard.len(), 0);
            }
            81 if self.random.one_in(50) => {
                let days = 1 + self.random.below(40);
                let rest = self.random.below(5);
                self.jump(days * DAY_MS + rest);
            }
            81 if self.random.one_in(50) => {
                let bits = 31 + self.random.below(2);
                self.jump(1 << bits);
            }
            82 => {
                let budget = self.random.below(50) as usize;
                assert!(self.shard.maintain(self.now_ms, budget) <= budget);
            }
            83 | 84 => {
                let budget = self.random.below(50) as usize;
                let expired = self.shard.expire(self.now_ms, budget);
                assert!(expired.entries <= 2 * budget as u64);
            }
            _ => {
                let name = key_bytes(key);
                let hash = self.shard.hash(&name);
                self.shard.get(hash, &name, self.now_ms);
                self.sync(key);
            }
        }
    }

    fn run(&mut self, steps: u64, validate_every: u64) {
        for step in 1..=steps {
            self.step();
            if step % validate_every == 0 {
                self.shard.validate().unwrap();
            }
        }
        for key in 0..self.keys {
            self.sync(key);
        }
        self.shard.validate().unwrap();
        let stats = self.shard.stats();
        println!("{stats:?}");
        assert_eq!(stats.items, self.model.len() as u64);
    }
}

#[test]
fn without_eviction_every_answer_is_the_models() {
    let config = ShardConfig { eviction: Eviction::None, ..config(64 << 20) };
    let mut run = Run::new(&config, 2_000, 3_000, Random::announced(1));
    run.run(60_000, 5_000);
    assert_eq!(run.no_space, 0);
}

#[test]
fn without_eviction_a_full_shard_refuses_and_loses_nothing() {
    let config = ShardConfig { eviction: Eviction::None, ..config(200 << 10) };
    let mut run = Run::new(&config, 2_000, 3_000, Random::announced(2));
    run.run(60_000, 5_000);
    assert!(run.no_space > 100, "the shard was meant to be too small: {}", run.no_space);
    assert!(run.found > 10_000);
}

#[test]
fn with_eviction_a_value_is_the_last_one_written() {
    let mut run = Run::new(&config(400 << 10), 5_000, 4_000, Random::announced(3));
    run.run(80_000, 5_000);
    assert!(run.shard.stats().counters.evictions > 300);
    assert!(run.found > 5_000);
}

#[test]
fn tiny_segments_and_many_pages() {
    let mut run = Run::new(&config(256 << 10), 300, 40_000, Random::announced(4));
    run.run(60_000, 2_000);
    assert!(run.shard.stats().counters.evictions > 1_000);
    assert!(run.found > 1_000);
}

#[test]
fn an_exact_data_limit_is_kept_to_the_byte() {
    let limits = Limits { total_bytes: 16 << 20, data: Some(174_723) };
    let config = ShardConfig { limits, ..config(16 << 20) };
    let mut run = Run::new(&config, 3_000, 2_000, Random::announced(5));
    for _ in 0..60_000 {
        run.step();
        let stats = run.shard.stats();
        assert!(stats.live_bytes + stats.page_bytes <= 174_723);
    }
    run.run(1_000, 100);
    assert!(run.found > 5_000);
}

#[test]
fn a_data_limit_of_twenty_small_items() {
    let limits = Limits { total_bytes: 16 << 20, data: Some(20 * 60) };
    let config = ShardConfig { limits, ..config(16 << 20) };
    let mut run = Run::new(&config, 100, 40, Random::announced(6));
    run.run(40_000, 500);
    assert!(run.found > 1_000);
}

#[test]
fn limits_may_change_at_any_time() {
    let config = ShardConfig { reserve_bytes: Some(8 << 20), ..config(4 << 20) };
    let mut run = Run::new(&config, 8_000, 8_000, Random::announced(7));
    for round in 0..40 {
        run.run(2_000, 1_000);
        let total_bytes = (2 << 20) + run.random.below(6 << 20) as usize;
        let data_bytes = run.random.one_in(3).then(|| 50_000 + run.random.below(4 << 20));
        run.shard.set_limits(Limits { total_bytes, data: data_bytes }).unwrap();
        run.shard.validate().unwrap();
        if round % 2 == 0 {
            while run.shard.maintain(run.now_ms, 1_000) > 0 {}
            let stats = run.shard.stats();
            assert!(stats.log_bytes + stats.table_bytes <= total_bytes as u64);
            run.shard.validate().unwrap();
        }
    }
}

#[test]
fn a_long_mixed_run_with_large_values_and_growth() {
    let mut run = Run::new(&config(48 << 20), 120_000, 200_000, Random::announced(8));
    // Small items first, so that the table grows large.
    run.value_bytes_max = 100;
    run.run(250_000, 125_000);
    run.value_bytes_max = 200_000;
    run.run(30_000, 10_000);
    run.value_bytes_max = 50;
    run.run(100_000, 50_000);
}
