//! Resident memory per item while a server fills: one instance, read at each count.

use clap::Args;
use serde_json::{Value, json};

use super::{check_value_bytes, mib, settled_bytes};
use crate::caches::{Answer, Cache, CacheOptions, Expiry, Key, mix};
use crate::harness::{HarnessError, Table};

/// Memory that the limit allows for an item besides its value: no server here needs as much.
const ITEM_BYTES_MAX: u64 = 320;
/// Memory that the limit allows besides the items.
const SPARE_BYTES: u64 = 512 << 20;
/// Deadlines lie between so far away and twice as far.
const TTL_MS: u64 = 3_600_000;

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct FillOptions {
    /// Which servers.
    #[command(flatten)]
    pub caches: CacheOptions,
    /// Counts of items at which memory is read
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,...",
        default_value = "8000000,10000000,12000000,14000000,16000000"
    )]
    pub items: Vec<u64>,
    /// Bytes of every value; keys have 16
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub value_size: usize,
    /// Without deadlines, with them, or one after the other
    #[arg(long, value_delimiter = ',', value_name = "no|yes", default_value = "no,yes")]
    pub ttl: Vec<Ttl>,
}

/// Whether items have a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ttl {
    /// They have none.
    No,
    /// Each has its own, hours away.
    Yes,
}

/// Memory at one count.
struct Reading {
    items: u64,
    resident_bytes: u64,
    overhead_bytes: f64,
}

pub(super) fn run(options: &FillOptions) -> Result<(), HarnessError> {
    check_value_bytes(options.value_size)?;
    if options.items.is_empty() || options.items.contains(&0) || !options.items.is_sorted() {
        let text = "--items needs counts of items, ascending and above 0";
        return Err(HarnessError::Usage(text.to_string()));
    }
    let caches = options.caches.prepare()?;
    let mut table =
        Table::new(&["server", "ttl", "items", "empty MiB", "RSS MiB", "overhead B/item"]);
    let mut results = Vec::new();
    for cache in &caches {
        for &ttl in &options.ttl {
            let ttl_name = if ttl == Ttl::Yes { "yes" } else { "no" };
            eprintln!("footprint: {}, deadlines: {ttl_name}", cache.name);
            let (empty_bytes, readings) = fill(options, cache, ttl)?;
            for reading in readings {
                table.push(vec![
                    cache.name.clone(),
                    ttl_name.to_string(),
                    reading.items.to_string(),
                    mib(empty_bytes),
                    mib(reading.resident_bytes),
                    format!("{:.1}", reading.overhead_bytes),
                ]);
                results.push(reading.to_json(&cache.name, ttl == Ttl::Yes, empty_bytes));
            }
        }
    }
    print!("{}", table.render());
    options.caches.write_json("footprint-fill", results)
}

/// Fills a server; memory when it was empty, and at each count.
fn fill(
    options: &FillOptions,
    cache: &Cache,
    ttl: Ttl,
) -> Result<(u64, Vec<Reading>), HarnessError> {
    let most = options.items.last().copied().unwrap_or(0);
    let item_bytes = ITEM_BYTES_MAX + options.value_size as u64;
    let running = cache.start(most.saturating_mul(item_bytes) + SPARE_BYTES)?;
    let mut wire = running.connect()?;
    let empty_bytes = settled_bytes(&running)?;
    let value = vec![b'v'; options.value_size];
    let mut readings = Vec::new();
    let mut filled = 0;
    for &count in &options.items {
        let mut refused = 0;
        let pumped = wire.pump(
            count - filled,
            |index, requests| {
                let number = filled + index;
                let expiry = match ttl {
                    Ttl::No => Expiry::None,
                    Ttl::Yes => Expiry::After(TTL_MS + mix(number, 0) % TTL_MS),
                };
                requests.set(Key::new(number).bytes(), &value, expiry);
            },
            |_, answer| refused += u64::from(answer != Answer::Stored),
        );
        running.named(pumped)?;
        filled = count;
        let items = running.named(wire.items())?;
        if refused > 0 || items != count {
            let text = format!("holds {items} of {count} items, and refused {refused}");
            return Err(running.error(text));
        }
        let resident_bytes = settled_bytes(&running)?;
        let data_bytes = count * (Key::new(0).bytes().len() + options.value_size) as u64;
        let overhead = resident_bytes as f64 - empty_bytes as f64 - data_bytes as f64;
        let overhead_bytes = overhead / count as f64;
        readings.push(Reading { items: count, resident_bytes, overhead_bytes });
    }
    Ok((empty_bytes, readings))
}

impl Reading {
    fn to_json(&self, server: &str, has_ttl: bool, empty_bytes: u64) -> Value {
        json!({
            "server": server,
            "ttl": has_ttl,
            "items": self.items,
            "empty_bytes": empty_bytes,
            "resident_bytes": self.resident_bytes,
            "overhead_bytes_per_item": self.overhead_bytes,
        })
    }
}
