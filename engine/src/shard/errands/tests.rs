//! Errands: nothing is lost or served wrongly while they are out, and memory follows the limit.

use std::collections::HashMap;

use crate::bounds::{SURPLUS_SEGMENTS_MIN, TABLE_STEP_BYTES};
use crate::{Errand, Limits, SetOptions, Shard, ShardConfig, ShardStats};

const MIB: usize = 1 << 20;

fn limits(total_bytes: usize) -> Limits {
    Limits { total_bytes, data: None }
}

/// A shard with small segments, and address space for twice its limit.
fn shard(total_bytes: usize) -> Shard {
    let reserve_bytes = Some(2 * total_bytes);
    let limits = limits(total_bytes);
    let segment_bytes = Some(16 << 10);
    let config = ShardConfig { limits, reserve_bytes, segment_bytes, ..ShardConfig::default() };
    Shard::new(&config).unwrap()
}

fn set(shard: &mut Shard, key: &[u8], value: &[u8]) {
    let hash = shard.hash(key);
    shard.set(hash, key, value, &SetOptions::default(), 0).unwrap();
}

/// Runs all errands that there are, on another thread; how many.
fn run_errands(shard: &mut Shard) -> usize {
    let mut count = 0;
    while let Some(errand) = shard.errand() {
        assert!(shard.errand().is_none(), "one is out at a time");
        let returned = std::thread::spawn(|| errand.run()).join().unwrap();
        shard.take_back(returned);
        count += 1;
    }
    count
}

/// Bytes that are in memory, or come into it while a write is on its way.
fn resident(stats: &ShardStats) -> usize {
    (stats.log_bytes + stats.warm_bytes + stats.away_bytes + stats.table_resident_bytes) as usize
}

fn fill(shard: &mut Shard, count: usize, value: &[u8]) {
    for number in 0..count {
        set(shard, format!("key:{number}").as_bytes(), value);
        if number % 64 == 0 {
            shard.maintain(0, 1_000);
            run_errands(shard);
        }
    }
}

#[test]
fn memory_is_populated_ahead_and_never_beyond_the_limit() {
    let mut shard = shard(4 * MIB);
    assert!(run_errands(&mut shard) >= 3, "segments, table and overflow lines");
    let warm = shard.stats().warm_bytes;
    assert!(warm >= 8 * (16 << 10), "{warm} bytes are ready before the first write");
    for number in 0..20_000 {
        set(&mut shard, format!("key:{number}").as_bytes(), &[7; 200]);
        if number % 16 == 0 {
            run_errands(&mut shard);
            let bytes = resident(&shard.stats());
            assert!(bytes <= 4 * MIB + SURPLUS_SEGMENTS_MIN * (16 << 10), "{bytes}");
        }
    }
    assert!(shard.stats().counters.evictions > 0, "it was full");
    shard.validate().unwrap();
}

#[test]
fn a_late_errand_holds_nobody_up() {
    let mut shard = shard(4 * MIB);
    let late = shard.errand().expect("there is something to populate");
    for number in 0..20_000 {
        set(&mut shard, format!("key:{number}").as_bytes(), &[7; 200]);
        assert!(shard.errand().is_none());
    }
    shard.validate().unwrap();
    shard.take_back(late.run());
    run_errands(&mut shard);
    shard.validate().unwrap();
    assert!(resident(&shard.stats()) <= 4 * MIB + SURPLUS_SEGMENTS_MIN * (16 << 10));
}

#[test]
fn a_flush_gives_most_memory_back() {
    let mut shard = shard(8 * MIB);
    fill(&mut shard, 60_000, &[1; 100]);
    assert!(resident(&shard.stats()) > 7 * MIB);
    shard.flush();
    while shard.maintain(0, 1_000) > 0 {}
    run_errands(&mut shard);
    let stats = shard.stats();
    let warm_max = (8 * MIB / 8 + 16 * (16 << 10)) as u64;
    assert!(stats.warm_bytes <= warm_max && stats.away_bytes == 0, "{stats:?}");
    shard.validate().unwrap();
    // What comes back from the kernel serves as well as what was kept.
    fill(&mut shard, 60_000, &[2; 100]);
    let hash = shard.hash(b"key:59999");
    assert_eq!(shard.get(hash, b"key:59999", 0).unwrap().value.as_slice(), Some(&[2; 100][..]));
    shard.validate().unwrap();
}

#[test]
fn a_lowered_limit_gives_memory_back_and_a_raised_one_takes_it_again() {
    let mut shard = shard(8 * MIB);
    fill(&mut shard, 100_000, &[1; 100]);
    shard.set_limits(limits(3 * MIB)).unwrap();
    while shard.maintain(0, 1_000) > 0 {
        run_errands(&mut shard);
    }
    run_errands(&mut shard);
    let bytes = resident(&shard.stats());
    assert!(bytes <= 3 * MIB + SURPLUS_SEGMENTS_MIN * (16 << 10), "{bytes} bytes");
    shard.validate().unwrap();
    shard.set_limits(limits(12 * MIB)).unwrap();
    fill(&mut shard, 120_000, &[3; 100]);
    let bytes = resident(&shard.stats());
    assert!(bytes > 11 * MIB && bytes <= 12 * MIB + SURPLUS_SEGMENTS_MIN * (16 << 10), "{bytes}");
    shard.validate().unwrap();
}

