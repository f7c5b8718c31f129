//! What a core tells of itself when somebody asks: a copy of its figures, which the control thread
//! joins with those of other cores and makes text of.
//!
//! Cost: a few microseconds, of which the copies of the commands' statistics (8 KiB) and of the
//! expiry lags (4 KiB) are the most.

use pinion_engine::{DATABASES, DatabaseStats, ExpiryLags, ShardStats};
use pinion_ring::Key;

use super::inbox::{Findings, InfoRequest, Question, Request, Wanted};
use super::rates::{RateFigures, Sample};
use super::{BufferFigures, Core, Counters, Transport};
use crate::command::{Base, Statistics};
use crate::memory::Division;
use crate::sys;

/// A core's state at the moment of a question.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which core it is of.
    pub core: usize,
    /// The core's counters.
    pub counters: Counters,
    /// What those that never go back stood at when counting began anew.
    pub base: Base,
    /// How fast some of them grow.
    pub rates: RateFigures,
    /// Calls and errors of commands.
    pub statistics: Statistics,
    /// Its shard's counters and gauges.
    pub shard: ShardStats,
    /// How late expired items were removed.
    pub lags: ExpiryLags,
    /// What each database holds.
    pub databases: [DatabaseStats; DATABASES],
    /// Connections open.
    pub connections: usize,
    /// Places for connections that there have been need of.
    pub connection_places: usize,
    /// Whether connections are accepted: no listener rests after a failure.
    pub accepts: bool,
    /// Reads that wait for another client to fetch a value.
    pub fills_waiting: usize,
    /// Commands that SLOWLOG keeps.
    pub slowlog_entries: usize,
    /// Commands that it may keep.
    pub slowlog_entries_max: usize,
    /// How memory is divided.
    pub division: Division,
    /// Bytes of the shares of connections and buffers that items may use.
    pub lent_bytes: u64,
    /// What connections hold of it.
    pub buffers: BufferFigures,
    /// The most memory that items, table and buffers took, in bytes, looked at every tenth of a
    /// second.
    pub memory_peak_bytes: u64,
    /// Until when commands are held back, in server milliseconds, and whether all are.
    pub paused: Option<(u64, bool)>,
    /// The time of the snapshot, in server milliseconds.
    pub now_ms: u64,
    /// Kernel entries.
    pub enters: u64,
    /// Processor time that the core's thread has used for work, in nanoseconds: the time that it
    /// spun without any is not in it.
    pub busy_ns: u64,
}

/// Memory that items and what belongs to them take, in bytes.
pub(crate) fn items_bytes(shard: &ShardStats) -> u64 {
    shard.log_bytes + shard.table_resident_bytes + shard.expiry.bytes + shard.policy.bytes
}

impl Snapshot {
    /// Memory that items, their table and the buffers take, in bytes.
    pub fn used_bytes(&self) -> u64 {
        let buffers = &self.buffers;
        items_bytes(&self.shard) + (buffers.held_bytes + buffers.spare_bytes) as u64
    }
}

impl<T: Transport> Core<T> {
    /// The counters whose rates are told.
    pub(super) fn sample(&self) -> Sample {
        let Counters { commands, bytes_in, bytes_out, .. } = self.counters;
        Sample { at_ms: self.now_ms, commands, bytes_in, bytes_out, busy_ns: self.busy_ns() }
    }

    /// Processor time of work. The kernel's account of the thread is exact, and knows how long it
    /// slept; what it cannot know is how long the thread looked for work in vain.
    fn busy_ns(&self) -> u64 {
        sys::thread_cpu_ns().saturating_sub(self.spun_ns)
    }

    /// Memory that items, their table and the buffers take, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        let buffers = self.buffer_figures();
        items_bytes(&self.shard.stats()) + (buffers.held_bytes + buffers.spare_bytes) as u64
    }

    fn snapshot(&mut self) -> Snapshot {
        self.server.memory_peak_bytes = self.used_bytes().max(self.server.memory_peak_bytes);
        Snapshot {
            core: usize::from(self.options.settings.core),
            counters: self.counters,
            base: self.server.base,
            rates: self.rates.up_to(self.sample()),
            statistics: self.server.statistics.clone(),
            shard: self.shard.stats(),
            lags: self.shard.expiry_lags().clone(),
            databases: std::array::from_fn(|db| self.shard.database_stats(db as u8)),
            connections: self.connections.len(),
            connection_places: self.connections.slots(),
            accepts: self.resting.is_empty(),
            fills_waiting: self.fills.len(),
            slowlog_entries: self.server.slowlog.len(),
            slowlog_entries_max: self.options.settings.slowlog_entries_max,
            division: *self.options.memory.division(),
            lent_bytes: self.options.memory.lent_bytes(),
            buffers: self.buffer_figures(),
            memory_peak_bytes: self.server.memory_peak_bytes,
            paused: self.pause.map(|pause| (pause.until_ms, !pause.writes_only)),
            now_ms: self.now_ms,
            enters: self.transport.enters(),
            busy_ns: self.busy_ns(),
        }
    }

    /// What this core has to tell to a question.
    pub(super) fn find(&mut self, wanted: &Wanted) -> Findings {
        match wanted {
            Wanted::Figures => Findings::Figures(Box::new(self.snapshot())),
            Wanted::Slowlog { count } => Findings::Slowlog(self.server.slowlog.latest(*count)),
            Wanted::Latency => Findings::Latency(self.server.latency.clone()),
            Wanted::ForgetLatency(names) => Findings::Latency(self.server.latency.forget(names)),
        }
    }

    /// Sends a slow question to the control thread, on behalf of a connection. A node of a cluster
    /// answers for itself alone: clients of clusters ask all nodes.
    pub(super) fn ask(&mut self, key: Key, info: InfoRequest) {
        let own = self.find(&info.wanted());
        if let Some(connection) = self.connections.find(key) {
            let is_wide = !connection.session.core_port;
            let ticket = connection.replies.defer();
            self.budget.recount(connection);
            self.inbox.ask(Request::Question(Question { info, own, is_wide, key, ticket }));
        }
    }
}
