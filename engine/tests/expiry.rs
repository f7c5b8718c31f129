//! Expiry through the shard's own calls: storms, loops that leave entries behind, full caches.

mod common;

use common::{Random, set, set_until, shard};
use pinion_engine::{Deadline, Deleted, ExpiryStats, SetOptions, Shard, ShardConfig};

const DAY_MS: u64 = 86_400_000;

/// Entries allowed beyond two an item in the small shards of these tests: one for 16 KiB.
fn spare_entries(shard: &Shard) -> u64 {
    (shard.limits().total_bytes as u64 >> 14).clamp(1 << 10, 64 << 10)
}

fn check_entries(shard: &Shard) -> ExpiryStats {
    let stats = shard.stats().expiry;
    assert!(stats.entries <= 2 * stats.items + spare_entries(shard), "{stats:?}");
    stats
}

#[test]
fn a_million_keys_due_in_the_same_millisecond_go_in_bounded_calls() {
    let mut shard = shard(128 << 20);
    let keys = 1_000_000u32;
    for key in 0..keys {
        set_until(&mut shard, &key.to_le_bytes(), b"v", 60_000, 0);
    }
    let stats = check_entries(&shard);
    assert_eq!((stats.items, stats.entries, stats.mean_ttl_ms), (1_000_000, 1_000_000, 60_000));
    assert!(stats.bytes < 4_160_000, "{stats:?}");
    // The group of 2 s comes into reach, and is split before its time.
    assert_eq!(shard.next_deadline_ms(), Some(57_344));
    let mut splits = 0;
    while shard.expire(57_344, 64).more_due {
        let work = shard.stats().work;
        assert!(work.expiry_entries <= 64 && work.resizes == 0, "{work:?}");
        splits += 1;
    }
    assert!((15_000..=17_000).contains(&splits), "{splits}");
    assert_eq!((shard.len(), shard.next_deadline_ms()), (1_000_000, Some(60_003)));
    let mut calls = 0;
    loop {
        let expired = shard.expire(60_003, 64);
        let work = shard.stats().work;
        // One entry in ten thousand is shared by two of these items, and takes both.
        assert!(expired.removed <= 64 + 8 && expired.entries <= 64, "{expired:?}");
        assert!(work.resizes <= expired.removed && work.split_items <= 80 * work.resizes);
        calls += 1;
        if !expired.more_due {
            break;
        }
    }
    assert_eq!(calls, 1_000_000 / 64);
    let stats = shard.stats();
    assert_eq!((stats.items, stats.counters.expired), (0, 1_000_000));
    assert_eq!((stats.expiry.entries, stats.expiry.bytes, stats.expiry.groups), (0, 0, 0));
    assert_eq!(stats.expiry.lag_count, 1_000_000);
    assert_eq!((stats.expiry.lag_p50_ms, stats.expiry.lag_max_ms), (3, 3));
    shard.validate().unwrap();
}

#[test]
fn storing_for_a_day_and_deleting_leaves_no_heap_of_entries() {
    let mut shard = shard(16 << 20);
    let mut random = Random::announced(41);
    let mut now_ms = 0;
    for step in 0..400_000u64 {
        now_ms += u64::from(step % 100 == 0);
        // New names all the time, and a few names over and over.
        let key = if random.one_in(2) { step } else { 1 << 32 | random.below(1_000) };
        let name = key.to_le_bytes();
        set_until(&mut shard, &name, b"locked", now_ms + DAY_MS, now_ms);
        check_entries(&shard);
        if random.below(10) != 0 {
            let hash = shard.hash(&name);
            assert_eq!(shard.delete(hash, &name, None, now_ms), Deleted::Deleted);
            check_entries(&shard);
        }
    }
    shard.validate().unwrap();
}

#[test]
fn a_full_cache_whose_items_are_evicted_before_their_time() {
    let mut shard = shard(8 << 20);
    let mut random = Random::announced(42);
    for step in 0..500_000u64 {
        let name = random.next().to_le_bytes();
        let ttl_ms = DAY_MS + random.below(DAY_MS);
        set_until(&mut shard, &name, &[1; 60], step / 50 + ttl_ms, step / 50);
        let stats = check_entries(&shard);
        assert!(stats.bytes <= 10 * stats.items + (512 << 10), "{stats:?}");
        assert!(shard.stats().work.expiry_entries <= 16 + 64);
    }
    assert!(shard.stats().counters.evictions > 300_000);
    shard.validate().unwrap();
}

