//! Replay of traces in process: the hit ratios of the server's own shard, without a server.
//!
//! A look-aside client: each request of the trace is a read, and a read that misses is followed by
//! a write of the key. Between requests the shard does the background work of a turn.
//!
//! ```text
//! options: the command line --> plain runs, one line each
//!                          \--> compare: every cell of a file of published ratios (reference)
//! charge:  what a capacity counts --> Replay::run --> Shard
//! parallel: many replays, few threads      synthetic: traces that tests make up
//! ```
//!
//! Invariants:
//!
//! - What a policy does depends on keys, lengths and their order alone. The bytes of values do not
//!   matter, so all are zeros.
//! - A replay is a function of trace, capacity, policy and seed: the same four give the same
//!   counts, on any number of threads.
//!
//! Cost: about as long as the shard's reads and writes take, and the memory of the trace.

use std::fmt;

use pinion_engine::{EngineError, SetOptions, Shard, ShardStats};
use pinion_loadgen::trace::Trace;
use pinion_net::core::limits::MAINTENANCE_ITEMS;
use pinion_net::options::EvictionName;

mod charge;
mod compare;
mod options;
mod parallel;
mod reference;
pub mod synthetic;

pub use charge::{Charge, Prepared};
pub use compare::{Cell, Comparison, Summary};
pub use options::{Capacity, HitRatioOptions};
pub use reference::{Reference, Row, Unit};

/// One replay.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// What the cache may hold, in the unit of the prepared trace's [`Charge`].
    pub capacity: u64,
    /// The policy, by the server's name for it.
    pub policy: EvictionName,
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
    pub fn run(&self, prepared: &Prepared<'_>) -> Result<Outcome, EngineError> {
        let config = prepared.shard_config(self.capacity, self.policy.policy(), self.seed);
        let mut shard = Shard::new(&config)?;
        let trace = prepared.trace();
        let value = vec![0; prepared.stored_bytes_max()];
        let mut key_text = prepared.key_text();
        let (mut requests, mut hits, mut refused) = (0, 0, 0);
        let (mut requested_bytes, mut hit_bytes) = (0, 0);
        let wanted = self.requests.map_or(usize::MAX, |wanted| wanted as usize);
        for &key in trace.keys.iter().take(wanted) {
            let key_text = key_text.of(key);
            let value_bytes = prepared.value_bytes(key);
            let hash = shard.hash(key_text);
            requests += 1;
            requested_bytes += value_bytes;
            if shard.get(hash, key_text, 0).is_some() {
                hits += 1;
                hit_bytes += value_bytes;
            } else {
                let value = &value[..prepared.stored_bytes(key)];
                let stored = shard.set(hash, key_text, value, &SetOptions::default(), 0);
                refused += u64::from(stored.is_err());
            }
            shard.maintain(0, MAINTENANCE_ITEMS);
        }
        let shard = shard.stats();
        Ok(Outcome { requests, hits, requested_bytes, hit_bytes, refused, shard })
    }
}

/// Unique keys of a trace, and the bytes of their values, as percentages mean them.
pub(crate) fn unique(trace: &Trace, unsized_bytes: u32) -> (u64, u64) {
    let bytes = match &trace.key_sizes {
        Some(_) => trace.unique_bytes,
        None => trace.unique * u64::from(unsized_bytes),
    };
    (trace.unique, bytes)
}

/// Why there are no ratios.
#[derive(Debug)]
pub enum ReplayError {
    /// The command line contradicts itself.
    Usage(String),
    /// The trace cannot be read.
    Trace(pinion_loadgen::Error),
    /// A file other than a trace cannot be read or written.
    File(String, std::io::Error),
    /// The published ratios are not in the form that they should have.
    Reference(String),
    /// The shard cannot be made.
    Engine(EngineError),
    /// The result cannot be printed.
    Print(std::io::Error),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Usage(text) | ReplayError::Reference(text) => f.write_str(text),
            ReplayError::Trace(error) => error.fmt(f),
            ReplayError::File(what, error) => write!(f, "cannot {what}: {error}"),
            ReplayError::Engine(error) => write!(f, "the shard cannot be set up: {error}"),
            ReplayError::Print(error) => write!(f, "cannot print: {error}"),
        }
    }
}

impl std::error::Error for ReplayError {}

#[cfg(test)]
mod tests;
