//! What a run is asked to do: plain structures with public fields, and one check at the edge.
//!
//! Everything that a flag can say is here, as a type that can only hold what makes sense, with
//! its text form (`FromStr`). [`RunConfig::validate`] checks what only the combination shows; the
//! rest of the crate relies on it and checks nothing again.

mod text;

use std::time::Duration;

use crate::error::Error;

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
/// Highest offered rate in requests per second.
pub const RATE_MAX: u64 = 1_000_000_000;
/// Longest lifetime that memcached takes as a duration; a larger number would be a date.
pub const MEMCACHED_TTL_S_MAX: u64 = 30 * 24 * 3600;

/// The language spoken to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2: `GET`, `SET [EX|PX]`, `DEL`.
    Resp,
    /// RESP3: as RESP2, after `HELLO 3`.
    Resp3,
    /// The memcached text protocol: `get`, `set`, `delete`.
    Memcached,
}

/// What decides when the next request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Open loop: at fixed times of a schedule, whatever the server does.
    Open(Rate),
    /// Closed loop: when an earlier request is answered. Its latencies are not comparable.
    Closed,
}

/// A request rate, exact to a thousandth of a request per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per 1000 seconds; at least 1.
    pub millihertz: u64,
}

impl Rate {
    /// The rate in requests per second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.millihertz as f64 / 1000.0
    }
}

/// How popular the keys are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyDist {
    /// All keys alike.
    Uniform,
    /// Zipf with this exponent (`>= 0`), the ranks scrambled over the key space.
    Zipf(f64),
}

/// Value lengths, uniform over the range; both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueSize {
    /// Shortest value in bytes, at least 1.
    pub bytes_min: usize,
    /// Longest value in bytes.
    pub bytes_max: usize,
}

/// Relative weights of the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Weight of reads.
    pub get: u32,
    /// Weight of writes.
    pub set: u32,
    /// Weight of deletions.
    pub delete: u32,
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
    /// The server, as `host:port`.
    pub target: String,
    /// The language spoken to it.
    pub protocol: Protocol,
    /// Connections, spread over the threads.
    pub connections: usize,
    /// Most outstanding requests per connection.
    pub pipeline: usize,
    /// Open loop with a rate, or closed loop.
    pub load: Load,
    /// Length of the measured phase; `requests` takes its place if given.
    pub duration: Duration,
    /// Length of the phase before it, which is not recorded (but checked).
    pub warmup: Duration,
    /// Number of measured requests after which the run ends, instead of `duration`.
    pub requests: Option<u64>,
    /// Number of keys.
    pub keys: u64,
    /// Length of every key in bytes.
    pub key_bytes: usize,
    /// Popularity of the keys.
    pub key_dist: KeyDist,
    /// Lengths of the values.
    pub value_size: ValueSize,
    /// Shares of the operations.
    pub mix: Mix,
    /// Lifetime given with every write.
    pub ttl: Option<Duration>,
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
    /// Print a line per second to the standard error.
    pub progress: bool,
}