#[test]
fn room_is_taken_from_due_items_first() {
    let mut shard = shard(8 << 20);
    let mut stored = 0u32;
    while shard.stats().counters.evictions == 0 {
        // Every second item is due later.
        let deadline_ms = if stored.is_multiple_of(2) { 1_000 } else { DAY_MS };
        set_until(&mut shard, &stored.to_le_bytes(), &[1; 100], deadline_ms, 0);
        stored += 1;
    }
    let evicted = shard.stats().counters.evictions;
    let before = shard.stats().expiry.items;
    // Nobody calls `expire`: the writes see to it, about sixteen items each.
    for key in 0..u64::from(stored) / 16 {
        let name = (1 << 40 | key).to_le_bytes();
        let hash = shard.hash(&name);
        shard.set(hash, &name, &[1; 100], &Default::default(), 2_000 + key).unwrap();
    }
    let stats = shard.stats();
    assert!(stats.counters.expired > u64::from(stored) / 4, "{stats:?}");
    assert!(stats.counters.evictions - evicted < 1_000, "{stats:?}");
    // The rest was evicted, as were some of the new items, which have no deadline.
    let gone = before - stats.expiry.items;
    assert!(gone >= stats.counters.expired, "{stats:?}");
    assert!(gone - stats.counters.expired <= stats.counters.evictions - evicted, "{stats:?}");
    shard.validate().unwrap();
}

/// Deadlines around what four bytes can tell, from a clock at `now_ms`.
fn deadlines_around(now_ms: u64) -> Vec<u64> {
    let near_ms_max = (1 << 31) - 1;
    let away = [1, 3_600_000, DAY_MS, 20 * DAY_MS, 24 * DAY_MS, 25 * DAY_MS, 60 * DAY_MS];
    let edges = [near_ms_max - 1, near_ms_max, near_ms_max + 1, 1 << 32, 4_000 * DAY_MS];
    // The last one has the low bits that stand for no deadline.
    let marked = (now_ms | u64::from(u32::MAX)) - now_ms;
    away.into_iter().chain(edges).chain([marked]).map(|ms| now_ms + ms).collect()
}

/// Whether the item is there, with the deadline that it was given.
fn is_there(shard: &mut Shard, deadline_ms: u64, now_ms: u64) -> bool {
    let name = deadline_ms.to_le_bytes();
    let hash = shard.hash(&name);
    let entry = shard.peek(hash, &name, now_ms);
    entry.is_some_and(|entry| {
        assert_eq!(entry.deadline_ms(), Some(deadline_ms));
        true
    })
}

#[test]
fn deadlines_hold_over_weeks_and_months() {
    for (start_ms, step_ms) in [
        (0, DAY_MS),
        (u64::from(u32::MAX) - 5, 6 * 3_600_000),
        (3 << 31, 7 * DAY_MS + 1),
        ((1 << 40) + 77, 19 * DAY_MS),
    ] {
        let mut shard = shard(1 << 20);
        let deadlines = deadlines_around(start_ms);
        for &deadline_ms in &deadlines {
            set_until(&mut shard, &deadline_ms.to_le_bytes(), b"v", deadline_ms, start_ms);
        }
        let mut now_ms = start_ms;
        while now_ms < start_ms + 130 * DAY_MS {
            for &deadline_ms in &deadlines {
                assert_eq!(is_there(&mut shard, deadline_ms, now_ms), now_ms < deadline_ms);
            }
            shard.validate().unwrap();
            now_ms += step_ms;
            // The clock jumps over groups of all widths; splitting them takes several calls.
            while shard.expire(now_ms, 64).more_due {}
        }
        assert_eq!(shard.stats().counters.clock_flushes, 0);
        assert_eq!(shard.len(), 1, "the one that is due in eleven years");
    }
}

