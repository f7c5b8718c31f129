//! The work of writes that come at a bad moment.

use super::*;
use crate::config::{Limits, ShardConfig};
use crate::request::SetOptions;
use crate::shard::Shard;

/// Steps for free, beyond the budget, to balance, and the dead items that the last ones pass.
const STEPS_MAX: u64 = TAIL_ITEMS_BASE as u64 + FORCED_STEPS + BALANCE_STEPS + 2 * 3 * 8;

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn a_write_that_opens_the_last_segment_does_not_evict_one_for_it() {
    let seed = 0x5eed_0003u64;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let limits = Limits { total_bytes: 64 << 20, ..ShardConfig::default().limits };
    let config = ShardConfig { limits, hash_seed: seed, ..ShardConfig::default() };
    let mut shard = Shard::new(&config).unwrap();
    let (value, segment_bytes) = (vec![b'v'; 512], shard.log.segment_bytes());
    let (mut newest, mut pinched) = (0, 0);
    for write in 0..900_000u64 {
        // Half of the writes overwrite values by longer and shorter ones, and leave holes.
        let is_full = shard.counters.evictions > 0;
        let overwrites = is_full && random(2) == 0;
        newest += u64::from(!overwrites);
        let number = if overwrites { newest - random(shard.len()) } else { newest };
        let key = number.to_le_bytes();
        let (hash, bits) = (shard.hash(&key), 4 + random(5));
        let value = &value[..(1 << bits) + random(1 << bits) as usize];
        // Now and then the limit leaves a single segment to a write that has to open one, as when
        // the table has grown and most room is in other heads.
        let free = shard
            .segments_allowed(LINES_PER_INSERT_MAX)
            .saturating_sub(shard.log.segments_in_use());
        let opens = shard.log.head_left_bytes(Queue::Window) < value.len() + 64;
        let is_pinched = is_full && opens && free > 1 && !shard.garbage_is_much();
        let taken_bytes = if is_pinched { (free - 1) * segment_bytes } else { 0 };
        pinched += u64::from(is_pinched);
        shard.limits.total_bytes -= taken_bytes;
        shard.set(hash, &key, value, &SetOptions::default(), 1).unwrap();
        let steps = shard.work.tail_steps;
        assert!(steps <= STEPS_MAX + value.len() as u64 / 32, "{steps} steps in write {write}");
        let used_bytes = shard.log.segments_in_use() * segment_bytes + shard.side_bytes(0);
        assert!(used_bytes <= shard.limits.total_bytes, "{used_bytes} bytes in write {write}");
        shard.limits.total_bytes += taken_bytes;
        shard.maintain(1, 64);
    }
    assert!(pinched > 50, "{pinched} writes came at a bad moment");
    shard.validate().unwrap();
}
