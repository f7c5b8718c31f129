//! Renames against a plain map: small and large values, deadlines, flags, readers, two databases,
//! and shards that are full, with deep checks on the way.

mod common;

use std::collections::HashMap;

use common::{Random, read_pinned, shard, shard_with, shard_without_eviction, value_of};
use pinion_engine::{
    Deadline, Deleted, Eviction, PinnedValue, Refusal, SetError, SetOptions, Shard, Stored,
};

#[derive(Clone, Debug, PartialEq)]
struct Item {
    value: Vec<u8>,
    flags: u32,
    deadline_ms: Option<u64>,
}

/// Which item: database and key.
type Place = (u8, u64);

fn key_bytes(key: u64) -> Vec<u8> {
    vec![key as u8; key as usize % 200 + 1]
}

fn look(shard: &mut Shard, (database, key): Place, now_ms: u64) -> Option<(Item, u64)> {
    let key = key_bytes(key);
    let hash = shard.hash_in(database, &key);
    shard.peek(hash, &key, now_ms).map(|entry| {
        let item = Item {
            value: entry.value.to_vec(),
            flags: entry.flags(),
            deadline_ms: entry.deadline_ms(),
        };
        (item, entry.version())
    })
}

fn rename(
    shard: &mut Shard,
    (database, key): Place,
    (new_database, new_key): Place,
    replaces: bool,
    now_ms: u64,
) -> Result<Stored, SetError> {
    let (key, new_key) = (key_bytes(key), key_bytes(new_key));
    let old = (shard.hash_in(database, &key), &key[..]);
    let new = (shard.hash_in(new_database, &new_key), &new_key[..]);
    shard.rename(old, new, replaces, now_ms)
}

fn place(random: &mut Random) -> Place {
    (random.below(2) as u8 * 7, random.below(200))
}

struct Run {
    shard: Shard,
    model: HashMap<Place, Item>,
    pins: Vec<(PinnedValue, Vec<u8>)>,
    may_miss: bool,
    now_ms: u64,
    renamed: u64,
}

impl Run {
    /// What is at a place; forgets what has expired or was evicted.
    fn sync(&mut self, place: Place) -> Option<(Item, u64)> {
        let found = look(&mut self.shard, place, self.now_ms);
        let now_ms = self.now_ms;
        self.model.retain(|_, item| item.deadline_ms.is_none_or(|at_ms| at_ms > now_ms));
        match (&found, self.model.get(&place)) {
            (None, Some(_)) if self.may_miss => _ = self.model.remove(&place),
            (found, expected) => assert_eq!(found.as_ref().map(|(item, _)| item), expected),
        }
        found
    }

    fn set(&mut self, random: &mut Random, step: u64) {
        let at = place(random);
        let bytes = if random.one_in(2) { random.length(700_000) } else { random.length(900) };
        let item = Item {
            value: value_of(at.1, step, bytes),
            flags: random.below(3) as u32 * 77,
            deadline_ms: random.one_in(3).then(|| self.now_ms + 1 + random.below(3_000)),
        };
        let options = SetOptions {
            flags: Some(item.flags),
            deadline: item.deadline_ms.map_or(Deadline::None, Deadline::At),
            ..SetOptions::default()
        };
        let key = key_bytes(at.1);
        let hash = self.shard.hash_in(at.0, &key);
        match self.shard.set(hash, &key, &item.value, &options, self.now_ms) {
            Ok(_) => _ = self.model.insert(at, item),
            Err(error) => assert_eq!(error, SetError::NoSpace),
        }
    }

