//! Random histories of large values against a plain map: they arrive in pieces and are read in
//! pieces, amid everything else that happens to a shard.

mod common;

use std::collections::HashMap;

use common::{Random, config, read_pinned, value_of};
use pinion_engine::{
    Condition, Deadline, Eviction, LargeWrite, Limits, PinLimit, PinnedValue, Refusal, SetError,
    SetOptions, Shard, ShardConfig, Stored,
};

fn key(n: u64) -> [u8; 8] {
    n.to_le_bytes()
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: Vec<u8>,
    flags: u32,
    version: u64,
    deadline_ms: Option<u64>,
}

struct Arriving {
    write: LargeWrite,
    key: u64,
    value: Vec<u8>,
    options: SetOptions,
}

/// Values that arrive at a time.
const ARRIVING_MAX: usize = 6;

struct Run {
    shard: Shard,
    model: HashMap<u64, Item>,
    arriving: Vec<Arriving>,
    pins: Vec<(PinnedValue, Vec<u8>)>,
    random: Random,
    now_ms: u64,
    keys: u64,
    value_bytes_max: usize,
    may_miss: bool,
    writes: u64,
    finished: u64,
    pinned: u64,
    refused: u64,
}

impl Run {
    fn new(config: &ShardConfig, keys: u64, value_bytes_max: usize, seed: u64) -> Run {
        Run {
            shard: Shard::new(config).unwrap(),
            model: HashMap::new(),
            arriving: Vec::new(),
            pins: Vec::new(),
            random: Random::announced(seed),
            now_ms: 1_000,
            keys,
            value_bytes_max,
            may_miss: config.eviction != Eviction::None,
            writes: 0,
            finished: 0,
            pinned: 0,
            refused: 0,
        }
    }

    /// Brings model and shard together on a key.
    fn sync(&mut self, n: u64) -> Option<Item> {
        let now_ms = self.now_ms;
        if self.model.get(&n).is_some_and(|item| item.deadline_ms.is_some_and(|d| d <= now_ms)) {
            self.model.remove(&n);
        }
        let hash = self.shard.hash(&key(n));
        let found = self.shard.peek(hash, &key(n), now_ms).map(|entry| Item {
            value: entry.value.to_vec(),
            flags: entry.flags(),
            version: entry.version(),
            deadline_ms: entry.deadline_ms(),
        });
        if found.is_none() && self.may_miss {
            self.model.remove(&n);
        }
        assert!(found.as_ref() == self.model.get(&n), "key {n}");
        found
    }

    fn options(&mut self, n: u64) -> SetOptions {
        let version = self.model.get(&n).map_or(1, |item| item.version);
        let condition = match self.random.below(8) {
            0 => Condition::IfAbsent,
            1 => Condition::IfPresent,
            2 => Condition::IfVersion(version),
            _ => Condition::Always,
        };
        let deadline = match self.random.below(6) {
            0 => Deadline::At(self.now_ms + self.random.below(2_000)),
            1 => Deadline::Keep,
            _ => Deadline::None,
        };
        let flags = self.random.one_in(2).then(|| self.random.next() as u32);
        let version = self.random.one_in(9).then(|| self.random.next());
        SetOptions { condition, flags, deadline, version, ..SetOptions::default() }
    }

