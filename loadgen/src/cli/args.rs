//! The flags of every command, and the configurations that they stand for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use pinion_loadgen::{
    Arrival, Error, Fill, Guards, KeyDist, KeySize, Load, Mix, Multiget, Objective, Pace, Preset,
    Profile, Protocol, Rate, ReplayConfig, ReplayPace, RunConfig, Steer, SweepConfig, Ttl,
    ValueSize, Verify, parse_duration,
};

/// Length of the measured phase without a flag that says it.
const DURATION: Duration = Duration::from_secs(10);
/// Longest run, for arrivals from a file, which ends by itself.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Apply a load and measure it
    Run(Box<RunArgs>),
    /// Find the highest rate that keeps an objective for the response times
    Sweep(Box<SweepArgs>),
    /// Replay a trace: in its order, at its times or at a rate
    Replay(Box<ReplayArgs>),
    /// Say what a trace has in it
    TraceInfo(TraceInfoArgs),
    /// Write every key once, and read all of them back
    Prefill(Box<PrefillArgs>),
    /// Measure this tool itself against a null server on loopback
    Selftest(SelftestArgs),
    /// Show an interval log again
    Report(ReportArgs),
}

#[derive(Debug, Args)]
pub(super) struct Server {
    /// The servers: addresses of one server, or with --steer the parts of one
    #[arg(long, value_name = "HOST:PORT|unix:PATH,...", default_value = "127.0.0.1:6379")]
    target: String,
    /// resp, resp3, memcached (text) or meta
    #[arg(long, default_value = "resp")]
    protocol: Protocol,
}

