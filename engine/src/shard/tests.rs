//! Single behaviours of the shard; random histories are in `tests/model.rs`.

use super::Shard;
use crate::config::{EngineError, Eviction, Limits, ShardConfig};
use crate::request::{Condition, Deadline, Deleted, SetError, SetOptions, Stored};

const TOTAL_BYTES: usize = 1 << 20;

fn config() -> ShardConfig {
    let limits = Limits { total_bytes: TOTAL_BYTES, data: None };
    ShardConfig { limits, ..ShardConfig::default() }
}

fn shard() -> Shard {
    Shard::new(&config()).unwrap()
}

fn set_with(shard: &mut Shard, key: &[u8], value: &[u8], options: &SetOptions) -> u64 {
    match shard.set(shard.hash(key), key, value, options, 0).unwrap() {
        Stored::Stored { version } => version,
        Stored::ConditionFailed(reason) => panic!("{reason:?}"),
    }
}

fn set(shard: &mut Shard, key: &[u8], value: &[u8]) -> u64 {
    set_with(shard, key, value, &SetOptions::default())
}

fn get(shard: &mut Shard, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    shard.get(shard.hash(key), key, now_ms).map(|entry| entry.value.to_vec())
}

#[test]
fn a_shard_may_be_sent_to_another_thread() {
    fn sends<T: Send>(_: &T) {}
    sends(&shard());
}

#[test]
fn versions_rise_and_may_be_chosen() {
    let mut shard = shard();
    let first = set(&mut shard, b"a", b"1");
    let second = set(&mut shard, b"a", b"2");
    assert!(second > first);
    let chosen = SetOptions { version: Some(u64::MAX), ..SetOptions::default() };
    assert_eq!(set_with(&mut shard, b"a", b"3", &chosen), u64::MAX);
    let cas = SetOptions { condition: Condition::IfVersion(u64::MAX), ..SetOptions::default() };
    let third = set_with(&mut shard, b"a", b"4", &cas);
    assert!(third > second && third < 10);
    let hash = shard.hash(b"a");
    assert_eq!(shard.delete(hash, b"a", Some(1), 0), Deleted::VersionMismatch);
    assert_eq!(shard.delete(hash, b"a", Some(third), 0), Deleted::Deleted);
    assert_eq!(shard.delete(hash, b"a", None, 0), Deleted::Absent);
    shard.validate().unwrap();
}

#[test]
fn flags_and_deadline_are_kept_or_replaced() {
    let mut shard = shard();
    let options =
        SetOptions { flags: Some(7), deadline: Deadline::At(100), ..SetOptions::default() };
    set_with(&mut shard, b"a", b"1", &options);
    let keep = SetOptions { deadline: Deadline::Keep, ..SetOptions::default() };
    set_with(&mut shard, b"a", b"another size", &keep);
    let hash = shard.hash(b"a");
    let entry = shard.peek(hash, b"a", 0).unwrap();
    assert_eq!((entry.flags(), entry.deadline_ms()), (7, Some(100)));
    set_with(&mut shard, b"a", b"1", &SetOptions { flags: Some(0), ..SetOptions::default() });
    let entry = shard.peek(hash, b"a", 0).unwrap();
    assert_eq!((entry.flags(), entry.deadline_ms()), (0, None));
}

#[test]
fn expiry_is_exact_and_the_clock_never_runs_back() {
    let mut shard = shard();
    let options = SetOptions { deadline: Deadline::At(100), ..SetOptions::default() };
    set_with(&mut shard, b"a", b"1", &options);
    set_with(&mut shard, b"b", b"1", &options);
    assert!(get(&mut shard, b"a", 99).is_some());
    assert_eq!(get(&mut shard, b"a", 100), None);
    assert_eq!(shard.len(), 1, "the other one has expired unseen");
    assert_eq!(get(&mut shard, b"b", 5), None);
    assert_eq!((shard.len(), shard.stats().counters.expired), (0, 2));
    shard.validate().unwrap();
}

