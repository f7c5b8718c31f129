//! The hit ratio that servers reach with equal resident memory.
//!
//! A read-through client: keys by Zipf's law, a miss is followed by a write, the size of a value
//! belongs to its key. A limit means something else to each server, so each one's is adjusted until
//! its resident memory, once full, is the target; what was reached is printed beside the ratio.
//!
//! ```text
//! calibrate: start, fill with the least popular keys, read through, weigh; adjust the limit; again
//! measure:   read through on, until warm; then count hits
//! ```
//!
//! Invariants:
//!
//! - All servers get the same keys in the same order, from the same seed.
//! - A value that is read must have its key's size; anything else ends the run.
//!
//! Cost: a table of a megabyte, and as many requests as asked.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pinion_loadgen::trace;
use serde_json::{Value, json};

use crate::caches::{Answer, Cache, CacheOptions, Expiry, Key, Running, Wire};
use crate::client::{Prng, Zipf};
use crate::harness::{HarnessError, Table};

mod sizes;

use sizes::Sizes;

/// Requests that are sent at once.
const BATCH: usize = 64;
/// Keys per byte of memory, where their number is not given: some ten times what fits.
const BYTES_PER_KEY: u64 = 20;
/// The filling writes so many times the target's bytes.
const FILL_TURNS: f64 = 1.2;
/// Least bytes that an item takes in any server, to know when filling ends.
const ITEM_OVERHEAD_BYTES: u64 = 40;

/// Measures the hit ratio of servers that are held to the same resident memory.
#[derive(Clone, Debug, Parser)]
#[command(name = "equal-memory", version, max_term_width = 100)]
pub struct EqualMemoryOptions {
    /// Which servers.
    #[command(flatten)]
    pub caches: CacheOptions,
    /// Resident memory of each server in MiB
    #[arg(long, value_delimiter = ',', value_name = "MIB,...", default_value = "256,1024",
          value_parser = clap::value_parser!(u64).range(32..=1 << 20))]
    pub resident_mib: Vec<u64>,
    /// How many keys there are [default: one for each 20 bytes of memory]
    #[arg(long)]
    pub keys: Option<u64>,
    /// Zipf's exponent, between 0 and 1
    #[arg(long, default_value_t = 0.99)]
    pub exponent: f64,
    /// Draw sizes like those of this trace's keys [default: Twitter's cluster 52]
    #[arg(long, value_name = "FILE")]
    pub sizes: Option<PathBuf>,
    /// Requests after filling, before memory is weighed
    #[arg(long, default_value_t = 2_000_000)]
    pub settle_requests: u64,
    /// Requests before hits are counted
    #[arg(long, default_value_t = 20_000_000)]
    pub warm_requests: u64,
    /// Requests whose hits are counted
    #[arg(long, default_value_t = 20_000_000)]
    pub requests: u64,
    /// Memory is right if it is so near to the target
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub tolerance: f64,
    /// How often the limit is adjusted at most
    #[arg(long, default_value_t = 5)]
    pub adjustments: u32,
    /// Seed of the keys
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// The requests of a run.
struct Stream<'a> {
    zipf: &'a Zipf,
    sizes: &'a Sizes,
    prng: Prng,
    value: Vec<u8>,
}

/// What requests came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    requests: u64,
    hits: u64,
    bytes: u64,
    hit_bytes: u64,
    refused: u64,
}

/// A server at its limit.
struct Settled {
    running: Running,
    wire: Wire,
    limit_bytes: u64,
}

