//! The command line of `pinion`: flags, their defaults, and the checks that need no system call.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use pinion_ring::FeatureSet;

use crate::cluster::parse_announce;
use crate::core::{Driver, IdleMode};
use crate::flags::{Network, OnOff, Permissions, Span, YesNo};
use crate::log::LogFormat;

/// A cache server for Redis and memcached clients.
#[derive(Clone, Debug, Parser)]
#[command(name = "pinion", version)]
pub struct Options {
    /// Addresses to listen on
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',',
          default_values = ["127.0.0.1", "::1"])]
    pub bind: Vec<IpAddr>,

    /// Port for Redis clients (RESP2 and RESP3); 0 lets the kernel choose
    #[arg(long, default_value_t = 6379, value_name = "PORT")]
    pub port: u16,

    /// Port for memcached clients (text protocol); 0 turns it off, `auto` lets the kernel choose
    #[arg(long, default_value = "11211", value_name = "PORT")]
    pub memcached_port: MemcachedPort,

    /// Ports for clients of Redis Cluster: each core has one of its own, from BASE on, where it is
    /// a node that owns its keys; 0 turns them off
    #[arg(long, default_value_t = 0, value_name = "BASE")]
    pub core_ports: u16,

    /// The host that clients of core ports are told, if it is not the address by which they come:
    /// behind a proxy or in a container
    #[arg(long, value_name = "HOST", value_parser = parse_announce)]
    pub announce: Option<String>,

    /// Whether core ports answer for keys of other cores by telling the client their port (MOVED):
    /// on or off; off serves them from there
    #[arg(long, default_value = "on", value_name = "ON|OFF")]
    pub redirect: OnOff,

    /// Unix socket for Redis clients too; each of several cores has one of its own beside it,
    /// PATH.0 and so on
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,

    /// Unix socket for memcached clients too, and each core's own beside it
    #[arg(long, value_name = "PATH")]
    pub memcached_unix: Option<PathBuf>,

    /// Permissions of Unix sockets, in octal
    #[arg(long, default_value = "700", value_name = "MODE")]
    pub unix_permissions: Permissions,

    /// Refuse to listen beyond loopback without a password: yes or no
    #[arg(long, default_value = "yes", value_name = "YES|NO")]
    pub protected_mode: YesNo,

    /// Configuration file in TOML, whose keys are the names of flags; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check flags, configuration file and host, say what is wrong, and end
    #[arg(long)]
    pub check_config: bool,

    /// How log lines are written: text (key=value) or json
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// How long the end (SIGTERM, SHUTDOWN) waits for clients to get the replies to what they have
    /// sent
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub drain: Span,

    /// The CPU of each core, such as 0,2-5, or all: one core on each physical core that the process
    /// may use [default: one core, on the first CPU that it may use]
    #[arg(long, value_name = "LIST|all")]
    pub cores: Option<CoreList>,

    /// Memory of the whole process, such as 512MiB or 4GiB: items and their table, the program, and
    /// the buffers of clients [default: half of what the machine or its cgroup allows]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,

    /// The part of the memory that requests and replies on their way may take, all clients together;
    /// at least 8MiB [default: a sixteenth of the memory]
    #[arg(long, value_name = "SIZE")]
    pub buffers: Option<Size>,

    /// Limit on the bytes of the items alone (headers included), exact to the item; for replays
    #[arg(long, value_name = "SIZE")]
    pub data_limit: Option<Size>,

    /// The largest value
    #[arg(long, default_value = "8MiB", value_name = "SIZE")]
    pub value_max: Size,

    /// How long a client may take to fetch a value that memcached's meta commands have told it to
    /// fetch, before another one is told: such as 500ms or 10s; 0 means until the item expires
    #[arg(long, default_value = "10s", value_name = "TIME")]
    pub lease_timeout: LeaseTimeout,

    /// Let clients of the memcached port stop the server (`shutdown`) and set the memory of the
    /// process (`cache_memlimit`)
    #[arg(long)]
    pub memcached_admin: bool,

    /// A file of `user:password` lines: clients of the memcached port must begin with a `set` whose
    /// data is a user and a password, separated by a space
    #[arg(long, value_name = "FILE")]
    pub memcached_auth: Option<PathBuf>,

    /// memcached over UDP, which is not offered: only 0 is taken
    #[arg(long, default_value_t = 0, value_name = "PORT", value_parser = no_udp)]
    pub udp_port: u16,

    /// What happens when memory is full: tinylfu keeps what is used most for its size; lru, lfu,
    /// fifo and random evict by these rules; none refuses writes
    #[arg(long, default_value = "tinylfu", value_name = "POLICY")]
    pub eviction: EvictionName,

    /// How the core waits for work: auto, park, spin:50us or poll
    #[arg(long, default_value = "auto", value_name = "MODE")]
    pub idle: IdleMode,

    /// Who drives the core: `glommio` (an executor beside the data ring) or `bare` (a thread)
    /// [default: glommio, or bare where it cannot run]
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<Driver>,

    /// What moves the bytes of clients: io_uring, epoll, or auto, which takes epoll where io_uring
    /// is refused
    #[arg(long, default_value = "auto", value_name = "INTERFACE")]
    pub network: Network,

    /// Touch all memory at start, so that no request waits for the kernel to find a page
    #[arg(long)]
    pub prefault: bool,

    /// Connections at a time [default: 10000, or fewer if the limit on open files or a tenth of
    /// the memory allows fewer]
    #[arg(long, value_name = "COUNT")]
    pub max_connections: Option<u32>,

    /// Password that clients of the Redis port must give (AUTH), and those of the memcached port,
    /// by its authentication of text clients, with the user `default`
    #[arg(long, default_value = "", value_name = "PASSWORD", hide_default_value = true)]
    pub requirepass: String,

    /// Give a command another name, or none if NEW is empty; may be repeated
    #[arg(long, num_args = 2, value_names = ["NAME", "NEW"])]
    pub rename_command: Vec<String>,

    /// Connections accepted in a second, and in a burst; more are told so and closed; 0: no limit
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub accept_rate: u32,

    /// Close connections that have neither sent nor taken anything for this long; 0: never
    #[arg(long, default_value = "0", value_name = "TIME")]
    pub timeout: Span,

    /// Refuse requests that have waited in the server for longer than this since they were received;
    /// 0: never
    #[arg(long, default_value = "0", value_name = "TIME")]
    pub request_age: Span,

    /// The longest key; at most 65535
    #[arg(long, default_value_t = 65_535, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub key_max: u32,

    /// The most arguments of one command
    #[arg(long, default_value_t = 1024 * 1024, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(16..=1024 * 1024))]
    pub args_max: u32,

    /// The longest request [default: 64MiB, or twice --value-max if that is more]
    #[arg(long, value_name = "SIZE")]
    pub request_max: Option<Size>,

    /// Input that one connection may make the server hold; more is refused, and the connection
    /// ends [default: as much as the share of buffers has room for]
    #[arg(long, value_name = "SIZE")]
    pub input_max: Option<Size>,

    /// Unread replies of one connection beyond which its commands wait
    #[arg(long, default_value = "256KiB", value_name = "SIZE")]
    pub output_max: Size,

    /// Commands of one connection that are executed before others have their turn
    #[arg(long, default_value_t = 256, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(32..=65_536))]
    pub pipeline_max: u32,

    /// Allow DEBUG, with which a client can stop the server; for test suites
    #[arg(long)]
    pub enable_debug_command: bool,

    /// Commands that a turn executes before it sends the replies
    #[arg(long, default_value_t = 64, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub flush_after: u32,

    /// Features of io_uring to do without, for tests: names separated by commas, or `all`
    #[arg(long, default_value = "", value_name = "FEATURES", hide_default_value = true)]
    pub ring_hide: FeatureSet,
}