#[derive(Debug, Args)]
pub(super) struct Output {
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// No line per second on the standard error
    #[arg(long)]
    no_progress: bool,
    /// Print nothing but wrong values and errors
    #[arg(long)]
    pub(super) quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Workload {
    #[command(flatten)]
    server: Server,
    /// Where a key may go: none (any target), source-port (over a connection whose local port
    /// leads to the core that owns the key) or core-ports (to the node that CLUSTER SLOTS of the
    /// target names; of n targets, target i owns the i-th range of the 16384 slots)
    #[arg(long, default_value = "none")]
    steer: Steer,
    /// Connections, spread over threads and targets
    #[arg(long, value_name = "N", default_value_t = 50)]
    connections: usize,
    /// Most outstanding requests per connection
    #[arg(long, value_name = "N", default_value_t = 1)]
    pipeline: usize,
    /// Number of keys
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u64,
    /// Lengths of the keys: BYTES, MIN..MAX, list:BYTES=WEIGHT,... or etc [default: 16]
    #[arg(long, value_name = "DIST")]
    key_size: Option<KeySize>,
    /// A workload with a name: read-heavy, session, write-heavy, etc, scan-polluted or hot-key;
    /// other flags override its parts
    #[arg(long)]
    preset: Option<Preset>,
    /// Lengths of the values: BYTES, MIN..MAX, lognormal:MEDIAN,SIGMA, pareto:MIN,ALPHA,
    /// list:BYTES=WEIGHT,..., etc or hist:FILE [default: 64]
    #[arg(long, value_name = "DIST")]
    value_size: Option<ValueSize>,
    /// Lifetimes of the values: TIME, MIN..MAX, exp:MEAN or list:TIME=WEIGHT,... [default: none]
    #[arg(long, value_name = "DIST")]
    ttl: Option<Ttl>,
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
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) workload: Workload,
    /// Open loop: requests per second in total, such as 20000, 20k or 0.5
    #[arg(long, value_name = "R")]
    rate: Option<Rate>,
    /// Closed loop: send when a reply has come; latency is not comparable
    #[arg(long, conflicts_with_all = ["rate", "profile", "arrival"])]
    closed: bool,
    /// How send times are spread: const, poisson, burst:ON,OFF or file:PATH (seconds after the
    /// start, a line each)
    #[arg(long, value_name = "ARRIVAL", default_value = "const")]
    arrival: Arrival,
    /// Rates that change, in place of --rate: steps:10k@30s,50k@30s, one after another, or
    /// sine:MEAN,AMPLITUDE@PERIOD
    #[arg(long, conflicts_with = "rate")]
    profile: Option<Profile>,
    /// Stop an open loop that falls further behind than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    max_backlog: Duration,
    /// Connections that are closed and opened again per second
    #[arg(long, value_name = "R")]
    churn: Option<Rate>,
    /// Length of the measured phase [default: 10s, or that of the steps or the file]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Length of the phase before it that is not measured
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    warmup: Duration,
    /// End after so many measured requests instead of a time
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    requests: Option<u64>,
    /// Popularity: uniform, zipf:S, hotspot:KEYS,REQUESTS, latest:S, gauss:SD, seq,
    /// shift:zipf:S,every=TIME or scan:S,SHARE [default: zipf:0.99]
    #[arg(long, value_name = "DIST")]
    key_dist: Option<KeyDist>,
    /// Share of the requests that goes to one single key, 0 to 1
    #[arg(long, value_name = "SHARE")]
    hot_one: Option<f64>,
    /// Weights of the operations get, set, delete, touch and incr [default: get=9,set=1]
    #[arg(long)]
    mix: Option<Mix>,
    /// Keys that one read asks for [default: 1]
    #[arg(long, value_name = "N|MIN..MAX")]
    multiget: Option<Multiget>,
    /// Write every key first, and read all of them back
    #[arg(long)]
    prefill: bool,
    /// Write a key after its read missed
    #[arg(long)]
    read_through: bool,
    /// Wait for a send time by spin, hybrid (sleep, then poll) or auto (hybrid below 4 CPUs)
    #[arg(long, default_value = "auto")]
    pace: Pace,
    /// What makes the numbers invalid: strict (also late sending, a busy client, stolen CPU) or
    /// lenient (errors and a rate that was not kept; the rest is noted)
    #[arg(long, default_value = "strict")]
    guards: Guards,
    /// Write the percentiles of the response times as an HdrHistogram table
    #[arg(long, value_name = "FILE")]
    pub(super) hgrm: Option<PathBuf>,
    /// Write a histogram per second and kind as an HdrHistogram interval log
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    pub(super) workload: Workload,
    /// The objective, such as p99<500us; all of several must be kept
    #[arg(long, value_name = "pQ<TIME", required = true)]
    slo: Vec<Objective>,
    /// Lowest rate
    #[arg(long, value_name = "R")]
    from: Rate,
    /// Highest rate
    #[arg(long, value_name = "R")]
    to: Rate,
    /// Measurements of each rate that is confirmed
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
    /// Length of one measurement
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    duration: Duration,
    /// Length of the phase before each that is not measured
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    warmup: Duration,
    /// As for run
    #[arg(long, value_name = "DIST")]
    key_dist: Option<KeyDist>,
    /// As for run
    #[arg(long)]
    mix: Option<Mix>,
    /// How send times are spread: const or poisson
    #[arg(long, value_name = "ARRIVAL", default_value = "poisson")]
    arrival: Arrival,
    /// Write every key first, and read all of them back
    #[arg(long)]
    prefill: bool,
    /// Write a key after its read missed
    #[arg(long)]
    read_through: bool,
    /// As for run
    #[arg(long, default_value = "auto")]
    pace: Pace,
    /// As for run
    #[arg(long, default_value = "strict")]
    guards: Guards,
}

