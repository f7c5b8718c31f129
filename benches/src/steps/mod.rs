//! The slowest single call of a shard, and what calls cost by the number of items.
//!
//! - `grow`: new items only, far below the limit: the table splits, segments are opened
//! - `full`: a shard at its limit: new items evict, overwrites change sizes, upkeep runs
//! - `curve`: the cost of an insert, a read and an overwrite at several counts of items
//!
//! Work is counted in units that do not depend on the machine: the greatest of each counter over
//! all calls. The clock stands beside it. A shared processor stops any call now and then, so that
//! the greatest time says little where the greatest work does not explain it.
//!
//! Cost: two readings of the clock a call, some 50 ns, which are in the times.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hdrhistogram::Histogram;
use pinion_engine::{EngineError, Limits, SetOptions, Shard, ShardConfig, Work};
use pinion_net::core::limits::MAINTENANCE_ITEMS;
use serde_json::{Value, json};

use crate::caches::{Key, mix, write_document};
use crate::client::Prng;
use crate::harness::{HarnessError, Table};
use crate::sys::cpu;

/// Memory for an item of the growing shard besides its value.
const ITEM_BYTES_MAX: usize = 96;
/// Memory of a shard besides its items.
const SPARE_BYTES: usize = 64 << 20;
/// Sizes of values at a full shard: 2^4 to 2^9 bytes, and a few large ones.
const SIZE_BITS: (u64, u64) = (4, 9);
/// One write in so many has a value of `LARGE_BYTES`.
const LARGE_ONE_IN: u64 = 1000;
const LARGE_BYTES: usize = 20_000;
/// Calls that are timed for a point of the curve.
const CURVE_CALLS: u64 = 200_000;
/// Longest call that is told apart; anything above counts as this.
const TIME_MAX_NS: u64 = 60_000_000_000;
/// Names of the counters of work.
const WORK_NAMES: [&str; 7] = [
    "tail steps",
    "items moved",
    "bytes copied",
    "lines read",
    "split items",
    "resizes",
    "expiry entries",
];

/// Measures the slowest single call of a shard, and the cost of calls by the number of items.
#[derive(Clone, Debug, Parser)]
#[command(name = "steps", version, max_term_width = 100)]
pub struct StepsOptions {
    /// Items that the growing shard reaches; 0 leaves this part out
    #[arg(long, default_value_t = 20_000_000)]
    pub items: u64,
    /// Limit of the full shard in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(8..=65_536))]
    pub memory_mib: u64,
    /// Writes to the full shard; 0 leaves this part out
    #[arg(long, default_value_t = 5_000_000)]
    pub writes: u64,
    /// Counts of items at which the cost of a call is measured, ascending; 0 leaves this part out
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,...",
        default_value = "100000,300000,1000000,3000000,10000000,30000000,50000000"
    )]
    pub curve: Vec<u64>,
    /// Bytes of the values of growing shards
    #[arg(long, value_name = "BYTES", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub value_size: u32,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What calls of one kind came to.
struct Calls {
    name: &'static str,
    time_ns: Histogram<u64>,
    work_max: [u64; WORK_NAMES.len()],
}

impl Calls {
    fn new(name: &'static str) -> Calls {
        let time_ns = Histogram::new_with_max(TIME_MAX_NS, 3)
            .unwrap_or_else(|_| unreachable!("range and digits are valid"));
        Calls { name, time_ns, work_max: [0; WORK_NAMES.len()] }
    }

    /// Times a call that changes the shard, and looks at its work.
    fn time<R>(&mut self, shard: &mut Shard, call: impl FnOnce(&mut Shard) -> R) -> R {
        let start_ns = cpu::monotonic_ns();
        let result = call(shard);
        self.time_ns.saturating_record(cpu::monotonic_ns() - start_ns);
        for (max, work) in self.work_max.iter_mut().zip(units(&shard.stats().work)) {
            *max = (*max).max(work);
        }
        result
    }

    fn row(&self) -> Vec<String> {
        let us = |ns: u64| format!("{:.2}", ns as f64 / 1e3);
        let mut row = vec![
            self.name.to_string(),
            self.time_ns.len().to_string(),
            format!("{:.0}", self.time_ns.mean()),
            us(self.time_ns.value_at_quantile(0.99)),
            us(self.time_ns.value_at_quantile(0.999)),
            us(self.time_ns.max()),
        ];
        row.extend(self.work_max.iter().map(u64::to_string));
        row
    }

    fn to_json(&self) -> Value {
        let work: serde_json::Map<String, Value> = WORK_NAMES
            .iter()
            .zip(self.work_max)
            .map(|(name, max)| ((*name).into(), max.into()))
            .collect();
        json!({
            "calls": self.name,
            "count": self.time_ns.len(),
            "mean_ns": self.time_ns.mean(),
            "p99_ns": self.time_ns.value_at_quantile(0.99),
            "p99_9_ns": self.time_ns.value_at_quantile(0.999),
            "max_ns": self.time_ns.max(),
            "work_max": work,
        })
    }
}

