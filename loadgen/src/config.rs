//! What a run is asked to do: plain structures with public fields, and one check at the edge.
//!
//! Everything that a flag can say is here, as a type that can only hold what makes sense, with
//! its text form (`FromStr`). [`RunConfig::validate`] checks what only the combination shows; the
//! rest of the crate relies on it and checks nothing again.

mod dists;
mod keysize;
mod load;
mod preset;
mod profile;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::keys::COUNTER_PREFIX;

pub use dists::{DRAWN_BYTES_MAX, KeyDist, LIST_MAX, Ttl, ValueSize, Weighted};
pub use keysize::KeySize;
pub use load::{Arrival, Load, RATE_MAX, Rate};
pub use preset::Preset;
pub use profile::{Profile, STEPS_MAX, Step};
pub use text::parse_duration;

/// Most keys: key numbers are 32 bits wide in the records of outstanding requests.
pub const KEYS_MAX: u64 = 1 << 32;
/// Longest key: the limit of memcached.
pub const KEY_BYTES_MAX: usize = 250;
/// Longest value that this tool makes.
pub const VALUE_BYTES_MAX: usize = 512 << 20;
/// Most connections of a run.
pub const CONNECTIONS_MAX: usize = 60_000;
/// Most outstanding requests of one connection.
pub const PIPELINE_MAX: usize = 65_536;
/// Most worker threads.
pub const THREADS_MAX: usize = 256;
/// Most keys that one read asks for.
pub const MULTIGET_MAX: usize = 100;
/// Most targets.
pub const TARGETS_MAX: usize = 1024;
/// Most connections that are replaced per second.
pub const CHURN_PER_S_MAX: u64 = 100_000;
/// Longest lifetime that memcached takes as a duration; a larger number would be a date.
pub const MEMCACHED_TTL_S_MAX: u64 = 30 * 24 * 3600;

/// The language spoken to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2: `GET`, `SET [EX|PX]`, `DEL`, `PEXPIRE`, `INCR`.
    Resp,
    /// RESP3: as RESP2, after `HELLO 3`.
    Resp3,
    /// The memcached text protocol: `get`, `set`, `delete`, `touch`, `incr`, `add`.
    Memcached,
    /// The memcached meta commands: `mg`, `ms`, `md`, `ma`.
    Meta,
}

impl Protocol {
    /// Whether lifetimes are whole seconds, as in both protocols of memcached.
    #[must_use]
    pub fn is_memcached(self) -> bool {
        matches!(self, Protocol::Memcached | Protocol::Meta)
    }
}

/// Relative weights of the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mix {
    /// Weight of reads.
    pub get: u32,
    /// Weight of writes.
    pub set: u32,
    /// Weight of deletions.
    pub delete: u32,
    /// Weight of new lifetimes without a new value; needs a lifetime.
    pub touch: u32,
    /// Weight of increments, of counters that have keys of their own.
    pub incr: u32,
}

impl Mix {
    /// The sum of the weights.
    #[must_use]
    pub fn total(self) -> u64 {
        [self.get, self.set, self.delete, self.touch, self.incr].map(u64::from).iter().sum()
    }
}

/// How many keys one read asks for: uniform over a range, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiget {
    /// Fewest keys, at least 1.
    pub keys_min: usize,
    /// Most keys.
    pub keys_max: usize,
}

/// Which key goes to which of several targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// Any key to any of them: several ways to one server.
    None,
    /// Each key over a connection whose source port leads to the core that owns the slot of the
    /// key; one target, a port that all its cores share.
    SourcePort,
    /// Each key to the node that owns its slot. One target is asked for its nodes (`CLUSTER
    /// SLOTS`); of several targets, target `i` of `n` owns the `i`-th of `n` equal ranges of the
    /// 16384 slots.
    CorePorts,
}

/// What makes the numbers of a run invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guards {
    /// Besides errors and a rate that was not kept: late sending, a busy client, and a host that
    /// took CPU away.
    Strict,
    /// Errors and a rate that was not kept; the rest is told as a note.
    Lenient,
}

/// How much of each value that comes back is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Everything: identity, version, length and every byte.
    Full,
    /// Identity, version and length; the body is not looked at.
    Header,
    /// Nothing. Only for servers that cannot return real values.
    Off,
}

/// How a worker waits for the next send time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// `Hybrid` on a machine with fewer than four CPUs, else `Spin`.
    Auto,
    /// Never sleep: poll the clock and the sockets. One whole CPU per worker.
    Spin,
    /// Sleep until shortly before the send time, then poll.
    Hybrid,
}

