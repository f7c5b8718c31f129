//! Servers side by side: started, driven, accounted and compared by one method.
//!
//! The method, shared by all benchmarks here:
//!
//! - H1. Each server is a child process on one CPU. The client is one thread on one CPU: the same
//!   one for saturation, since a server and a client that take turns on a CPU repeat within a few
//!   percent where two CPUs spread by tens; another one for latency.
//! - H2. The server is charged the CPU time of its whole process, threads of the kernel that work
//!   for its rings included. The client's and the machine's time stand beside it, because the
//!   kernel charges the receiving half of a loopback packet to the sender.
//! - H3. Rounds of all servers and loads are interleaved in random order, from a seed that is
//!   printed. A round in which others took more of the machine than allowed is dropped and
//!   repeated later, a bounded number of times.
//! - H4. Results are medians of the valid rounds, with their range. Raw rounds go to the JSON file.
//! - H5. While a round runs, no other server of this harness does: they are either not started
//!   yet, or stopped by a signal.
//! - H6. Children die with the harness, however it ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod account;
mod flush_sweep;
mod latency;
mod options;
mod paired;
mod report;
mod rounds;
mod saturation;
mod servers;
mod stats;

pub use flush_sweep::FlushSweepOptions;
pub use latency::{LatencyOptions, OpenOptions};
pub use options::{CommonOptions, Instances, Mix, Variant};
pub use paired::PairedOptions;
pub use saturation::SaturationOptions;

pub(crate) use options::words;
pub(crate) use report::Table;

use crate::client::ClientError;

/// Compares cache servers with each other and with bare servers that move the same bytes.
#[derive(Debug, Parser)]
#[command(name = "harness", version, max_term_width = 100)]
pub struct Arguments {
    /// Which benchmark.
    #[command(subcommand)]
    pub benchmark: Benchmark,
}

/// The benchmarks.
#[derive(Debug, Subcommand)]
pub enum Benchmark {
    /// CPU time per request in a closed loop, server and client on one CPU
    Saturation(SaturationOptions),
    /// CPU time per request of two cores: keys of the core that is asked, of the other, of both
    Paired(PairedOptions),
    /// Latency and CPU time per request at fixed rates, server and client on two CPUs
    Latency(LatencyOptions),
    /// What pipelined connections do to the latency of one that is not, by server variant
    FlushSweep(FlushSweepOptions),
}

/// Why a benchmark ended early.
#[derive(Debug)]
pub enum HarnessError {
    /// The command line contradicts itself.
    Usage(String),
    /// A server did not start or ended by itself.
    Server {
        /// Its name in the report.
        name: String,
        /// What happened, with the end of its output.
        text: String,
    },
    /// The client got something else than hits, or nothing.
    Client {
        /// The server's name in the report.
        name: String,
        /// What the client says.
        error: ClientError,
    },
    /// The system refused what the text says.
    Io(&'static str, io::Error),
}

impl fmt::Display for HarnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HarnessError::Usage(text) => f.write_str(text),
            HarnessError::Server { name, text } => write!(f, "{name}: {text}"),
            HarnessError::Client { name, error } => write!(f, "{name}: {error}"),
            HarnessError::Io(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for HarnessError {}

/// Runs a benchmark, prints its table, and writes its JSON file if one is asked for. Must be
/// called on a thread that lives as long as the servers shall.
///
/// # Errors
///
/// If the command line contradicts itself, a server fails, a reply is no hit, or the file cannot
/// be written.
pub fn run(arguments: &Arguments) -> Result<(), HarnessError> {
    match &arguments.benchmark {
        Benchmark::Saturation(options) => saturation::run(options),
        Benchmark::Paired(options) => paired::run(options),
        Benchmark::Latency(options) => latency::run(options),
        Benchmark::FlushSweep(options) => flush_sweep::run(options),
    }
}

/// The whole of the `harness` program: arguments to exit code.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("harness: {error}");
            ExitCode::FAILURE
        }
    }
}