#[derive(Debug, Args)]
pub(super) struct PrefillArgs {
    #[command(flatten)]
    pub(super) workload: Workload,
}

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    server: Server,
    /// The trace: CTR1, Twitter's CSV, CSV with named columns, or the text of memcached's watch or
    /// Redis's MONITOR; plain or zstd
    #[arg(long, value_name = "FILE")]
    pub(super) trace: PathBuf,
    /// Send at the times of the trace, so many times as fast; without it and --rate, as fast as the
    /// order of the trace allows
    #[arg(long, value_name = "X", group = "timed")]
    speed: Option<f64>,
    /// Send at this rate, evenly
    #[arg(long, value_name = "R", group = "timed", conflicts_with = "speed")]
    rate: Option<Rate>,
    /// Whether a read that missed is followed by a write: auto (if the trace has no writes), always
    /// or never
    #[arg(long, default_value = "auto")]
    pub(super) fill: Fill,
    /// Connections of a timed replay [default: 50]
    #[arg(long, value_name = "N", requires = "timed")]
    connections: Option<usize>,
    /// Worker threads of a timed replay [default: one per pinned CPU, else 1]
    #[arg(long, value_name = "N", requires = "timed")]
    threads: Option<usize>,
    /// Stop a timed replay that falls further behind than this [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "timed")]
    max_backlog: Option<Duration>,
    /// Guards of a timed replay, as for run [default: strict]
    #[arg(long, requires = "timed")]
    guards: Option<Guards>,
    /// Where keys go in a timed replay, as for run [default: none]
    #[arg(long, requires = "timed")]
    steer: Option<Steer>,
    /// How a timed replay waits, as for run [default: auto]
    #[arg(long, requires = "timed")]
    pace: Option<Pace>,
    /// Write a histogram per second and kind of a timed replay as an interval log
    #[arg(long, value_name = "FILE", requires = "timed")]
    hlog: Option<PathBuf>,
    /// Write the percentiles as an HdrHistogram table: response times of a timed replay, else
    /// service times of the reads
    #[arg(long, value_name = "FILE")]
    pub(super) hgrm: Option<PathBuf>,
    /// Most requests in flight per connection; in a replay that is not timed, 1 keeps the exact
    /// sequence, and more keeps the sequence of every key
    #[arg(long, value_name = "P", default_value_t = 1)]
    pipeline: usize,
    /// Replay only so many requests
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Lengths of the keys, as for run
    #[arg(long, value_name = "DIST", default_value = "16")]
    key_size: KeySize,
    /// Lengths of the values if the trace has no sizes, as for run
    #[arg(long, value_name = "DIST", default_value = "64")]
    value_size: ValueSize,
    /// Lifetimes of the values, as for run, in place of those of the trace
    #[arg(long, value_name = "DIST")]
    ttl: Option<Ttl>,
    /// All values derive from it, and the times of requests within a second
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// CPUs to run on; one, unless the replay is timed
    #[arg(long, value_name = "CPU,...", value_delimiter = ',')]
    pin: Vec<usize>,
    /// How values are checked: full, header or off
    #[arg(long, default_value = "full")]
    verify: Verify,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct TraceInfoArgs {
    /// The trace, in any form that replay reads
    #[arg(value_name = "FILE")]
    pub(super) trace: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct SelftestArgs {
    /// Length of every open loop; a closed one takes half of it
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    pub(super) duration: Duration,
    /// CPU to pin the client to
    #[arg(long, value_name = "CPU", value_delimiter = ',')]
    pub(super) pin: Vec<usize>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The interval log
    #[arg(value_name = "FILE.hlog")]
    pub(super) log: PathBuf,
    /// Write the sums as JSON, too
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the percentile table of --tag
    #[arg(long, value_name = "FILE")]
    pub(super) hgrm: Option<PathBuf>,
    /// The tag of --hgrm
    #[arg(long, default_value = "all-response")]
    pub(super) tag: String,
}

impl Workload {
    pub(super) fn config(&self) -> RunConfig {
        let mut config = RunConfig {
            target: self.server.target.clone(),
            steer: self.steer,
            protocol: self.server.protocol,
            connections: self.connections,
            pipeline: self.pipeline,
            keys: self.keys,
            seed: self.seed,
            pin: self.pin.clone(),
            threads: self.threads.unwrap_or(self.pin.len().max(1)),
            verify: self.verify,
            progress: self.output.progress(),
            ..RunConfig::default()
        };
        if let Some(preset) = self.preset {
            preset.apply(&mut config);
        }
        if let Some(key_size) = &self.key_size {
            config.key_size = key_size.clone();
        }
        if let Some(value_size) = &self.value_size {
            config.value_size = value_size.clone();
        }
        if self.ttl.is_some() {
            config.ttl.clone_from(&self.ttl);
        }
        config
    }
}

impl SweepArgs {
    pub(super) fn config(&self) -> Result<SweepConfig, Error> {
        if matches!(self.arrival, Arrival::File(_)) {
            return Err(Error::Usage("--arrival file has a rate of its own".to_owned()));
        }
        let preset = self.workload.config();
        let run = RunConfig {
            arrival: self.arrival.clone(),
            duration: self.duration,
            warmup: self.warmup,
            key_dist: self.key_dist.unwrap_or(preset.key_dist),
            mix: self.mix.unwrap_or(preset.mix),
            prefill: self.prefill,
            read_through: self.read_through || preset.read_through,
            pace: self.pace,
            guards: self.guards,
            ..preset
        };
        let (from, to, repeats) = (self.from, self.to, self.repeats);
        Ok(SweepConfig { run, objectives: self.slo.clone(), from, to, repeats })
    }
}

impl RunArgs {
    pub(super) fn config(&self) -> Result<RunConfig, Error> {
        let preset = self.workload.config();
        let is_file = matches!(self.arrival, Arrival::File(_));
        let profile = self.profile.clone().unwrap_or_default();
        // A file has a rate of its own; this one is not used.
        let file_rate = is_file.then_some(Rate { millihertz: 1000 });
        let load = match self.rate.or(profile.mean()).or(file_rate) {
            _ if self.closed => Load::Closed,
            Some(rate) => Load::Open(rate),
            None => {
                let text = "--rate, --profile, --arrival file:PATH or --closed is needed";
                return Err(Error::Usage(text.to_owned()));
            }
        };
        let duration = match self.duration {
            Some(duration) => duration,
            None if is_file => LONG,
            None => profile.length().unwrap_or(DURATION),
        };
        Ok(RunConfig {
            load,
            arrival: self.arrival.clone(),
            profile,
            backlog_max: self.max_backlog,
            churn: self.churn,
            duration,
            warmup: self.warmup,
            requests: self.requests,
            key_dist: self.key_dist.unwrap_or(preset.key_dist),
            hot_one: self.hot_one.unwrap_or(preset.hot_one),
            mix: self.mix.unwrap_or(preset.mix),
            multiget: self.multiget.unwrap_or(preset.multiget),
            prefill: self.prefill,
            read_through: self.read_through || preset.read_through,
            pace: self.pace,
            guards: self.guards,
            hlog: self.hlog.clone(),
            ..preset
        })
    }
}

impl ReplayArgs {
    /// The pace of a timed replay.
    pub(super) fn timed(&self) -> Option<ReplayPace> {
        self.speed.map(ReplayPace::Speed).or(self.rate.map(ReplayPace::Rate))
    }

    pub(super) fn run_config(&self) -> RunConfig {
        let usual = RunConfig::default();
        RunConfig {
            target: self.server.target.clone(),
            protocol: self.server.protocol,
            steer: self.steer.unwrap_or(usual.steer),
            connections: self.connections.unwrap_or(usual.connections),
            pipeline: self.pipeline,
            backlog_max: self.max_backlog.unwrap_or(usual.backlog_max),
            requests: self.requests,
            key_size: self.key_size.clone(),
            value_size: self.value_size.clone(),
            ttl: self.ttl.clone(),
            seed: self.seed,
            threads: self.threads.unwrap_or(self.pin.len().max(1)),
            pin: self.pin.clone(),
            verify: self.verify,
            pace: self.pace.unwrap_or(usual.pace),
            guards: self.guards.unwrap_or(usual.guards),
            hlog: self.hlog.clone(),
            progress: self.output.progress(),
            ..usual
        }
    }

    pub(super) fn config(&self) -> Result<ReplayConfig, Error> {
        if self.pin.len() > 1 {
            let text = "--pin: a replay that is not timed runs on one CPU";
            return Err(Error::Usage(text.to_owned()));
        }
        Ok(ReplayConfig {
            target: self.server.target.clone(),
            protocol: self.server.protocol,
            pipeline: self.pipeline,
            requests: self.requests,
            key_size: self.key_size.clone(),
            value_size: self.value_size.clone(),
            ttl: self.ttl.clone(),
            fill: self.fill,
            seed: self.seed,
            pin: self.pin.first().copied(),
            verify: self.verify,
            progress: self.output.progress(),
        })
    }
}

impl Output {
    pub(super) fn progress(&self) -> bool {
        !self.no_progress && !self.quiet
    }
}
