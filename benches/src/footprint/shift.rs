//! Resident memory against the limit while the size of values shifts at a full cache.
//!
//! Each phase writes new keys with values of one size, twice as many bytes as the limit, so that
//! everything of the phase before has to go. Memory is read as it goes; the most that was seen
//! counts, for a limit that is passed for a moment can end a process.

use clap::Args;
use serde_json::json;

use super::{check_value_bytes, mib};
use crate::caches::{Cache, CacheOptions, Expiry, Key};
use crate::harness::{HarnessError, Table};

/// A phase writes so many times the bytes of the limit.
const TURNS_OF_LIMIT: u64 = 2;
/// Readings of a phase.
const READINGS: u64 = 50;

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct ShiftOptions {
    /// Which servers.
    #[command(flatten)]
    pub caches: CacheOptions,
    /// Limits on memory in MiB
    #[arg(long, value_delimiter = ',', value_name = "MIB,...", default_value = "256,512,1024",
          value_parser = clap::value_parser!(u64).range(64..=1 << 20))]
    pub memory_mib: Vec<u64>,
    /// Bytes of values, phase by phase
    #[arg(long, value_delimiter = ',', value_name = "BYTES,...", default_value = "100,4096,100")]
    pub value_sizes: Vec<usize>,
}

/// What a phase came to.
struct Phase {
    value_bytes: usize,
    max_bytes: u64,
    end_bytes: u64,
    items: u64,
}

pub(super) fn run(options: &ShiftOptions) -> Result<(), HarnessError> {
    options.value_sizes.iter().try_for_each(|&bytes| check_value_bytes(bytes))?;
    if options.value_sizes.is_empty() {
        return Err(HarnessError::Usage("--value-sizes needs at least one size".to_string()));
    }
    let caches = options.caches.prepare()?;
    let mut table = Table::new(&[
        "server",
        "limit MiB",
        "value B",
        "items",
        "RSS MiB",
        "max RSS MiB",
        "max/limit",
    ]);
    let mut results = Vec::new();
    for cache in &caches {
        for &memory_mib in &options.memory_mib {
            eprintln!("footprint: {} at {memory_mib} MiB", cache.name);
            for phase in shift(options, cache, memory_mib << 20)? {
                let ratio = phase.max_bytes as f64 / (memory_mib << 20) as f64;
                table.push(vec![
                    cache.name.clone(),
                    memory_mib.to_string(),
                    phase.value_bytes.to_string(),
                    phase.items.to_string(),
                    mib(phase.end_bytes),
                    mib(phase.max_bytes),
                    format!("{ratio:.3}"),
                ]);
                results.push(json!({
                    "server": cache.name,
                    "memory_bytes": memory_mib << 20,
                    "value_bytes": phase.value_bytes,
                    "items": phase.items,
                    "resident_bytes": phase.end_bytes,
                    "resident_bytes_max": phase.max_bytes,
                    "max_to_limit": ratio,
                }));
            }
        }
    }
    print!("{}", table.render());
    options.caches.write_json("footprint-shift", results)
}

fn shift(
    options: &ShiftOptions,
    cache: &Cache,
    memory_bytes: u64,
) -> Result<Vec<Phase>, HarnessError> {
    let running = cache.start(memory_bytes)?;
    let mut wire = running.connect()?;
    let mut next_key = 0;
    let mut phases = Vec::new();
    for &value_bytes in &options.value_sizes {
        let value = vec![b'v'; value_bytes];
        let writes = (memory_bytes * TURNS_OF_LIMIT).div_ceil(value_bytes as u64);
        let mut phase = Phase { value_bytes, max_bytes: 0, end_bytes: 0, items: 0 };
        for _ in 0..READINGS {
            let count = writes.div_ceil(READINGS);
            let first = next_key;
            let pumped = wire.pump(
                count,
                |index, requests| {
                    requests.set(Key::new(first + index).bytes(), &value, Expiry::None);
                },
                // A server may refuse a write; what counts is the memory.
                |_, _| {},
            );
            running.named(pumped)?;
            next_key += count;
            phase.end_bytes = running.resident_bytes()?;
            phase.max_bytes = phase.max_bytes.max(phase.end_bytes);
        }
        phase.items = running.named(wire.items())?;
        phases.push(phase);
    }
    Ok(phases)
}
