//! What a call may cost and what an item may take: bounds in work units and bytes.

mod common;

use common::{
    Random, get, is_equal, set, set_until, shard, shard_with, shard_without_eviction, value_of,
};
use pinion_engine::{Deleted, Eviction, Shard, ShardConfig, Work};

/// Tail steps that a write may take for free, with those that go beyond its budget, those that
/// balance the queues, and dead items that the last ones pass at each queue's tail.
const STEPS_BASE: u64 = 32 + 64 + 32 + 2 * 3 * 8;
/// Bytes that a write may copy for free, and what the last step may add: the largest item of
/// these tests, and pages gathered.
const COPY_BASE: u64 = 4 * (16 << 10) + (33 << 10) + (64 << 10);

fn check_work(work: &Work, bytes: u64) {
    assert!(work.tail_steps <= STEPS_BASE + bytes / 8, "{work:?} for {bytes} bytes");
    assert!(work.bytes_copied <= COPY_BASE + 4 * 24 * bytes, "{work:?} for {bytes} bytes");
    // Due entries before room is made, and a sweep's; each may remove an item and resize once.
    assert!(work.expiry_entries <= 16 + 64, "{work:?}");
    assert!(work.resizes <= 1 + work.expiry_entries, "{work:?}");
    assert!(work.split_items <= 80 * work.resizes, "{work:?}");
    assert!(work.lines_read <= 8 * (2 + work.tail_steps), "{work:?}");
}

fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.to_le_bytes());
    key
}

#[test]
fn an_item_takes_what_the_budget_says_at_every_count() {
    let mut shard = shard(64 << 20);
    for n in 1..=130_000 {
        set(&mut shard, &key(n), &[1; 64]).unwrap();
        if matches!(n, 50_000 | 70_000 | 90_000 | 110_000 | 130_000) {
            let stats = shard.stats();
            let table_bytes = stats.table_bytes as f64 / n as f64;
            assert!(table_bytes <= 9.4, "{table_bytes} bytes of table an item at {n}");
            assert_eq!(stats.live_bytes, n * (16 + 64 + 9));
            let overhead = (stats.log_bytes + stats.table_bytes) as f64 / n as f64 - 80.0;
            assert!(overhead < 22.0, "{overhead} bytes an item at {n}");
            assert!(stats.counters.chain_lines_max <= 6);
        }
    }
    shard.validate().unwrap();
}

#[test]
fn a_full_shard_holds_nearly_what_its_limit_has_room_for() {
    let limit = 128 << 20;
    let mut shard = shard(limit);
    let mut n = 0;
    while shard.stats().counters.evictions == 0 {
        n += 1;
        set(&mut shard, &key(n), &[1; 64]).unwrap();
    }
    let overhead = limit as f64 / shard.len() as f64 - 80.0;
    assert!(overhead < 25.5, "{overhead} bytes an item at the first eviction");
    for n in n..n * 3 {
        set(&mut shard, &key(n), &[1; 64]).unwrap();
    }
    let overhead = limit as f64 / shard.len() as f64 - 80.0;
    assert!(overhead < 25.5, "{overhead} bytes an item after turning over");
    shard.validate().unwrap();
}

#[test]
fn no_write_does_much_work_whatever_came_before() {
    let mut random = Random::announced(21);
    let mut shard = shard(16 << 20);
    let mut worst = Work::default();
    for step in 0..400_000u64 {
        // Phases of small, mixed and large values; of cold, warm and wholly referenced items.
        let bytes = match step / 50_000 % 4 {
            0 => random.below(100),
            1 => random.below(2_000),
            2 if random.one_in(50) => random.below(300_000),
            _ => random.below(40),
        };
        let name = key(random.below(100_000));
        if random.one_in(3) {
            let hash = shard.hash(&name);
            shard.delete(hash, &name, None, step);
        } else {
            let value = vec![1; bytes as usize];
            set_until(&mut shard, &name, &value, step + 50_000, step);
        }
        let work = shard.stats().work;
        check_work(&work, bytes + 40);
        worst.tail_steps = worst.tail_steps.max(work.tail_steps);
        worst.bytes_copied = worst.bytes_copied.max(work.bytes_copied);
        for _ in 0..random.below(3) {
            get(&mut shard, &key(random.below(100_000)), step);
        }
        if step % 100_000 == 0 {
            shard.validate().unwrap();
        }
    }
    println!("{worst:?} {:?}", shard.stats());
    assert!(shard.stats().counters.evictions > 10_000);
}

#[test]
fn writes_stay_cheap_when_every_item_is_referenced() {
    let mut shard = shard(8 << 20);
    for n in 0..100_000 {
        set(&mut shard, &key(n), &[1; 64]).unwrap();
    }
    for round in 0..5 {
        for n in 0..200_000 {
            get(&mut shard, &key(n), 0);
        }
        for n in 0..20_000 {
            set(&mut shard, &key(1_000_000 + round * 100_000 + n), &[1; 64]).unwrap();
            check_work(&shard.stats().work, 110);
        }
    }
    shard.validate().unwrap();
}

