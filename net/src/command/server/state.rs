//! What commands share beside items: statistics and logs of one core.

use pinion_engine::Counters as ShardCounters;

use super::super::script::Scripts;
use super::super::settings::Settings;
use super::super::statistics::Statistics;
use super::super::table;
use super::latency::Latency;
use super::slowlog::Slowlog;
use crate::core::Counters;

/// See the module's page.
#[derive(Debug, Default)]
pub struct ServerState {
    /// Calls and errors.
    pub statistics: Statistics,
    /// Commands that took long.
    pub slowlog: Slowlog,
    /// When they did.
    pub latency: Latency,
    /// The scripts that EVALSHA may name.
    pub scripts: Scripts,
    /// What counters that never go back stood at when counting began anew.
    pub base: Base,
    /// How long the command that is being executed took, if it was timed.
    pub timed: Option<Timed>,
    /// The most memory that was in use, in bytes.
    pub memory_peak_bytes: u64,
}

/// How long an execution took, and what is kept of its arguments if it may be told of.
#[derive(Debug, Default)]
pub struct Timed {
    /// Nanoseconds.
    pub taken_ns: u64,
    /// As SLOWLOG keeps them.
    pub args: Vec<Vec<u8>>,
}

/// Counters at the last CONFIG RESETSTAT.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base {
    /// Commands executed.
    pub commands: u64,
    /// Items that expired.
    pub expired: u64,
    /// Items that were evicted.
    pub evicted: u64,
}

impl Base {
    /// The counters as they are.
    pub fn new(counters: &Counters, shard: &ShardCounters) -> Base {
        Base { commands: counters.commands, expired: shard.expired, evicted: shard.evictions }
    }
}

impl ServerState {
    /// Notes how long a command took, if latency is monitored and that was long.
    pub fn note_latency(&mut self, settings: &Settings, number: u16, taken_ms: u64) {
        let least_ms = settings.latency_threshold_ms;
        if least_ms > 0 && taken_ms >= least_ms {
            let name = if table::is_fast(number) { "fast-command" } else { "command" };
            self.latency.note(name, taken_ms);
        }
    }
}
