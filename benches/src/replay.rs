//! Replay of traces in process: the hit ratios of the server's own shard, without a server.
//!
//! A look-aside client, as `pinion-loadgen replay`: each request of the trace is a read, and a read
//! that misses is followed by a write of the key. Keys and lengths of values are the same as there
//! (`obj:` and the number in sixteen bytes; the trace's size, at least 1), and between requests
//! the shard does the background work of a turn. So the result is what `pinion --data-limit N`
//! gives over a socket, but for the seed of the hash.
//!
//! Capacities are bytes: the shard's limit on items, headers and keys included. A percentage is of
//! the bytes of the trace's unique values alone, as in published comparisons, so that overhead
//! counts against the cache.
//!
//! Invariant: what a policy does depends on keys, lengths and their order alone. The bytes of
//! values do not matter, so all are zeros.
//!
//! Cost: about as long as the shard's reads and writes take, and the memory of the trace.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use pinion_engine::{EngineError, Eviction, Limits, SetOptions, Shard, ShardConfig, ShardStats};
use pinion_loadgen::trace::{self, Trace};
use pinion_loadgen::trace_name;
use pinion_net::core::limits::MAINTENANCE_ITEMS;

/// Bytes of a key; enough for the prefix and every number that a trace can have.
const KEY_BYTES: usize = 16;
const KEY_PREFIX: &[u8; 4] = b"obj:";
/// The largest value; a larger one is not stored, as by a server with this `--value-max`.
const VALUE_BYTES_MAX: usize = 512 << 20;
/// What the shard may take at least in all, so that only the limit on items is ever reached. It
/// is what a server with `--memory 256MiB` gives its shard.
const TOTAL_BYTES_MIN: u64 = 232 << 20;

/// Hit ratios of traces, by capacity and policy, through the server's own shard.
///
/// Each request reads; a miss is followed by a write. Keys and value lengths are those of
/// pinion-loadgen replay, and the capacity is that of pinion --data-limit, so the result is what
/// a replay over a socket gives. Capacities are bytes. Capacities in entries of equal weight
/// (--mode objects) are not offered: they need a policy that can be told what an entry costs.
///
/// Prints trace, capacity in bytes, policy, object hit ratio and byte hit ratio, separated by
/// tabs.
#[derive(Clone, Debug, Parser)]
#[command(name = "hitratio", version, max_term_width = 100)]
pub struct HitRatioOptions {
    /// Traces in the format CTR1
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub trace: Vec<PathBuf>,
    /// Bytes, or percentages of the bytes of the trace's unique values
    #[arg(long, value_name = "N|P%,...", value_delimiter = ',', required = true)]
    pub capacity: Vec<Capacity>,
    /// Policies: clock, or none (which refuses writes when full)
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "clock")]
    pub policy: Vec<Policy>,
    /// What capacities count: bytes
    #[arg(long, default_value = "bytes")]
    pub mode: Mode,
    /// Length of every value in bytes where a trace has no sizes
    #[arg(long, value_name = "BYTES", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub value_size: u32,
    /// Replay only so many requests of each trace
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Seed of the hash
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How much a cache holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// So many bytes.
    Bytes(u64),
    /// This part of the bytes of a trace's unique values, in percent.
    Percent(f64),
}

impl FromStr for Capacity {
    type Err = String;

    fn from_str(text: &str) -> Result<Capacity, String> {
        let wrong =
            || format!("'{text}' is not a number of bytes such as 1000000, nor 0.1% to 100%");
        if let Some(number) = text.strip_suffix('%') {
            return match number.parse() {
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Capacity::Percent(percent)),
                _ => Err(wrong()),
            };
        }
        match text.parse() {
            Ok(0) | Err(_) => Err(wrong()),
            Ok(bytes) => Ok(Capacity::Bytes(bytes)),
        }
    }
}

impl Capacity {
    /// The number of bytes for a trace whose unique values have `unique_bytes`; at least 1.
    pub fn bytes(self, unique_bytes: u64) -> u64 {
        match self {
            Capacity::Bytes(bytes) => bytes,
            Capacity::Percent(percent) => {
                ((unique_bytes as f64 * percent / 100.0).round() as u64).max(1)
            }
        }
    }
}

/// What capacities count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes of items.
    Bytes,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "bytes" => Ok(Mode::Bytes),
            "objects" => Err("entries of equal weight need a policy that can be told what an \
                              entry costs, which the shard does not have; use bytes"
                .to_owned()),
            _ => Err(format!("'{text}' is not bytes")),
        }
    }
}

/// An eviction policy, by the name that the server's command line has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    name: &'static str,
    eviction: Eviction,
}

impl Policy {
    /// CLOCK.
    pub const CLOCK: Policy = Policy { name: "clock", eviction: Eviction::Clock };
    /// No eviction: writes are refused.
    pub const NONE: Policy = Policy { name: "none", eviction: Eviction::None };
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        [Policy::CLOCK, Policy::NONE]
            .into_iter()
            .find(|policy| policy.name == text)
            .ok_or_else(|| format!("'{text}' is not clock or none"))
    }
}

