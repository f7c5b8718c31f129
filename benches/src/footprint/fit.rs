//! How many items a fixed limit holds before the first one has to go.
//!
//! A check of the other figures by counting: memory that was touched ahead, or is not resident for
//! some other reason, changes nothing here.

use clap::Args;
use serde_json::json;

use super::{check_value_bytes, mib, settled_bytes};
use crate::caches::{Answer, CacheOptions, Expiry, Key, Running, Wire};
use crate::harness::{HarnessError, Table};

/// Items written between two looks at how many are there: the grain of the result.
const ITEMS_PER_LOOK: u64 = 4096;
/// A server that has lost nothing by then has no limit.
const ITEMS_MAX: u64 = 1 << 32;

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct FitOptions {
    /// Which servers.
    #[command(flatten)]
    pub caches: CacheOptions,
    /// Limits on memory in MiB
    #[arg(long, value_delimiter = ',', value_name = "MIB,...", default_value = "256,1024",
          value_parser = clap::value_parser!(u64).range(64..=1 << 20))]
    pub memory_mib: Vec<u64>,
    /// Bytes of every value; keys have 16
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub value_size: usize,
}

/// A cache that has just become full.
pub(super) struct Full {
    /// Items that were there when the last look found none missing.
    pub(super) fitting: u64,
    /// Keys that were written.
    pub(super) sent: u64,
}

pub(super) fn run(options: &FitOptions) -> Result<(), HarnessError> {
    check_value_bytes(options.value_size)?;
    let caches = options.caches.prepare()?;
    let mut table =
        Table::new(&["server", "limit MiB", "items", "limit B/item", "beyond data", "RSS MiB"]);
    let mut results = Vec::new();
    for cache in &caches {
        for &memory_mib in &options.memory_mib {
            eprintln!("footprint: {} at {memory_mib} MiB", cache.name);
            let running = cache.start(memory_mib << 20)?;
            let mut wire = running.connect()?;
            let full = fill_until_eviction(&running, &mut wire, options.value_size)?;
            let resident_bytes = settled_bytes(&running)?;
            let per_item = (memory_mib << 20) as f64 / full.fitting.max(1) as f64;
            let data_bytes = Key::new(0).bytes().len() + options.value_size;
            table.push(vec![
                cache.name.clone(),
                memory_mib.to_string(),
                full.fitting.to_string(),
                format!("{per_item:.1}"),
                format!("{:.1}", per_item - data_bytes as f64),
                mib(resident_bytes),
            ]);
            results.push(json!({
                "server": cache.name,
                "memory_bytes": memory_mib << 20,
                "items": full.fitting,
                "items_grain": ITEMS_PER_LOOK,
                "data_bytes_per_item": data_bytes,
                "limit_bytes_per_item": per_item,
                "resident_bytes": resident_bytes,
            }));
        }
    }
    print!("{}", table.render());
    options.caches.write_json("footprint-fit", results)
}

/// Writes new keys, numbered from 0, until items are missing or refused.
pub(super) fn fill_until_eviction(
    running: &Running,
    wire: &mut Wire,
    value_bytes: usize,
) -> Result<Full, HarnessError> {
    let value = vec![b'v'; value_bytes];
    let mut sent = 0;
    while sent < ITEMS_MAX {
        let mut refused = 0;
        let first = sent;
        let pumped = wire.pump(
            ITEMS_PER_LOOK,
            |index, requests| requests.set(Key::new(first + index).bytes(), &value, Expiry::None),
            |_, answer| refused += u64::from(answer != Answer::Stored),
        );
        running.named(pumped)?;
        sent += ITEMS_PER_LOOK;
        if refused > 0 || running.named(wire.items())? < sent {
            return Ok(Full { fitting: first, sent });
        }
    }
    Err(running.error(format!("has lost none of {ITEMS_MAX} items: it has no limit")))
}