fn no_udp(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) => Ok(0),
        _ => Err("there is no UDP port: memcached over UDP is open to abuse for amplified \
                  attacks, and its own default is off; leave it at 0"
            .to_owned()),
    }
}

/// A number of bytes, with an optional unit: `k`, `kb`, `kib`, `m`, `g` and so on. As in Redis,
/// `k` means 1,000 and `kb` 1,024; `KiB`, `MiB` and `GiB` are binary too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let lower = text.trim().to_ascii_lowercase();
        let split = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let (digits, unit) = lower.split_at(split);
        let factor: u64 = match unit.trim() {
            "" | "b" => 1,
            "k" => 1_000,
            "kb" | "kib" => 1 << 10,
            "m" => 1_000_000,
            "mb" | "mib" => 1 << 20,
            "g" => 1_000_000_000,
            "gb" | "gib" => 1 << 30,
            _ => return Err(format!("'{text}': unknown unit; write for instance 512MiB or 4GiB")),
        };
        let count: u64 = digits
            .parse()
            .map_err(|_| format!("'{text}' is not a size; write for instance 512MiB or 4GiB"))?;
        count.checked_mul(factor).map(Size).ok_or_else(|| format!("'{text}' is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >> shift > 0 && self.0 & ((1 << shift) - 1) == 0 {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// The port for memcached clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemcachedPort {
    /// No listener.
    Off,
    /// A port that the kernel chooses.
    Auto,
    /// This port.
    Fixed(u16),
}

impl FromStr for MemcachedPort {
    type Err = String;

    fn from_str(text: &str) -> Result<MemcachedPort, String> {
        match text {
            "0" => Ok(MemcachedPort::Off),
            "auto" => Ok(MemcachedPort::Auto),
            _ => text
                .parse()
                .map(MemcachedPort::Fixed)
                .map_err(|_| format!("'{text}' is not a port (1 to 65535), 0 or auto")),
        }
    }
}

/// How long a lease is out at most.
///
/// The default, 10 s, is longer than clients of a database usually wait for an answer, so that a
/// winner that is merely slow is not overtaken, and shorter than people wait for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimeout {
    /// Milliseconds; `None` until the item goes.
    pub ms: Option<u64>,
}

