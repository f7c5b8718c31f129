//! Resident memory per item after overwrites with other sizes, at a full cache.
//!
//! Holes that overwrites leave count as overhead, and so does everything else that is resident and
//! no byte of a key or value. What the server still holds is read back at the end.

use clap::Args;
use serde_json::json;

use super::fit::fill_until_eviction;
use super::{mib, settled_bytes};
use crate::caches::{Answer, Cache, CacheOptions, Expiry, Key, Running, Wire, mix};
use crate::harness::{HarnessError, Table};

/// Sizes of values that overwrite others, least and greatest.
const VALUE_BYTES: [u64; 2] = [32, 128];
/// Size of the values that fill the cache.
const FIRST_VALUE_BYTES: usize = 64;

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct ChurnOptions {
    /// Which servers.
    #[command(flatten)]
    pub caches: CacheOptions,
    /// The limit on memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024,
          value_parser = clap::value_parser!(u64).range(64..=1 << 20))]
    pub memory_mib: u64,
    /// How often every key is overwritten, with a value of 32 to 128 bytes
    #[arg(long, default_value_t = 3)]
    pub rounds: u64,
}

/// What is there at the end.
struct Contents {
    items: u64,
    /// Bytes of keys and values.
    data_bytes: u64,
}

pub(super) fn run(options: &ChurnOptions) -> Result<(), HarnessError> {
    let caches = options.caches.prepare()?;
    let mut table = Table::new(&[
        "server",
        "limit MiB",
        "empty MiB",
        "keys",
        "items",
        "data MiB",
        "RSS MiB",
        "overhead B/item",
    ]);
    let mut results = Vec::new();
    for cache in &caches {
        eprintln!("footprint: {}", cache.name);
        let (row, result) = churn(options, cache)?;
        table.push(row);
        results.push(result);
    }
    print!("{}", table.render());
    options.caches.write_json("footprint-churn", results)
}

fn churn(
    options: &ChurnOptions,
    cache: &Cache,
) -> Result<(Vec<String>, serde_json::Value), HarnessError> {
    let running = cache.start(options.memory_mib << 20)?;
    let mut wire = running.connect()?;
    let empty_bytes = settled_bytes(&running)?;
    let keys = fill_until_eviction(&running, &mut wire, FIRST_VALUE_BYTES)?.sent;
    for round in 1..=options.rounds {
        overwrite(&running, &mut wire, keys, round)?;
    }
    let resident_bytes = settled_bytes(&running)?;
    let contents = read_back(&running, &mut wire, keys)?;
    let overhead = resident_bytes as f64 - empty_bytes as f64 - contents.data_bytes as f64;
    let overhead_bytes = overhead / contents.items.max(1) as f64;
    let row = vec![
        cache.name.clone(),
        options.memory_mib.to_string(),
        mib(empty_bytes),
        keys.to_string(),
        contents.items.to_string(),
        mib(contents.data_bytes),
        mib(resident_bytes),
        format!("{overhead_bytes:.1}"),
    ];
    let result = json!({
        "server": cache.name,
        "memory_bytes": options.memory_mib << 20,
        "rounds": options.rounds,
        "empty_bytes": empty_bytes,
        "keys": keys,
        "items": contents.items,
        "data_bytes": contents.data_bytes,
        "resident_bytes": resident_bytes,
        "overhead_bytes_per_item": overhead_bytes,
    });
    Ok((row, result))
}

/// Writes every key once, in an order and with sizes of this round.
fn overwrite(
    running: &Running,
    wire: &mut Wire,
    keys: u64,
    round: u64,
) -> Result<(), HarnessError> {
    let value = [b'w'; VALUE_BYTES[1] as usize];
    let step = coprime_step(keys, round);
    let pumped = wire.pump(
        keys,
        |index, requests| {
            let number = (u128::from(index) * u128::from(step) % u128::from(keys)) as u64;
            let sizes = VALUE_BYTES[1] - VALUE_BYTES[0] + 1;
            let bytes = VALUE_BYTES[0] + mix(number, round) % sizes;
            requests.set(Key::new(number).bytes(), &value[..bytes as usize], Expiry::None);
        },
        |_, _| {},
    );
    running.named(pumped)
}

/// Reads every key; a server that evicts may have lost any.
fn read_back(running: &Running, wire: &mut Wire, keys: u64) -> Result<Contents, HarnessError> {
    let mut contents = Contents { items: 0, data_bytes: 0 };
    let key_bytes = Key::new(0).bytes().len();
    let pumped = wire.pump(
        keys,
        |number, requests| requests.get(Key::new(number).bytes()),
        |_, answer| {
            if let Answer::Value(value) = answer {
                contents.items += 1;
                contents.data_bytes += (key_bytes + value.len()) as u64;
            }
        },
    );
    running.named(pumped)?;
    Ok(contents)
}

/// A step that visits every number below `count` once, in an order that looks random.
fn coprime_step(count: u64, salt: u64) -> u64 {
    let mut step = (mix(count, salt) % count.max(2)) | 1;
    while gcd(step, count) != 1 {
        step += 2;
    }
    step
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_visits_every_key_once() {
        for count in [1_u64, 2, 3, 10, 97, 1_000, 30_030] {
            for salt in 1..4 {
                let step = coprime_step(count, salt);
                let mut seen = vec![false; count as usize];
                for index in 0..count {
                    let place = (index * step % count) as usize;
                    assert!(!std::mem::replace(&mut seen[place], true), "{count} {salt}");
                }
            }
        }
    }
}