/// Options of [`crate::run()`] and [`crate::prefill()`].
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The servers, as `host:port` or `unix:path`, separated by commas; connections go to them in
    /// turn.
    pub target: String,
    /// Which key goes to which target.
    pub steer: Steer,
    /// The language spoken to them.
    pub protocol: Protocol,
    /// Connections, spread over the threads.
    pub connections: usize,
    /// Most outstanding requests per connection.
    pub pipeline: usize,
    /// Open loop with a rate, or closed loop.
    pub load: Load,
    /// How the send times of an open loop are spread.
    pub arrival: Arrival,
    /// How the rate changes, instead of the one of `load`.
    pub profile: Profile,
    /// An open loop that falls further behind than this is stopped.
    pub backlog_max: Duration,
    /// Connections replaced by new ones per second.
    pub churn: Option<Rate>,
    /// Length of the measured phase; `requests` takes its place if given.
    pub duration: Duration,
    /// Length of the phase before it, which is not recorded (but checked).
    pub warmup: Duration,
    /// Number of measured requests after which the run ends, instead of `duration`.
    pub requests: Option<u64>,
    /// Number of keys.
    pub keys: u64,
    /// Lengths of the keys.
    pub key_size: KeySize,
    /// Popularity of the keys.
    pub key_dist: KeyDist,
    /// Lengths of the values.
    pub value_size: ValueSize,
    /// Shares of the operations.
    pub mix: Mix,
    /// Keys that one read asks for.
    pub multiget: Multiget,
    /// Share of the requests that go to one single key, 0 to 1.
    pub hot_one: f64,
    /// Lifetimes given with the writes.
    pub ttl: Option<Ttl>,
    /// Write every key once, and read them back, before the run.
    pub prefill: bool,
    /// Write a key after its read missed.
    pub read_through: bool,
    /// Every random stream and every value derives from it.
    pub seed: u64,
    /// CPUs for the workers, in turn; empty: unpinned.
    pub pin: Vec<usize>,
    /// Worker threads.
    pub threads: usize,
    /// How values are checked.
    pub verify: Verify,
    /// How a worker waits.
    pub pace: Pace,
    /// What makes the numbers invalid.
    pub guards: Guards,
    /// Where the interval log goes, which is written while the run goes on.
    pub hlog: Option<PathBuf>,
    /// Print a line per second to the standard error.
    pub progress: bool,
}

impl Default for RunConfig {
    fn default() -> RunConfig {
        RunConfig {
            target: "127.0.0.1:6379".to_owned(),
            steer: Steer::None,
            protocol: Protocol::Resp,
            connections: 50,
            pipeline: 1,
            load: Load::Closed,
            arrival: Arrival::Constant,
            profile: Profile::default(),
            backlog_max: Duration::from_secs(1),
            churn: None,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            requests: None,
            keys: 10_000,
            key_size: KeySize::fixed(16),
            key_dist: KeyDist::Zipf(0.99),
            value_size: ValueSize::fixed(64),
            mix: Mix { get: 9, set: 1, ..Mix::default() },
            multiget: Multiget { keys_min: 1, keys_max: 1 },
            hot_one: 0.0,
            ttl: None,
            prefill: false,
            read_through: false,
            seed: 1,
            pin: Vec::new(),
            threads: 1,
            verify: Verify::Full,
            pace: Pace::Auto,
            guards: Guards::Strict,
            hlog: None,
            progress: false,
        }
    }
}

impl RunConfig {
    /// Checks the combination of the options.
    ///
    /// # Errors
    /// [`Error::Usage`] with what to change.
    pub fn validate(&self) -> Result<(), Error> {
        in_range("--connections", self.connections, 1, CONNECTIONS_MAX)?;
        in_range("--pipeline", self.pipeline, 1, PIPELINE_MAX)?;
        in_range("--threads", self.threads, 1, THREADS_MAX)?;
        if self.connections < self.threads {
            return usage(format!(
                "--connections {} is less than --threads {}: a thread would have nothing to do",
                self.connections, self.threads
            ));
        }
        if self.keys == 0 || self.keys > KEYS_MAX {
            return usage(format!("--keys must be 1 to {KEYS_MAX}, not {}", self.keys));
        }
        // Counters have a prefix of their own, or they would be values of the same name.
        let lead = if self.mix.incr > 0 { COUNTER_PREFIX.len() } else { 0 };
        self.key_size.validate(self.keys, lead)?;
        self.value_size.validate()?;
        self.validate_mix()?;
        self.key_dist.validate()?;
        if let Load::Open(rate) = self.load {
            load::check_rate(rate)?;
        }
        self.validate_load()?;
        if self.requests == Some(0) || (self.requests.is_none() && self.duration.is_zero()) {
            return usage("a run needs a --duration or --requests above 0".to_owned());
        }
        // One bound for both keeps every sum of times far away from overflow.
        let long = Duration::from_secs(366 * 24 * 3600);
        if self.duration > long || self.warmup > long {
            return usage("--duration and --warmup are limited to 366 days".to_owned());
        }
        self.ttl.as_ref().map_or(Ok(()), |ttl| ttl.validate(self.protocol))
    }

