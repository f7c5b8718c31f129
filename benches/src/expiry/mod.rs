//! How long expired keys stay, and what their removal does to others.
//!
//! - `steady`: keys expire at a constant rate while as many are written; how late each is removed
//! - `burst`: very many keys are due in one millisecond; how long until they are gone, and how long
//!   the requests of others take meanwhile
//!
//! An expired key is never served by any of the servers compared. One that stays all the same takes
//! memory, and counts in DBSIZE, by which it is seen here.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

mod burst;
mod steady;

pub use burst::BurstOptions;
pub use steady::SteadyOptions;

use crate::caches::Wire;
use crate::client::ClientError;
use crate::harness::HarnessError;

/// Memory of the servers: nothing may have to be evicted.
const MEMORY_BYTES: u64 = 4 << 30;
/// The most keys: they fit into that memory with room to spare.
const KEYS_MAX: u64 = 10_000_000;

/// Measures how late servers remove what has expired.
#[derive(Debug, Parser)]
#[command(name = "expiry-lag", version, max_term_width = 100)]
pub struct Arguments {
    /// Which benchmark.
    #[command(subcommand)]
    pub benchmark: Benchmark,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// Keys that expire at a constant rate: how late each is removed
    Steady(SteadyOptions),
    /// Keys that are all due in one millisecond: how long they stay, and what others feel
    Burst(BurstOptions),
}

/// Runs a benchmark, prints its table, and writes its JSON file if one is asked for.
///
/// # Errors
///
/// If the command line contradicts itself, a server fails, or the file cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), HarnessError> {
    match &arguments.benchmark {
        Benchmark::Steady(options) => steady::run(options),
        Benchmark::Burst(options) => burst::run(options),
    }
}

/// The whole of the `expiry-lag` program: arguments to exit code.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("expiry-lag: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a server says about its own lag, in milliseconds; `None` where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct OwnLag {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl OwnLag {
    fn of(wire: &mut Wire) -> Result<OwnLag, ClientError> {
        Ok(OwnLag {
            p50_ms: wire.figure("expiry_lag_p50_ms")?,
            p99_ms: wire.figure("expiry_lag_p99_ms")?,
            max_ms: wire.figure("expiry_lag_max_ms")?,
        })
    }

    /// Three numbers for people.
    fn text(&self) -> String {
        let show = |value: Option<f64>| value.map_or("-".to_string(), |value| value.to_string());
        format!("{}/{}/{}", show(self.p50_ms), show(self.p99_ms), show(self.max_ms))
    }
}

fn check_keys(keys: u64, name: &str) -> Result<(), HarnessError> {
    if (1..=KEYS_MAX).contains(&keys) {
        return Ok(());
    }
    Err(HarnessError::Usage(format!("{name} must be 1 to {KEYS_MAX}")))
}

fn check_seconds(seconds: f64, name: &str) -> Result<Duration, HarnessError> {
    if (0.01..=3600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(HarnessError::Usage(format!("{name} must be 0.01 to 3600")))
}

/// The wall clock in milliseconds, by which absolute deadlines are told.
fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}