/// One replay.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// The limit on the bytes of items.
    pub capacity_bytes: u64,
    /// The policy.
    pub policy: Policy,
    /// Length of values where the trace has no sizes.
    pub value_bytes: u32,
    /// Requests to replay; all if `None`.
    pub requests: Option<u64>,
    /// Seed of the hash.
    pub seed: u64,
}

/// What a replay counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Reads.
    pub requests: u64,
    /// Reads that hit.
    pub hits: u64,
    /// Bytes of the values read.
    pub requested_bytes: u64,
    /// Bytes of those that hit.
    pub hit_bytes: u64,
    /// Writes that the shard refused, for want of room or because the value is too large.
    pub refused: u64,
    /// The shard at the end.
    pub shard: ShardStats,
}

impl Outcome {
    /// Hits per read; 0 without reads.
    pub fn object_hit_ratio(&self) -> f64 {
        self.hits as f64 / self.requests.max(1) as f64
    }

    /// Bytes of hits per bytes read; 0 without reads.
    pub fn byte_hit_ratio(&self) -> f64 {
        self.hit_bytes as f64 / self.requested_bytes.max(1) as f64
    }
}

impl Replay {
    /// Replays a trace from an empty shard.
    ///
    /// # Errors
    /// If the shard cannot be made, as for a capacity beyond what a shard can address.
    pub fn run(&self, trace: &Trace) -> Result<Outcome, EngineError> {
        let mut shard = Shard::new(&self.shard_config())?;
        let largest = trace.key_sizes.iter().flatten().copied().max();
        let value = vec![0; largest.unwrap_or(0).max(self.value_bytes) as usize];
        let mut key_text = [b'0'; KEY_BYTES];
        key_text[..KEY_PREFIX.len()].copy_from_slice(KEY_PREFIX);
        let (mut requests, mut hits, mut refused) = (0, 0, 0);
        let (mut requested_bytes, mut hit_bytes) = (0, 0);
        let wanted = self.requests.map_or(usize::MAX, |wanted| wanted as usize);
        for &key in trace.keys.iter().take(wanted) {
            write_digits(key, &mut key_text[KEY_PREFIX.len()..]);
            let value_bytes = value_bytes(trace, key, self.value_bytes);
            let hash = shard.hash(&key_text);
            requests += 1;
            requested_bytes += value_bytes;
            if shard.get(hash, &key_text, 0).is_some() {
                hits += 1;
                hit_bytes += value_bytes;
            } else {
                let value = &value[..value_bytes as usize];
                let stored = shard.set(hash, &key_text, value, &SetOptions::default(), 0);
                refused += u64::from(stored.is_err());
            }
            shard.maintain(0, MAINTENANCE_ITEMS);
        }
        let shard = shard.stats();
        Ok(Outcome { requests, hits, requested_bytes, hit_bytes, refused, shard })
    }

    fn shard_config(&self) -> ShardConfig {
        // Segments, their slack and the table must never be what is short.
        let total_bytes = self.capacity_bytes.saturating_mul(2).saturating_add(TOTAL_BYTES_MIN);
        ShardConfig {
            hash_seed: self.seed,
            limits: Limits {
                total_bytes: usize::try_from(total_bytes).unwrap_or(usize::MAX),
                data_bytes: Some(self.capacity_bytes),
            },
            eviction: self.policy.eviction,
            huge_pages: true,
            value_bytes_max: VALUE_BYTES_MAX,
            ..ShardConfig::default()
        }
    }
}

/// Length of a key's value.
fn value_bytes(trace: &Trace, key: u32, unsized_bytes: u32) -> u64 {
    let size = trace.key_sizes.as_ref().map_or(unsized_bytes, |sizes| sizes[key as usize]);
    u64::from(size.max(1))
}

/// Bytes of a trace's unique values, as percentages mean them.
fn unique_bytes(trace: &Trace, unsized_bytes: u32) -> u64 {
    match &trace.key_sizes {
        Some(_) => trace.unique_bytes,
        None => trace.unique * u64::from(unsized_bytes),
    }
}