#[test]
fn overwrites_of_other_sizes_never_evict_while_garbage_can_go() {
    let mut random = Random::announced(22);
    let mut shard = shard(16 << 20);
    // Live data of at most 80 % of the limit, rewritten twenty times over.
    let keys = 25_000;
    let mut sizes = vec![0; keys as usize];
    for write in 0..keys * 20 {
        let n = if write < keys { write } else { random.below(keys) };
        sizes[n as usize] = 300 + random.below(200) as usize;
        set(&mut shard, &key(n), &value_of(n, 0, sizes[n as usize])).unwrap();
        check_work(&shard.stats().work, 600);
        if shard.stats().counters.evictions > 0 {
            panic!("{write} {:?}", shard.stats());
        }
    }
    assert_eq!(shard.stats().counters.evictions, 0);
    assert_eq!(shard.len(), keys);
    for n in 0..keys {
        let name = key(n);
        let hash = shard.hash(&name);
        let entry = shard.peek(hash, &name, 0).expect("nothing was evicted");
        assert!(is_equal(entry.value, &value_of(n, 0, sizes[n as usize])));
    }
    shard.validate().unwrap();
}

#[test]
fn without_eviction_garbage_goes_and_live_items_stay() {
    let mut random = Random::announced(23);
    let mut shard = shard_without_eviction(16 << 20);
    let keys = 30_000;
    for n in 0..keys {
        set(&mut shard, &key(n), &value_of(n, 0, 400)).unwrap();
    }
    for write in 0..keys * 10 {
        let n = random.below(keys);
        set(&mut shard, &key(n), &vec![7; 300 + random.below(200) as usize])
            .unwrap_or_else(|error| panic!("{error} at {write}: {:?}", shard.stats()));
    }
    assert_eq!(shard.len(), keys);
    shard.validate().unwrap();
}

#[test]
fn without_eviction_expired_items_make_room_in_the_end() {
    let mut shard = shard_without_eviction(2 << 20);
    let mut stored = 0;
    loop {
        let name = key(stored);
        let options = pinion_engine::SetOptions {
            deadline: pinion_engine::Deadline::At(1_000),
            ..Default::default()
        };
        let hash = shard.hash(&name);
        if shard.set(hash, &name, &[1; 200], &options, 0).is_err() {
            break;
        }
        stored += 1;
    }
    assert!(stored > 6_000);
    let mut accepted = 0;
    for n in 0..2_000 {
        let name = key(1 << 20 | n);
        let hash = shard.hash(&name);
        let outcome = shard.set(hash, &name, &[1; 200], &Default::default(), 2_000);
        accepted += u64::from(outcome.is_ok());
    }
    assert!(accepted > 1_900, "{accepted} of 2000");
    shard.validate().unwrap();
}

#[test]
fn a_change_of_value_sizes_strands_no_memory() {
    let mut random = Random::announced(24);
    // A policy that takes all that comes.
    let mut shard = shard_with(Eviction::Lru, 32 << 20);
    // Large values, of which scattered ones stay in use, then small ones.
    for n in 0..2_000 {
        set(&mut shard, &key(n), &vec![1; 40_000 + random.below(100_000) as usize]).unwrap();
    }
    assert!(shard.stats().page_bytes > 24 << 20);
    for n in 0..1_000_000u64 {
        set(&mut shard, &key(1 << 32 | n), &[1; 64]).unwrap();
        get(&mut shard, &key(1_900 + n % 20), 0);
    }
    let stats = shard.stats();
    assert!(stats.items > 250_000, "{stats:?}");
    shard.validate().unwrap();
    // And back.
    for n in 0..2_000 {
        set(&mut shard, &key(2 << 32 | n), &vec![2; 40_000 + random.below(100_000) as usize])
            .unwrap();
    }
    let stats = shard.stats();
    assert!(stats.page_bytes > 24 << 20, "{stats:?}");
    shard.validate().unwrap();
}

#[test]
fn an_emptied_shard_gives_its_memory_back() {
    let mut shard: Shard = Shard::new(&ShardConfig::default()).unwrap();
    for n in 0..100_000 {
        set(&mut shard, &key(n), &[1; 64]).unwrap();
    }
    for n in 0..100_000 {
        let name = key(n);
        let hash = shard.hash(&name);
        assert_eq!(shard.delete(hash, &name, None, 0), Deleted::Deleted);
    }
    assert_eq!(shard.stats().table_bytes, 64);
    shard.validate().unwrap();
}

#[test]
fn clock_keeps_what_is_used() {
    let mut shard = shard(4 << 20);
    let hot = 2_000;
    for n in 0..hot {
        set(&mut shard, &key(n), &[1; 64]).unwrap();
    }
    for n in 0..400_000 {
        set(&mut shard, &key(1 << 32 | n), &[1; 64]).unwrap();
        get(&mut shard, &key(n % hot), 0);
    }
    let kept = (0..hot).filter(|&n| get(&mut shard, &key(n), 0).is_some()).count() as u64;
    assert!(kept > hot * 95 / 100, "{kept} of {hot}");
}