/// Runs the benchmark, prints its table, and writes its JSON file if one is asked for.
///
/// # Errors
///
/// If the command line contradicts itself, a server fails, or the file cannot be written.
pub fn run(options: &EqualMemoryOptions) -> Result<(), HarnessError> {
    if !(options.exponent > 0.0 && options.exponent < 1.0) || options.tolerance.is_nan() {
        let text = "--exponent must lie between 0 and 1";
        return Err(HarnessError::Usage(text.to_string()));
    }
    if options.requests == 0 || options.keys == Some(0) {
        return Err(HarnessError::Usage("--requests and --keys must be above 0".to_string()));
    }
    let sizes = load_sizes(options)?;
    let caches = options.caches.prepare()?;
    let mut table = Table::new(&[
        "server",
        "target MiB",
        "RSS MiB",
        "limit MiB",
        "items",
        "requests",
        "hit %",
        "byte hit %",
    ]);
    let mut results = Vec::new();
    for &resident_mib in &options.resident_mib {
        let target_bytes = resident_mib << 20;
        let keys = options.keys.unwrap_or(target_bytes / BYTES_PER_KEY);
        let zipf = Zipf::new(keys, options.exponent);
        for cache in &caches {
            eprintln!("equal-memory: {} at {resident_mib} MiB", cache.name);
            let mut stream = Stream::new(options, &zipf, &sizes);
            let (row, result) = measure(options, cache, target_bytes, keys, &mut stream)?;
            table.push(row);
            results.push(result);
        }
    }
    print!("{}", table.render());
    options.caches.write_json("equal-memory", results)
}