impl FromStr for LeaseTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<LeaseTimeout, String> {
        const MS_MAX: u64 = 86_400_000;
        let wrong = || format!("'{text}' is not a time such as 500ms or 10s, up to 86400s, or 0");
        if text == "0" {
            return Ok(LeaseTimeout { ms: None });
        }
        let (digits, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(digits), _) => (digits, 1),
            (None, Some(digits)) => (digits, 1_000),
            (None, None) => return Err(wrong()),
        };
        let count = digits.parse::<u64>().map_err(|_| wrong())?;
        let ms = count.checked_mul(factor).filter(|ms| (1..=MS_MAX).contains(ms));
        ms.map(|ms| LeaseTimeout { ms: Some(ms) }).ok_or_else(wrong)
    }
}

/// A list of CPUs such as `0,2-5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<CoreList, String> {
        let wrong = || format!("'{text}' is not a list of CPUs such as 0 or 0,2-5, nor all");
        if text == "all" {
            return Ok(CoreList(Vec::new()));
        }
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| wrong())?;
            let last: usize = last.trim().parse().map_err(|_| wrong())?;
            if first > last || last >= 4096 {
                return Err(wrong());
            }
            cores.extend(first..=last);
        }
        if cores.len() > CORES_MAX {
            return Err(format!("'{text}' names {} cores; at most {CORES_MAX}", cores.len()));
        }
        Ok(CoreList(cores))
    }
}

/// Cores of one server: the lanes between all of them take memory with the square of it.
const CORES_MAX: usize = 256;

/// An eviction policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictionName(pub pinion_engine::Eviction);