impl Default for RunConfig {
    fn default() -> RunConfig {
        RunConfig {
            target: "127.0.0.1:6379".to_owned(),
            protocol: Protocol::Resp,
            connections: 50,
            pipeline: 1,
            load: Load::Closed,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            requests: None,
            keys: 10_000,
            key_bytes: 16,
            key_dist: KeyDist::Zipf(0.99),
            value_size: ValueSize { bytes_min: 64, bytes_max: 64 },
            mix: Mix { get: 9, set: 1, delete: 0 },
            ttl: None,
            prefill: false,
            read_through: false,
            seed: 1,
            pin: Vec::new(),
            threads: 1,
            verify: Verify::Full,
            pace: Pace::Auto,
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
        check_key_bytes(self.key_bytes, self.keys)?;
        check_value_size(self.value_size)?;
        if u64::from(self.mix.get) + u64::from(self.mix.set) + u64::from(self.mix.delete) == 0 {
            return usage("--mix: at least one operation needs a weight above 0".to_owned());
        }
        if let KeyDist::Zipf(s) = self.key_dist
            && !(0.0..=100.0).contains(&s)
        {
            return usage(format!("--key-dist zipf:{s}: the exponent must be 0 to 100"));
        }
        if let Load::Open(rate) = self.load
            && (rate.millihertz == 0 || rate.millihertz > RATE_MAX * 1000)
        {
            return usage(format!("--rate must be 0.001 to {RATE_MAX} requests per second"));
        }
        if self.requests == Some(0) || (self.requests.is_none() && self.duration.is_zero()) {
            return usage("a run needs a --duration or --requests above 0".to_owned());
        }
        // One bound for both keeps every sum of times far away from overflow.
        let long = Duration::from_secs(366 * 24 * 3600);
        if self.duration > long || self.warmup > long {
            return usage("--duration and --warmup are limited to 366 days".to_owned());
        }
        check_ttl(self.ttl, self.protocol)
    }
}

/// Checks that every key number below `keys` fits into a key of `key_bytes`.
pub(crate) fn check_key_bytes(key_bytes: usize, keys: u64) -> Result<(), Error> {
    let digits = (keys - 1).checked_ilog10().unwrap_or(0) as usize + 1;
    if key_bytes < digits || key_bytes > KEY_BYTES_MAX {
        return usage(format!(
            "--key-size must be {digits} (the digits of {keys} keys) to {KEY_BYTES_MAX}, \
             not {key_bytes}"
        ));
    }
    Ok(())
}

/// Checks a range of value lengths.
pub(crate) fn check_value_size(size: ValueSize) -> Result<(), Error> {
    in_range("--value-size", size.bytes_min, 1, VALUE_BYTES_MAX)?;
    in_range("--value-size", size.bytes_max, size.bytes_min, VALUE_BYTES_MAX)
}

/// Checks a lifetime against what the protocol can say.
pub(crate) fn check_ttl(ttl: Option<Duration>, protocol: Protocol) -> Result<(), Error> {
    let Some(ttl) = ttl else { return Ok(()) };
    if ttl.as_millis() == 0 || !ttl.as_nanos().is_multiple_of(1_000_000) {
        return usage("--ttl must be a whole number of milliseconds above 0".to_owned());
    }
    if ttl.as_secs() > 100 * 366 * 24 * 3600 {
        return usage("--ttl is limited to 100 years".to_owned());
    }
    if protocol == Protocol::Memcached
        && (ttl.subsec_nanos() != 0 || ttl.as_secs() > MEMCACHED_TTL_S_MAX)
    {
        return usage("--ttl for memcached must be whole seconds, at most 30 days".to_owned());
    }
    Ok(())
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
        assert!(refused(|c| c.key_bytes = 3).contains("--key-size"));
        assert!(refused(|c| c.key_bytes = 251).contains("--key-size"));
        assert!(refused(|c| c.value_size.bytes_min = 0).contains("--value-size"));
        assert!(refused(|c| c.value_size.bytes_max = 63).contains("--value-size"));
        assert!(refused(|c| c.mix = Mix { get: 0, set: 0, delete: 0 }).contains("--mix"));
        assert!(refused(|c| c.key_dist = KeyDist::Zipf(f64::NAN)).contains("--key-dist"));
        assert!(refused(|c| c.load = Load::Open(Rate { millihertz: 0 })).contains("--rate"));
        assert!(refused(|c| c.duration = Duration::ZERO).contains("--duration"));
        assert!(refused(|c| c.requests = Some(0)).contains("--requests"));
        assert!(refused(|c| c.warmup = Duration::MAX).contains("--warmup"));
    }

    #[test]
    fn lifetimes_must_fit_the_protocol() {
        let ttl = |ttl_us, protocol| {
            let ttl = Some(Duration::from_micros(ttl_us));
            check_ttl(ttl, protocol).is_ok()
        };
        assert!(ttl(1_500_000, Protocol::Resp) && !ttl(1_500_000, Protocol::Memcached));
        assert!(!ttl(0, Protocol::Resp) && !ttl(1_500, Protocol::Resp));
        let month_us = MEMCACHED_TTL_S_MAX * 1_000_000;
        assert!(ttl(month_us, Protocol::Memcached));
        assert!(!ttl(month_us + 1_000_000, Protocol::Memcached));
    }

    #[test]
    fn keys_need_room_for_their_digits() {
        assert!(check_key_bytes(1, 10).is_ok() && check_key_bytes(1, 11).is_err());
        assert!(check_key_bytes(1, 1).is_ok() && check_key_bytes(10, KEYS_MAX).is_ok());
    }
}