#[test]
fn a_deadline_that_has_come_deletes() {
    let mut shard = shard();
    set(&mut shard, b"a", b"1");
    let past = SetOptions { deadline: Deadline::At(50), ..SetOptions::default() };
    let hash = shard.hash(b"a");
    assert!(matches!(shard.set(hash, b"a", b"2", &past, 50), Ok(Stored::Stored { .. })));
    assert_eq!(get(&mut shard, b"a", 50), None);
    set(&mut shard, b"a", b"1");
    assert!(shard.set_deadline(hash, b"a", Some(60), 60).unwrap().is_some());
    assert_eq!(get(&mut shard, b"a", 60), None);
    assert_eq!(shard.set_deadline(hash, b"a", Some(99), 60), Ok(None));
}

#[test]
fn touching_keeps_the_version_and_mostly_the_place() {
    let mut shard = shard();
    let version = set(&mut shard, b"a", b"1");
    let hash = shard.hash(b"a");
    let bytes = shard.stats().live_bytes;
    for (deadline_ms, bytes_more) in [
        (Some(1_000), 4),
        (Some(2_000), 4),
        (None, 4),
        (Some(3_000), 4),
        (Some(1 << 40), 6),
        (Some(4_000), 6),
        (None, 6),
    ] {
        assert_eq!(shard.set_deadline(hash, b"a", deadline_ms, 0), Ok(Some(version)));
        let entry = shard.peek(hash, b"a", 0).unwrap();
        assert_eq!((entry.deadline_ms(), entry.version()), (deadline_ms, version));
        assert_eq!(shard.stats().live_bytes, bytes + bytes_more);
        shard.validate().unwrap();
    }
}

#[test]
fn touching_a_paged_value_takes_its_pages_along() {
    let mut shard = shard();
    let value: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    set(&mut shard, b"a", &value);
    let pages = shard.stats().page_bytes;
    let hash = shard.hash(b"a");
    shard.set_deadline(hash, b"a", Some(1_000), 0).unwrap();
    assert_eq!(get(&mut shard, b"a", 0), Some(value));
    assert_eq!(shard.stats().page_bytes, pages);
    shard.validate().unwrap();
}

#[test]
fn an_overwrite_of_the_same_size_stays_in_place() {
    let mut shard = shard();
    for bytes in [0, 10, 300, 20_000, 100_000] {
        let key = format!("key {bytes}");
        set(&mut shard, key.as_bytes(), &vec![1; bytes]);
        let before = shard.stats();
        set(&mut shard, key.as_bytes(), &vec![2; bytes]);
        let after = shard.stats();
        assert_eq!(get(&mut shard, key.as_bytes(), 0), Some(vec![2; bytes]));
        assert_eq!((after.live_bytes, after.dead_bytes), (before.live_bytes, before.dead_bytes));
        assert_eq!(after.page_bytes, before.page_bytes);
    }
    assert_eq!(shard.stats().counters.overwrites_in_place, 5);
    shard.validate().unwrap();
}

#[test]
fn hits_are_counted_and_peeks_are_not() {
    let mut shard = shard();
    set(&mut shard, b"a", b"1");
    let hash = shard.hash(b"a");
    for hits in 0..20u8 {
        let uses = (1 + hits).min(15);
        assert_eq!(shard.peek(hash, b"a", 0).unwrap().frequency, uses);
        assert_eq!(shard.get(hash, b"a", 0).unwrap().frequency, uses);
    }
    assert!(shard.get(shard.hash(b"b"), b"b", 0).is_none());
    let counters = shard.stats().counters;
    assert_eq!((counters.hits, counters.misses), (20, 1));
}

