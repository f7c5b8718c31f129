//! Figures of several cores as one: what INFO tells of the server is joined here, on the control
//! thread.
//!
//! Counts and bytes are summed; of peaks the sum is told too, which the cores need not have reached
//! at the same time. Quantiles are those of the joined histograms.

use super::rates::RateFigures;
use super::{BufferFigures, Counters, LaneCounters, MemcachedCounters, Snapshot};
use crate::command::Base;
use crate::memory::Division;

/// Adds fields of a struct to those of another, and names all of them, so that none is forgotten.
macro_rules! add_fields {
    ($type:ident, $sum:expr, $other:expr, $($field:ident),+ $(,)?) => {{
        let $type { $($field),+ } = $other;
        $($sum.$field += $field;)+
    }};
}

impl Snapshot {
    /// Adds the figures of another core. `core`, `now_ms` and what is the same on all of them stay
    /// as they are. Cost: O(commands) additions, some microseconds.
    pub fn add(&mut self, other: &Snapshot) {
        self.paused = match (self.paused, other.paused) {
            (one, None) => one,
            (one, Some((until_ms, is_all))) => {
                // Each core's clock has a zero of its own.
                let until_ms = self.now_ms + until_ms.saturating_sub(other.now_ms);
                let (one_ms, one_all) = one.unwrap_or((until_ms, is_all));
                Some((one_ms.max(until_ms), one_all || is_all))
            }
        };
        self.counters.add(&other.counters);
        add_fields!(Base, self.base, &other.base, commands, expired, evicted);
        let rates = &other.rates;
        add_fields!(RateFigures, self.rates, rates, commands, bytes_in, bytes_out, busy_permille);
        self.statistics.add(&other.statistics);
        self.shard.add(&other.shard);
        self.lags.add(&other.lags);
        self.shard.expiry.take_quantiles(&self.lags);
        for (sum, database) in self.databases.iter_mut().zip(&other.databases) {
            sum.add(database);
        }
        self.connections += other.connections;
        self.connection_places += other.connection_places;
        self.accepts &= other.accepts;
        self.fills_waiting += other.fills_waiting;
        self.slowlog_entries =
            (self.slowlog_entries + other.slowlog_entries).min(self.slowlog_entries_max);
        self.division.add(&other.division);
        self.lent_bytes += other.lent_bytes;
        let buffers = &other.buffers;
        add_fields!(
            BufferFigures,
            self.buffers,
            buffers,
            held_bytes,
            peak_bytes,
            spare_bytes,
            waiting
        );
        self.memory_peak_bytes += other.memory_peak_bytes;
        self.enters += other.enters;
        self.busy_ns += other.busy_ns;
    }
}

impl Division {
    /// Adds the share of another core.
    fn add(&mut self, other: &Division) {
        let Division {
            whole_bytes: _,
            memory_bytes,
            program_bytes,
            connections_bytes,
            buffers_bytes,
            items_bytes,
        } = other;
        self.memory_bytes += memory_bytes;
        self.program_bytes += program_bytes;
        self.connections_bytes += connections_bytes;
        self.buffers_bytes += buffers_bytes;
        self.items_bytes += items_bytes;
    }
}

impl Counters {
    /// Adds the counters of another core.
    pub fn add(&mut self, other: &Counters) {
        let Counters {
            connections_accepted,
            connections_refused,
            accept_rate_refusals,
            timeouts,
            oversized_requests,
            http_requests,
            accept_failures,
            commands,
            errors,
            hits,
            misses,
            bytes_in,
            bytes_out,
            sends,
            turns,
            batches,
            output_pauses,
            budget_pauses,
            buffer_refusals,
            buffer_evictions,
            receive_starvations,
            request_age_refusals,
            pipeline_pauses,
            naps,
            parks,
            memcached,
            lanes,
        } = other;
        self.connections_accepted += connections_accepted;
        self.connections_refused += connections_refused;
        self.accept_rate_refusals += accept_rate_refusals;
        self.timeouts += timeouts;
        self.oversized_requests += oversized_requests;
        self.http_requests += http_requests;
        self.accept_failures += accept_failures;
        self.commands += commands;
        self.errors += errors;
        self.hits += hits;
        self.misses += misses;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
        self.sends += sends;
        self.turns += turns;
        self.batches += batches;
        self.output_pauses += output_pauses;
        self.budget_pauses += budget_pauses;
        self.buffer_refusals += buffer_refusals;
        self.buffer_evictions += buffer_evictions;
        self.receive_starvations += receive_starvations;
        self.request_age_refusals += request_age_refusals;
        self.pipeline_pauses += pipeline_pauses;
        self.naps += naps;
        self.parks += parks;
        self.memcached.add(memcached);
        self.lanes.add(lanes);
    }
}

impl LaneCounters {
    fn add(&mut self, other: &LaneCounters) {
        let LaneCounters {
            crossed_out,
            crossed_in,
            parts_in,
            posts,
            wakes,
            asked_peak,
            room_waits,
            scattered,
            key_waits,
        } = other;
        self.crossed_out += crossed_out;
        self.crossed_in += crossed_in;
        self.parts_in += parts_in;
        self.posts += posts;
        self.wakes += wakes;
        self.asked_peak = self.asked_peak.max(*asked_peak);
        self.room_waits += room_waits;
        self.scattered += scattered;
        self.key_waits += key_waits;
    }
}

impl MemcachedCounters {
    fn add(&mut self, other: &MemcachedCounters) {
        add_fields!(
            MemcachedCounters,
            self,
            other,
            sets,
            flushes,
            metas,
            delete_hits,
            delete_misses,
            incr_hits,
            incr_misses,
            decr_hits,
            decr_misses,
            cas_hits,
            cas_misses,
            cas_badval,
            touch_hits,
            touch_misses,
            store_too_large,
            store_no_memory,
            auth_commands,
            auth_errors,
        );
    }
}
