//! memcached's `stats`, with memcached's names where the meaning is memcached's.

use super::ServerFacts;
use crate::clock;
use crate::command::memcached::VERSION;
use crate::core::Snapshot;

/// `stats` without arguments.
pub(super) fn general(snapshot: &Snapshot, facts: &ServerFacts) -> Vec<u8> {
    let unix_ms = clock::unix_ms();
    let (counters, shard) = (&snapshot.counters, &snapshot.shard);
    let mut lines = Lines::default();
    lines.add("pid", std::process::id());
    lines.add("uptime", unix_ms.saturating_sub(facts.started_unix_ms) / 1_000);
    lines.add("time", unix_ms / 1_000);
    lines.add("version", VERSION);
    lines.add("pointer_size", usize::BITS);
    lines.add("max_connections", facts.connections_max);
    lines.add("curr_connections", snapshot.connections);
    lines.add("total_connections", counters.connections_accepted);
    lines.add("rejected_connections", counters.connections_refused);
    lines.add("accept_rate_refusals", counters.accept_rate_refusals);
    lines.add("idle_kicks", counters.timeouts);
    lines.add("oversized_requests", counters.oversized_requests);
    lines.add("output_pauses", counters.output_pauses);
    lines.add("buffer_refusals", counters.buffer_refusals);
    lines.add("accept_failures", counters.accept_failures);
    lines.add("cmd_total", counters.commands);
    lines.add("get_hits", counters.hits);
    lines.add("get_misses", counters.misses);
    lines.add("bytes_read", counters.bytes_in);
    lines.add("bytes_written", counters.bytes_out);
    lines.add("limit_maxbytes", snapshot.division.memory_bytes);
    lines.add("threads", 1);
    lines.add("bytes", shard.live_bytes);
    lines.add("curr_items", shard.items);
    lines.add("evictions", shard.counters.evictions);
    lines.add("expired", shard.counters.expired);
    lines.add("expiry_items", shard.expiry.items);
    lines.add("expiry_entries", shard.expiry.entries);
    lines.add("expiry_lag_p50_ms", shard.expiry.lag_p50_ms);
    lines.add("expiry_lag_p99_ms", shard.expiry.lag_p99_ms);
    lines.add("expiry_lag_max_ms", shard.expiry.lag_max_ms);
    lines.end()
}

/// `stats settings`.
pub(super) fn settings(snapshot: &Snapshot, facts: &ServerFacts) -> Vec<u8> {
    let mut lines = Lines::default();
    lines.add("maxbytes", snapshot.division.memory_bytes);
    lines.add("maxconns", facts.connections_max);
    lines.add("tcpport", facts.memcached_port);
    lines.add("udpport", 0);
    lines.add("evictions", if facts.eviction == "noeviction" { "off" } else { "on" });
    lines.add("cas_enabled", "yes");
    lines.add("item_size_max", facts.value_bytes_max);
    lines.add("num_threads", 1);
    lines.end()
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!("STAT {name} {value}\r\n"));
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push_str("END\r\n");
        self.0.into_bytes()
    }
}