/// The whole of the `equal-memory` program: arguments to exit code.
pub fn main() -> ExitCode {
    match run(&EqualMemoryOptions::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("equal-memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load_sizes(options: &EqualMemoryOptions) -> Result<Sizes, HarnessError> {
    let Some(path) = &options.sizes else { return Ok(Sizes::twitter_c52()) };
    let trace = trace::load(path).map_err(|error| HarnessError::Usage(error.to_string()))?;
    Sizes::of_trace(&trace)
        .ok_or_else(|| HarnessError::Usage(format!("{} has no sizes", path.display())))
}

fn measure(
    options: &EqualMemoryOptions,
    cache: &Cache,
    target_bytes: u64,
    keys: u64,
    stream: &mut Stream<'_>,
) -> Result<(Vec<String>, Value), HarnessError> {
    let mut settled = calibrate(options, cache, target_bytes, keys, stream)?;
    stream.read_through(&settled.running, &mut settled.wire, options.warm_requests)?;
    let tally = stream.read_through(&settled.running, &mut settled.wire, options.requests)?;
    let resident_bytes = settled.running.resident_bytes()?;
    let items = settled.running.named(settled.wire.items())?;
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let hit_ratio = tally.hits as f64 / tally.requests as f64;
    let byte_hit_ratio = tally.hit_bytes as f64 / tally.bytes as f64;
    let row = vec![
        cache.name.clone(),
        mib(target_bytes),
        mib(resident_bytes),
        mib(settled.limit_bytes),
        items.to_string(),
        tally.requests.to_string(),
        format!("{:.3}", hit_ratio * 100.0),
        format!("{:.3}", byte_hit_ratio * 100.0),
    ];
    let result = json!({
        "server": cache.name,
        "target_bytes": target_bytes,
        "resident_bytes": resident_bytes,
        "limit_bytes": settled.limit_bytes,
        "keys": keys,
        "items": items,
        "requests": tally.requests,
        "hit_ratio": hit_ratio,
        "byte_hit_ratio": byte_hit_ratio,
        "refused_writes": tally.refused,
    });
    Ok((row, result))
}

/// Starts a server again and again with other limits, until its resident memory is the target.
fn calibrate(
    options: &EqualMemoryOptions,
    cache: &Cache,
    target_bytes: u64,
    keys: u64,
    stream: &mut Stream<'_>,
) -> Result<Settled, HarnessError> {
    let mut limit_bytes = target_bytes;
    let mut adjustments = 0;
    loop {
        let running = cache.start(limit_bytes)?;
        let mut wire = running.connect()?;
        stream.fill(&running, &mut wire, target_bytes, keys)?;
        // Every calibration sees the same requests, and the measurement comes after them.
        stream.prng = Prng::new(options.seed);
        stream.read_through(&running, &mut wire, options.settle_requests)?;
        let resident_bytes = running.resident_bytes()?;
        let off = resident_bytes as f64 / target_bytes as f64 - 1.0;
        eprintln!(
            "equal-memory: {} with a limit of {} MiB has {} MiB",
            cache.name,
            limit_bytes >> 20,
            resident_bytes >> 20
        );
        let next_bytes = next_limit(limit_bytes, off, cache.limit_grain_bytes());
        let is_right = off.abs() * 100.0 <= options.tolerance || next_bytes == limit_bytes;
        if is_right || adjustments == options.adjustments {
            return Ok(Settled { running, wire, limit_bytes });
        }
        adjustments += 1;
        limit_bytes = next_bytes;
    }
}

/// The limit to try after one that was `off` by this part, in the server's grain.
fn next_limit(limit_bytes: u64, off: f64, grain_bytes: u64) -> u64 {
    let next_bytes = (limit_bytes as f64 / (1.0 + off)) as u64;
    (next_bytes / grain_bytes * grain_bytes).max(grain_bytes)
}

impl<'a> Stream<'a> {
    fn new(options: &EqualMemoryOptions, zipf: &'a Zipf, sizes: &'a Sizes) -> Stream<'a> {
        let value = vec![b'v'; sizes.max()];
        Stream { zipf, sizes, prng: Prng::new(options.seed), value }
    }

    /// Writes keys that together are more than the target, the most popular of them last.
    fn fill(
        &self,
        running: &Running,
        wire: &mut Wire,
        target_bytes: u64,
        keys: u64,
    ) -> Result<(), HarnessError> {
        let wanted_bytes = (target_bytes as f64 * FILL_TURNS) as u64;
        let (mut count, mut bytes) = (0, 0);
        while count < keys && bytes < wanted_bytes {
            bytes += self.sizes.of_key(count) as u64 + ITEM_OVERHEAD_BYTES;
            count += 1;
        }
        let pumped = wire.pump(
            count,
            |index, requests| {
                let key = count - 1 - index;
                let value = &self.value[..self.sizes.of_key(key)];
                requests.set(Key::new(key).bytes(), value, Expiry::None);
            },
            |_, _| {},
        );
        running.named(pumped)
    }

    /// Reads so many keys, and writes those that are missing.
    fn read_through(
        &mut self,
        running: &Running,
        wire: &mut Wire,
        requests: u64,
    ) -> Result<Tally, HarnessError> {
        let mut tally = Tally::default();
        let mut missing: Vec<u64> = Vec::with_capacity(BATCH);
        while tally.requests < requests || !missing.is_empty() {
            let count = (requests - tally.requests).min(BATCH as u64) as usize;
            let mut keys = [0; BATCH];
            let keys = &mut keys[..count];
            keys.fill_with(|| self.zipf.rank(self.prng.unit()));
            // The writes for what the batch before missed go ahead of the next reads.
            let batch = wire.requests();
            for &key in &missing {
                let value = &self.value[..self.sizes.of_key(key)];
                batch.set(Key::new(key).bytes(), value, Expiry::None);
            }
            keys.iter().for_each(|&key| batch.get(Key::new(key).bytes()));
            running.named(wire.send())?;
            for _ in 0..missing.len() {
                let answer = running.named(wire.answer())?;
                tally.refused += u64::from(answer != Answer::Stored);
            }
            missing.clear();
            for &key in keys.iter() {
                let bytes = self.sizes.of_key(key);
                let answer = running.named(wire.answer())?;
                tally.requests += 1;
                tally.bytes += bytes as u64;
                match answer {
                    Answer::Value(value) if value.len() == bytes => {
                        tally.hits += 1;
                        tally.hit_bytes += bytes as u64;
                    }
                    Answer::Miss => missing.push(key),
                    other => {
                        let text = format!("key {key} of {bytes} bytes was answered by {other:?}");
                        return Err(running.error(text));
                    }
                }
            }
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_what_was_weighed() {
        assert_eq!(next_limit(1000, 0.25, 1), 800);
        assert_eq!(next_limit(1000, -0.5, 1), 2000);
        assert_eq!(next_limit(100 << 20, 0.001, 1 << 20), 99 << 20);
        assert_eq!(next_limit(1 << 20, 9.0, 1 << 20), 1 << 20);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (arguments, reason) in [
            ("--exponent 1", "--exponent"),
            ("--requests 0", "--requests"),
            ("--sizes /no/such/trace", "/no/such/trace"),
            ("--servers nginx", "nginx"),
        ] {
            let words = std::iter::once("equal-memory").chain(arguments.split(' '));
            let error = run(&EqualMemoryOptions::try_parse_from(words).unwrap()).unwrap_err();
            assert!(error.to_string().contains(reason), "{arguments}: {error}");
        }
    }
}
