//! Large values that arrive in pieces and are read in pieces: what each call promises.

mod common;

use common::{get, is_equal, read_pinned, set, shard, shard_without_eviction, value_of};
use pinion_engine::{
    Condition, LargeWrite, PinLimit, PinnedValue, Refusal, SetError, SetOptions, Shard, Stored,
};

fn key(n: u64) -> [u8; 8] {
    n.to_le_bytes()
}

fn begin(shard: &mut Shard, name: &[u8], bytes: usize) -> Result<LargeWrite, SetError> {
    shard.begin_large(name, bytes)
}

/// Appends all of `bytes`, calling again as often as it takes.
fn append(shard: &mut Shard, write: &mut LargeWrite, mut bytes: &[u8]) -> Result<(), SetError> {
    let mut calls = 0;
    while !bytes.is_empty() {
        let taken = shard.append_large(write, bytes, 0)?;
        bytes = &bytes[taken..];
        calls += 1;
        assert!(calls < 100_000, "no progress");
    }
    Ok(())
}

fn finish(shard: &mut Shard, write: LargeWrite) -> Result<Stored, SetError> {
    let hash = shard.hash(write.key());
    shard.finish_large(write, hash, &SetOptions::default(), 0)
}

/// Stores a value as it would arrive.
fn arrive(shard: &mut Shard, name: &[u8], value: &[u8]) -> Result<Stored, SetError> {
    let mut write = begin(shard, name, value.len())?;
    match append(shard, &mut write, value) {
        Ok(()) => finish(shard, write),
        Err(error) => {
            shard.abort_large(write);
            Err(error)
        }
    }
}

fn pin(shard: &mut Shard, name: &[u8]) -> PinnedValue {
    let hash = shard.hash(name);
    shard.pin(hash, name, 0).expect("within the limit").expect("a paged item")
}

#[test]
fn an_item_appears_whole_or_not_at_all() {
    let mut shard = shard(64 << 20);
    set(&mut shard, b"key", b"old").unwrap();
    let value = value_of(1, 1, 1_000_000);
    let mut write = begin(&mut shard, b"key", value.len()).unwrap();
    for piece in value.chunks(70_001) {
        assert_eq!(get(&mut shard, b"key", 0), Some(b"old".to_vec()));
        append(&mut shard, &mut write, piece).unwrap();
        shard.validate().unwrap();
    }
    assert_eq!(write.missing_bytes(), 0);
    assert_eq!(shard.append_large(&mut write, b"more", 0), Ok(0));
    assert!((1_000_000..1_020_000).contains(&shard.stats().arriving_bytes));
    finish(&mut shard, write).unwrap();
    assert_eq!(shard.stats().arriving_bytes, 0);
    let hash = shard.hash(b"key");
    assert!(is_equal(shard.get(hash, b"key", 0).unwrap().value, &value));
    let write = begin(&mut shard, b"key", 9_000_000).unwrap_err();
    assert_eq!(write, SetError::ValueTooLong { bytes_max: 8 << 20 });
    shard.validate().unwrap();
}

#[test]
fn conditions_are_those_of_the_end() {
    let mut shard = shard(64 << 20);
    let absent = SetOptions { condition: Condition::IfAbsent, ..SetOptions::default() };
    let hash = shard.hash(b"key");
    let mut first = begin(&mut shard, b"key", 50_000).unwrap();
    let mut second = begin(&mut shard, b"key", 60_000).unwrap();
    append(&mut shard, &mut first, &[1; 50_000]).unwrap();
    append(&mut shard, &mut second, &[2; 60_000]).unwrap();
    assert!(matches!(shard.finish_large(second, hash, &absent, 0), Ok(Stored::Stored { .. })));
    let outcome = shard.finish_large(first, hash, &absent, 0);
    assert_eq!(outcome, Ok(Stored::ConditionFailed(Refusal::Present)));
    assert_eq!(get(&mut shard, b"key", 0), Some(vec![2; 60_000]));
    assert_eq!(shard.stats().arriving_bytes, 0);
    shard.validate().unwrap();
}

