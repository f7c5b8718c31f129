//! Replays of real traces against the hit ratios of other policies. Ignored by default: set
//! `PINION_TRACES` to a folder with the traces (decompressed, `NAME.ctr`) and `reference.tsv`, then
//! `cargo test --release -p pinion-engine -- --ignored --nocapture traces`. `PINION_SEEDS` (5),
//! `PINION_POLICY` (tinylfu), `PINION_ONLY` (trace names) and `PINION_UNIT` (objects) choose.

use std::collections::BTreeMap;
use std::path::Path;

use super::store::Store;
use crate::config::Eviction;
use crate::policy::Policy;

struct Trace {
    keys: Vec<u32>,
    sizes: Option<Vec<u32>>,
    unique: usize,
}

fn load(path: &Path) -> Trace {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&bytes[..4], b"CTR1");
    let (flags, record) = (bytes[4], usize::from(bytes[5]));
    let word = |row: &[u8], at: usize| u32::from_le_bytes(row[at..at + 4].try_into().unwrap());
    let rows = || bytes[32..].chunks_exact(record);
    Trace {
        keys: rows().map(|row| word(row, 0)).collect(),
        sizes: (flags & 1 != 0).then(|| rows().map(|row| word(row, 4).max(1)).collect()),
        unique: u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize,
    }
}

/// What the other policies reach in one cell, in percent of objects.
#[derive(Default)]
struct Cell {
    best: f64,
    rows: BTreeMap<String, f64>,
}

fn reference(folder: &Path, unit: &str) -> BTreeMap<(String, u64), Cell> {
    let text = std::fs::read_to_string(folder.join("reference.tsv")).unwrap();
    let mut cells: BTreeMap<(String, u64), Cell> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [trace, capacity, policy, objects, _, row_unit, _, source] = fields[..] else {
            panic!("{line}")
        };
        if row_unit != unit {
            continue;
        }
        let percent = 100.0 * objects.parse::<f64>().unwrap();
        let cell = cells.entry((trace.into(), capacity.parse().unwrap())).or_default();
        cell.rows.insert(policy.into(), percent);
        if source != "own-sim" && policy != "Belady" && policy != "W-TinyLFU-libCacheSim" {
            cell.best = cell.best.max(percent);
        }
    }
    cells
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.into())
}

fn policy(name: &str, seed: u64, items_max: u64) -> Policy {
    let eviction = match name {
        "tinylfu" => Eviction::TinyLfu,
        "lru" => Eviction::Lru,
        "lfu" => Eviction::Lfu,
        "fifo" => Eviction::Fifo,
        "random" => Eviction::Random,
        other => panic!("no policy is called {other}"),
    };
    Policy::new(eviction, seed, items_max, items_max).unwrap().unwrap()
}

#[test]
#[ignore = "needs the traces"]
fn traces() {
    let folder = variable("PINION_TRACES", "");
    let folder = Path::new(&folder);
    let seeds: u64 = variable("PINION_SEEDS", "5").parse().unwrap();
    let first: u64 = variable("PINION_SEED", "1").parse().unwrap();
    let name = variable("PINION_POLICY", "tinylfu");
    let only = variable("PINION_ONLY", "");
    let unit = variable("PINION_UNIT", "objects");
    let row = match name.as_str() {
        "fifo" => "FIFO",
        "lfu" => "LFU",
        _ => "LRU",
    };
    let (mut count, mut gaps, mut large, mut gaps_large) = (0, 0.0, 0, 0.0);
    let (mut over, mut below, mut off) = (0, 0, 0);
    let mut loaded: Option<(String, Trace)> = None;
    println!("trace capacity best {row} ours spread gap moves/miss steps cost-hits");
    for ((trace, capacity), cell) in &reference(folder, &unit) {
        if !only.is_empty() && !only.split(',').any(|name| name == trace) {
            continue;
        }
        if loaded.as_ref().is_none_or(|(name, _)| name != trace) {
            loaded = Some((trace.clone(), load(&folder.join(format!("{trace}.ctr")))));
        }
        let Some((_, data)) = &loaded else { unreachable!() };
        let sizes = data.sizes.as_ref().filter(|_| unit == "bytes");
        let mut cost_sum = 0.0;
        let (mut sum, mut low, mut high, mut moves, mut steps) = (0.0f64, 100f64, 0f64, 0.0, 0);
        for seed in first..first + seeds {
            let items_max = data.unique as u64;
            let policy = policy(&name, seed, items_max);
            let mut store = Store::new(policy, data.unique, *capacity, seed);
            for (at, &key) in data.keys.iter().enumerate() {
                store.access(key, sizes.map_or(1, |sizes| sizes[at]));
            }
            store.validate();
            let percent = store.hit_percent();
            sum += percent;
            cost_sum += store.cost_hit_percent();
            (low, high) = (low.min(percent), high.max(percent));
            moves += store.moved() as f64 / (store.requests - store.hits) as f64 / seeds as f64;
            steps = steps.max(store.steps_max);
            if std::env::var("PINION_VERBOSE").is_ok() {
                println!("  {:?}", store.policy.stats());
            }
        }
        let ours = sum / seeds as f64;
        let gap = cell.best - ours;
        let rival = cell.rows[row];
        let (best, spread, cost_hits) = (cell.best, high - low, cost_sum / seeds as f64);
        println!(
            "{trace:18} {capacity:9} {best:6.2} {rival:6.2} {ours:6.2} {spread:5.2} {gap:6.2} \
             {moves:.2} {steps} {cost_hits:.2}"
        );
        count += 1;
        gaps += gap;
        over += u32::from(gap > 3.0);
        below += u32::from(ours < rival - 1.0);
        off += u32::from((ours - rival).abs() > 0.5);
        if *capacity >= 4096 {
            large += 1;
            gaps_large += gap;
        }
    }
    println!(
        "cells {count} mean gap {:.3}; {large} of 4096 and more {:.3}; gap over 3: {over}; \
         below {row} by over 1: {below}; off {row} by over 0.5: {off}",
        gaps / f64::from(count),
        gaps_large / f64::from(large.max(1)),
    );
}