    fn validate_mix(&self) -> Result<(), Error> {
        if self.mix.total() == 0 {
            return usage("--mix: at least one operation needs a weight above 0".to_owned());
        }
        if self.mix.touch > 0 && self.ttl.is_none() {
            return usage("--mix touch=...: needs the lifetimes of --ttl".to_owned());
        }
        in_range("--multiget", self.multiget.keys_min, 1, MULTIGET_MAX)?;
        in_range("--multiget", self.multiget.keys_max, self.multiget.keys_min, MULTIGET_MAX)?;
        if self.multiget.keys_max > 1 && self.steer != Steer::None {
            return usage("--multiget: the keys of a read have different owners".to_owned());
        }
        if !(0.0..=1.0).contains(&self.hot_one) {
            return usage(format!("--hot-one must be 0 to 1, not {}", self.hot_one));
        }
        Ok(())
    }

    fn validate_load(&self) -> Result<(), Error> {
        self.arrival.validate()?;
        self.profile.validate()?;
        let paced = self.arrival != Arrival::Constant || self.profile != Profile::Level;
        if paced && self.load == Load::Closed {
            return usage("--arrival and --profile need an open loop".to_owned());
        }
        let is_file = matches!(self.arrival, Arrival::File(_));
        let is_burst = matches!(self.arrival, Arrival::Burst { .. });
        if (is_file || is_burst) && self.profile != Profile::Level {
            return usage("--profile goes with --arrival const or poisson".to_owned());
        }
        if self.backlog_max.is_zero() || self.backlog_max > Duration::from_secs(3600) {
            return usage("--max-backlog must be above 0 and at most 1h".to_owned());
        }
        if let Some(churn) = self.churn
            && churn.millihertz > CHURN_PER_S_MAX * 1000
        {
            return usage(format!("--churn must be at most {CHURN_PER_S_MAX} per second"));
        }
        Ok(())
    }
}

pub(crate) fn in_range(flag: &str, value: usize, min: usize, max: usize) -> Result<(), Error> {
    if value < min || value > max {
        return usage(format!("{flag} must be {min} to {max}, not {value}"));
    }
    Ok(())
}

fn usage<T>(text: String) -> Result<T, Error> {
    Err(Error::Usage(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut RunConfig)) -> String {
        let mut config = RunConfig::default();
        config.validate().expect("the defaults are valid");
        change(&mut config);
        match config.validate() {
            Err(Error::Usage(text)) => text,
            other => panic!("{config:?}: {other:?}"),
        }
    }

    #[test]
    fn senseless_options_are_refused_by_name() {
        assert!(refused(|c| c.connections = 0).contains("--connections"));
        assert!(refused(|c| c.connections = 1_000_000).contains("--connections"));
        assert!(refused(|c| c.pipeline = 0).contains("--pipeline"));
        assert!(refused(|c| c.threads = 51).contains("--threads"));
        assert!(refused(|c| c.keys = 0).contains("--keys"));
        assert!(refused(|c| c.keys = KEYS_MAX + 1).contains("--keys"));
        assert!(refused(|c| c.key_size = KeySize::fixed(3)).contains("--key-size"));
        assert!(refused(|c| c.key_size = KeySize::fixed(251)).contains("--key-size"));
        assert!(refused(|c| c.value_size = ValueSize::fixed(0)).contains("--value-size"));
        assert!(refused(|c| c.value_size = ValueSize::range(64, 63)).contains("--value-size"));
        assert!(refused(|c| c.mix = Mix::default()).contains("--mix"));
        assert!(refused(|c| c.mix.touch = 1).contains("--ttl"));
        assert!(refused(|c| c.multiget.keys_min = 0).contains("--multiget"));
        assert!(refused(|c| c.hot_one = 1.5).contains("--hot-one"));
        assert!(refused(|c| c.arrival = Arrival::Poisson).contains("--arrival"));
        assert!(refused(|c| c.backlog_max = Duration::ZERO).contains("--max-backlog"));
        assert!(refused(|c| c.key_dist = KeyDist::Zipf(f64::NAN)).contains("--key-dist"));
        assert!(refused(|c| c.load = Load::Open(Rate { millihertz: 0 })).contains("--rate"));
        assert!(refused(|c| c.duration = Duration::ZERO).contains("--duration"));
        assert!(refused(|c| c.requests = Some(0)).contains("--requests"));
        assert!(refused(|c| c.warmup = Duration::MAX).contains("--warmup"));
    }

    #[test]
    fn lifetimes_must_fit_the_protocol() {
        let ttl =
            |ttl_us, protocol| Ttl::fixed(Duration::from_micros(ttl_us)).validate(protocol).is_ok();
        assert!(ttl(1_500_000, Protocol::Resp) && !ttl(1_500_000, Protocol::Memcached));
        assert!(!ttl(0, Protocol::Resp) && !ttl(1_500, Protocol::Resp));
        let month_us = MEMCACHED_TTL_S_MAX * 1_000_000;
        assert!(ttl(month_us, Protocol::Memcached));
        assert!(!ttl(month_us + 1_000_000, Protocol::Memcached));
    }
}