#[test]
fn readers_keep_their_version_whatever_becomes_of_the_item() {
    let mut shard = shard(8 << 20);
    let versions: Vec<Vec<u8>> = (0..4).map(|n| value_of(7, n, 200_000)).collect();
    let mut readers = Vec::new();
    for version in &versions {
        set(&mut shard, b"key", version).unwrap();
        readers.push(pin(&mut shard, b"key"));
        readers.push(pin(&mut shard, b"key"));
        shard.validate().unwrap();
    }
    let hash = shard.hash(b"key");
    shard.delete(hash, b"key", None, 0);
    // Others come and go, with values that would take the pages.
    for n in 0..200 {
        arrive(&mut shard, &key(n), &value_of(n, 0, 100_000)).unwrap();
    }
    for n in 0..200 {
        let hash = shard.hash(&key(n));
        shard.delete(hash, &key(n), None, 0);
    }
    shard.flush();
    shard.validate().unwrap();
    let stats = shard.stats();
    assert_eq!(stats.page_bytes, stats.pinned_bytes, "only what readers hold is left");
    assert!((800_000..900_000).contains(&stats.pinned_bytes), "{stats:?}");
    for (index, pinned) in readers.into_iter().enumerate() {
        assert!(read_pinned(&shard, &pinned) == versions[index / 2], "reader {index}");
        shard.unpin(pinned);
        shard.validate().unwrap();
    }
    assert_eq!(shard.stats().page_bytes, 0);
}

#[test]
fn values_in_flight_have_bounds_and_one_is_always_let_in() {
    let mut shard = shard(16 << 20);
    let mut writes = Vec::new();
    let refused = loop {
        let mut write = begin(&mut shard, &key(writes.len() as u64), 3 << 20).unwrap();
        let outcome = append(&mut shard, &mut write, &vec![1; 1 << 20]);
        writes.push(write);
        if let Err(error) = outcome {
            break error;
        }
    };
    assert_eq!((refused, writes.len()), (SetError::NoSpace, 5));
    assert!(shard.stats().arriving_bytes <= 4 << 20);
    shard.validate().unwrap();
    writes.into_iter().for_each(|write| shard.abort_large(write));
    assert_eq!(shard.stats().page_bytes, 0);

    let mut readers = Vec::new();
    for n in 0..6 {
        set(&mut shard, &key(n), &vec![n as u8; 1 << 20]).unwrap();
        let hash = shard.hash(&key(n));
        match shard.pin(hash, &key(n), 0) {
            Ok(pinned) => readers.push(pinned.unwrap()),
            Err(PinLimit) => assert_eq!(readers.len(), 4),
        }
    }
    assert_eq!(readers.len(), 4);
    // A value that is read already takes nothing more.
    readers.push(pin(&mut shard, &key(0)));
    readers.into_iter().for_each(|pinned| shard.unpin(pinned));
    shard.validate().unwrap();
}

#[test]
fn without_eviction_an_arriving_value_is_refused_and_takes_nothing() {
    let mut shard = shard_without_eviction(4 << 20);
    let mut stored = 0;
    while set(&mut shard, &key(stored), &[1; 1_000]).is_ok() {
        stored += 1;
    }
    let before = shard.stats();
    assert_eq!(arrive(&mut shard, b"large", &[2; 300_000]), Err(SetError::NoSpace));
    let after = shard.stats();
    assert_eq!((after.items, after.page_bytes), (before.items, 0));
    assert_eq!(shard.len(), stored);
    shard.validate().unwrap();
}

/// What an arriving value may cost in one call, and evict in all.
#[test]
fn values_arrive_in_small_steps_and_evict_their_own_bytes() {
    for item_bytes in [30, 300, 3_000, 100_000] {
        let mut shard = shard(40 << 20);
        let mut n = 0;
        while shard.stats().counters.evictions == 0 {
            n += 1;
            set(&mut shard, &key(n), &vec![1; item_bytes]).unwrap();
        }
        let evicted_before = shard.stats().counters.evicted_bytes;
        let value_bytes = 8 << 20;
        let mut write = begin(&mut shard, b"large", value_bytes).unwrap();
        let (mut calls, mut short) = (0, 0);
        while write.missing_bytes() > 0 {
            let piece = [7; 16 << 10];
            let piece = &piece[..piece.len().min(write.missing_bytes())];
            let taken = shard.append_large(&mut write, piece, 0).unwrap();
            let work = shard.stats().work;
            assert!(work.tail_steps <= 1_024 + 24, "{work:?}");
            assert!(work.bytes_copied <= (16 << 10) * 17 + (100 << 10), "{work:?}");
            calls += 1;
            short += u64::from(taken < piece.len());
            assert!(calls < 2_000, "no progress with items of {item_bytes} bytes");
        }
        shard.validate().unwrap();
        let evicted = shard.stats().counters.evicted_bytes - evicted_before;
        let most = (value_bytes + (1 << 20)) as u64;
        println!("{item_bytes}: {calls} calls, {short} short, {evicted} bytes evicted");
        assert!(evicted <= most, "{evicted} bytes evicted by {value_bytes}");
        finish(&mut shard, write).unwrap();
        assert!(get(&mut shard, b"large", 0).is_some_and(|value| value == vec![7; value_bytes]));
        shard.validate().unwrap();
    }
}
