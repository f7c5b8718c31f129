//! The structure by itself: entries whose items are a plain map from prefix to deadline.

use std::collections::HashMap;

use super::{Expiry, Source};
use crate::bounds::EXPIRY_BATCH;
use crate::item::DEADLINE_MS_MAX;

struct Model {
    expiry: Expiry,
    deadlines: HashMap<u32, u64>,
    now_ms: u64,
    state: u64,
}

impl Model {
    fn new(state: u64) -> Model {
        println!("state {state}");
        let expiry = Expiry::new(1 << 20).unwrap();
        Model { expiry, deadlines: HashMap::new(), now_ms: 0, state }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (self.state >> 20) % bound
    }

    fn file(&mut self, prefix: u32, deadline_ms: u64) {
        self.expiry.count(self.deadlines.insert(prefix, deadline_ms), Some(deadline_ms));
        self.expiry.file(prefix, deadline_ms, self.now_ms);
    }

    /// Handles what is due, one batch of each kind at a time, and returns the entries taken.
    fn run(&mut self) -> usize {
        let mut taken = 0;
        while self.expiry.is_due(self.now_ms) {
            for source in [Source::Due, Source::Split] {
                let Some(batch) = self.expiry.take(source, EXPIRY_BATCH, self.now_ms) else {
                    continue;
                };
                taken += batch.prefixes().len();
                for &prefix in batch.prefixes() {
                    let deadline_ms = self.deadlines[&prefix];
                    if deadline_ms <= self.now_ms {
                        self.expiry.count(self.deadlines.remove(&prefix), None);
                    } else {
                        assert!(source == Source::Split, "an entry fired before its deadline");
                        self.expiry.file(prefix, deadline_ms, self.now_ms);
                    }
                }
            }
        }
        taken
    }

    fn check(&self) {
        let plane = self.expiry.plane();
        let items = self.deadlines.iter().map(|(&prefix, &ms)| (prefix, plane, ms));
        self.expiry.check(items).unwrap();
    }
}

#[test]
fn every_entry_fires_at_the_end_of_its_group_whatever_its_distance() {
    let mut model = Model::new(1);
    for prefix in 0..300 {
        let distance_ms = 1u64 << model.below(43);
        let deadline_ms = distance_ms + model.below(distance_ms);
        model.file(prefix, deadline_ms);
    }
    model.file(300, DEADLINE_MS_MAX);
    model.file(301, 1);
    // From one event to the next: nothing may fire late or twice.
    let mut taken = 0;
    while let Some(next_ms) = model.expiry.next_due_ms() {
        model.now_ms = model.now_ms.max(next_ms);
        taken += model.run();
        model.check();
        let now_ms = model.now_ms;
        assert!(model.deadlines.values().all(|deadline_ms| deadline_ms | 3 > now_ms));
    }
    assert!(model.deadlines.is_empty());
    assert_eq!(model.expiry.entries, 0);
    assert!(taken <= 302 * 5, "each entry is taken once a level at most: {taken}");
}

#[test]
fn a_clock_that_jumps_fires_all_that_has_passed_and_nothing_else() {
    let mut model = Model::new(2);
    let mut prefix = 0;
    for _ in 0..200 {
        for _ in 0..model.below(100) {
            let distance_ms = 1 << model.below(40);
            let deadline_ms = model.now_ms + 1 + model.below(distance_ms);
            model.file(prefix, deadline_ms.min(DEADLINE_MS_MAX));
            prefix += 1;
        }
        let bits = model.below(36);
        model.now_ms += model.below(1 << bits);
        model.run();
        model.check();
        let now_ms = model.now_ms;
        assert!(model.deadlines.values().all(|deadline_ms| deadline_ms | 3 > now_ms));
    }
    assert!(prefix > 5_000);
}

#[test]
fn an_empty_structure_waits_for_nothing_and_clears() {
    let mut model = Model::new(3);
    assert_eq!(model.expiry.next_due_ms(), None);
    model.now_ms = 10_001;
    model.file(1, 10_005);
    assert_eq!(model.expiry.next_due_ms(), Some(10_007));
    model.file(2, 60_000);
    model.deadlines.clear();
    model.expiry.clear();
    model.check();
    assert_eq!((model.expiry.next_due_ms(), model.expiry.bytes()), (None, 0));
    model.file(3, 20_000);
    model.check();
}

#[test]
fn an_earlier_deadline_within_the_same_coarse_group_is_covered() {
    let model = Model::new(4);
    // From cursor 0, level 0 reaches 4,096 ms, and then groups are 2,048 ms wide.
    assert!(model.expiry.covers(6_000, 7_000));
    assert!(model.expiry.covers(6_100, 4_096));
    assert!(!model.expiry.covers(6_200, 6_100), "6,144 begins another group");
    assert!(model.expiry.covers(2_003, 2_000));
    assert!(!model.expiry.covers(2_004, 2_003));
}

#[test]
fn entries_take_little_more_than_four_bytes() {
    let mut expiry = Expiry::new(64 << 20).unwrap();
    for prefix in 0..1_000_000u32 {
        // An hour's worth of deadlines.
        expiry.file(prefix, 1 + u64::from(prefix) * 7 % 3_600_000, 0);
    }
    // 4.13, and the chunks of some 2,500 groups that are not full.
    let bytes = expiry.bytes() as f64 / 1e6;
    assert!(bytes < 4.55, "{bytes} bytes an entry");
    expiry.clear();
    (0..1_000_000).for_each(|prefix| expiry.file(prefix, 60_000 + u64::from(prefix) / 100, 0));
    let bytes = expiry.bytes() as f64 / 1e6;
    assert!(bytes < 4.15, "{bytes} bytes an entry of one time to live");
}
