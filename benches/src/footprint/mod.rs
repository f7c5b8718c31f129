//! What an item costs a server in memory, by resident pages, and whether a limit holds.
//!
//! - `fill`: resident memory over that of the empty server, while it fills, per item
//! - `churn`: the same after rounds of overwrites with other sizes at a full cache
//! - `fit`: how many items a fixed limit holds before the first one has to go
//! - `shift`: the most resident memory while the size of values shifts at a full cache
//!
//! Invariants:
//!
//! - Nothing is touched ahead (no `--prefault`), so that resident memory is what items cost; `fit`
//!   checks it by counting, which no way of touching memory can please.
//! - The overhead of an item is what its server takes beyond the bytes of keys and values that it
//!   really holds; these are read back, never assumed.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod churn;
mod fill;
mod fit;
mod shift;

pub use churn::ChurnOptions;
pub use fill::FillOptions;
pub use fit::FitOptions;
pub use shift::ShiftOptions;

use crate::caches::Running;
use crate::harness::HarnessError;

/// The longest value of these benchmarks.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Weighs cache servers: memory per item, and whether a limit on memory holds.
#[derive(Debug, Parser)]
#[command(name = "footprint", version, max_term_width = 100)]
pub struct Arguments {
    /// Which benchmark.
    #[command(subcommand)]
    pub benchmark: Benchmark,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// Resident memory per item at several counts of items, while a server fills
    Fill(FillOptions),
    /// Resident memory per item after rounds of overwrites with other sizes, at a full cache
    Churn(ChurnOptions),
    /// Items that a fixed limit on memory holds before the first one is evicted
    Fit(FitOptions),
    /// The most resident memory against the limit, while value sizes shift there and back
    Shift(ShiftOptions),
}

/// Runs a benchmark, prints its table, and writes its JSON file if one is asked for.
///
/// # Errors
///
/// If the command line contradicts itself, a server fails, or the file cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), HarnessError> {
    match &arguments.benchmark {
        Benchmark::Fill(options) => fill::run(options),
        Benchmark::Churn(options) => churn::run(options),
        Benchmark::Fit(options) => fit::run(options),
        Benchmark::Shift(options) => shift::run(options),
    }
}

/// The whole of the `footprint` program: arguments to exit code.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("footprint: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses values that these benchmarks do not have memory for.
fn check_value_bytes(bytes: usize) -> Result<(), HarnessError> {
    if (1..=VALUE_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(HarnessError::Usage(format!("values must have 1 to {VALUE_BYTES_MAX} bytes")))
}

/// Resident memory once the server is at rest: the least of a few readings, since a server may
/// give back what it needed for its last requests.
fn settled_bytes(running: &Running) -> Result<u64, HarnessError> {
    const READINGS: usize = 3;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
    let mut least = u64::MAX;
    for _ in 0..READINGS {
        std::thread::sleep(PAUSE);
        least = least.min(running.resident_bytes()?);
    }
    Ok(least)
}

/// Mebibytes for people.
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