#[test]
fn a_table_that_shrank_gives_its_memory_back() {
    let mut shard = shard(64 * MIB);
    fill(&mut shard, 1_200_000, b"v");
    let before = shard.stats();
    assert!(before.table_resident_bytes as usize > 4 * TABLE_STEP_BYTES);
    for number in 0..1_150_000 {
        let key = format!("key:{number}");
        let hash = shard.hash(key.as_bytes());
        shard.delete(hash, key.as_bytes(), None, 0);
    }
    while shard.maintain(0, 1_000) > 0 {}
    run_errands(&mut shard);
    let after = shard.stats();
    assert!(after.table_bytes * 8 < before.table_bytes, "few items are left");
    assert!(after.table_resident_bytes + 4 * (MIB as u64) < before.table_resident_bytes);
    shard.validate().unwrap();
    // While its tail is lent the table grows no further than that, and on when it is back.
    fill(&mut shard, 1_200_000, b"v");
    shard.validate().unwrap();
    assert!(shard.stats().table_bytes > before.table_bytes * 9 / 10);
}

#[test]
fn a_prefaulted_shard_keeps_what_it_has() {
    let mut shard = shard(8 * MIB);
    shard.prefault();
    let start = resident(&shard.stats());
    assert!(start + MIB > 8 * MIB && start <= 8 * MIB, "{start}");
    fill(&mut shard, 40_000, &[1; 100]);
    shard.flush();
    while shard.maintain(0, 1_000) > 0 {}
    run_errands(&mut shard);
    assert!(resident(&shard.stats()) + MIB > start, "{} of {start}", resident(&shard.stats()));
    shard.validate().unwrap();
}

/// A shard under everything at once, with errands that come back whenever they like.
fn chaos(seed: u64) {
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut shard = shard(2 * MIB);
    let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut out: Option<Errand> = None;
    let steps = if cfg!(miri) { 300 } else { 60_000 };
    for step in 0..steps {
        match random(1_000) {
            0..600 => {
                let key = format!("key:{}", random(8_000)).into_bytes();
                let bytes = if random(50) == 0 { random(30_000) } else { random(300) };
                let value = vec![step as u8; bytes];
                set(&mut shard, &key, &value);
                model.insert(key, value);
            }
            600..900 => {
                let key = format!("key:{}", random(8_000)).into_bytes();
                let hash = shard.hash(&key);
                if let Some(entry) = shard.get(hash, &key, 0) {
                    assert_eq!(Some(&entry.value.to_vec()), model.get(&key), "seed {seed}");
                }
            }
            900..990 => {
                out = out.or_else(|| shard.errand());
                if random(3) == 0
                    && let Some(errand) = out.take()
                {
                    let returned = errand.run();
                    shard.take_back(returned);
                }
            }
            990..997 => drop(shard.maintain(0, 500)),
            997 => {
                let total_bytes = (1 + random(4)) * MIB;
                shard.set_limits(limits(total_bytes)).unwrap();
            }
            _ if step % 7 == 0 => {
                shard.flush();
                model.clear();
            }
            _ => shard.validate().unwrap_or_else(|error| panic!("seed {seed}: {error}")),
        }
    }
    shard.validate().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
}

#[test]
fn values_stay_right_whenever_errands_come_back() {
    for seed in 1..=6 {
        chaos(seed);
    }
}

#[test]
#[should_panic(expected = "an errand of this shard is out")]
fn an_errand_comes_back_once() {
    let mut shard = shard(4 * MIB);
    let errand = shard.errand().unwrap();
    let other = self::shard(4 * MIB).errand().unwrap();
    shard.take_back(errand.run());
    shard.take_back(other.run());
}

#[test]
fn a_lowered_limit_is_kept_without_another_thread() {
    let mut shard = shard(4 * MIB);
    for number in 0..20_000 {
        set(&mut shard, format!("key:{number}").as_bytes(), &[7; 200]);
    }
    // An errand that is out holds nobody up.
    let late = shard.errand();
    assert_eq!(shard.give_back(usize::MAX), 0, "all of it is within the limit");
    shard.set_limits(limits(3 * MIB)).unwrap();
    while shard.maintain(0, 1_000) > 0 {}
    let before = shard.memory_bytes();
    assert_eq!(shard.give_back(1), 16 << 10, "a segment at least");
    assert_eq!(shard.memory_bytes(), before - (16 << 10));
    while shard.give_back(usize::MAX) > 0 {}
    assert_eq!(late.is_some(), shard.errand().is_none());
    if let Some(late) = late {
        shard.take_back(late.run());
        while shard.give_back(usize::MAX) > 0 {}
    }
    assert!(shard.memory_bytes() <= 3 * MIB, "{}", shard.memory_bytes());
    shard.validate().unwrap();
    for number in 0..20_000 {
        set(&mut shard, format!("key:{number}").as_bytes(), &[8; 200]);
    }
    shard.validate().unwrap();
}