    /// Checks the outcome of a write against the model, whose state before is `old`.
    fn wrote(
        &mut self,
        n: u64,
        value: Vec<u8>,
        options: &SetOptions,
        old: Option<Item>,
        outcome: Result<Stored, SetError>,
    ) {
        let refusal = match (options.condition, &old) {
            (Condition::IfAbsent, Some(_)) => Some(Refusal::Present),
            (Condition::IfPresent | Condition::IfVersion(_), None) => Some(Refusal::Absent),
            (Condition::IfVersion(wanted), Some(old)) if wanted != old.version => {
                Some(Refusal::VersionMismatch)
            }
            _ => None,
        };
        let version = match outcome {
            Ok(Stored::Stored { version }) => version,
            Ok(Stored::ConditionFailed(reason)) => return assert_eq!(Some(reason), refusal),
            Err(SetError::NoSpace | SetError::TooLarge) => {
                self.refused += 1;
                self.sync(n);
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(refusal, None);
        let deadline_ms = match options.deadline {
            Deadline::None => None,
            Deadline::At(deadline_ms) => Some(deadline_ms),
            Deadline::Keep => old.as_ref().and_then(|old| old.deadline_ms),
        };
        let flags = options.flags.or(old.map(|old| old.flags)).unwrap_or(0);
        self.model.insert(n, Item { value, flags, version, deadline_ms });
    }

    fn set(&mut self, n: u64) {
        let old = self.sync(n);
        let options = self.options(n);
        self.writes += 1;
        // Often as long as before, so that it happens in place.
        let bytes = match old.as_ref().filter(|_| self.random.one_in(3)) {
            Some(old) => old.value.len(),
            None => self.random.length(self.value_bytes_max),
        };
        let value = value_of(n, self.writes, bytes);
        let hash = self.shard.hash(&key(n));
        let outcome = self.shard.set(hash, &key(n), &value, &options, self.now_ms);
        self.wrote(n, value, &options, old, outcome);
    }

    fn begin(&mut self, n: u64) {
        if self.arriving.len() == ARRIVING_MAX {
            return self.go_on();
        }
        let options = self.options(n);
        self.writes += 1;
        let bytes = self.random.below(self.value_bytes_max as u64) as usize;
        let value = value_of(n, self.writes, bytes);
        match self.shard.begin_large(&key(n), bytes) {
            Ok(write) => self.arriving.push(Arriving { write, key: n, value, options }),
            Err(SetError::TooLarge) => self.refused += 1,
            Err(error) => panic!("{error}"),
        }
    }

    /// Goes on with one of the arriving values, or ends it.
    fn go_on(&mut self) {
        if self.arriving.is_empty() {
            return;
        }
        let index = self.random.below(self.arriving.len() as u64) as usize;
        let end = self.random.one_in(30);
        let one = &mut self.arriving[index];
        let at = one.value.len() - one.write.missing_bytes();
        if at == one.value.len() || end {
            let Arriving { write, key: n, value, options } = self.arriving.swap_remove(index);
            if end && self.random.one_in(2) {
                return self.shard.abort_large(write);
            }
            let old = self.sync(n);
            let is_whole = write.missing_bytes() == 0;
            let hash = self.shard.hash(&key(n));
            let outcome = self.shard.finish_large(write, hash, &options, self.now_ms);
            if is_whole {
                self.finished += 1;
                self.wrote(n, value, &options, old, outcome);
            } else {
                assert_eq!(outcome, Err(SetError::Incomplete));
                self.sync(n);
            }
            return;
        }
        let bytes = 1 + self.random.below(40_000) as usize;
        let piece = &one.value[at..one.value.len().min(at + bytes)];
        match self.shard.append_large(&mut one.write, piece, self.now_ms) {
            Ok(taken) => assert!(taken <= piece.len()),
            Err(SetError::NoSpace) => {
                self.refused += 1;
                let one = self.arriving.swap_remove(index);
                self.shard.abort_large(one.write);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn pin(&mut self, n: u64) {
        let item = self.sync(n);
        let hash = self.shard.hash(&key(n));
        match self.shard.pin(hash, &key(n), self.now_ms) {
            Ok(Some(pinned)) => {
                self.pinned += 1;
                self.pins.push((pinned, item.expect("present").value));
            }
            Ok(None) => {
                let inline_max = self.shard.inline_value_bytes_max();
                assert!(item.is_none_or(|item| item.value.len() <= inline_max));
            }
            Err(PinLimit) => {
                let stats = self.shard.stats();
                let most = self.shard.limits().total_bytes as u64 / 4;
                assert!(stats.pinned_bytes + 2 * item.unwrap().value.len() as u64 > most);
            }
        }
    }

    fn unpin(&mut self) {
        if self.pins.is_empty() {
            return;
        }
        let index = self.random.below(self.pins.len() as u64) as usize;
        let (pinned, value) = &self.pins[index];
        assert!(read_pinned(&self.shard, pinned) == *value, "a pinned value has changed");
        if self.random.one_in(2) {
            let (pinned, _) = self.pins.swap_remove(index);
            self.shard.unpin(pinned);
        }
    }

    fn step(&mut self) {
        let n = self.random.below(self.keys);
        let hash = self.shard.hash(&key(n));
        match self.random.below(100) {
            0..20 => self.set(n),
            20..28 => self.begin(n),
            28..63 => self.go_on(),
            63..70 => self.pin(n),
            70..80 => self.unpin(),
            80..84 => {
                self.shard.delete(hash, &key(n), None, self.now_ms);
                self.model.remove(&n);
            }
            84..88 => {
                let old = self.sync(n);
                let deadline_ms = Some(self.now_ms + 1 + self.random.below(3_000));
                match self.shard.set_deadline(hash, &key(n), deadline_ms, self.now_ms) {
                    Ok(None) if self.may_miss => drop(self.model.remove(&n)),
                    Ok(version) => {
                        assert_eq!(version, old.map(|old| old.version));
                        if let Some(item) = self.model.get_mut(&n) {
                            item.deadline_ms = deadline_ms;
                        }
                    }
                    Err(SetError::NoSpace) => self.refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            88 if self.random.one_in(100) => {
                self.shard.flush();
                self.model.clear();
            }
            89..91 => {
                self.shard.maintain(self.now_ms, self.random.below(50) as usize);
            }
            91..94 => self.now_ms += self.random.below(20),
            _ => {
                self.shard.get(hash, &key(n), self.now_ms);
                self.sync(n);
            }
        }
    }

    fn run_on(&mut self, steps: u64) {
        (0..steps).for_each(|_| self.step());
        self.shard.validate().unwrap();
    }

    fn run(&mut self, steps: u64, validate_every: u64) {
        for step in 1..=steps {
            self.step();
            if step % validate_every == 0 {
                self.shard.validate().unwrap();
            }
        }
        println!("{:?}", self.shard.stats());
        for one in self.arriving.drain(..) {
            self.shard.abort_large(one.write);
        }
        for (pinned, value) in self.pins.drain(..) {
            assert!(read_pinned(&self.shard, &pinned) == value);
            self.shard.unpin(pinned);
        }
        self.shard.validate().unwrap();
        let stats = self.shard.stats();
        assert_eq!((stats.arriving_bytes, stats.pinned_bytes), (0, 0));
        for n in 0..self.keys {
            self.sync(n);
        }
        self.shard.validate().unwrap();
    }
}

#[test]
fn a_roomy_shard_answers_as_the_model() {
    let config = ShardConfig { eviction: Eviction::None, ..config(256 << 20) };
    let mut run = Run::new(&config, 300, 100_000, 51);
    run.run(15_000, 500);
    assert!(run.finished > 500 && run.pinned > 100, "{} {}", run.finished, run.pinned);
    assert_eq!(run.refused, 0);
}

#[test]
fn without_eviction_a_full_shard_refuses_and_loses_nothing() {
    let config = ShardConfig { eviction: Eviction::None, ..config(2 << 20) };
    let mut run = Run::new(&config, 300, 100_000, 52);
    run.run(15_000, 500);
    assert!(run.refused > 100 && run.finished > 100, "{} {}", run.refused, run.finished);
}

#[test]
fn with_eviction_a_value_is_the_last_one_written() {
    let mut run = Run::new(&config(3 << 20), 300, 100_000, 53);
    run.run(20_000, 1_000);
    assert!(run.shard.stats().counters.evictions > 100);
    assert!(run.finished > 500 && run.pinned > 100, "{} {}", run.finished, run.pinned);
}

#[test]
fn tiny_segments_and_many_pages() {
    let mut run = Run::new(&config(512 << 10), 200, 30_000, 54);
    run.run(20_000, 500);
    assert!(run.finished > 300 && run.pinned > 100, "{} {}", run.finished, run.pinned);
}

#[test]
fn limits_may_change_while_values_arrive_and_are_read() {
    let config = ShardConfig { reserve_bytes: Some(8 << 20), ..config(4 << 20) };
    let mut run = Run::new(&config, 300, 60_000, 55);
    for _ in 0..30 {
        run.run_on(1_000);
        let total_bytes = (2 << 20) + run.random.below(6 << 20) as usize;
        run.shard.set_limits(Limits { total_bytes, data: None }).unwrap();
        run.shard.validate().unwrap();
    }
    run.run(1_000, 500);
    assert!(run.finished > 200, "{}", run.finished);
}