    fn rename(&mut self, random: &mut Random) {
        let (from, to, replaces) = (place(random), place(random), random.one_in(2));
        let (old, target) = (self.sync(from), self.sync(to));
        let outcome = rename(&mut self.shard, from, to, replaces, self.now_ms);
        match outcome {
            Ok(Stored::Stored { version }) => {
                let (item, old_version) = old.expect("there was something to rename");
                assert!(from == to || version > old_version, "a rename is a write");
                assert!(from == to || replaces || target.is_none());
                self.model.remove(&from);
                self.model.insert(to, item);
                assert!(self.sync(from).is_none() || from == to);
                assert_eq!(self.sync(to).map(|(_, version)| version), Some(version));
                self.renamed += 1;
            }
            Ok(Stored::ConditionFailed(Refusal::Absent)) => assert!(old.is_none() || self.may_miss),
            Ok(Stored::ConditionFailed(Refusal::Present)) => assert!(!replaces && target.is_some()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(error, SetError::NoSpace),
        }
        self.sync(from);
        self.sync(to);
    }

    fn pin(&mut self, random: &mut Random) {
        let at = place(random);
        let Some((item, _)) = self.sync(at) else { return };
        let key = key_bytes(at.1);
        let hash = self.shard.hash_in(at.0, &key);
        if let Ok(Some(pinned)) = self.shard.pin(hash, &key, self.now_ms) {
            self.pins.push((pinned, item.value));
        }
    }

    fn unpin(&mut self, random: &mut Random) {
        if self.pins.is_empty() {
            return;
        }
        let index = random.below(self.pins.len() as u64) as usize;
        let (pinned, value) = self.pins.swap_remove(index);
        assert!(read_pinned(&self.shard, &pinned) == value, "a reader sees one version");
        self.shard.unpin(pinned);
    }

    fn delete(&mut self, random: &mut Random) {
        let at = place(random);
        let was_there = self.sync(at).is_some();
        let key = key_bytes(at.1);
        let hash = self.shard.hash_in(at.0, &key);
        let deleted = self.shard.delete(hash, &key, None, self.now_ms) == Deleted::Deleted;
        assert_eq!(deleted, was_there);
        self.model.remove(&at);
    }
}

fn run(shard: Shard, may_miss: bool, mut random: Random) -> Run {
    let (model, pins) = (HashMap::new(), Vec::new());
    let mut run = Run { shard, model, pins, may_miss, now_ms: 1_000, renamed: 0 };
    for step in 0..6_000 {
        run.now_ms += random.below(3);
        match random.below(16) {
            0..6 => run.set(&mut random, step),
            6..13 => run.rename(&mut random),
            13 => run.pin(&mut random),
            14 => run.unpin(&mut random),
            _ => run.delete(&mut random),
        }
        if step % 9 == 0 {
            run.shard.maintain(run.now_ms, 16);
        }
        if step % 200 == 0 {
            run.shard.validate().unwrap_or_else(|error| panic!("step {step}: {error}"));
        }
    }
    while !run.pins.is_empty() {
        run.unpin(&mut random);
    }
    run.shard.validate().expect("it is in order");
    run
}

#[test]
fn renames_keep_everything_but_the_key() {
    let run = run(shard_without_eviction(64 << 20), false, Random::announced(1));
    assert!(run.renamed > 500, "{}", run.renamed);
    assert_eq!(run.shard.len(), run.model.len() as u64);
}

#[test]
fn renames_in_a_full_shard_lose_or_keep_whole_items() {
    for eviction in [Eviction::TinyLfu, Eviction::Lru] {
        let run = run(shard_with(eviction, 3 << 20), true, Random::announced(2));
        let evictions = run.shard.stats().counters.evictions;
        assert!(run.renamed > 300 && evictions > 100, "{} {evictions}", run.renamed);
    }
    let run = run(shard_without_eviction(3 << 20), false, Random::announced(3));
    let no_space = run.shard.stats().counters.no_space;
    assert!(run.renamed > 300 && no_space > 20, "{} {no_space}", run.renamed);
}

#[test]
fn the_pages_of_a_large_value_stay_where_they_are() {
    let mut shard = shard(64 << 20);
    let value = value_of(1, 1, 5_000_000);
    let key = key_bytes(1);
    let hash = shard.hash(&key);
    shard.set(hash, &key, &value, &SetOptions::default(), 0).expect("room");
    let bytes = shard.stats().page_bytes;
    let pinned = shard.pin(hash, &key, 0).expect("within bounds").expect("large");
    assert!(matches!(rename(&mut shard, (0, 1), (3, 150), true, 0), Ok(Stored::Stored { .. })));
    assert_eq!(shard.stats().page_bytes, bytes);
    assert!(shard.stats().work.bytes_copied < 10_000);
    assert!(look(&mut shard, (3, 150), 0).is_some_and(|(item, _)| item.value == value));
    shard.flush_database(3);
    shard.maintain(0, 10_000);
    assert!(read_pinned(&shard, &pinned) == value);
    shard.unpin(pinned);
    shard.maintain(0, 10_000);
    assert_eq!(shard.stats().page_bytes, 0);
    shard.validate().expect("it is in order");
}

#[test]
fn a_key_that_is_too_long_is_refused() {
    let mut shard = shard(64 << 20);
    common::set(&mut shard, b"a", b"1").expect("room");
    let (long, hash) = (vec![b'x'; 70_000], shard.hash(b"a"));
    let new_hash = shard.hash(&long);
    let refused = shard.rename((hash, b"a"), (new_hash, &long), true, 0);
    assert!(matches!(refused, Err(SetError::KeyTooLong { .. })));
    assert!(common::get(&mut shard, b"a", 0).is_some());
}
