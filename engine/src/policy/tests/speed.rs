//! What a hit, and an insert with its eviction, cost. Ignored by default: run
//! `cargo test --release -p pinion-engine -- --ignored --nocapture speed`.

use std::hint::black_box;
use std::time::Instant;

use super::store::Store;
use crate::hash::KeyHash;
use crate::policy::random::{Random, mix};

const ITEMS: u32 = 1 << 20;

#[test]
#[ignore = "prints times"]
fn speed() {
    for kind in super::KINDS {
        let policy = super::policy(kind, u64::from(ITEMS));
        let mut store = Store::new(policy, 8 * ITEMS as usize, u64::from(ITEMS), 1);
        for key in 0..2 * ITEMS {
            store.access(key, 1);
        }
        let mut random = Random::new(7);
        let hashes: Vec<KeyHash> =
            (0..1 << 22).map(|_| KeyHash::from_bits(mix(random.next()))).collect();
        let start = Instant::now();
        for &hash in &hashes {
            store.policy.hit(black_box(hash), 3, || 1, || false);
        }
        let hit_ns = start.elapsed().as_nanos() as f64 / hashes.len() as f64;
        let (start, moved) = (Instant::now(), store.moved());
        let inserts = 4 * ITEMS;
        for key in 0..inserts {
            store.access(2 * ITEMS + key, 1);
        }
        let insert_ns = start.elapsed().as_nanos() as f64 / f64::from(inserts);
        let moves = (store.moved() - moved) as f64 / f64::from(inserts);
        println!(
            "{kind:?}: hit {hit_ns:.1} ns, insert and evict {insert_ns:.0} ns, {moves:.2} moves"
        );
    }
}