#[test]
fn a_clock_that_jumps_by_weeks_never_brings_an_item_back() {
    for jump_ms in [19 * DAY_MS, 24 * DAY_MS, 26 * DAY_MS, 51 * DAY_MS, 1 << 31, 1 << 32, 3 << 32] {
        let mut shard = shard(1 << 20);
        let start_ms = 10 * DAY_MS;
        let deadlines = deadlines_around(start_ms);
        set(&mut shard, b"stays", b"v").unwrap();
        for &deadline_ms in &deadlines {
            set_until(&mut shard, &deadline_ms.to_le_bytes(), b"v", deadline_ms, start_ms);
        }
        // Nobody calls `expire`.
        let now_ms = start_ms + jump_ms;
        let is_weeks = jump_ms > 20 * DAY_MS;
        for &deadline_ms in &deadlines {
            let expected = now_ms < deadline_ms && !is_weeks;
            assert_eq!(is_there(&mut shard, deadline_ms, now_ms), expected, "{jump_ms}");
        }
        let stats = shard.stats();
        assert_eq!(stats.counters.clock_flushes, u64::from(is_weeks));
        assert_eq!(stats.items == 0, is_weeks);
        shard.validate().unwrap();
        set_until(&mut shard, b"new", b"v", now_ms + 5, now_ms);
        assert_eq!(shard.len(), stats.items + 1);
        let hash = shard.hash(b"new");
        assert!(shard.peek(hash, b"new", now_ms + 4).is_some());
        assert!(shard.peek(hash, b"new", now_ms + 5).is_none());
    }
}

#[test]
fn without_expiry_an_item_that_nobody_reads_is_flushed_in_time() {
    let mut shard = shard(1 << 20);
    set_until(&mut shard, b"unread", b"v", DAY_MS, 0);
    let flushed = (1..100).find(|days| {
        let now_ms = days * DAY_MS;
        let hash = shard.hash(b"other");
        shard.peek(hash, b"other", now_ms);
        shard.stats().counters.clock_flushes > 0
    });
    assert_eq!(flushed, Some(21), "when it is overdue by 20 days");
    // Items without a deadline, or not due yet, are nobody's concern.
    set(&mut shard, b"stays", b"v").unwrap();
    set_until(&mut shard, b"later", b"v", 900 * DAY_MS, 100 * DAY_MS);
    let hash = shard.hash(b"stays");
    assert!(shard.peek(hash, b"stays", 800 * DAY_MS).is_some());
    assert_eq!(shard.stats().counters.clock_flushes, 1);
    shard.validate().unwrap();
}

#[test]
fn the_next_deadline_tells_how_long_to_sleep() {
    let mut shard = shard(1 << 20);
    assert_eq!(shard.next_deadline_ms(), None);
    set(&mut shard, b"stays", b"v").unwrap();
    assert_eq!(shard.next_deadline_ms(), None);
    set_until(&mut shard, b"a", b"v", 1_001, 10);
    assert_eq!(shard.next_deadline_ms(), Some(1_003));
    set_until(&mut shard, b"b", b"v", 500, 10);
    assert_eq!(shard.next_deadline_ms(), Some(503));
    set_until(&mut shard, b"c", b"v", DAY_MS, 10);
    // Sleeping from one to the next removes each item within its 4 ms.
    let (mut wakes, mut now_ms) = (0, 10);
    while let Some(next_ms) = shard.next_deadline_ms() {
        assert!(next_ms >= now_ms);
        now_ms = next_ms;
        shard.expire(now_ms, 64);
        wakes += 1;
    }
    assert!((5..=6).contains(&wakes), "two items, two splits and the last item: {wakes}");
    assert_eq!((shard.len(), now_ms), (1, DAY_MS | 3));
    assert_eq!(shard.stats().expiry.lag_max_ms, 3);
}

#[test]
fn held_expiry_leaves_items_in_place_until_they_are_looked_at() {
    let mut shard = Shard::new(&ShardConfig::default()).expect("address space");
    let options = SetOptions { deadline: Deadline::At(100), ..SetOptions::default() };
    for key in [b"a", b"b"] {
        let hash = shard.hash(key);
        shard.set(hash, key, b"v", &options, 0).expect("room");
    }
    shard.hold_expiry(true);
    while shard.maintain(1_000, 64) > 0 {}
    assert_eq!((shard.len(), shard.next_deadline_ms()), (2, None));
    let hash = shard.hash(b"a");
    assert!(shard.get(hash, b"a", 1_000).is_none());
    assert_eq!(shard.len(), 1);
    shard.hold_expiry(false);
    assert!(shard.next_deadline_ms().is_some());
    while shard.maintain(1_000, 64) > 0 {}
    assert_eq!(shard.len(), 0);
    shard.validate().expect("invariants");
}
