//! What all benchmarks of the harness can be told.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::HarnessError;
use crate::client::{KeyDistribution, Protocol, Workload};

/// When servers are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Instances {
    /// Anew and filled for each round: no luck of one instance with its memory layout stays.
    Fresh,
    /// Once, and stopped by a signal while others are measured: for key sets that take long to
    /// fill.
    Kept,
}

/// Parts of reads and writes, written `get=9,set=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Parts of reads.
    pub gets: u32,
    /// Parts of writes.
    pub sets: u32,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Mix { gets: 0, sets: 0 };
        for part in text.split(',') {
            let (name, count) = part.split_once('=').unwrap_or((part, ""));
            let parts = match name {
                "get" => &mut mix.gets,
                "set" => &mut mix.sets,
                _ => return Err("expected get=N,set=M".to_string()),
            };
            *parts = count.parse().map_err(|_| "expected get=N,set=M".to_string())?;
        }
        Ok(mix)
    }
}

/// A named pinion command line, written `NAME=ARGS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name in the report.
    pub name: String,
    /// Arguments, in addition to those that the harness gives.
    pub arguments: Vec<String>,
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Variant, String> {
        match text.split_once('=') {
            Some((name, arguments)) if !name.is_empty() => {
                Ok(Variant { name: name.to_string(), arguments: words(arguments) })
            }
            _ => Err("expected NAME=ARGS".to_string()),
        }
    }
}

/// Options of every benchmark.
#[derive(Clone, Debug, Args)]
pub struct CommonOptions {
    /// Servers to compare: floor-epoll, floor-ring, floor-glommio, redis, memcached, pinion,
    /// pinion-bare. A floor or pinion with @memcached behind it speaks memcached's text protocol,
    /// pinion and memcached with @meta its meta commands
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub servers: Vec<String>,
    /// One more pinion, with these arguments (split at blanks); may be repeated
    #[arg(long = "variant", value_name = "NAME=ARGS")]
    pub variants: Vec<Variant>,
    /// The pinion program
    #[arg(long, value_name = "PATH")]
    pub pinion: Option<PathBuf>,
    /// Arguments for every pinion (split at blanks)
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    pub pinion_args: String,
    /// The floor program; default: beside this program
    #[arg(long, value_name = "PATH")]
    pub floor: Option<PathBuf>,
    /// The redis-server program
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub redis: PathBuf,
    /// The memcached program
    #[arg(long, value_name = "PATH", default_value = "memcached")]
    pub memcached: PathBuf,
    /// Valid rounds per server and load
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Length of a round
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Load before each round that is not measured
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    pub warmup: f64,
    /// How many keys there are; all are set before the load
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Size of every key
    #[arg(long, value_name = "BYTES", default_value_t = 16)]
    pub key_size: usize,
    /// Size of every value
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub value_size: usize,
    /// How requests spread over the keys: uniform or zipf:S
    #[arg(long, default_value = "uniform")]
    pub key_dist: KeyDistribution,
    /// Reads and writes
    #[arg(long, default_value = "get=9,set=1")]
    pub mix: Mix,
    /// Seed of all random choices; default: from the clock, and printed
    #[arg(long)]
    pub seed: Option<u64>,
    /// The servers' CPU
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The client's CPU; default: the servers' for saturation, another one otherwise
    #[arg(long)]
    pub client_cpu: Option<usize>,
    /// When servers are started
    #[arg(long, value_enum, default_value = "fresh")]
    pub instances: Instances,
    /// A round is dropped when others used more of the machine
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    pub foreign_max: f64,
    /// A round is dropped when the hypervisor took more of the machine
    #[arg(long, value_name = "PERCENT", default_value_t = 0.5)]
    pub stolen_max: f64,
    /// Write all rounds to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl CommonOptions {
    /// The load, in a protocol.
    pub(super) fn workload(&self, protocol: Protocol, seed: u64) -> Workload {
        Workload {
            protocol,
            key_count: self.keys,
            key_bytes: self.key_size,
            value_bytes: self.value_size,
            distribution: self.key_dist,
            gets: self.mix.gets,
            sets: self.mix.sets,
            seed,
            subset: None,
        }
    }

    /// Refuses numbers that make no benchmark.
    pub(super) fn validate(&self) -> Result<(), HarnessError> {
        let is_duration = |seconds: f64| (0.0..=3600.0).contains(&seconds);
        if self.rounds == 0 {
            return Err(HarnessError::Usage("--rounds must be at least 1".to_string()));
        }
        if !is_duration(self.seconds) || !is_duration(self.warmup) || self.seconds < 0.01 {
            let text = "--seconds must be 0.01 to 3600 and --warmup 0 to 3600";
            return Err(HarnessError::Usage(text.to_string()));
        }
        if !(self.foreign_max >= 0.0 && self.stolen_max >= 0.0) {
            let text = "--foreign-max and --stolen-max must not be negative";
            return Err(HarnessError::Usage(text.to_string()));
        }
        self.workload(Protocol::Resp, 0)
            .validate()
            .map_err(|error| HarnessError::Usage(error.to_string()))
    }

    /// The seed that was asked for, or one from the clock.
    pub(super) fn seed_or_clock(&self) -> u64 {
        self.seed.unwrap_or_else(|| {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            u64::from(now.subsec_nanos()) ^ now.as_secs()
        })
    }

    pub(super) fn round(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup)
    }
}

/// Splits at blanks. There is no quoting; no option of the server needs it.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_read() {
        assert_eq!("get=9,set=1".parse(), Ok(Mix { gets: 9, sets: 1 }));
        assert_eq!("set=1".parse(), Ok(Mix { gets: 0, sets: 1 }));
        for text in ["", "9", "get", "get=", "get=x", "del=1"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }

    #[test]
    fn variants_are_read() {
        let variant: Variant = "big=--budget 64  --x=1".parse().unwrap();
        assert_eq!(variant.name, "big");
        assert_eq!(variant.arguments, ["--budget", "64", "--x=1"]);
        assert_eq!("none=".parse::<Variant>().unwrap().arguments, Vec::<String>::new());
        assert!("big".parse::<Variant>().is_err());
        assert!("=x".parse::<Variant>().is_err());
    }
}