/// The counters of a call's work, in the order of their names.
fn units(work: &Work) -> [u64; WORK_NAMES.len()] {
    let Work {
        tail_steps,
        items_moved,
        bytes_copied,
        lines_read,
        split_items,
        resizes,
        expiry_entries,
    } = *work;
    [tail_steps, items_moved, bytes_copied, lines_read, split_items, resizes, expiry_entries]
}

/// Costs at one count of items, in nanoseconds a call.
struct Point {
    items: u64,
    insert_ns: f64,
    read_ns: f64,
    overwrite_ns: f64,
}

/// Runs the parts that are asked for, prints their tables, and writes the JSON file.
///
/// # Errors
///
/// If the command line contradicts itself, a shard cannot be made or loses what it has room for,
/// or the file cannot be written.
pub fn run(options: &StepsOptions) -> Result<(), HarnessError> {
    let curve: Vec<u64> = options.curve.iter().copied().filter(|&items| items > 0).collect();
    if !curve.is_sorted() {
        return Err(HarnessError::Usage("--curve needs ascending counts".to_string()));
    }
    let mut titles = vec!["calls", "count", "mean ns", "p99 us", "p99.9 us", "max us"];
    titles.extend(WORK_NAMES);
    let mut table = Table::new(&titles);
    let mut results = Vec::new();
    let mut parts = Vec::new();
    if options.items > 0 {
        parts.push(grow(options)?);
    }
    if options.writes > 0 {
        parts.extend(full(options)?);
    }
    for calls in &parts {
        table.push(calls.row());
        results.push(calls.to_json());
    }
    print!("{}", table.render());
    if !curve.is_empty() {
        let mut table = Table::new(&["items", "insert ns", "read ns", "overwrite ns"]);
        for point in measure_curve(options, &curve)? {
            table.push(vec![
                point.items.to_string(),
                format!("{:.0}", point.insert_ns),
                format!("{:.0}", point.read_ns),
                format!("{:.0}", point.overwrite_ns),
            ]);
            results.push(json!({
                "items": point.items,
                "insert_ns": point.insert_ns,
                "read_ns": point.read_ns,
                "overwrite_ns": point.overwrite_ns,
            }));
        }
        print!("\n{}", table.render());
    }
    match &options.json {
        Some(path) => write_document(path, "steps", Value::Null, results),
        None => Ok(()),
    }
}

/// The whole of the `steps` program: arguments to exit code.
pub fn main() -> ExitCode {
    match run(&StepsOptions::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steps: {error}");
            ExitCode::FAILURE
        }
    }
}

fn shard(total_bytes: usize) -> Result<Shard, HarnessError> {
    let config = ShardConfig {
        hash_seed: 1,
        limits: Limits { total_bytes, ..ShardConfig::default().limits },
        huge_pages: true,
        ..ShardConfig::default()
    };
    Shard::new(&config).map_err(shard_error)
}

fn shard_error(error: EngineError) -> HarnessError {
    HarnessError::Server { name: "shard".to_string(), text: error.to_string() }
}