fn write_digits(mut number: u32, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Why there are no ratios.
#[derive(Debug)]
pub enum ReplayError {
    /// The trace cannot be read.
    Trace(pinion_loadgen::Error),
    /// The shard cannot be made.
    Engine(EngineError),
    /// The result cannot be printed.
    Print(std::io::Error),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Trace(error) => error.fmt(f),
            ReplayError::Engine(error) => write!(f, "the shard cannot be set up: {error}"),
            ReplayError::Print(error) => write!(f, "cannot print: {error}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl HitRatioOptions {
    /// Replays every trace with every capacity and policy, prints a line for each to `out`, and
    /// what is worth a remark to `remarks`.
    ///
    /// # Errors
    /// See [`ReplayError`]; lines printed before stay.
    pub fn run(&self, out: &mut dyn Write, remarks: &mut dyn Write) -> Result<(), ReplayError> {
        let Mode::Bytes = self.mode;
        writeln!(out, "trace\tcapacity\tpolicy\tobject_hit_ratio\tbyte_hit_ratio")
            .map_err(ReplayError::Print)?;
        for path in &self.trace {
            let trace = trace::load(path).map_err(ReplayError::Trace)?;
            let name = trace_name(path);
            for capacity in &self.capacity {
                let capacity_bytes = capacity.bytes(unique_bytes(&trace, self.value_size));
                for &policy in &self.policy {
                    let replay = Replay {
                        capacity_bytes,
                        policy,
                        value_bytes: self.value_size,
                        requests: self.requests,
                        seed: self.seed,
                    };
                    let outcome = replay.run(&trace).map_err(ReplayError::Engine)?;
                    self.print(out, remarks, &name, &replay, &outcome)
                        .map_err(ReplayError::Print)?;
                }
            }
        }
        Ok(())
    }

    fn print(
        &self,
        out: &mut dyn Write,
        remarks: &mut dyn Write,
        name: &str,
        replay: &Replay,
        outcome: &Outcome,
    ) -> std::io::Result<()> {
        let (capacity_bytes, policy) = (replay.capacity_bytes, replay.policy);
        if outcome.refused > 0 && policy != Policy::NONE {
            writeln!(
                remarks,
                "hitratio: {name} at {capacity_bytes} bytes: {} writes were refused, because \
                 their values do not fit",
                outcome.refused
            )?;
        }
        writeln!(
            out,
            "{name}\t{capacity_bytes}\t{}\t{:.6}\t{:.6}",
            policy.name,
            outcome.object_hit_ratio(),
            outcome.byte_hit_ratio()
        )?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop over `keys` keys, `laps` times.
    fn laps(keys: u32, laps: usize) -> Trace {
        let lap: Vec<u32> = (0..keys).collect();
        Trace {
            keys: lap.repeat(laps),
            key_sizes: Some(vec![84; keys as usize]),
            unique: u64::from(keys),
            unique_bytes: u64::from(keys) * 84,
        }
    }

    fn replay(capacity_bytes: u64, policy: Policy) -> Replay {
        Replay { capacity_bytes, policy, value_bytes: 64, requests: None, seed: 1 }
    }

    #[test]
    fn what_fits_hits_and_what_does_not_fit_follows_the_policy() {
        let trace = laps(1_000, 10);
        // 9 bytes of header, 16 of key, 84 of value.
        let all = replay(1_000 * 109, Policy::CLOCK).run(&trace).unwrap();
        assert_eq!((all.requests, all.hits, all.refused), (10_000, 9_000, 0));
        assert_eq!((all.requested_bytes, all.hit_bytes), (840_000, 756_000));
        // A loop that is longer than the cache defeats recency, and not a cache that refuses.
        let clock = replay(500 * 109, Policy::CLOCK).run(&trace).unwrap();
        assert_eq!((clock.hits, clock.refused), (0, 0));
        let none = replay(500 * 109, Policy::NONE).run(&trace).unwrap();
        assert_eq!((none.hits, none.refused), (4_500, 5_000));
        assert_eq!(none.shard.items, 500);
    }

    #[test]
    fn only_the_first_requests_can_be_replayed() {
        let trace = laps(100, 3);
        let wanted = Replay { requests: Some(150), ..replay(1 << 20, Policy::CLOCK) };
        let outcome = wanted.run(&trace).unwrap();
        assert_eq!((outcome.requests, outcome.hits), (150, 50));
        assert!((outcome.object_hit_ratio() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn values_without_a_size_have_one() {
        let trace = Trace { key_sizes: None, unique_bytes: 0, ..laps(100, 2) };
        assert_eq!(unique_bytes(&trace, 64), 6_400);
        let outcome = replay(1 << 20, Policy::CLOCK).run(&trace).unwrap();
        assert_eq!((outcome.requested_bytes, outcome.hit_bytes), (12_800, 6_400));
        let empty = Trace { key_sizes: Some(vec![0; 100]), ..trace };
        assert_eq!(replay(1 << 20, Policy::CLOCK).run(&empty).unwrap().requested_bytes, 200);
    }

    #[test]
    fn capacities_are_read() {
        assert_eq!("17500000".parse(), Ok(Capacity::Bytes(17_500_000)));
        assert_eq!("0.1%".parse(), Ok(Capacity::Percent(0.1)));
        assert_eq!(Capacity::Percent(10.0).bytes(174_722_575), 17_472_258);
        assert_eq!(Capacity::Percent(0.1).bytes(1), 1);
        for text in ["", "0", "-1", "x", "%", "0%", "101%", "NaN%", "1.5", "1e3"] {
            assert!(text.parse::<Capacity>().is_err(), "{text}");
        }
        assert!("objects".parse::<Mode>().unwrap_err().contains("use bytes"));
        assert!("tinylfu".parse::<Policy>().unwrap_err().contains("clock or none"));
    }
}