#[test]
fn too_long_and_too_large_are_refused() {
    let limits = Limits { total_bytes: TOTAL_BYTES, data: Some(10_000) };
    let config = ShardConfig { limits, key_bytes_max: 100, value_bytes_max: 50_000, ..config() };
    let mut shard = Shard::new(&config).unwrap();
    let mut try_set = |key: &[u8], value: &[u8]| {
        let hash = shard.hash(key);
        shard.set(hash, key, value, &SetOptions::default(), 0)
    };
    assert!(try_set(&[1; 100], b"x").is_ok());
    assert_eq!(try_set(&[1; 101], b"x"), Err(SetError::KeyTooLong { bytes_max: 100 }));
    let too_long = SetError::ValueTooLong { bytes_max: 50_000 };
    assert_eq!(try_set(b"a", &[0; 50_001]), Err(too_long));
    assert_eq!(try_set(b"a", &[0; 10_000]), Err(SetError::TooLarge));
    assert!(try_set(b"a", &[0; 9_900]).is_err(), "ten pages of 1 KiB are more than 10,000 bytes");
    assert!(try_set(b"a", &[0; 8_000]).is_ok());
    let mut large =
        Shard::new(&ShardConfig { value_bytes_max: 1 << 30, ..self::config() }).unwrap();
    let hash = large.hash(b"a");
    let value = vec![0; TOTAL_BYTES / 2];
    let outcome = large.set(hash, b"a", &value, &SetOptions::default(), 0);
    assert_eq!(outcome, Err(SetError::TooLarge));
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_flush_is_complete_at_once_and_memory_comes_back() {
    let mut shard = shard();
    let wide = SetOptions { version: Some(u64::MAX), ..SetOptions::default() };
    for n in 0..2_000u32 {
        set(&mut shard, &n.to_le_bytes(), &[1; 40]);
    }
    set_with(&mut shard, b"wide", b"1", &wide);
    set(&mut shard, b"paged", &[1; 50_000]);
    shard.flush();
    assert_eq!(shard.len(), 0);
    assert!(get(&mut shard, b"wide", 0).is_none());
    assert!(get(&mut shard, &7u32.to_le_bytes(), 0).is_none());
    set_with(&mut shard, b"wide", b"2", &wide);
    shard.validate().unwrap();
    let mut slices = 0;
    while shard.maintain(0, 100) > 0 {
        shard.validate().unwrap();
        slices += 1;
    }
    assert!(slices >= 20);
    assert_eq!(get(&mut shard, b"wide", 0), Some(b"2".to_vec()));
    let stats = shard.stats();
    assert_eq!((stats.items, stats.table_slots, stats.page_bytes), (1, 1, 0));
    assert_eq!(stats.table_bytes, 64);
    assert_eq!(stats.log_bytes, 4 << 10, "one segment");
}

#[test]
fn limits_are_checked() {
    let mut shard = shard();
    let small = Limits { total_bytes: 1_000, data: None };
    assert!(matches!(shard.set_limits(small), Err(EngineError::LimitTooSmall { .. })));
    let large = Limits { total_bytes: TOTAL_BYTES + 1, data: None };
    assert!(matches!(shard.set_limits(large), Err(EngineError::LimitTooLarge { .. })));
    assert_eq!(shard.limits(), config().limits);
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_lowered_limit_stops_writes_where_nothing_may_be_evicted() {
    let mut shard = Shard::new(&ShardConfig { eviction: Eviction::None, ..config() }).unwrap();
    let mut stored = 0u32;
    let try_set = |shard: &mut Shard, key: u32| {
        let key = key.to_le_bytes();
        shard.set(shard.hash(&key), &key, &[1; 500], &SetOptions::default(), 0)
    };
    while try_set(&mut shard, stored).is_ok() {
        stored += 1;
    }
    let low = Limits { total_bytes: TOTAL_BYTES / 2, data: None };
    shard.set_limits(low).unwrap();
    // What is left of the head segment may still be filled.
    let before = stored;
    while try_set(&mut shard, stored).is_ok() {
        stored += 1;
    }
    assert!(stored - before < 64);
    assert_eq!(shard.len(), u64::from(stored));
    assert!(shard.stats().counters.no_space > 0);
    for key in 0..stored * 2 / 3 {
        let key = key.to_le_bytes();
        assert_eq!(shard.delete(shard.hash(&key), &key, None, 0), Deleted::Deleted);
    }
    while shard.maintain(0, 100) > 0 {}
    shard.validate().unwrap();
    assert!(try_set(&mut shard, stored).is_ok());
    let stats = shard.stats();
    assert!(stats.log_bytes + stats.table_bytes <= low.total_bytes as u64);
    for key in stored * 2 / 3..=stored {
        assert!(get(&mut shard, &key.to_le_bytes(), 0).is_some());
    }
}

#[test]
fn prefault_and_prefetch_change_nothing() {
    let mut shard = Shard::new(&ShardConfig { huge_pages: true, ..config() }).unwrap();
    set(&mut shard, b"a", b"1");
    shard.prefault();
    let hash = shard.hash(b"a");
    shard.prefetch_line(hash);
    shard.prefetch_item(hash);
    assert_eq!(get(&mut shard, b"a", 0), Some(b"1".to_vec()));
    shard.validate().unwrap();
}
