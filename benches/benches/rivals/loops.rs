//! The three ways of reading that are timed.
//!
//! - Loop: keys that do not depend on each other. The processor overlaps several reads; what is
//!   measured is throughput.
//! - Serial: the next key depends on the last value; what is measured is latency.
//! - Batch: sixteen keys at a time, hashed, prefetched, then read, as a server's turn does.

use std::time::Instant;

use crate::stores::{Pinion, Store, fold, key_of};

/// Keys of a batch.
pub(crate) const BATCH: usize = 16;

/// How keys follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Independent keys.
    Loop,
    /// Each key depends on the value before.
    Serial,
    /// Sixteen keys at a time.
    Batch,
}

impl Mode {
    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Loop => "loop",
            Mode::Serial => "serial",
            Mode::Batch => "batch-16",
        }
    }
}

/// What a timed stretch of reads came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Nanoseconds per read.
    pub(crate) read_ns: f64,
    /// Reads that found nothing, or a value that is not sound.
    pub(crate) wrong: u64,
}

/// Something that can be timed, whatever its store.
pub(crate) trait Timed {
    /// The ways in which it can be read.
    fn modes(&self) -> &'static [Mode];
    /// Reads the items of these numbers.
    fn time(&mut self, mode: Mode, numbers: &[u32]) -> Stretch;
}

/// A store that reads one key at a time.
pub(crate) struct Single<S>(pub(crate) S);

impl<S: Store> Timed for Single<S> {
    fn modes(&self) -> &'static [Mode] {
        &[Mode::Loop, Mode::Serial]
    }

    fn time(&mut self, mode: Mode, numbers: &[u32]) -> Stretch {
        match mode {
            Mode::Serial => stretch(numbers, |numbers| serial(&mut self.0, numbers)),
            Mode::Loop | Mode::Batch => {
                stretch(numbers, |numbers| one_by_one(&mut self.0, numbers))
            }
        }
    }
}

impl Timed for Pinion {
    fn modes(&self) -> &'static [Mode] {
        &[Mode::Loop, Mode::Serial, Mode::Batch]
    }

    fn time(&mut self, mode: Mode, numbers: &[u32]) -> Stretch {
        match mode {
            Mode::Loop => stretch(numbers, |numbers| one_by_one(self, numbers)),
            Mode::Serial => stretch(numbers, |numbers| serial(self, numbers)),
            Mode::Batch => stretch(numbers, |numbers| batches(self, numbers)),
        }
    }
}

fn stretch(numbers: &[u32], read: impl FnOnce(&[u32]) -> u64) -> Stretch {
    let start = Instant::now();
    let wrong = std::hint::black_box(read(numbers));
    let elapsed = start.elapsed();
    Stretch { read_ns: elapsed.as_nanos() as f64 / numbers.len().max(1) as f64, wrong }
}

/// Reads keys that do not depend on each other; returns how many were wrong.
#[inline(never)]
fn one_by_one<S: Store>(store: &mut S, numbers: &[u32]) -> u64 {
    let mut wrong = 0;
    for &number in numbers {
        wrong += u64::from(store.read(&key_of(u64::from(number))) != Some(0));
    }
    wrong
}

/// Reads keys each of which is known only when the value before has been read in full.
#[inline(never)]
fn serial<S: Store>(store: &mut S, numbers: &[u32]) -> u64 {
    let (mut wrong, mut last) = (0, 0);
    for &number in numbers {
        // A sound value folds to 0, so that the number stays what it is.
        match store.read(&key_of(u64::from(number) ^ last)) {
            Some(fold) => last = fold,
            None => wrong += 1,
        }
    }
    wrong + u64::from(last != 0)
}

/// Reads as a server does: hash all, ask for all lines, then for all items, then read.
#[inline(never)]
fn batches(pinion: &mut Pinion, numbers: &[u32]) -> u64 {
    let mut wrong = 0;
    let now_ms = pinion.now_ms;
    let shard = &mut pinion.shard;
    for numbers in numbers.chunks(BATCH) {
        let mut keys = [[0; crate::stores::KEY_BYTES]; BATCH];
        let mut hashes = [shard.hash(b""); BATCH];
        for ((key, hash), &number) in keys.iter_mut().zip(&mut hashes).zip(numbers) {
            *key = key_of(u64::from(number));
            *hash = shard.hash(key);
            shard.prefetch_line(*hash);
        }
        let hashes = &hashes[..numbers.len()];
        hashes.iter().for_each(|&hash| shard.prefetch_item(hash));
        for (key, &hash) in keys.iter().zip(hashes) {
            let entry = shard.get(hash, key, now_ms);
            let folded = entry.and_then(|entry| entry.value.as_slice().map(fold));
            wrong += u64::from(folded != Some(0));
        }
    }
    wrong
}
