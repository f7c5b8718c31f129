//! The command line: flags into configurations, reports into files, verdicts into exit codes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use pinion_loadgen::{
    Error, KeyDist, Load, Mix, Pace, Protocol, Rate, ReplayConfig, RunConfig, ValueSize, Verify,
    parse_duration, trace, trace_name,
};

/// Load generator for caches: latency from the intended send time, and every value checked.
///
/// Exit codes: 0 fine, 1 usage, 2 the numbers are invalid, 3 overloaded, 4 the server returned a
/// wrong value.
#[derive(Debug, Parser)]
#[command(name = "pinion-loadgen", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply a load and measure it
    Run(RunArgs),
    /// Replay a trace: read, and write what was missing
    Replay(ReplayArgs),
    /// Write every key once, and read all of them back
    Prefill(PrefillArgs),
}

#[derive(Debug, Args)]
struct Server {
    /// The server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    target: String,
    /// resp, resp3 or memcached
    #[arg(long, default_value = "resp")]
    protocol: Protocol,
}

#[derive(Debug, Args)]
struct Output {
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// No line per second on the standard error
    #[arg(long)]
    no_progress: bool,
    /// Print nothing but wrong values and errors
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct Workload {
    #[command(flatten)]
    server: Server,
    /// Connections, spread over the threads
    #[arg(long, value_name = "N", default_value_t = 50)]
    connections: usize,
    /// Most outstanding requests per connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline: usize,
    /// Number of keys
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u64,
    /// Length of every key in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    key_size: usize,
    /// Length of the values in bytes, or a range
    #[arg(long, value_name = "BYTES|MIN..MAX", default_value = "64")]
    value_size: ValueSize,
    /// Lifetime of the values, for instance 60s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Random choices and values derive from it; a server filled with another one returns wrong
    /// values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// CPUs to pin the threads to, in turn
    #[arg(long, value_name = "CPU,...", value_delimiter = ',')]
    pin: Vec<usize>,
    /// Worker threads [default: one per pinned CPU, else 1]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How values are checked: full, header or off (off only for servers without real values)
    #[arg(long, default_value = "full")]
    verify: Verify,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    workload: Workload,
    /// Open loop: requests per second in total, at fixed times
    #[arg(long, value_name = "R", conflicts_with = "closed", required_unless_present = "closed")]
    rate: Option<Rate>,
    /// Closed loop: send when a reply has come; latency is not comparable
    #[arg(long)]
    closed: bool,
    /// Length of the measured phase
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Length of the phase before it that is not measured
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    warmup: Duration,
    /// End after so many measured requests instead of a time
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    requests: Option<u64>,
    /// uniform or zipf:S
    #[arg(long, value_name = "DIST", default_value = "zipf:0.99")]
    key_dist: KeyDist,
    /// Weights of the operations get, set and delete
    #[arg(long, default_value = "get=9,set=1")]
    mix: Mix,
    /// Write every key first, and read all of them back
    #[arg(long)]
    prefill: bool,
    /// Write a key after its read missed
    #[arg(long)]
    read_through: bool,
    /// Wait for a send time by spin, hybrid (sleep, then poll) or auto (hybrid below 4 CPUs)
    #[arg(long, default_value = "auto")]
    pace: Pace,
    /// Write the percentiles of the response times as an HdrHistogram table
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct PrefillArgs {
    #[command(flatten)]
    workload: Workload,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    server: Server,
    /// The trace, in the format CTR1
    #[arg(long, value_name = "FILE.ctr.zst")]
    trace: PathBuf,
    /// Most reads in flight; 1 keeps the exact sequence, more keeps the sequence of every key
    #[arg(long, value_name = "P", default_value_t = 1)]
    pipeline: usize,
    /// Replay only so many requests
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Length of every key in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    key_size: usize,
    /// Length of the values in bytes, or a range, if the trace has no sizes
    #[arg(long, value_name = "BYTES|MIN..MAX", default_value = "64")]
    value_size: ValueSize,
    /// Lifetime of the values, for instance 60s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// All values derive from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// CPU to run on
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,
    /// How values are checked: full, header or off
    #[arg(long, default_value = "full")]
    verify: Verify,
    #[command(flatten)]
    output: Output,
}

impl Workload {
    fn config(&self) -> RunConfig {
        RunConfig {
            target: self.server.target.clone(),
            protocol: self.server.protocol,
            connections: self.connections,
            pipeline: self.pipeline,
            keys: self.keys,
            key_bytes: self.key_size,
            value_size: self.value_size,
            ttl: self.ttl,
            seed: self.seed,
            pin: self.pin.clone(),
            threads: self.threads.unwrap_or(self.pin.len().max(1)),
            verify: self.verify,
            progress: self.output.progress(),
            ..RunConfig::default()
        }
    }
}

impl RunArgs {
    fn config(&self) -> RunConfig {
        RunConfig {
            load: self.rate.map_or(Load::Closed, Load::Open),
            duration: self.duration,
            warmup: self.warmup,
            requests: self.requests,
            key_dist: self.key_dist,
            mix: self.mix,
            prefill: self.prefill,
            read_through: self.read_through,
            pace: self.pace,
            ..self.workload.config()
        }
    }
}

impl ReplayArgs {
    fn config(&self) -> ReplayConfig {
        ReplayConfig {
            target: self.server.target.clone(),
            protocol: self.server.protocol,
            pipeline: self.pipeline,
            requests: self.requests,
            key_bytes: self.key_size,
            value_size: self.value_size,
            ttl: self.ttl,
            seed: self.seed,
            pin: self.pin,
            verify: self.verify,
            progress: self.output.progress(),
        }
    }
}

impl Output {
    fn progress(&self) -> bool {
        !self.no_progress && !self.quiet
    }

    /// Prints the text unless it shall be quiet, and writes the JSON if it is wanted.
    fn emit(&self, text: &str, json: &serde_json::Value) -> Result<(), Error> {
        if self.quiet {
            for line in text.lines().filter(|line| line.starts_with("WRONG VALUE")) {
                eprintln!("{line}");
            }
        } else {
            print(text)?;
        }
        match &self.json {
            Some(path) => write(path, &format!("{json:#}\n")),
            None => Ok(()),
        }
    }
}

impl Cli {
    /// Carries out the command.
    ///
    /// Returns the exit code of its verdict.
    ///
    /// # Errors
    /// If there is no report, or it cannot be written.
    pub(crate) fn execute(&self) -> Result<i32, Error> {
        match &self.command {
            Command::Run(args) => {
                let report = pinion_loadgen::run(&args.config())?;
                args.workload.output.emit(&report.text(), &report.json())?;
                if let Some(path) = &args.hgrm {
                    write(path, &report.hgrm())?;
                }
                Ok(report.exit_code())
            }
            Command::Prefill(args) => {
                let report = pinion_loadgen::prefill(&args.workload.config())?;
                args.workload.output.emit(&report.text(), &report.json())?;
                Ok(report.exit_code())
            }
            Command::Replay(args) => {
                let trace = trace::load(&args.trace)?;
                let name = trace_name(&args.trace);
                let report = pinion_loadgen::replay(&args.config(), &name, &trace)?;
                args.output.emit(&report.text(), &report.json())?;
                Ok(report.exit_code())
            }
        }
    }
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    std::io::Write::write_all(&mut out, text.as_bytes())
        .map_err(|source| Error::Io { context: "cannot print the report".to_owned(), source })
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text)
        .map_err(|source| Error::Io { context: format!("cannot write {}", path.display()), source })
}
