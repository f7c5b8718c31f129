//! Expiry in the shard against a plain map. Entries keep few bits of a hash in unit tests, so
//! items share entries here, and the table outgrows what an entry tells apart.

use std::collections::BTreeMap;

use super::Shard;
use crate::bounds::{CLOCK_CHECK_MS, EXPIRY_BUCKET_BITS, EXPIRY_SPARE_ENTRIES_MIN, OVERDUE_MS_MAX};
use crate::config::{Eviction, Limits, ShardConfig};
use crate::request::{Deadline, SetOptions, Stored};

struct Run {
    shard: Shard,
    model: BTreeMap<u32, Option<u64>>,
    now_ms: u64,
    state: u64,
    removed: u64,
}

impl Run {
    fn new(seed: u64, total_bytes: usize) -> Run {
        println!("seed {seed}");
        let limits = Limits { total_bytes, data: None };
        let config = ShardConfig { limits, eviction: Eviction::None, ..ShardConfig::default() };
        let shard = Shard::new(&config).unwrap();
        Run { shard, model: BTreeMap::new(), now_ms: 1_000, state: seed, removed: 0 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (self.state >> 20) % bound
    }

    fn set(&mut self, key: u32, deadline: Deadline) {
        let name = key.to_le_bytes();
        let options = SetOptions { deadline, ..SetOptions::default() };
        let value = &[1; 8][..self.below(9) as usize];
        let outcome = self.shard.set(self.shard.hash(&name), &name, value, &options, self.now_ms);
        assert!(matches!(outcome, Ok(Stored::Stored { .. })));
        let deadline_ms = match deadline {
            Deadline::None => None,
            Deadline::At(ms) => Some(ms),
            Deadline::Keep => self.live(key).flatten(),
        };
        self.model.insert(key, deadline_ms);
        self.check_entries();
    }

    fn live(&self, key: u32) -> Option<Option<u64>> {
        let deadline_ms = *self.model.get(&key)?;
        deadline_ms.is_none_or(|ms| ms > self.now_ms).then_some(deadline_ms)
    }

    fn touch(&mut self, key: u32, deadline_ms: Option<u64>) {
        let name = key.to_le_bytes();
        let hash = self.shard.hash(&name);
        let outcome = self.shard.set_deadline(hash, &name, deadline_ms, self.now_ms).unwrap();
        assert_eq!(outcome.is_some(), self.live(key).is_some());
        if outcome.is_some() {
            self.model.insert(key, deadline_ms);
        }
        self.check_entries();
    }

    fn delete(&mut self, key: u32) {
        let name = key.to_le_bytes();
        self.shard.delete(self.shard.hash(&name), &name, None, self.now_ms);
        self.model.remove(&key);
        self.check_entries();
    }

    /// Entries stay within two an item and a constant.
    fn check_entries(&self) {
        let stats = self.shard.stats().expiry;
        assert!(stats.entries <= 2 * stats.items + EXPIRY_SPARE_ENTRIES_MIN, "{stats:?}");
    }

    fn any_deadline(&mut self) -> u64 {
        let bits = self.below(34);
        self.now_ms + 1 + self.below(1 << bits)
    }

    fn step(&mut self, keys: u64) {
        let key = self.below(keys) as u32;
        match self.below(16) {
            0..3 => self.set(key, Deadline::None),
            3..8 => {
                let deadline_ms = self.any_deadline();
                self.set(key, Deadline::At(deadline_ms));
            }
            8 => self.set(key, Deadline::Keep),
            9 | 10 => {
                let deadline_ms = self.any_deadline();
                self.touch(key, Some(deadline_ms));
            }
            11 => self.touch(key, None),
            12 | 13 => self.delete(key),
            _ => {
                self.now_ms += self.below(6);
                self.expire(8);
            }
        }
    }

    fn expire(&mut self, budget: usize) -> bool {
        let expired = self.shard.expire(self.now_ms, budget);
        assert!(expired.entries <= 2 * budget as u64, "{expired:?}");
        assert_eq!(expired.entries, self.shard.stats().work.expiry_entries);
        self.removed += expired.removed;
        expired.more_due
    }

    /// Lets time pass, in steps that deadlines can be told over.
    fn pass(&mut self, mut ms: u64) {
        let step_ms = OVERDUE_MS_MAX - CLOCK_CHECK_MS;
        while ms > step_ms {
            self.now_ms += step_ms;
            ms -= step_ms;
            while self.expire(64) {}
        }
        self.now_ms += ms;
    }

    /// Removes all that is due, and compares the shard with the model.
    fn settle(&mut self) {
        while self.expire(64) {}
        let now_ms = self.now_ms;
        assert!(self.shard.next_deadline_ms().is_none_or(|ms| ms > now_ms));
        self.model.retain(|_, deadline_ms| deadline_ms.is_none_or(|ms| ms | 3 > now_ms));
        let fewest = self.model.values().filter(|ms| ms.is_none_or(|ms| ms > now_ms)).count();
        let counted = self.shard.len() as usize;
        assert!((fewest..=self.model.len()).contains(&counted), "{fewest} {counted}");
        self.shard.validate().unwrap();
        let keys: Vec<u32> = self.model.keys().copied().collect();
        for key in keys {
            let name = key.to_le_bytes();
            let entry = self.shard.peek(self.shard.hash(&name), &name, now_ms);
            assert_eq!(entry.map(|entry| entry.deadline_ms()), self.live(key));
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn items_go_when_their_time_has_come_and_no_others() {
    for seed in 1..=6 {
        let mut run = Run::new(seed, 4 << 20);
        // The table grows through the sizes that prefixes tell apart, and beyond.
        for keys in [20, 300, 3_000, 20_000, 500] {
            for _ in 0..10 {
                for _ in 0..1_000 {
                    run.step(keys);
                }
                run.shard.validate().unwrap();
                if run.below(2) == 0 {
                    let bits = run.below(36);
                    let ms = run.below(1 << bits);
                    run.pass(ms);
                }
                run.settle();
            }
        }
        assert!(run.removed > 1_000, "{}", run.removed);
        assert_eq!(run.shard.stats().counters.clock_flushes, 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_table_with_more_buckets_than_a_prefix_tells_apart() {
    let mut run = Run::new(11, 8 << 20);
    for key in 0..30_000 {
        let deadline_ms = run.now_ms + 1 + run.below(100_000);
        run.set(key, Deadline::At(deadline_ms));
    }
    assert!(run.shard.stats().table_bytes / 64 > 4 << EXPIRY_BUCKET_BITS);
    run.settle();
    for _ in 0..40 {
        run.now_ms += 2_500;
        run.settle();
    }
    let stats = run.shard.stats();
    assert_eq!((stats.counters.expired, stats.items), (30_000, 0));
    assert!(run.removed > 29_900, "reads have removed the others: {}", run.removed);
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn what_deletes_and_earlier_deadlines_leave_behind_is_swept() {
    let mut run = Run::new(12, 4 << 20);
    let day_ms = 86_400_000;
    // Many keys deleted and stored again, with the same time to live: all within one group.
    for round in 0..20 {
        for key in 0..2_000 {
            run.now_ms += u64::from(key % 50 == 0);
            if round % 3 != 0 {
                run.delete(key);
            }
            run.set(key, Deadline::At(run.now_ms + day_ms));
        }
        run.settle();
    }
    // Deadlines that go back and forth.
    for _ in 0..20 {
        for key in 0..2_000 {
            run.touch(key, Some(run.now_ms + day_ms / 2));
            run.touch(key, None);
            run.touch(key, Some(run.now_ms + day_ms));
        }
        run.settle();
    }
    assert_eq!(run.shard.len(), 2_000);
    run.now_ms += day_ms + 4;
    run.settle();
    let stats = run.shard.stats();
    assert_eq!((stats.items, stats.expiry.entries, stats.expiry.bytes), (0, 0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn keys_refreshed_over_and_over_keep_one_entry() {
    let mut run = Run::new(13, 4 << 20);
    for _ in 0..7_300 {
        run.now_ms += 1_000;
        for key in 0..20 {
            run.set(key, Deadline::At(run.now_ms + 3_600_000));
        }
        run.expire(64);
        assert!(run.shard.stats().expiry.entries <= 20);
    }
    run.settle();
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn mass_deletion_and_flush_leave_no_entries_behind() {
    let mut run = Run::new(14, 8 << 20);
    for round in 0..3 {
        for key in 0..30_000 {
            let deadline_ms = run.any_deadline();
            run.set(key, Deadline::At(deadline_ms));
        }
        for key in 0..30_000 {
            if round == 1 && key == 15_000 {
                run.shard.flush();
                run.model.clear();
                assert_eq!(run.shard.stats().expiry.entries, 0);
                assert_eq!(run.shard.next_deadline_ms(), None);
            }
            run.delete(key);
        }
        run.settle();
    }
}