/// A shard with room for so many items.
fn roomy_shard(options: &StepsOptions, items: u64) -> Result<Shard, HarnessError> {
    let item_bytes = (ITEM_BYTES_MAX + options.value_size as usize) as u64;
    let bytes = items.saturating_mul(item_bytes).saturating_add(SPARE_BYTES as u64);
    shard(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn write(shard: &mut Shard, number: u64, value: &[u8]) -> bool {
    let key = Key::new(number);
    let hash = shard.hash(key.bytes());
    shard.set(hash, key.bytes(), value, &SetOptions::default(), 1).is_ok()
}

fn check_items(shard: &Shard, expected: u64) -> Result<(), HarnessError> {
    if shard.len() == expected {
        return Ok(());
    }
    let text = format!("holds {} of {expected} items that it has room for", shard.len());
    Err(HarnessError::Server { name: "shard".to_string(), text })
}

fn grow(options: &StepsOptions) -> Result<Calls, HarnessError> {
    let mut shard = roomy_shard(options, options.items)?;
    let value = vec![b'v'; options.value_size as usize];
    let mut calls = Calls::new("insert, growing");
    for number in 0..options.items {
        calls.time(&mut shard, |shard| write(shard, number, &value));
    }
    check_items(&shard, options.items)?;
    Ok(calls)
}

/// Half of the writes bring new keys, half overwrite one of the last that were written. Upkeep
/// follows each, as at the end of a server's turn.
fn full(options: &StepsOptions) -> Result<[Calls; 3], HarnessError> {
    let mut shard = shard((options.memory_mib << 20) as usize)?;
    let value = vec![b'v'; LARGE_BYTES];
    let mut prng = Prng::new(options.seed);
    let mut next_number = 0;
    // Full is a shard that has begun to evict.
    while shard.stats().counters.evictions == 0 {
        write(&mut shard, next_number, &value[..value_bytes(&mut prng)]);
        shard.maintain(1, MAINTENANCE_ITEMS);
        next_number += 1;
    }
    let recent = shard.len().max(1);
    let mut inserts = Calls::new("insert, full");
    let mut overwrites = Calls::new("overwrite, full");
    let mut upkeep = Calls::new("upkeep, full");
    for _ in 0..options.writes {
        let value = &value[..value_bytes(&mut prng)];
        if prng.below(2) == 0 {
            inserts.time(&mut shard, |shard| write(shard, next_number, value));
            next_number += 1;
        } else {
            let number = next_number.saturating_sub(1 + prng.below(recent));
            overwrites.time(&mut shard, |shard| write(shard, number, value));
        }
        upkeep.time(&mut shard, |shard| shard.maintain(1, MAINTENANCE_ITEMS));
    }
    Ok([inserts, overwrites, upkeep])
}

/// Sizes by powers of two, so that overwrites nearly always change them.
fn value_bytes(prng: &mut Prng) -> usize {
    if prng.below(LARGE_ONE_IN) == 0 {
        return LARGE_BYTES;
    }
    let (low, high) = SIZE_BITS;
    let bits = low + prng.below(high - low);
    ((1 << bits) + prng.below(1 << bits)) as usize
}

fn measure_curve(options: &StepsOptions, curve: &[u64]) -> Result<Vec<Point>, HarnessError> {
    let most = curve.last().copied().unwrap_or(0);
    let mut shard = roomy_shard(options, most)?;
    let value = vec![b'v'; options.value_size as usize];
    let mut filled = 0;
    let mut points = Vec::new();
    for &items in curve {
        let timed = CURVE_CALLS.min(items - filled);
        (filled..items - timed).for_each(|number| {
            write(&mut shard, number, &value);
        });
        let insert_ns = per_call(timed, |index| {
            write(&mut shard, items - timed + index, &value);
        });
        filled = items;
        check_items(&shard, items)?;
        let random = |index: u64, salt: u64| mix(index, salt ^ options.seed) % items;
        let mut found = 0;
        let read_ns = per_call(CURVE_CALLS, |index| {
            let key = Key::new(random(index, items));
            let hash = shard.hash(key.bytes());
            found += u64::from(shard.get(hash, key.bytes(), 1).is_some());
        });
        let overwrite_ns = per_call(CURVE_CALLS, |index| {
            write(&mut shard, random(index, !items), &value);
        });
        check_items(&shard, items)?;
        if found < CURVE_CALLS {
            let text = format!("found {found} of {CURVE_CALLS} items");
            return Err(HarnessError::Server { name: "shard".to_string(), text });
        }
        points.push(Point { items, insert_ns, read_ns, overwrite_ns });
    }
    Ok(points)
}

/// Nanoseconds per call; NaN without calls.
fn per_call(calls: u64, mut call: impl FnMut(u64)) -> f64 {
    let start_ns = cpu::monotonic_ns();
    (0..calls).for_each(&mut call);
    (cpu::monotonic_ns() - start_ns) as f64 / calls as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str) -> StepsOptions {
        let words = std::iter::once("steps").chain(arguments.split_whitespace());
        StepsOptions::try_parse_from(words).unwrap()
    }

    #[test]
    fn the_work_of_every_part_is_counted() {
        let options = options("--items 5000 --memory-mib 8 --writes 20000");
        let grow = grow(&options).unwrap();
        assert_eq!(grow.time_ns.len(), 5_000);
        let work = |calls: &Calls, name: &str| {
            calls.work_max[WORK_NAMES.iter().position(|other| *other == name).unwrap()]
        };
        assert!(work(&grow, "split items") > 0 && work(&grow, "resizes") == 1);
        assert_eq!(work(&grow, "tail steps"), 0, "nothing has to go");
        let [inserts, overwrites, upkeep] = full(&options).unwrap();
        assert_eq!(inserts.time_ns.len() + overwrites.time_ns.len(), 20_000);
        assert_eq!(upkeep.time_ns.len(), 20_000);
        assert!(work(&inserts, "tail steps") > 0 && work(&overwrites, "lines read") > 0);
    }

    #[test]
    fn long_calls_are_told_apart() {
        let mut calls = Calls::new("a long one");
        let mut shard = shard(8 << 20).unwrap();
        calls.time(&mut shard, |_| std::thread::sleep(std::time::Duration::from_millis(3)));
        assert!(calls.time_ns.max() >= 3_000_000, "{}", calls.time_ns.max());
    }

    #[test]
    fn every_point_of_the_curve_is_measured() {
        let points = measure_curve(&options("--value-size 0"), &[100, 5_000]).unwrap();
        assert_eq!(points.iter().map(|point| point.items).collect::<Vec<_>>(), [100, 5_000]);
        assert!(points.iter().all(|point| point.read_ns > 0.0 && point.insert_ns > 0.0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = run(&options("--items 0 --writes 0 --curve 10,5")).unwrap_err();
        assert!(error.to_string().contains("--curve"), "{error}");
        let error = roomy_shard(&options(""), u64::MAX).err().unwrap();
        assert!(error.to_string().starts_with("shard: "), "{error}");
    }
}
