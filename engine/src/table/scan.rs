//! Walking over all slots while the table grows and shrinks.
//!
//! A walk goes through the buckets in the order of their *reversed* hash bits. There, a bucket is
//! an interval: the `k` low bits that its keys share are the `k` high bits of their positions. A
//! split cuts an interval in two and a merge joins two, so whatever the table does between the
//! steps of a walk, a slot whose position lies ahead of the walk is met. One that was met may be
//! met again after a merge.

use super::{SlotRef, Table};

/// Bits of a position: as many as bucket numbers have at most.
const POSITION_BITS: u32 = 32;

/// The bucket at a position, and where the next one begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stop {
    pub(super) bucket: usize,
    /// The position behind the bucket; `None` at the end.
    pub(crate) next: Option<u32>,
}

impl Table {
    /// The bucket whose interval a position lies in.
    pub(crate) fn stop_at(&self, position: u32) -> Stop {
        let low_bits = position.reverse_bits() as usize & self.mask;
        let half = (self.mask >> 1) + 1;
        let bucket = if low_bits < self.buckets { low_bits } else { low_bits & self.mask >> 1 };
        // The newest buckets, and those that they were split from, are known by one bit more.
        let all_bits = self.mask.count_ones();
        let is_split = bucket >= half || bucket + half < self.buckets;
        let bits = if is_split { all_bits } else { all_bits.saturating_sub(1) };
        let width = 1u64 << (POSITION_BITS - bits);
        let next = u64::from(position) / width * width + width;
        Stop { bucket, next: u32::try_from(next).ok() }
    }

    /// Calls `f` with every slot of a bucket.
    pub(crate) fn each_of(&self, stop: Stop, mut f: impl FnMut(SlotRef)) {
        let mut id = self.primary(stop.bucket);
        loop {
            let line = self.line(id);
            let mut used = line.used();
            while used != 0 {
                f(SlotRef { line: id, index: used.trailing_zeros() as usize });
                used &= used - 1;
            }
            match self.next(id) {
                Some(next) => id = next,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Items;
    use super::*;
    use crate::hash::KeyHash;

    fn hash(number: u64) -> KeyHash {
        KeyHash::of(&number.to_le_bytes(), 7)
    }

    /// Offsets are the numbers that were hashed.
    struct Numbers;

    impl Items for Numbers {
        fn prefetch(&mut self, _: u64) {}

        fn hash_of(&mut self, offset: u64) -> Option<KeyHash> {
            Some(hash(offset))
        }
    }

    fn table(items: u64) -> Table {
        let mut table = Table::new(1 << 12, 1 << 10, false).expect("address space");
        for number in 0..items {
            table.insert(hash(number), number, 0).expect("room");
            if table.split_due() {
                table.split(&mut Numbers);
            }
        }
        table
    }

    #[test]
    fn a_walk_meets_each_slot_once_at_any_size() {
        for items in [0, 1, 9, 30, 100, 777, 5_000] {
            let table = table(items);
            let (mut seen, mut position) = (vec![0; items as usize], Some(0));
            while let Some(at) = position {
                let stop = table.stop_at(at);
                table.each_of(stop, |at| seen[table.offset(at) as usize] += 1);
                assert!(stop.next.is_none_or(|next| next > at));
                position = stop.next;
            }
            assert!(seen.iter().all(|&count| count == 1), "{items}");
        }
    }

    #[test]
    fn growth_and_shrinking_between_steps_hide_nothing() {
        for seed in 0..40u64 {
            let mut table = table(400);
            let (mut seen, mut position, mut state) = (vec![false; 400], Some(0), seed);
            while let Some(at) = position {
                let stop = table.stop_at(at);
                table.each_of(stop, |at| seen[table.offset(at) as usize] = true);
                position = stop.next;
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                for _ in 0..(state >> 33) % 9 {
                    match seed % 3 {
                        0 => table.split(&mut Numbers),
                        1 => _ = table.merge(),
                        _ if state >> 60 & 1 == 0 => table.split(&mut Numbers),
                        _ => _ = table.merge(),
                    }
                }
            }
            assert!(seen.iter().all(|&seen| seen), "seed {seed}");
        }
    }
}
