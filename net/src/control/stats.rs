//! memcached's `stats`, with memcached's names where the meaning is memcached's. What memcached
//! tells of parts that this server does not have is left out, and so is what is not counted: which
//! reads missed because an item had expired or was flushed, and which items nobody ever read.
//!
//! `get_hits`, `get_misses` and their sum `cmd_get` count the keys that clients of both ports have
//! read; `cmd_set` and the rest count requests of the memcached port. Names that memcached does not
//! have: `lease_*`, `expiry_*`, `cmd_total`, `expired`, and those of refusals (`oversized_requests`,
//! `output_pauses`, `buffer_refusals`, `accept_rate_refusals`), and `cores`, `connection_core` (the core
//! that serves the connection that asks) and `cores_not_answering`.

use super::ServerFacts;
use super::survey::Survey;
use crate::clock;
use crate::command::memcached::VERSION;
use crate::core::Snapshot;
use crate::protocol::memcached::{StatForm, Statistics};
use crate::sys;

/// `stats` without arguments.
pub(super) fn general(survey: &Survey, facts: &ServerFacts, form: StatForm) -> Vec<u8> {
    let snapshot = &survey.sum;
    let mut bytes = Vec::new();
    let mut lines = Statistics::new(&mut bytes, form);
    process(&mut lines, survey, facts);
    commands(&mut lines, snapshot);
    memory(&mut lines, snapshot);
    let shard = &snapshot.shard;
    lines.add("lease_granted", shard.leases.granted);
    lines.add("lease_timed_out", shard.leases.timed_out);
    lines.add("lease_waiting", snapshot.fills_waiting);
    lines.add("expired", shard.counters.expired);
    lines.add("expiry_items", shard.expiry.items);
    lines.add("expiry_entries", shard.expiry.entries);
    lines.add("expiry_lag_p50_ms", shard.expiry.lag_p50_ms);
    lines.add("expiry_lag_p99_ms", shard.expiry.lag_p99_ms);
    lines.add("expiry_lag_max_ms", shard.expiry.lag_max_ms);
    lines.add("expiry_clock_flushes", shard.counters.clock_flushes);
    lines.end();
    bytes
}

/// The process and its connections.
fn process(lines: &mut Statistics<'_>, survey: &Survey, facts: &ServerFacts) {
    let snapshot = &survey.sum;
    let unix_ms = clock::unix_ms();
    let counters = &snapshot.counters;
    let (system_us, user_us) = sys::process_times_us();
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    lines.add("pid", std::process::id());
    lines.add("uptime", unix_ms.saturating_sub(facts.started_unix_ms) / 1_000);
    lines.add("time", unix_ms / 1_000);
    lines.add("version", VERSION);
    lines.add("pointer_size", usize::BITS);
    lines.add("rusage_user", seconds(user_us));
    lines.add("rusage_system", seconds(system_us));
    lines.add("max_connections", facts.connections_max);
    lines.add("curr_connections", snapshot.connections);
    lines.add("total_connections", counters.connections_accepted);
    lines.add("rejected_connections", counters.connections_refused);
    lines.add("connection_structures", snapshot.connection_places);
    lines.add("accept_rate_refusals", counters.accept_rate_refusals);
    lines.add("idle_kicks", counters.timeouts);
    lines.add("oversized_requests", counters.oversized_requests);
    lines.add("output_pauses", counters.output_pauses);
    lines.add("buffer_refusals", counters.buffer_refusals);
    lines.add("budget_pauses", counters.budget_pauses);
    lines.add("buffer_evictions", counters.buffer_evictions);
    lines.add("pipeline_pauses", counters.pipeline_pauses);
    lines.add("request_age_refusals", counters.request_age_refusals);
    lines.add("bytes_read", counters.bytes_in);
    lines.add("bytes_written", counters.bytes_out);
    lines.add("accepting_conns", u8::from(snapshot.accepts));
    lines.add("listen_disabled_num", counters.accept_failures);
    lines.add("threads", survey.count);
    lines.add("cores", survey.count);
    lines.add("connection_core", survey.asked);
    lines.add("cores_not_answering", survey.missing.len());
}

/// What clients have asked for.
fn commands(lines: &mut Statistics<'_>, snapshot: &Snapshot) {
    let (counters, memcached) = (&snapshot.counters, &snapshot.counters.memcached);
    for (name, value) in [
        ("cmd_get", counters.hits + counters.misses),
        ("cmd_set", memcached.sets),
        ("cmd_flush", memcached.flushes),
        ("cmd_touch", memcached.touch_hits + memcached.touch_misses),
        ("cmd_meta", memcached.metas),
        ("cmd_total", counters.commands),
        ("get_hits", counters.hits),
        ("get_misses", counters.misses),
        ("delete_misses", memcached.delete_misses),
        ("delete_hits", memcached.delete_hits),
        ("incr_misses", memcached.incr_misses),
        ("incr_hits", memcached.incr_hits),
        ("decr_misses", memcached.decr_misses),
        ("decr_hits", memcached.decr_hits),
        ("cas_misses", memcached.cas_misses),
        ("cas_hits", memcached.cas_hits),
        ("cas_badval", memcached.cas_badval),
        ("touch_hits", memcached.touch_hits),
        ("touch_misses", memcached.touch_misses),
        ("store_too_large", memcached.store_too_large),
        ("store_no_memory", memcached.store_no_memory),
        ("auth_cmds", memcached.auth_commands),
        ("auth_errors", memcached.auth_errors),
    ] {
        lines.add(name, value);
    }
}

/// Items, and the memory that they take.
fn memory(lines: &mut Statistics<'_>, snapshot: &Snapshot) {
    let shard = &snapshot.shard;
    // The table grows by one line at a time; this is the power of two that it has reached.
    let table_lines = shard.table_bytes / TABLE_LINE_BYTES;
    lines.add("hash_power_level", table_lines.checked_ilog2().unwrap_or(0));
    lines.add("hash_bytes", shard.table_resident_bytes);
    lines.add("limit_maxbytes", snapshot.division.whole_bytes);
    lines.add("bytes", shard.live_bytes);
    lines.add("curr_items", shard.items);
    lines.add("total_items", shard.counters.stores);
    lines.add("evictions", shard.counters.evictions);
}

/// A line of the table is a cache line.
const TABLE_LINE_BYTES: u64 = 64;

/// `stats settings`.
pub(super) fn settings(survey: &Survey, facts: &ServerFacts, form: StatForm) -> Vec<u8> {
    let snapshot = &survey.sum;
    let mut bytes = Vec::new();
    let mut lines = Statistics::new(&mut bytes, form);
    lines.add("maxbytes", snapshot.division.whole_bytes);
    lines.add("maxconns", facts.connections_max);
    lines.add("tcpport", facts.memcached_port);
    lines.add("udpport", 0);
    lines.add("evictions", if facts.eviction == "noeviction" { "off" } else { "on" });
    lines.add("cas_enabled", "yes");
    lines.add("binding_protocol", "auto-negotiate");
    lines.add("item_size_max", facts.value_bytes_max);
    lines.add("num_threads", survey.count);
    lines.end();
    bytes
}

/// `stats slabs`: there are no classes, but there is memory.
pub(super) fn slabs(sum: &Snapshot, form: StatForm) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut lines = Statistics::new(&mut bytes, form);
    lines.add("active_slabs", 0);
    lines.add("total_malloced", sum.shard.log_bytes);
    lines.end();
    bytes
}
