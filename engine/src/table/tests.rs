//! The table against a plain map; items are numbers, and an item's offset is its number.

use std::collections::HashMap;

use super::{ChainFull, Items, SlotRef, Table};
use crate::bounds::{LINE_BYTES, SLOTS_PER_LINE};
use crate::hash::KeyHash;

fn hash_of(item: u64) -> KeyHash {
    KeyHash::of(&item.to_le_bytes(), 7)
}

/// Items whose hash is a function of their offset.
struct ByOffset<F>(F);

impl<F: FnMut(u64) -> Option<KeyHash>> Items for ByOffset<F> {
    fn prefetch(&mut self, _offset: u64) {}

    fn hash_of(&mut self, offset: u64) -> Option<KeyHash> {
        (self.0)(offset)
    }
}

fn find(table: &Table, item: u64) -> Option<SlotRef> {
    table.find(hash_of(item), |offset| offset == item).found
}

fn adjust(table: &mut Table) {
    if table.split_due() {
        table.split(&mut ByOffset(|offset| Some(hash_of(offset))));
    } else if table.merge_due() {
        table.merge();
    }
}

fn validate(table: &Table) {
    let check = table.check(|bucket, slot| {
        assert_eq!(table.bucket_of(hash_of(slot.offset)), bucket);
        assert_eq!(hash_of(slot.offset).tag(), slot.tag);
    });
    check.unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn the_load_is_the_same_at_every_count_and_chains_stay_short() {
    let mut table = Table::new(1 << 20, 1 << 20, false).unwrap();
    let marks = [100, 1_000, 50_000, 70_000, 90_000, 110_000, 130_000];
    for item in 1..=130_000u64 {
        table.insert(hash_of(item), item, 0).unwrap();
        adjust(&mut table);
        if marks.contains(&item) {
            let bytes_per_item = (table.lines() * LINE_BYTES) as f64 / item as f64;
            let bytes_max = if item < 1_000 { 11.0 } else { 9.6 };
            assert!(bytes_per_item <= bytes_max, "{bytes_per_item} bytes an item at {item}");
            let probes = (1..=item).map(|item| {
                let probe = table.find(hash_of(item), |offset| offset == item);
                assert!(probe.found.is_some());
                u64::from(probe.lines)
            });
            let lines_per_hit = probes.sum::<u64>() as f64 / item as f64;
            assert!(lines_per_hit < 1.25, "{lines_per_hit} lines a hit at {item}");
            validate(&table);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn an_emptied_table_gives_its_lines_back() {
    let mut table = Table::new(1 << 16, 1 << 16, false).unwrap();
    for item in 1..=20_000 {
        table.insert(hash_of(item), item, 0).unwrap();
        adjust(&mut table);
    }
    for item in 1..=20_000 {
        let at = find(&table, item).unwrap();
        table.remove(hash_of(item), at);
        adjust(&mut table);
    }
    assert_eq!(table.slots(), 0);
    assert_eq!(table.lines(), 1);
    validate(&table);
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn frequency_and_clock_bit_survive_splits_merges_and_moves() {
    let mut table = Table::new(1 << 16, 1 << 16, false).unwrap();
    for item in 1..=40 {
        table.insert(hash_of(item), item, 0).unwrap();
    }
    for item in 1..=40 {
        for _ in 0..item % 16 {
            let at = find(&table, item).unwrap();
            table.mark_used(at);
        }
    }
    for item in 41..=5_000 {
        table.insert(hash_of(item), item, 0).unwrap();
        adjust(&mut table);
    }
    for item in 41..=5_000 {
        table.remove(hash_of(item), find(&table, item).unwrap());
        adjust(&mut table);
    }
    for item in 1..=40 {
        let slot = table.slot(find(&table, item).unwrap());
        assert_eq!(u64::from(slot.frequency), item % 16);
        assert_eq!(slot.referenced, item % 16 != 0);
    }
}

#[test]
fn a_split_drops_the_slots_of_dead_items() {
    let mut table = Table::new(16, 16, false).unwrap();
    for item in 1..=8 {
        table.insert(hash_of(item), item, 0).unwrap();
    }
    table.split(&mut ByOffset(|offset: u64| offset.is_multiple_of(2).then(|| hash_of(offset))));
    assert_eq!(table.slots(), 4);
    assert!((1..=8).all(|item| find(&table, item).is_some() == (item % 2 == 0)));
    validate(&table);
}

#[test]
fn a_full_chain_refuses_and_takes_again_after_a_removal() {
    // One bucket that may not split, and two overflow lines: thirty slots.
    let mut table = Table::new(1, 2, false).unwrap();
    let slots = 3 * SLOTS_PER_LINE as u64;
    for item in 1..=slots {
        table.insert(hash_of(item), item, 0).unwrap();
        adjust(&mut table);
    }
    assert_eq!(table.insert(hash_of(99), 99, 0), Err(ChainFull));
    let referenced = find(&table, 1).unwrap();
    table.set_referenced(referenced, true);
    let victim = table.any_of(hash_of(99)).unwrap();
    assert!(!table.slot(victim).referenced);
    table.remove(hash_of(99), victim);
    table.insert(hash_of(99), 99, 0).unwrap();
    assert_eq!(table.slots(), slots);
    validate(&table);
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn scarce_overflow_lines_bring_splits_forward() {
    let mut table = Table::new(1 << 12, 24, false).unwrap();
    let mut refused = 0;
    for item in 1..=4_000 {
        if table.insert(hash_of(item), item, 0).is_err() {
            refused += 1;
        }
        adjust(&mut table);
    }
    assert!(refused < 100, "{refused} of 4000 refused");
    validate(&table);
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn random_steps_agree_with_a_map() {
    let seed = 0x5eed_0001u64;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut table = Table::new(1 << 14, 1 << 12, false).unwrap();
    // Item number to the number that its slot points at now; relocation keeps the residue.
    let mut model: HashMap<u64, u64> = HashMap::new();
    let item_of = |offset: u64| offset % 10_000;
    for step in 0..60_000 {
        let item = random(if step % 20_000 < 10_000 { 9_999 } else { 500 }) + 1;
        let at = table.find(hash_of(item), |offset| item_of(offset) == item).found;
        assert_eq!(at.map(|at| table.offset(at)), model.get(&item).copied());
        match (at, random(3)) {
            (None, _) => {
                table.insert(hash_of(item), item, 0).unwrap();
                model.insert(item, item);
            }
            (Some(at), 0) => {
                let offset = item + 10_000 * random(1_000_000);
                table.relocate(at, offset);
                model.insert(item, offset);
            }
            (Some(at), _) => {
                table.remove(hash_of(item), at);
                model.remove(&item);
            }
        }
        if table.split_due() {
            table.split(&mut ByOffset(|offset| Some(hash_of(item_of(offset)))));
        } else if table.merge_due() {
            table.merge();
        }
        assert_eq!(table.slots(), model.len() as u64);
        if step % 5_000 == 0 {
            table.check(|_, slot| assert_eq!(model[&item_of(slot.offset)], slot.offset)).unwrap();
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow under Miri")]
fn overflow_lines_are_used_again_however_long_items_come_and_go() {
    let seed = 0x5eed_0002u64;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut table = Table::new(1 << 14, 1 << 14, false).unwrap();
    let (mut items, mut next): (Vec<u64>, u64) = (Vec::new(), 1);
    let (mut used_max, mut lines_max, mut first_max) = (0, 0, 0);
    for round in 0..30 {
        // Up to 30,000 items and down to 1,000, and a time at each end in which they change.
        for (target, steps) in [(30_000, 40_000), (30_000, 20_000), (1_000, 40_000)] {
            for _ in 0..steps {
                let grows = items.len() < target || (items.len() == target && random(2) == 0);
                if grows {
                    table.insert(hash_of(next), next, 0).unwrap();
                    items.push(next);
                    next += 1;
                } else if !items.is_empty() {
                    let item = items.swap_remove(random(items.len() as u64) as usize);
                    table.remove(hash_of(item), find(&table, item).unwrap());
                }
                adjust(&mut table);
                used_max = used_max.max(table.overflow_lines());
                lines_max = lines_max.max(table.lines());
            }
        }
        validate(&table);
        assert_eq!(table.overflow_fresh as usize, used_max + 1, "a free one goes first");
        if round == 1 {
            first_max = used_max;
        }
    }
    assert!(used_max * 5 <= lines_max * 2, "{used_max} of {lines_max} lines");
    assert!(used_max * 10 <= first_max * 11, "{used_max}, and {first_max} in the first rounds");
}