/// The policies: our name, the engine's, and the nearest name of Redis for tools that ask.
const EVICTIONS: [(&str, pinion_engine::Eviction, &str); 6] = [
    ("tinylfu", pinion_engine::Eviction::TinyLfu, "allkeys-lfu"),
    ("lru", pinion_engine::Eviction::Lru, "allkeys-lru"),
    ("lfu", pinion_engine::Eviction::Lfu, "allkeys-lfu"),
    ("fifo", pinion_engine::Eviction::Fifo, "allkeys-lru"),
    ("random", pinion_engine::Eviction::Random, "allkeys-random"),
    ("none", pinion_engine::Eviction::None, "noeviction"),
];

impl EvictionName {
    /// The policy as the engine knows it.
    pub fn policy(self) -> pinion_engine::Eviction {
        self.0
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The nearest policy name of Redis, for tools that ask.
    pub fn redis_name(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (&'static str, pinion_engine::Eviction, &'static str) {
        EVICTIONS.iter().find(|row| row.1 == self.0).expect("every policy has a row")
    }
}

impl FromStr for EvictionName {
    type Err = String;

    /// Our names, and those of Redis's policies that mean the same.
    fn from_str(text: &str) -> Result<EvictionName, String> {
        if let Some(row) = EVICTIONS.iter().find(|row| row.0 == text) {
            return Ok(EvictionName(row.1));
        }
        if let Some(row) = EVICTIONS.iter().find(|row| row.2 == text && row.0 != "tinylfu") {
            return Ok(EvictionName(row.1));
        }
        if text.starts_with("volatile-") {
            return Err(format!(
                "'{text}' is not offered: every key may be evicted, with or without a deadline, \
                 and keys that are due go first; use tinylfu, lru, lfu, fifo, random or none"
            ));
        }
        Err(format!("'{text}' is not tinylfu, lru, lfu, fifo, random or none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
        let options = Options::try_parse_from(["pinion"]).expect("no argument is needed");
        assert_eq!((options.port, options.bind.len()), (6379, 2));
        assert_eq!(options.memcached_port, MemcachedPort::Fixed(11211));
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("17500000", 17_500_000), ("1k", 1_000), ("1KB", 1 << 10), ("4GiB", 4 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "x", "1x", "-1", "1.5GiB", "99999999999g"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(8 << 20).to_string(), "8MiB");
        assert_eq!(Size(17_500_000).to_string(), "17500000");
    }

    #[test]
    fn udp_is_refused_in_words() {
        assert!(Options::try_parse_from(["pinion", "--udp-port", "0"]).is_ok());
        let error = Options::try_parse_from(["pinion", "--udp-port", "11211"]).expect_err("no UDP");
        assert!(error.to_string().contains("there is no UDP port"), "{error}");
    }

    #[test]
    fn lease_timeouts_have_units_or_are_off() {
        let options = Options::try_parse_from(["pinion"]).expect("no argument is needed");
        assert_eq!(options.lease_timeout.ms, Some(10_000));
        for (text, ms) in [("0", None), ("1ms", Some(1)), ("86400s", Some(86_400_000))] {
            assert_eq!(text.parse(), Ok(LeaseTimeout { ms }), "{text}");
        }
        for text in ["", "s", "10", "0s", "-1s", "1.5s", "86401s", "99999999999999999999s"] {
            assert!(text.parse::<LeaseTimeout>().is_err(), "{text}");
        }
    }

    #[test]
    fn lists_of_cpus_are_cores_in_their_order() {
        assert_eq!("3".parse(), Ok(CoreList(vec![3])));
        assert_eq!("2-2".parse(), Ok(CoreList(vec![2])));
        assert_eq!("all".parse(), Ok(CoreList(Vec::new())));
        assert_eq!("5,0,2-4,0".parse(), Ok(CoreList(vec![5, 0, 2, 3, 4, 0])));
        for text in ["", "a", "1-", "3-1", "0,", "0-9999999", "0-300"] {
            assert!(text.parse::<CoreList>().is_err(), "{text}");
        }
    }
}
