//! Reads and writes never ask the allocator for memory, once the shard is made.
//!
//! Alone in its file, because it replaces the allocator by one that counts for each thread.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Random, shard};
use pinion_engine::{Deadline, SetOptions};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches nothing
// of its memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more, and nothing to count.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the ones that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`; the memory came from there.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn reads_and_writes_do_not_allocate() {
    let mut random = Random::announced(31);
    let mut shard = shard(2 << 20);
    let value = vec![1; 100_000];
    let before = ALLOCATIONS.get();
    for step in 0..300_000u64 {
        let key = random.below(60_000).to_le_bytes();
        let hash = shard.hash(&key);
        let bytes = if random.one_in(1_000) { random.below(100_000) } else { random.below(300) };
        let deadline = match random.below(3) {
            0 => Deadline::At(step + 50_000),
            _ => Deadline::None,
        };
        match random.below(8) {
            0..4 => {
                let options = SetOptions { deadline, ..SetOptions::default() };
                shard.set(hash, &key, &value[..bytes as usize], &options, step).unwrap();
            }
            4 => {
                shard.delete(hash, &key, None, step);
            }
            5 => {
                shard.set_deadline(hash, &key, Some(step + 50_000), step).unwrap();
            }
            6 if random.one_in(10_000) => shard.flush(),
            6 => {
                shard.maintain(step, 10);
            }
            _ => {
                shard.prefetch_line(hash);
                shard.prefetch_item(hash);
                if let Some(entry) = shard.get(hash, &key, step) {
                    assert!(entry.value.chunks().all(|chunk| chunk.iter().all(|&byte| byte == 1)));
                }
            }
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert!(shard.stats().counters.evictions > 1_000);
}
